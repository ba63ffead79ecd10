"""A device and its site: heads verified, cuts and versions moving under its pictures, a site that fails."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import msgspec
import numpy as np
import pytest
import torch
from classifier_releases import (
    CHAIN,
    activate,
    classifying_site,
    normalised,
    parts,
    photograph,
    published,
    push,
    uncut,
    write_releases,
)
from runtime_site import Repository, Site

from codec_runtime.client.classifier import Answer, Device, SplitClassifier
from codec_runtime.client.connection import SiteConnection
from codec_runtime.client.errors import BadAnswerError, NoClassifierError, SiteUnavailableError
from codec_runtime.client.reports import ReportQueue
from codec_runtime.client.session import ClientSettings, classifying
from codec_runtime.contract import paths
from codec_runtime.contract.classification import PublishedCut, SplitDirective, SplitReport
from codec_runtime.contract.directives import DirectiveBatch
from codec_runtime.contract.updates import SiteStatus
from xapp.runtime_client import RuntimeClient

PICTURES = [photograph(seed) for seed in range(6)]


class Scene:
    """A site that serves version 1, with version 2 published but not activated."""

    def __init__(self, site: Site, releases: Path, state: Path, root: Path) -> None:
        self.site, self.releases, self.state, self.root = site, releases, state, root
        self.sequence = 0

    def settings(self, **changes: Any) -> ClientSettings:
        given = {"url": self.site.url, "state": self.state, "trusted_root": self.root, "refresh_s": 0.05}
        return ClientSettings(**{**given, **changes})

    async def tell(self, cut: PublishedCut, *users: str) -> None:
        self.sequence += 1
        splits = [
            SplitDirective(user=user, network=cut.network, version=cut.version, cut=cut.cut) for user in users
        ]
        batch = DirectiveBatch(
            issuer=str(self.state), sequence=self.sequence, issued_ns=1, directives=[], splits=splits
        )
        async with httpx.AsyncClient() as http:
            body = msgspec.msgpack.encode(batch)
            reply = await http.post(self.site.url + paths.DIRECTIVES, content=body, timeout=20)
        assert b"rejected" in reply.content
        assert b"reason" not in reply.content

    def cuts(self, version: int) -> list[PublishedCut]:
        return [cut for cut in published(self.site) if cut.version == version]

    def wanted(self, version: int, cut: str, picture: int) -> tuple[int, np.ndarray[Any, Any]]:
        """(best class, softmax by class) through head, stream and tail of a cut, without a network."""
        part = parts(self.releases, version)[cut]
        with torch.no_grad():
            features, answer = part.head(torch.from_numpy(normalised(PICTURES[picture])))
            if not part.on_device:
                data = part.coder.encode([tensor.numpy() for tensor in features])
                answer = part.tail(*map(torch.from_numpy, part.coder.decode(data).tensors))
        logits = answer[0].double().numpy()[0]
        shares = np.exp(logits - logits.max())
        return int(logits.argmax()), shares / shares.sum()

    def check(self, answer: Answer, picture: int) -> None:
        """The answer is that of the version and cut it names, and of that version uncut."""
        report = answer.report
        best, shares = self.wanted(report.version, report.cut, picture)
        assert answer.classes[0] == best == uncut(self.releases, report.version, PICTURES[picture]).argmax()
        assert np.allclose(answer.scores, shares[list(answer.classes)], atol=1e-5)


@pytest.fixture(scope="module")
def releases(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_releases(tmp_path_factory.mktemp("releases"), [2, 4])


@pytest.fixture(scope="module")
def shared(releases: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Site, Path]]:
    folder = tmp_path_factory.mktemp("site")
    with classifying_site(folder) as (site, repository):
        repository.add_bundle(releases, "classifier/chain/2")
        (report,) = push(site, repository, releases, 1)
        assert report.outcome == "activated", report.detail
        yield site, folder / "root.json"


@pytest.fixture
def scene(shared: tuple[Site, Path], releases: Path, tmp_path: Path) -> Scene:
    return Scene(shared[0], releases, tmp_path / "device", shared[1])


async def _until(condition: Any) -> None:
    async with asyncio.timeout(20):
        while not condition():  # noqa: ASYNC110 (nothing to wait for: the clients tell nobody)
            await asyncio.sleep(0.01)


def test_device_follows_its_directive_with_a_verified_head(scene: Scene) -> None:
    async def run() -> None:
        cuts = scene.cuts(1)
        async with classifying(scene.settings(), Device("a", device_class="phone-mid")) as client:
            first = await client.classify(PICTURES[0])
            assert first.report.cut == cuts[0].cut  # nothing told: the picture itself
            await scene.tell(cuts[2], "a")
            await _until(lambda: client.plan.cut == cuts[2])
            answers = [await client.classify(picture) for picture in PICTURES]
            for number, answer in enumerate(answers):
                scene.check(answer, number)
                assert answer.report.cut == cuts[2].cut
                assert answer.report.feature_bytes == cuts[2].feature_bytes
            assert [answer.report.moved for answer in answers] == [True, *[False] * 5]
            on_device = next(cut for cut in cuts if not cut.feature_bytes)
            await scene.tell(on_device, "a")
            await _until(lambda: client.plan.cut == on_device)
            answer = await client.classify(PICTURES[1])
            scene.check(answer, 1)
            assert (answer.report.feature_bytes, answer.report.edge_ms) == (0, 0.0)
            assert client.refusals == {}

    asyncio.run(run())


def test_no_answer_is_wrong_while_cuts_and_versions_move(scene: Scene) -> None:
    """Every answer is that of the version and cut that it names, whatever moved while it was under way."""
    seen: set[tuple[int, str]] = set()

    async def classify(client: SplitClassifier, stop: asyncio.Event) -> int:
        count = 0
        while not stop.is_set():
            number = count % len(PICTURES)
            answer = await client.classify(PICTURES[number])
            scene.check(answer, number)
            seen.add((answer.report.version, answer.report.cut))
            count += 1
            await asyncio.sleep(0.01)  # the site is in this process, and has to come to its turn
        return count

    async def move(clients: list[SplitClassifier]) -> None:
        for cut in scene.cuts(1)[1:5]:
            await scene.tell(cut, "m", "n")
            await _until(lambda cut=cut: all(client.plan.cut == cut for client in clients))
        report = await asyncio.to_thread(activate, scene.site, "classifier/chain/2")
        assert report.outcome in ("activated", "already-active"), report.detail
        for cut in [scene.cuts(2)[-1], scene.cuts(1)[2], scene.cuts(2)[0]]:
            await scene.tell(cut, "m", "n")
            await _until(lambda cut=cut: all(client.plan.cut == cut for client in clients))

    async def run() -> None:
        stop = asyncio.Event()
        async with (
            classifying(scene.settings(), Device("m")) as one,
            classifying(scene.settings(state=scene.state / "n"), Device("n")) as two,
        ):
            work = [asyncio.create_task(classify(client, stop)) for client in (one, two, two)]
            await move([one, two])
            await asyncio.sleep(0.1)
            stop.set()
            assert min(await asyncio.gather(*work)) > 5
            assert one.moves >= 7

    asyncio.run(run())
    assert {version for version, _ in seen} == {1, 2}
    assert len(seen) >= 5


def test_without_trust_pictures_are_sent_and_the_reason_is_counted(scene: Scene, tmp_path: Path) -> None:
    stranger = tmp_path / "stranger.json"
    Repository(stranger)

    async def run() -> None:
        cuts = scene.cuts(1)
        await scene.tell(cuts[1], "u")
        for root, refusals in ((None, set()), (stranger, {"UnsignedMetadataError"})):
            settings = scene.settings(trusted_root=root, state=tmp_path / str(root)[-9:])
            async with classifying(settings, Device("u")) as client:
                answer = await client.classify(PICTURES[2])
                scene.check(answer, 2)
                assert answer.report.cut == cuts[0].cut
                assert set(client.refusals) == refusals

    asyncio.run(run())


class Faulty(httpx.AsyncBaseTransport):
    """Passes requests on to the site, with what a test changes in the answers."""

    def __init__(self, change: Any) -> None:
        self._inner = httpx.AsyncHTTPTransport()
        self._change = change

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        response = await self._inner.handle_async_request(request)
        return self._change(request, response, await response.aread())


def test_altered_head_is_not_run(scene: Scene) -> None:
    def alter(request: httpx.Request, response: httpx.Response, body: bytes) -> httpx.Response:
        if "/heads/" in request.url.path:
            body = bytes([*body[:-1], body[-1] ^ 1])
        return httpx.Response(response.status_code, headers=response.headers, content=body)

    async def run() -> None:
        cuts = scene.cuts(1)
        await scene.tell(cuts[3], "h")
        async with classifying(scene.settings(), Device("h"), transport=Faulty(alter)) as client:
            assert client.plan.cut == cuts[0]
            assert client.refusals["HashMismatchError"] >= 1
            scene.check(await client.classify(PICTURES[0]), 0)

    asyncio.run(run())


def test_requests_are_tried_again_and_reports_arrive(scene: Scene) -> None:
    failures = {"/v2/models/classify_tail/infer": 2, paths.TELEMETRY: 1}

    def fail(request: httpx.Request, response: httpx.Response, body: bytes) -> httpx.Response:
        if failures.get(request.url.path, 0) > 0:
            failures[request.url.path] -= 1
            return httpx.Response(503, headers={"Retry-After": "0"}, json={"error": "later"})
        return httpx.Response(response.status_code, headers=response.headers, content=body)

    async def run() -> None:
        device = Device("r", device_class="phone-mid")
        async with classifying(scene.settings(), device, transport=Faulty(fail)) as client:
            scene.check(await client.classify(PICTURES[3]), 3)
        assert set(failures.values()) == {0}
        async with RuntimeClient(scene.site.url) as reader:
            async for event in reader.telemetry(before):
                report = event.report
                assert isinstance(report, SplitReport)
                assert (report.user, report.device_class) == ("r", "phone-mid")
                assert report.feature_bytes > 3 * CHAIN.size**2
                assert report.device_ms > 0
                break

    before = httpx.get(scene.site.url + paths.SITE).content
    before = msgspec.msgpack.decode(before, type=SiteStatus).telemetry_seq
    asyncio.run(run())


def test_site_that_is_away_or_lies_gives_an_error_not_an_answer(scene: Scene) -> None:
    def lie(request: httpx.Request, response: httpx.Response, body: bytes) -> httpx.Response:
        if request.url.path.endswith("/infer"):
            body = body.replace(b'"version":1', b'"version":2')
        return httpx.Response(response.status_code, headers=response.headers, content=body)

    async def run() -> None:
        transport = Faulty(lie)
        async with classifying(scene.settings(refresh_s=60), Device("l"), transport=transport) as client:
            if client.plan.cut.version == 1:
                with pytest.raises(BadAnswerError, match="asked was"):
                    await client.classify(PICTURES[0])
        with pytest.raises(NoClassifierError, match="chain"):
            async with classifying(scene.settings(), Device("l", network="other")):
                raise AssertionError("there is no such network")
        away = scene.settings(url="http://127.0.0.1:9", timeout_s=0.3)
        with pytest.raises(SiteUnavailableError):
            async with classifying(away, Device("l")):
                raise AssertionError("nobody is there")

    asyncio.run(run())


def test_pictures_of_another_shape_are_refused_before_anything_is_sent(scene: Scene) -> None:
    async def run() -> None:
        async with classifying(scene.settings(), Device("p")) as client:
            with pytest.raises(ValueError, match=f"3, {CHAIN.size}, {CHAIN.size}"):
                await client.classify(photograph(1, 48))

    asyncio.run(run())


def test_full_report_queue_drops_the_oldest_and_counts_them() -> None:
    async def run() -> None:
        async with httpx.AsyncClient(base_url="http://127.0.0.1:9") as http:
            queue = ReportQueue(SiteConnection(http, timeout_s=0.05), capacity=3)
            for number in range(5):
                queue.add(SplitReport(
                    user="q", network="n", version=number, cut="", device_class="", time_ns=0, device_ms=0.0,
                    network_ms=0.0, edge_ms=0.0, feature_bytes=0,
                ))
            with pytest.raises(SiteUnavailableError):
                await queue.flush()
            assert (queue.sent, queue.dropped) == (0, 2)
            assert [report.version for report in queue._waiting] == [2, 3, 4]

    asyncio.run(run())
