"""Small files come with the activation where a site takes them; large ones are on their way side by side."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest
from chunked_site import BUNDLE, WEIGHTS, ChunkedSite, no_sleep, repository_with

from codec_runtime.contract.ranges import ByteRange
from xapp.delivery.push import PushOptions, PushProgress, push
from xapp.delivery.repository import RepositoryFiles
from xapp.runtime_client import RuntimeUnavailable

OPTIONS = PushOptions(attempts=3, sleep=no_sleep)
LARGE = WEIGHTS * 100


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> RepositoryFiles:
    return repository_with(tmp_path_factory.mktemp("tuf"), 2).files()


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> RepositoryFiles:
    return repository_with(tmp_path_factory.mktemp("tuf"), 2, 3, weights=LARGE).files()


def site_that_takes_files() -> ChunkedSite:
    site = ChunkedSite()
    site.takes_files = True
    return site


def test_everything_small_takes_two_requests_in_all(small: RepositoryFiles) -> None:
    asked: list[str] = []
    site = site_that_takes_files()
    site.fault = asked.append
    told: list[PushProgress] = []
    report = asyncio.run(push(site, small, [BUNDLE], OPTIONS, progress=told.append))
    assert asked == ["inbox", "activate"]
    assert list(site.metadata) == [name for name, _ in small.metadata]
    assert list(site.metadata)[-1] == "timestamp.json"
    assert site.complete == {path: digest for path, (_, digest, _) in small.targets.items()}
    sizes = [local.stat().st_size for _, _, local in small.targets.values()]
    assert report.bytes_pushed == sum(sizes) + sum(len(data) for _, data in small.metadata)
    assert (told[-1].done, told[-1].total) == (sum(sizes), sum(sizes))


def test_a_push_that_is_repeated_brings_nothing_but_the_timestamp(small: RepositoryFiles) -> None:
    site = site_that_takes_files()
    asyncio.run(push(site, small, [BUNDLE], OPTIONS))
    report = asyncio.run(push(site, small, [BUNDLE], OPTIONS))
    assert (report.targets_pushed, report.bytes_pushed) == (0, len(small.metadata[-1][1]))


def test_files_that_do_not_go_along_are_there_before_the_timestamp(
    small: RepositoryFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("xapp.delivery.push._ALONG_LIMIT", 0)
    site = site_that_takes_files()
    asyncio.run(push(site, small, [BUNDLE], OPTIONS))
    assert list(site.metadata)[-1] == "timestamp.json"
    assert len(site.metadata) == len(small.metadata)
    assert len(site.spans) == len(small.targets)


def test_an_activation_that_got_lost_is_sent_again_with_its_files(small: RepositoryFiles) -> None:
    lost = ["activate", "activate"]

    def fault(kind: str) -> None:
        if kind in lost:
            lost.remove(kind)
            raise RuntimeUnavailable("gone")

    site = site_that_takes_files()
    site.fault = fault
    report = asyncio.run(push(site, small, [BUNDLE], OPTIONS))
    assert (report.retries, report.activation.outcome) == (2, "activated")
    assert len(site.metadata) == len(small.metadata)


def test_two_large_files_are_on_their_way_at_a_time(large: RepositoryFiles) -> None:
    class Slow(ChunkedSite):
        coming = most = 0

        async def put_chunk(self, name: str, span: ByteRange, data: bytes) -> int:
            self.coming += 1
            self.most = max(self.most, self.coming)
            await asyncio.sleep(0.001)
            self.coming -= 1
            return await super().put_chunk(name, span, data)

    site = Slow()
    site.takes_files = True
    bundles = ["decoder/conv/2", "decoder/conv/3"]
    asyncio.run(push(site, large, bundles, replace(OPTIONS, chunk_bytes=len(LARGE) // 3)))
    assert site.most == 2
    assert {path.rpartition("/")[0] for path in site.complete} == set(bundles)


def test_a_file_that_was_begun_is_gone_on_with_and_does_not_come_along(small: RepositoryFiles) -> None:
    hashed, digest, _ = small.targets[f"{BUNDLE}/weights.safetensors"]
    site = site_that_takes_files()
    site.kept[hashed] = WEIGHTS[:600]
    asyncio.run(push(site, small, [BUNDLE], OPTIONS))
    assert site.spans == [(hashed, 600, 999)]
    assert site.complete[f"{BUNDLE}/weights.safetensors"] == digest


def test_a_file_of_our_own_that_is_gone_ends_the_push(small: RepositoryFiles, tmp_path: Path) -> None:
    path = f"{BUNDLE}/manifest.msgpack"
    hashed, digest, _ = small.targets[path]
    gone = replace(small, targets={**small.targets, path: (hashed, digest, tmp_path / "gone")})
    site = site_that_takes_files()
    with pytest.raises(OSError, match="gone"):
        asyncio.run(push(site, gone, [BUNDLE], OPTIONS))
    assert site.activated == []
