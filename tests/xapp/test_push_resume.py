"""A push that is cut short goes on where it stopped; it waits for users, keeps its rate, and picks deltas."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import httpx
import pytest
from chunked_site import BUNDLE, WEIGHTS, ChunkedSite, no_sleep, repository_with

from codec_runtime.contract.ranges import ByteRange
from codec_runtime.contract.updates import ActivationReport, InboxListing
from xapp.delivery.pacing import TokenBucket
from xapp.delivery.plan import plan_push
from xapp.delivery.push import PushOptions, PushProgress, push
from xapp.delivery.repository import RepositoryFiles
from xapp.runtime_client import RuntimeBusy, RuntimeClient, RuntimeRefused, RuntimeUnavailable

OPTIONS = PushOptions(chunk_bytes=100, attempts=3, sleep=no_sleep)
SHA = hashlib.sha256(WEIGHTS).hexdigest()
HASHED = f"{BUNDLE}/{SHA}.weights.safetensors"


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> RepositoryFiles:
    return repository_with(tmp_path_factory.mktemp("tuf"), 2).files()


def after(kind: str, calls: int, error: Exception) -> Callable[[str], None]:
    """Fault: ``error`` at every request of ``kind`` behind the first ``calls``."""
    seen = 0

    def fault(now: str) -> None:
        nonlocal seen
        seen += now == kind
        if now == kind and seen > calls:
            raise error

    return fault


def weight_spans(site: ChunkedSite) -> list[tuple[int, int]]:
    return [(first, last) for name, first, last in site.spans if name == HASHED]


def test_what_an_interrupted_push_brought_does_not_travel_again(files: RepositoryFiles) -> None:
    manifest_chunks = -(-files.targets[f"{BUNDLE}/manifest.msgpack"][2].stat().st_size // 100)
    site = ChunkedSite(after("chunk", manifest_chunks + 4, RuntimeUnavailable("gone")))
    with pytest.raises(RuntimeUnavailable):
        asyncio.run(push(site, files, [BUNDLE], OPTIONS))
    assert len(site.kept[HASHED]) == 400
    site.fault, site.spans = lambda kind: None, []
    report = asyncio.run(push(site, files, [BUNDLE], OPTIONS))
    assert site.spans[0] == (HASHED, 400, 499)
    assert len(site.spans) == 6
    assert (report.targets_pushed, report.targets_skipped) == (1, 1)
    assert report.bytes_saved == 400 + files.targets[f"{BUNDLE}/manifest.msgpack"][2].stat().st_size
    assert report.bytes_pushed == 600 + len(files.metadata[-1][1])  # timestamp.json is always sent


def test_a_push_that_is_repeated_sends_nothing_but_the_timestamp(files: RepositoryFiles) -> None:
    site = ChunkedSite()
    asyncio.run(push(site, files, [BUNDLE], OPTIONS))
    report = asyncio.run(push(site, files, [BUNDLE], OPTIONS))
    assert (report.targets_pushed, report.bytes_pushed) == (0, len(files.metadata[-1][1]))


def test_a_file_that_is_all_there_is_completed_by_its_last_byte(files: RepositoryFiles) -> None:
    site = ChunkedSite()
    site.kept[HASHED] = WEIGHTS
    asyncio.run(push(site, files, [BUNDLE], OPTIONS))
    assert weight_spans(site) == [(999, 999)]
    assert site.complete[f"{BUNDLE}/weights.safetensors"] == SHA


def test_a_beginning_that_was_wrong_is_thrown_away_and_sent_anew(files: RepositoryFiles) -> None:
    site = ChunkedSite()
    site.kept[HASHED] = b"?" * 900
    asyncio.run(push(site, files, [BUNDLE], OPTIONS))
    assert site.complete[f"{BUNDLE}/weights.safetensors"] == SHA


def test_an_altered_file_of_our_own_ends_the_push(files: RepositoryFiles, tmp_path: Path) -> None:
    wrong = tmp_path / "weights"
    wrong.write_bytes(b"?" * 1000)
    path = f"{BUNDLE}/weights.safetensors"
    altered = replace(files, targets={**files.targets, path: (HASHED, SHA, wrong)})
    site = ChunkedSite()
    with pytest.raises(RuntimeRefused, match="thrown away"):
        asyncio.run(push(site, altered, [BUNDLE], OPTIONS))
    assert site.activated == []


def test_a_site_that_always_wants_earlier_bytes_is_given_up(files: RepositoryFiles) -> None:
    class Forgetful(ChunkedSite):
        async def put_chunk(self, name: str, span: ByteRange, data: bytes) -> int:
            self.spans.append((name, span.first, span.last))
            return 100 if span.first == 0 else 0

    site = Forgetful()
    with pytest.raises(RuntimeRefused, match="wants byte 0"):
        asyncio.run(push(site, files, [BUNDLE], OPTIONS))
    assert len(site.spans) == 2 * OPTIONS.attempts


def test_a_busy_site_is_waited_for_as_long_as_it_says(files: RepositoryFiles) -> None:
    waits: list[float] = []
    busy = 7

    def fault(kind: str) -> None:
        nonlocal busy
        if kind == "chunk" and busy:
            busy -= 1
            raise RuntimeBusy("users first", 2.0)

    async def sleep(seconds: float) -> None:
        waits.append(seconds)

    report = asyncio.run(push(ChunkedSite(fault), files, [BUNDLE], replace(OPTIONS, sleep=sleep)))
    assert waits == [2.0] * 7  # more often than a site that is away would be tried
    assert (report.retries, report.waited_s) == (7, 14.0)
    assert report.activation.outcome == "activated"


def test_waiting_for_a_busy_site_has_an_end(files: RepositoryFiles) -> None:
    site = ChunkedSite(after("chunk", 0, RuntimeBusy("users first", 4.0)))
    with pytest.raises(RuntimeUnavailable, match="users first"):
        asyncio.run(push(site, files, [BUNDLE], replace(OPTIONS, busy_limit_s=10.0)))


def test_progress_grows_to_the_whole_bundle(files: RepositoryFiles) -> None:
    told: list[PushProgress] = []
    site = ChunkedSite()
    site.kept[HASHED] = WEIGHTS[:300]
    asyncio.run(push(site, files, [BUNDLE], OPTIONS, name="site-1", progress=told.append))
    total = sum(
        local.stat().st_size for path, (_, _, local) in files.targets.items() if path.startswith(BUNDLE)
    )
    assert {(step.site, step.bundle, step.total) for step in told} == {("site-1", BUNDLE, total)}
    done = [step.done for step in told]
    assert done == sorted(done)
    assert done[-1] == total


class Clock:
    def __init__(self) -> None:
        self.now = 0.0
        self.sleeping: list[float] = []

    async def sleep(self, seconds: float) -> None:
        until = self.now + seconds
        await asyncio.sleep(0)
        self.now = max(self.now, until)


def test_a_bucket_lets_bytes_through_at_its_rate() -> None:
    clock = Clock()
    bucket = TokenBucket(100.0, 0.5, clock=lambda: clock.now, sleep=clock.sleep)

    async def main() -> None:
        for _ in range(20):
            await bucket.take(50)

    asyncio.run(main())
    assert clock.now == pytest.approx(20 * 0.5 - 0.5 - 0.5)  # less the burst, and the last is not paid yet


def test_tasks_that_share_a_bucket_share_its_rate() -> None:
    clock = Clock()
    bucket = TokenBucket(100.0, 0.0, clock=lambda: clock.now, sleep=clock.sleep)

    async def main() -> None:
        await asyncio.gather(*(bucket.take(100) for _ in range(5)))

    asyncio.run(main())
    assert clock.now == pytest.approx(4.0)


DELTA = f"{BUNDLE}/delta.safetensors"
DELTA_SHA = "d" * 64


@pytest.fixture
def with_delta(files: RepositoryFiles, tmp_path: Path) -> RepositoryFiles:
    content = b"difference"
    place = tmp_path / "delta"
    place.write_bytes(content)
    digest = hashlib.sha256(content).hexdigest()
    target = (f"{BUNDLE}/{digest}.delta.safetensors", digest, place)
    return replace(files, targets={**files.targets, DELTA: target}, parents={DELTA: "parent"})


def test_the_delta_travels_where_the_parent_is_held(with_delta: RepositoryFiles) -> None:
    site = ChunkedSite()
    site.weights = ["other", "parent"]
    report = asyncio.run(push(site, with_delta, [BUNDLE], OPTIONS))
    assert DELTA in site.complete
    assert weight_spans(site) == []
    assert report.bytes_saved == len(WEIGHTS) - len(b"difference")


@pytest.mark.parametrize("listing", [
    InboxListing(targets={}, weights=["other"]),
    InboxListing(targets={}, weights=["parent"], partial={HASHED: 995}),  # less of the weights is missing
])
def test_otherwise_the_weights_travel(with_delta: RepositoryFiles, listing: InboxListing) -> None:
    assert plan_push(with_delta, [BUNDLE], listing).transfers[-1].path == f"{BUNDLE}/weights.safetensors"


def test_weights_that_are_there_need_no_delta(with_delta: RepositoryFiles) -> None:
    listing = InboxListing(targets={f"{BUNDLE}/weights.safetensors": SHA}, weights=["parent"])
    plan = plan_push(with_delta, [BUNDLE], listing)
    assert [transfer.path for transfer in plan.transfers] == [f"{BUNDLE}/manifest.msgpack"]


def test_after_a_refused_delta_the_weights_follow(with_delta: RepositoryFiles) -> None:
    site = ChunkedSite()
    site.weights = ["parent"]
    refused = ActivationReport(instance="i", outcome="refused", error="MissingParentError")
    site.answers.insert(0, refused)
    report = asyncio.run(push(site, with_delta, [BUNDLE], OPTIONS))
    assert report.activation.outcome == "activated"
    assert site.complete[f"{BUNDLE}/weights.safetensors"] == SHA
    assert site.activated == [[BUNDLE], [BUNDLE]]


def test_another_refusal_is_not_answered_with_the_weights(with_delta: RepositoryFiles) -> None:
    site = ChunkedSite()
    site.weights = ["parent"]
    site.answers = [ActivationReport(instance="i", outcome="refused", error="RollbackError")]
    assert asyncio.run(push(site, with_delta, [BUNDLE], OPTIONS)).activation.error == "RollbackError"
    assert len(site.activated) == 1


@pytest.mark.parametrize(("status", "headers", "expected"), [
    (204, {"Upload-Offset": "10"}, 10),
    (416, {"Upload-Offset": "4"}, 4),
    (204, {}, RuntimeRefused),
    (416, {"Upload-Offset": "-1"}, RuntimeRefused),
    (422, {"Upload-Offset": "4"}, RuntimeRefused),
    (429, {"Retry-After": "9"}, RuntimeBusy),
    (507, {}, RuntimeUnavailable),
])
def test_the_client_reads_the_answer_to_a_chunk(
    status: int, headers: dict[str, str], expected: int | type[Exception]
) -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        assert request.headers["Content-Range"] == "bytes 0-9/40"
        return httpx.Response(status, headers=headers)

    async def main() -> int:
        async with RuntimeClient("http://site", transport=httpx.MockTransport(answer)) as client:
            return await client.put_chunk(HASHED, ByteRange(0, 9, 40), b"x" * 10)

    if isinstance(expected, int):
        assert asyncio.run(main()) == expected
    else:
        with pytest.raises(expected) as caught:
            asyncio.run(main())
        assert getattr(caught.value, "retry_after_s", 9.0) == 9.0
