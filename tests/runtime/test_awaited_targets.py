"""A target that is on its way is waited for as long as bytes of it come."""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import Any, cast

import pytest
from runtime_site import Repository, write_decoder, write_encoder
from tuf.api.metadata import TargetFile  # type: ignore[attr-defined]

from codec_runtime.bundle.errors import LengthOrHashMismatchError, MissingFileError, MissingTargetError
from codec_runtime.bundle.fetcher import InboxFetcher
from codec_runtime.bundle.inbox import Inbox
from codec_runtime.bundle.signed_targets import SignedTargets
from codec_runtime.bundle.trust import BundleInstaller
from codec_runtime.contract.ranges import ByteRange

PATH = "decoder/conv/2/weights.safetensors"
CONTENT = bytes(range(200)) * 3
NAME = f"decoder/conv/2/{hashlib.sha256(CONTENT).hexdigest()}.weights.safetensors"
TARGET = TargetFile.from_data(PATH, CONTENT, ["sha256"])


class WatchedInbox(Inbox):
    """Says when somebody begins to wait."""

    def __init__(self, directory: Path, patience_s: float) -> None:
        super().__init__(directory, max_file_bytes=1 << 20, max_files=16, patience_s=patience_s)
        self.waiting = threading.Event()

    def await_target(self, name: str) -> Path | None:
        self.waiting.set()
        return super().await_target(name)


def inbox_at(place: Path, patience_s: float = 20.0) -> WatchedInbox:
    return WatchedInbox(place / "inbox", patience_s)


def waited_for(inbox: Inbox, place: Path, name: str = NAME) -> tuple[SignedTargets, Future[bytes]]:
    signed = SignedTargets(cast(Any, None), InboxFetcher(inbox, place / "store"), inbox, {name})
    return signed, _in_thread(lambda: signed.read(TARGET))


def _in_thread(do: Callable[[], bytes]) -> Future[bytes]:
    future: Future[bytes] = Future()

    def run() -> None:
        try:
            future.set_result(do())
        except Exception as error:
            future.set_exception(error)

    threading.Thread(target=run, daemon=True).start()
    return future


def send(inbox: Inbox, content: bytes = CONTENT, pieces: int = 2) -> None:
    chunk = inbox.begin_chunk(NAME, ByteRange(0, len(content) - 1, len(content)))
    step = len(content) // pieces
    for at in range(0, len(content), step):
        chunk.append(content[at : at + step])
    chunk.finish()


def test_a_target_that_comes_in_chunks_is_taken_when_it_is_whole(tmp_path: Path) -> None:
    inbox = inbox_at(tmp_path)
    signed, taken = waited_for(inbox, tmp_path)
    assert signed.is_here(TARGET)
    assert inbox.waiting.wait(10)
    send(inbox)
    assert taken.result(10) == CONTENT
    assert signed.awaited_s > 0


def test_a_target_that_is_put_whole_is_taken_too(tmp_path: Path) -> None:
    inbox = inbox_at(tmp_path)
    _, taken = waited_for(inbox, tmp_path)
    assert inbox.waiting.wait(10)
    inbox.put("targets", NAME, CONTENT)
    assert taken.result(10) == CONTENT


def test_patience_ends_when_no_byte_comes(tmp_path: Path) -> None:
    _, taken = waited_for(inbox_at(tmp_path, patience_s=0.05), tmp_path)
    with pytest.raises(MissingFileError):
        taken.result(10)


def test_bytes_that_come_renew_the_patience(tmp_path: Path) -> None:
    inbox = inbox_at(tmp_path, patience_s=1.0)
    _, taken = waited_for(inbox, tmp_path)
    began = time.monotonic()
    chunk = inbox.begin_chunk(NAME, ByteRange(0, len(CONTENT) - 1, len(CONTENT)))
    for at in range(0, len(CONTENT), 100):
        chunk.append(CONTENT[at : at + 100])
        time.sleep(0.3)
    assert time.monotonic() - began > 1.0
    chunk.finish()
    assert taken.result(10) == CONTENT


def test_bytes_sent_anew_do_not(tmp_path: Path) -> None:
    inbox = inbox_at(tmp_path, patience_s=0.4)
    _, taken = waited_for(inbox, tmp_path)
    deadline = time.monotonic() + 10
    while not taken.done() and time.monotonic() < deadline:
        with pytest.raises(LengthOrHashMismatchError):
            send(inbox, bytes(len(CONTENT)))
        time.sleep(0.05)
    with pytest.raises(MissingFileError):
        taken.result(0)


def test_a_target_that_was_not_announced_is_not_waited_for(tmp_path: Path) -> None:
    signed, taken = waited_for(inbox_at(tmp_path), tmp_path, name="decoder/conv/2/other")
    assert not signed.is_here(TARGET)
    with pytest.raises(MissingFileError):
        taken.result(10)
    assert signed.awaited_s == 0


def test_nobody_waits_when_the_runtime_ends(tmp_path: Path) -> None:
    inbox = inbox_at(tmp_path)
    _, taken = waited_for(inbox, tmp_path)
    assert inbox.waiting.wait(10)
    inbox.close()
    with pytest.raises(MissingFileError):
        taken.result(10)


def test_nobody_waits_for_targets_of_an_update_that_names_an_unknown_bundle(
    tmp_path: Path, repository: Repository
) -> None:
    source = tmp_path / "source"
    write_decoder(source, write_encoder(source), version=2, parent=1)
    repository.add_bundle(source, "decoder/attention/2")
    inbox, coming = inbox_at(tmp_path), set[str]()

    def without_targets(area: Any, name: str, data: bytes) -> None:
        if area == "targets":
            coming.add(name)
        else:
            inbox.put(area, name, data)

    repository.publish(without_targets)
    site = BundleInstaller(inbox, tmp_path / "store", tmp_path / "tuf", tmp_path / "root.json")
    with pytest.raises(MissingTargetError, match="decoder/attention/9"):
        site.install(["decoder/attention/2", "decoder/attention/9"], coming)
    assert not inbox.waiting.is_set()
