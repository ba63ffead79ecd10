"""Targets that come in chunks: any order, repeats, gaps and restarts end in the right file or in none."""

from __future__ import annotations

import asyncio
import hashlib
import os
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from starlette.applications import Starlette

from codec_runtime.bundle.errors import (
    FileTooLargeError,
    InboxFullError,
    LengthOrHashMismatchError,
    SupersededTransferError,
    UnsafePathError,
)
from codec_runtime.bundle.inbox import Inbox
from codec_runtime.contract import paths
from codec_runtime.contract.ranges import ByteRange, ContentRangeError, parse_range
from codec_runtime.serving.inbox_routes import inbox_routes
from codec_runtime.serving.metrics import RuntimeMetrics

CONTENT = bytes(range(40))


def name_of(content: bytes) -> str:
    return f"decoder/conv/2/{hashlib.sha256(content).hexdigest()}.weights.safetensors"


NAME = name_of(CONTENT)


def inbox_at(place: Path, **limits: Any) -> Inbox:
    return Inbox(place, **{"max_file_bytes": 64, "max_files": 8, **limits})


def put(inbox: Inbox, first: int, data: bytes, name: str = NAME, total: int = len(CONTENT)) -> int:
    """What the inbox has of the file afterwards."""
    chunk = inbox.begin_chunk(name, ByteRange(first, first + len(data) - 1, total))
    if not chunk.wanted:
        return chunk.offset
    chunk.append(data)
    return chunk.finish()


@given(data=st.data())
@settings(max_examples=25, deadline=None)
def test_any_sequence_of_chunks_and_restarts_keeps_a_prefix_and_ends_in_the_file(data: st.DataObject) -> None:
    with tempfile.TemporaryDirectory() as folder:
        inbox, have = inbox_at(Path(folder)), 0
        for _ in range(data.draw(st.integers(0, 12))):
            if data.draw(st.booleans()):
                inbox = inbox_at(Path(folder))
            first = data.draw(st.integers(0, len(CONTENT) - 1))
            last = data.draw(st.integers(first, len(CONTENT) - 1))
            told = put(inbox, first, CONTENT[first : last + 1])
            have = last + 1 if first == have else have
            assert told == have
            assert inbox.partial() == ({NAME: have} if 0 < have < len(CONTENT) else {})
            assert (inbox.read("targets", NAME) is not None) == (have == len(CONTENT))
        while have < len(CONTENT):  # an honest client goes on where it is told to
            have = put(inbox, have, CONTENT[have : have + 7])
        stored = inbox.read("targets", NAME)
        assert stored is not None
        assert stored.read_bytes() == CONTENT
        assert inbox.targets() == {"decoder/conv/2/weights.safetensors": NAME.rpartition("/")[2][:64]}


@settings(max_examples=50, deadline=None)
@given(header=st.text(max_size=40) | st.from_regex(r"bytes \d{1,4}-\d{1,4}/\d{1,4}", fullmatch=True))
def test_a_range_header_is_understood_or_refused(header: str) -> None:
    try:
        span = parse_range(header)
    except ContentRangeError:
        return
    assert 0 <= span.first <= span.last < span.total
    assert parse_range(span.header) == span


def test_a_file_of_another_content_is_thrown_away_by_name(tmp_path: Path) -> None:
    inbox = inbox_at(tmp_path)
    put(inbox, 0, b"x" * 20)
    with pytest.raises(LengthOrHashMismatchError, match="thrown away"):
        put(inbox, 20, CONTENT[20:])
    assert inbox.partial() == {}
    assert inbox.targets() == {}
    assert put(inbox, 0, CONTENT) == len(CONTENT)


def test_a_process_that_died_before_the_last_check_has_it_made_up_for(tmp_path: Path) -> None:
    place = tmp_path / "partial" / NAME
    place.parent.mkdir(parents=True)
    place.write_bytes(CONTENT)
    assert put(inbox_at(tmp_path), 39, CONTENT[39:]) == len(CONTENT)
    assert inbox_at(tmp_path).read("targets", NAME) is not None


def test_a_longer_file_under_that_name_is_begun_anew(tmp_path: Path) -> None:
    inbox = inbox_at(tmp_path)
    put(inbox, 0, b"x" * 50, total=60)
    assert put(inbox, 20, CONTENT[20:]) == 0
    assert put(inbox, 0, CONTENT) == len(CONTENT)


def test_of_two_transfers_of_a_file_the_later_counts(tmp_path: Path) -> None:
    inbox = inbox_at(tmp_path)
    given_up = inbox.begin_chunk(NAME, ByteRange(0, 19, 40))
    given_up.append(CONTENT[:5])
    assert put(inbox, 5, CONTENT[5:20]) == 20
    with pytest.raises(SupersededTransferError):
        given_up.append(CONTENT[5:10])
    with pytest.raises(SupersededTransferError):
        given_up.finish()
    assert put(inbox, 20, CONTENT[20:]) == len(CONTENT)


def test_number_size_and_age_of_partial_files_are_bounded(tmp_path: Path) -> None:
    inbox = inbox_at(tmp_path, max_partials=2, partial_max_age_s=60.0)
    with pytest.raises(FileTooLargeError, match="65 bytes, the limit is 64"):
        put(inbox, 0, b"x", total=65)
    names = [name_of(bytes([n])) for n in range(3)]
    for name in names[:2]:
        put(inbox, 0, b"x", name)
    with pytest.raises(InboxFullError, match="2 files are in transfer"):
        put(inbox, 0, b"x", names[2])
    os.utime(tmp_path / "partial" / names[0], (0, 0))
    put(inbox, 0, b"x", names[2])
    assert sorted(inbox.partial()) == sorted(names[1:])


def test_bytes_that_were_announced_count_before_they_come(tmp_path: Path) -> None:
    inbox = inbox_at(tmp_path, max_files=100, max_partials=100)
    for n in range(8):
        put(inbox, 0, b"x", name_of(bytes([n])), total=64)
    with pytest.raises(InboxFullError, match="its limit of 512 bytes"):
        put(inbox, 0, b"x")


def test_a_transfer_that_never_brought_a_byte_holds_no_place(tmp_path: Path) -> None:
    inbox = inbox_at(tmp_path, max_partials=1)
    inbox.begin_chunk(NAME, ByteRange(0, 9, 40)).close()
    assert put(inbox, 0, b"x", name_of(b"other")) == 1


def test_what_is_installed_leaves_no_transfers_behind(tmp_path: Path) -> None:
    inbox = inbox_at(tmp_path)
    put(inbox, 0, CONTENT[:3])
    inbox.discard_targets("decoder/conv/2")
    assert inbox.partial() == {}


@pytest.mark.parametrize("name", ["decoder/conv/2/weights.safetensors", f"../{NAME}", "a/.hidden", "/etc/x"])
def test_names_without_hash_or_out_of_the_inbox_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(UnsafePathError):
        put(inbox_at(tmp_path), 0, b"x", name)


class FakeRuntime:
    """What the routes need of a runtime."""

    def __init__(self, place: Path) -> None:
        self.inbox = inbox_at(place)
        self.metrics = RuntimeMetrics("i", "s")
        self.settings = SimpleNamespace(inbox_max_file_bytes=64, body_stall_s=0.05, body_min_bytes_per_s=1)
        self.inference = SimpleNamespace(retry_after_s=lambda: 3)
        self.waiting = False

    def busy(self) -> bool:
        return self.waiting

    async def beside_users(self, do, *arguments):
        return await asyncio.to_thread(do, *arguments)

    def refusals(self, error: str) -> float:
        labels = {"stage": "inbox", "error": error}
        return self.metrics.registry.get_sample_value("semcom_runtime_update_refusals_total", labels) or 0.0


def send(
    runtime: FakeRuntime, body: bytes | AsyncIterator[bytes], span: str, name: str = NAME
) -> httpx.Response:
    app = Starlette(routes=inbox_routes())
    app.state.runtime = runtime

    async def main() -> httpx.Response:
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://site") as client:
            headers = {"Content-Range": span}
            return await client.put(f"{paths.INBOX}/targets/{name}", content=body, headers=headers)

    return asyncio.run(main())


def test_answers_tell_how_much_is_there(tmp_path: Path) -> None:
    runtime = FakeRuntime(tmp_path)
    answers = [
        send(runtime, CONTENT[first : last + 1], f"bytes {first}-{last}/40")
        for first, last in ((0, 9), (0, 9), (20, 29), (10, 39), (10, 39), (0, 9))
    ]
    found = [(answer.status_code, answer.headers["Upload-Offset"]) for answer in answers]
    assert found == [(204, "10"), (204, "10"), (416, "10"), (204, "40"), (204, "40"), (204, "40")]


@pytest.mark.parametrize(("body", "span", "status", "error"), [
    (b"x", "bytes 0-0/65", 413, "FileTooLargeError"),
    (b"x" * 11, "bytes 0-9/40", 413, "BodyTooLargeError"),
    (b"x" * 9, "bytes 0-9/40", 400, "BadBodyError"),
    (b"x", "0-1", 400, "ContentRangeError"),
    (b"x" * 40, "bytes 0-39/40", 422, "LengthOrHashMismatchError"),
])
def test_a_chunk_is_refused_by_name_and_counted(
    tmp_path: Path, body: bytes, span: str, status: int, error: str
) -> None:
    runtime = FakeRuntime(tmp_path)
    answer = send(runtime, body, span)
    assert (answer.status_code, answer.json()["name"]) == (status, error)
    assert runtime.refusals(error) == 1
    assert runtime.inbox.targets() == {}


def test_what_came_of_a_slow_chunk_is_kept(tmp_path: Path) -> None:
    async def drip() -> AsyncIterator[bytes]:
        yield CONTENT[:4]
        await asyncio.sleep(5)

    runtime = FakeRuntime(tmp_path)
    answer = send(runtime, drip(), "bytes 0-39/40")
    assert (answer.status_code, answer.json()["name"]) == (408, "SlowTransferError")
    assert runtime.inbox.partial() == {NAME: 4}
    assert send(runtime, CONTENT[4:], "bytes 4-39/40").status_code == 204


def test_a_full_disk_is_refused_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(step: str) -> None:
        raise OSError(28, "No space left on device")

    runtime = FakeRuntime(tmp_path)
    monkeypatch.setattr(runtime.inbox, "_reached", full)
    answer = send(runtime, CONTENT, "bytes 0-39/40")
    assert (answer.status_code, answer.json()["name"]) == (507, "StorageFullError")
    monkeypatch.undo()
    assert send(runtime, CONTENT, "bytes 0-39/40").status_code == 204


def test_while_users_wait_files_are_put_off_unread(tmp_path: Path) -> None:
    async def untouched() -> AsyncIterator[bytes]:
        raise AssertionError("the body was read")
        yield b""

    runtime = FakeRuntime(tmp_path)
    runtime.waiting = True
    answer = send(runtime, untouched(), "bytes 0-39/40")
    assert (answer.status_code, answer.headers["Retry-After"]) == (429, "3")
    runtime.waiting = False
    assert send(runtime, CONTENT, "bytes 0-39/40").status_code == 204


def test_a_total_that_changes_on_the_way_does_not_end_in_another_file(tmp_path: Path) -> None:
    inbox = inbox_at(tmp_path)
    assert put(inbox, 0, CONTENT[:20], total=30) == 20
    assert put(inbox, 20, CONTENT[20:]) == 40
    target = inbox.read("targets", NAME)
    assert target is not None
    assert target.read_bytes() == CONTENT
    assert inbox.arrivals.of(target) is None  # it did not come as one file


@pytest.mark.parametrize("length", [10, 30])
def test_a_file_that_somebody_else_wrote_to_is_not_taken_from_memory(tmp_path: Path, length: int) -> None:
    inbox = inbox_at(tmp_path)
    assert put(inbox, 0, CONTENT[:20]) == 20
    (tmp_path / "partial" / NAME).write_bytes(CONTENT[:length])
    assert put(inbox, length, CONTENT[length:]) == 40
    target = inbox.read("targets", NAME)
    assert target is not None
    assert inbox.arrivals.of(target) is None


def test_more_bytes_than_were_announced_are_not_lost_in_the_buffer(tmp_path: Path) -> None:
    inbox = inbox_at(tmp_path)
    chunk = inbox.begin_chunk(NAME, ByteRange(0, 29, 30))
    chunk.append(CONTENT[:25], CONTENT[25:])
    assert chunk.finish() == 30
    target = inbox.read("targets", NAME)
    assert target is not None
    assert target.read_bytes() == CONTENT
    assert inbox.arrivals.of(target) is None
