"""The lab's classifying users at a real site: verified heads, emulated device and link, moving cuts."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import msgspec
import numpy as np
import pytest
from classifier_releases import activate, published
from runtime_site import Repository, Site, serve, write_decoder, write_encoder

from codec_runtime.contract import paths
from codec_runtime.contract.classification import SplitDirective
from codec_runtime.contract.directives import DirectiveBatch
from xapp.lab.channel import LinkState
from xapp.lab.classification_records import CLASSIFICATIONS_FILE, Classification, read_classifications
from xapp.lab.classifying import ClassifyingUsers, classifier_of
from xapp.lab.demo.splitting import split_section, split_summary
from xapp.lab.emulated_link import EmulatedLink
from xapp.lab.pictures import PictureLibrary
from xapp.lab.settings import LabSettings
from xapp.lab.small_classifier import NAME, publish_small_classifier


def library() -> PictureLibrary:
    rows, columns = np.mgrid[0:224, 0:240]
    waves = [np.sin(rows / (7.0 + 9 * i)) + np.cos(columns / (5.0 + 7 * i)) for i in range(3)]
    pictures = {f"p{i}": np.repeat(127.5 + 60.0 * wave[:, :, None], 3, 2) for i, wave in enumerate(waves)}
    return PictureLibrary({name: value.astype(np.uint8) for name, value in pictures.items()}, 168)


class FlatCell:
    """Two users with a channel of the given CQI."""

    users = ("ue-1", "ue-2")
    classes = ("mobile", "drone")

    def __init__(self, cqi: int) -> None:
        nothing = np.zeros(2)
        fields = {field.name: nothing for field in dataclasses.fields(LinkState)}
        self.link = LinkState(**{**fields, "cqi": np.full(2, cqi)})
        self.mobility = type("Still", (), {"speeds": nothing})()

    def snr_db(self, index: int) -> float:
        return 10.0


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("site")
    write_decoder(folder / "weights", write_encoder(folder / "weights"))
    repository = Repository(folder / "root.json")
    publish_small_classifier(library(), folder / "releases")
    repository.add_bundle(folder / "releases", f"classifier/{NAME}/1")
    with serve(folder / "weights", folder / "state", trusted_root=str(folder / "root.json")) as running:

        def put(area: str, name: str, data: bytes) -> None:
            reply = httpx.put(f"{running.url}{paths.INBOX}/{area}/{name}", content=data)
            assert reply.status_code == 204

        repository.publish(put)
        assert activate(running, f"classifier/{NAME}/1").outcome == "activated"
        yield running


def settings_for(site: Site, folder: Path, **changes: Any) -> LabSettings:
    root = Path(site.settings.trusted_root)
    return LabSettings(
        users=2, classifiers=2, classify_interval_s=0.15, runtime_url=site.url, trusted_root=str(root),
        out=str(folder), **changes,
    )


def tell(site: Site, sequence: int, cut: str) -> None:
    split = SplitDirective(user="ue-1", network=NAME, version=1, cut=cut)
    batch = DirectiveBatch(issuer="test", sequence=sequence, issued_ns=0, directives=[], splits=[split])
    httpx.post(site.url + paths.DIRECTIVES, content=msgspec.msgpack.encode(batch)).raise_for_status()


def run_users(site: Site, folder: Path, pictures: int, on_wait: Any) -> list[Classification]:
    async def main() -> None:
        users = ClassifyingUsers(settings_for(site, folder), FlatCell(9), library(), 0.0)  # type: ignore[arg-type]
        task = asyncio.create_task(users.run())
        async with asyncio.timeout(60):
            while users.answered < pictures:
                on_wait(users.answered)
                await asyncio.sleep(0.05)
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        assert users.failed == 0

    asyncio.run(main())
    return read_classifications(folder / CLASSIFICATIONS_FILE)


@pytest.mark.slow
def test_cuts_move_between_pictures_and_answers_stay_those_of_the_whole_network(
    site: Site, tmp_path: Path
) -> None:
    cuts = published(site)
    whole = next(cut for cut in cuts if not cut.feature_bytes)
    inside = max((c for c in cuts if c.feature_bytes), key=lambda c: len(c.device))
    told: list[int] = []

    def on_wait(answered: int) -> None:
        for threshold, cut in ((6, inside.cut), (16, whole.cut)):
            if answered >= threshold and threshold not in told:
                told.append(threshold)
                tell(site, len(told), cut)

    records = run_users(site, tmp_path, 40, on_wait)
    mine = [one for one in records if one.user == "ue-1"]
    nodes = list(dict.fromkeys(one.device_nodes for one in mine))
    assert nodes[0] == 1
    assert nodes[-1] == len(whole.device)
    assert all(one.agrees for one in records if one.device_nodes in (1, len(whole.device)))
    assert np.mean([one.agrees for one in records]) > 0.9
    on_device = [one for one in mine if one.cut == whole.cut]
    assert all(one.network_ms == 0 and one.total_ms == pytest.approx(one.on_device_ms) for one in on_device)
    sent = [one for one in records if one.device_nodes == 1]
    assert all(one.network_ms >= 8e3 * one.feature_bytes / one.uplink_bps for one in sent)
    summary = split_summary(records)
    assert summary["moves"] >= 1
    assert summary["users"][0]["compute_class"] == "sensor"
    assert "Users that classify" in split_section({"split": summary})


def test_only_the_first_users_say_that_they_classify() -> None:
    settings = LabSettings(classifiers=2, classify_interval_s=4.0)
    said = [classifier_of(index, "drone", settings) for index in range(3)]
    assert said[2] is None
    assert said[1] is not None
    assert (said[1].compute_class, said[1].requests_per_s) == ("sensor-small", 0.25)


def test_a_run_without_classified_pictures_shows_no_section() -> None:
    summary = split_summary([], "refused")
    assert (summary["pictures"], summary["latency_ms"], summary["problem"]) == (0, None, "refused")
    assert split_section({"split": summary}) == ""
    assert split_section({}) == ""


def test_the_link_delays_what_it_should_and_nothing_else() -> None:
    async def answered(request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, content=b"x" * 100)

    async def main() -> tuple[float, float]:
        link = EmulatedLink(httpx.MockTransport(answered), lambda: (80_000.0, 80_000.0), 0.01, "/infer")
        clock = asyncio.get_running_loop().time
        async with httpx.AsyncClient(transport=link, base_url="http://site") as http:
            start = clock()
            await http.post("/infer", content=b"y" * 500)
            middle = clock()
            await http.post("/other", content=b"y" * 500_000)
            return middle - start, clock() - middle

    slow, quick = asyncio.run(main())
    assert slow >= 0.02 + 8 * 600 / 80_000
    assert quick < 8 * 500_000 / 80_000
