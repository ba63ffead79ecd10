"""What came in this process is neither read nor hashed again, and is never taken for another file."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from safetensors.torch import save
from tuf.api.metadata import TargetFile  # type: ignore[attr-defined]

from codec_runtime.bundle import arrivals, signed_targets
from codec_runtime.bundle.errors import LengthOrHashMismatchError
from codec_runtime.bundle.fetcher import InboxFetcher
from codec_runtime.bundle.inbox import Inbox
from codec_runtime.bundle.signed_targets import SignedTargets
from codec_runtime.contract.ranges import ByteRange

PATH = "decoder/conv/2/weights.safetensors"
CONTENT = save({"a": torch.ones(3, 5), "b": torch.zeros(4, dtype=torch.float16)})


def hashed(content: bytes) -> str:
    folder, _, file = PATH.rpartition("/")
    return f"{folder}/{hashlib.sha256(content).hexdigest()}.{file}"


NAME = hashed(CONTENT)


def inbox_at(place: Path, limit: int = 1 << 20) -> Inbox:
    return Inbox(place / "inbox", max_file_bytes=limit, max_files=16)


def send(inbox: Inbox, content: bytes = CONTENT, first: int = 0, size: int = 100) -> None:
    """In parts, as the network hands them over; a chunk for the first of them, one for the others."""
    name, total = hashed(content), len(content)
    for begin, end in ((first, first + size), (first + size, total)):
        chunk = inbox.begin_chunk(name, ByteRange(begin, end - 1, total))
        for at in range(begin, end, 37):
            chunk.append(content[at : min(at + 37, end)])
        chunk.finish()


def signed_of(inbox: Inbox, place: Path) -> SignedTargets:
    return SignedTargets(cast(Any, None), InboxFetcher(inbox, place / "store"), inbox)


def target(content: bytes = CONTENT) -> TargetFile:
    return TargetFile.from_data(PATH, content, ["sha256"])


def unreadable(*arguments: object) -> bytes:
    raise AssertionError("a file was read")


def test_bytes_that_came_are_taken_without_a_look_at_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inbox = inbox_at(tmp_path)
    send(inbox)
    monkeypatch.setattr(signed_targets, "_read", unreadable)
    taken = signed_of(inbox, tmp_path).take(target(), tmp_path / "staged")
    assert taken.data == CONTENT
    assert taken.arrival is not None
    assert taken.arrival.durable.result(10) is None
    assert (tmp_path / "staged").samefile(inbox.directory / "targets" / NAME)


def test_after_a_restart_the_file_is_read_and_hashed(tmp_path: Path) -> None:
    send(inbox_at(tmp_path))
    stored = tmp_path / "inbox" / "targets" / NAME
    stored.write_bytes(CONTENT[:-1] + b"?")
    again = inbox_at(tmp_path)
    with pytest.raises(LengthOrHashMismatchError):
        signed_of(again, tmp_path).take(target(), tmp_path / "staged")
    stored.write_bytes(CONTENT)
    assert signed_of(again, tmp_path).take(target(), tmp_path / "staged").arrival is None


@pytest.mark.parametrize("how", ["put", "written", "replaced"])
def test_a_file_that_changed_after_it_came_is_another_file(tmp_path: Path, how: str) -> None:
    inbox = inbox_at(tmp_path)
    send(inbox)
    stored, altered = inbox.directory / "targets" / NAME, CONTENT[:-1] + b"?"
    if how == "put":
        inbox.put("targets", NAME, altered)
    elif how == "written":
        stored.write_bytes(altered)
        os.utime(stored, ns=(1, stored.stat().st_mtime_ns + 1))  # whatever the clock's resolution
    else:
        (tmp_path / "new").write_bytes(altered)
        (tmp_path / "new").replace(stored)
    with pytest.raises(LengthOrHashMismatchError):
        signed_of(inbox, tmp_path).take(target(), tmp_path / "staged")


def test_what_the_metadata_signs_otherwise_is_refused(tmp_path: Path) -> None:
    inbox = inbox_at(tmp_path)
    send(inbox)
    other = target(CONTENT + b"?")
    other.hashes = {"sha256": NAME.rpartition("/")[2][:64]}  # the hash of what came, but another length
    with pytest.raises(LengthOrHashMismatchError):
        signed_of(inbox, tmp_path).take(other, tmp_path / "staged")


def test_a_transfer_that_was_cut_off_is_read_from_disk(tmp_path: Path) -> None:
    inbox = inbox_at(tmp_path)
    chunk = inbox.begin_chunk(NAME, ByteRange(0, len(CONTENT) - 1, len(CONTENT)))
    chunk.append(CONTENT[:50])
    chunk.close()
    send(inbox, first=50)
    taken = signed_of(inbox, tmp_path).take(target(), tmp_path / "staged")
    assert (taken.data, taken.arrival) == (CONTENT, None)


def test_memory_is_bounded_and_the_oldest_file_makes_room(tmp_path: Path) -> None:
    inbox = inbox_at(tmp_path, limit=2 * len(save({"a": torch.ones(3, 5)})))
    contents = [save({"a": torch.full((3, 5), value)}) for value in (1.0, 2.0, 3.0)]
    for content in contents:
        send(inbox, content)
    held = [inbox.arrivals.of(inbox.directory / "targets" / hashed(content)) for content in contents]
    assert [one is None for one in held] == [True, False, False]
    assert inbox.arrivals.room_for(tmp_path / "large", 1 << 20) is None


def test_an_installed_bundle_is_kept_in_memory_no_longer(tmp_path: Path) -> None:
    inbox = inbox_at(tmp_path)
    send(inbox)
    inbox.discard_targets("decoder/conv/2")
    assert inbox.arrivals.of(inbox.directory / "targets" / NAME) is None


def test_a_file_that_the_disk_did_not_take_is_gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(path: Path) -> None:
        raise OSError(5, "the disk failed")

    monkeypatch.setattr(arrivals, "flush", fails)
    inbox = inbox_at(tmp_path)
    first = inbox.begin_chunk(NAME, ByteRange(0, len(CONTENT) - 1, len(CONTENT)))
    first.append(CONTENT)
    first.finish()
    inbox.arrivals._threads.shutdown(wait=True)
    assert inbox.read("targets", NAME) is None
    assert inbox.targets() == {}
