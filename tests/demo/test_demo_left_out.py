"""Pictures whose decoder is gone by the time of the comparison: left out, counted, told; nothing fails."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import msgspec
import numpy as np
import pytest
from fake_run import fake_run, transmission

from codec_runtime.contract.bundle import BundleManifest
from codec_runtime.contract.updates import SiteStatus
from xapp.lab.demo.replaying import (
    parent_versions,
    published_manifests,
    updated_transmissions,
)
from xapp.lab.demo.report import build_report
from xapp.lab.demo.summary import summarise
from xapp.lab.inference_client import Encoded, InferenceError
from xapp.lab.pictures import PictureLibrary
from xapp.lab.replay import Replay, _Order
from xapp.lab.settings import LabSettings


def manifest(kind: str, name: str, version: int, parent: int | None = None) -> BundleManifest:
    return BundleManifest(
        kind=kind, name=name, version=version, architecture="", hyperparameters={}, files=[], tensors={},
        parent=parent,
    )  # type: ignore[arg-type]  # fmt: skip


SITE = SiteStatus(
    instance="i", site="s", telemetry_seq=0,
    models=[manifest("encoder", "anchor", 1), manifest("decoder", "attention", 1),
            manifest("decoder", "attention", 3, parent=1)],
)  # fmt: skip


def replay(**changes: Any) -> Replay:
    values = {"runtime_url": "http://runtime", "retry_budget_s": 0.0, **changes}
    pictures = {"p": np.zeros((224, 240, 3), np.uint8)}
    return Replay(msgspec.convert(values, LabSettings), library=PictureLibrary(pictures, 168))


class Codec:
    """Restores what it gets; refuses a decoder version, or goes away after some calls."""

    def __init__(self, gone: int = 0, calls: int = 1000) -> None:
        self.gone, self.calls, self.asked = gone, calls, 0

    async def encode(self, pictures: Any, *, prefix: Any, **more: Any) -> Encoded:
        symbols = np.zeros((len(pictures), 16, 42, 42), np.float32)
        return Encoded(symbols, int(prefix[0]), 10.0, "attention", 1, 1)

    async def decode(self, symbols: Any, snr_db: Any, prefix: Any, choice: Any) -> Any:
        self.asked += 1
        if choice.decoder_version == self.gone:
            raise InferenceError("HTTP 404: unknown version", retriable=True, status=404)
        if self.asked > self.calls:
            raise InferenceError("runtime did not answer", retriable=True)
        return np.zeros((len(symbols), 168, 168, 3), np.uint8)


def test_pictures_of_a_version_or_encoder_that_is_gone_are_left_out_and_counted() -> None:
    sent = [
        transmission(1), transmission(2, decoder_version=2), transmission(3, decoder_version=2),
        transmission(4, encoder_version=9), transmission(5, failed=True), transmission(6, decoder_version=3),
    ]  # fmt: skip
    repeater = replay()
    assert [t.id for t in repeater.repeatable(sent, SITE)] == [1, 6]
    assert repeater.left_out == {"attention 2 is served no longer": 2, "encoder 9 is served no longer": 1}
    assert [t.id for t in repeater.repeatable(sent[:3], SITE, version=1)] == [1, 2, 3]


@pytest.mark.timeout(20)
def test_an_unknown_version_is_not_asked_for_twice_and_the_rest_is_repeated() -> None:
    repeater, codec = replay(retry_budget_s=600.0), Codec(gone=2)
    sent = [transmission(i, decoder_version=1 + i % 2) for i in range(4)]
    done = asyncio.run(repeater._replay(codec, _orders(sent)))  # type: ignore[arg-type]
    assert [result.id for result in done] == [0, 2]
    assert repeater.left_out == {"HTTP 404: unknown version": 2}
    assert codec.asked == 2


def test_a_runtime_that_stays_away_ends_the_repetition_with_what_there_is() -> None:
    repeater, codec = replay(), Codec(calls=1)
    done = asyncio.run(repeater._replay(codec, _orders([transmission(i) for i in range(30)])))  # type: ignore[arg-type]
    assert len(done) == 8
    assert repeater.left_out == {"runtime did not answer": 22}
    assert codec.asked == 2


def test_what_is_served_is_asked_again_while_the_runtime_is_away() -> None:
    answers = [httpx.Response(503), httpx.Response(200, content=msgspec.msgpack.encode(SITE))]
    repeater = replay(retry_budget_s=30.0)
    repeater._transport = httpx.MockTransport(lambda request: answers.pop(0))
    assert repeater.site() == SITE


def test_the_parent_of_a_version_that_was_taken_back_is_known_from_the_repository(tmp_path: Path) -> None:
    folder = tmp_path / "targets" / "decoder" / "attention" / "2"
    folder.mkdir(parents=True)
    (folder / "abc.manifest.msgpack").write_bytes(
        msgspec.msgpack.encode(manifest("decoder", "attention", 2, parent=1))
    )
    (folder / "def.manifest.msgpack").write_bytes(b"half a manif")
    parents = parent_versions([*published_manifests(tmp_path), *SITE.models])
    assert parents == {("attention", 2): 1, ("attention", 3): 1}
    chosen = updated_transmissions([transmission(1, decoder_version=2)], parents, limit=9)
    assert {version: [t.id for t in sent] for version, sent in chosen.items()} == {1: [1]}


def test_summary_and_report_say_how_many_pictures_were_left_out_and_why() -> None:
    data = replace(fake_run(), left_out={"static_same_bandwidth": {"attention 4 is served no longer": 12}})
    summary = summarise(data)
    assert summary["left_out"] == {"static_same_bandwidth": {"attention 4 is served no longer": 12}}
    assert "12 pictures (attention 4 is served no longer)" in build_report(data, summary)
    assert summarise(fake_run())["left_out"] == {}


def _orders(sent: list[Any]) -> list[Any]:
    return [_Order(t, 4, t.decoder_version) for t in sent]
