"""Pushing a bundle: order, only what is missing, retries."""

from __future__ import annotations

import asyncio
import hashlib
from pathlib import Path

import pytest
from xapp_simulated_site import bundle_files, make_manifest

from codec_runtime.contract.ranges import ByteRange
from codec_runtime.contract.updates import ActivationReport, InboxListing
from xapp.delivery.push import PushOptions, push
from xapp.delivery.repository import RepositoryFiles, TufRepository
from xapp.runtime_client import RuntimeRefused, RuntimeUnavailable

BUNDLE = "decoder/conv/2"
WEIGHTS = b"w" * 1000


class RecordingSite:
    def __init__(self, present: dict[str, str] | None = None, failures: int = 0) -> None:
        self.present = present or {}
        self.failures = failures
        self.calls: list[str] = []

    def _fail(self) -> None:
        if self.failures:
            self.failures -= 1
            raise RuntimeUnavailable("away")

    async def inbox(self) -> InboxListing:
        self._fail()
        return InboxListing(targets=self.present)

    async def put_metadata(self, name: str, data: bytes) -> None:
        self._fail()
        self.calls.append(name)

    async def put_chunk(self, name: str, span: ByteRange, data: bytes) -> int:
        self._fail()
        self.calls.append(name)
        assert len(data) == span.size
        return span.last + 1

    async def activate(self, bundles: list[str]) -> ActivationReport:
        self._fail()
        self.calls.append("activate")
        return ActivationReport(instance="i", outcome="activated")


@pytest.fixture
def files(tmp_path: Path) -> RepositoryFiles:
    repository = TufRepository(tmp_path / "tuf")
    for version in (2, 3):
        manifest = make_manifest("decoder", "conv", version, WEIGHTS)
        repository.publish(manifest, bundle_files(manifest, WEIGHTS))
    return repository.files()


async def no_sleep(seconds: float) -> None:
    pass


def test_timestamp_is_written_last_and_only_the_asked_bundle_travels(files: RepositoryFiles) -> None:
    site = RecordingSite()
    report = asyncio.run(push(site, files, [BUNDLE]))
    assert site.calls[-2:] == ["timestamp.json", "activate"]
    assert site.calls[:3] == ["1.root.json", "3.targets.json", "3.snapshot.json"]
    assert sorted(name.split(".", 1)[1] for name in site.calls[3:5]) == [
        "manifest.msgpack",
        "weights.safetensors",
    ]
    assert all(name.startswith(f"{BUNDLE}/") for name in site.calls[3:5])
    assert (report.targets_pushed, report.targets_skipped) == (2, 0)
    assert report.bytes_pushed > 1000


def test_what_the_site_has_does_not_travel(files: RepositoryFiles) -> None:
    digest = hashlib.sha256(WEIGHTS).hexdigest()
    site = RecordingSite({f"{BUNDLE}/weights.safetensors": digest, f"{BUNDLE}/manifest.msgpack": "other"})
    report = asyncio.run(push(site, files, [BUNDLE]))
    assert (report.targets_pushed, report.targets_skipped) == (1, 1)


def test_an_unreachable_site_is_tried_again(files: RepositoryFiles) -> None:
    waits: list[float] = []

    async def sleep(seconds: float) -> None:
        waits.append(seconds)

    site = RecordingSite(failures=3)
    report = asyncio.run(push(site, files, [BUNDLE], PushOptions(sleep=sleep)))
    assert report.activation.outcome == "activated"
    assert waits == [0.5, 1.0, 2.0]


def test_a_site_that_stays_away_ends_the_push(files: RepositoryFiles) -> None:
    site = RecordingSite(failures=100)
    with pytest.raises(RuntimeUnavailable):
        asyncio.run(push(site, files, [BUNDLE], PushOptions(attempts=3, sleep=no_sleep)))
    assert site.failures == 97


def test_a_refusal_is_not_repeated(files: RepositoryFiles) -> None:
    class Refusing(RecordingSite):
        async def put_metadata(self, name: str, data: bytes) -> None:
            self.calls.append(name)
            raise RuntimeRefused("too large", 413)

    site = Refusing()
    with pytest.raises(RuntimeRefused):
        asyncio.run(push(site, files, [BUNDLE], PushOptions(sleep=no_sleep)))
    assert site.calls == ["1.root.json"]


def test_an_unpublished_bundle_is_named(files: RepositoryFiles) -> None:
    with pytest.raises(KeyError, match="decoder/conv/9"):
        asyncio.run(push(RecordingSite(), files, ["decoder/conv/9"]))
