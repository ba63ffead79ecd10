"""Target files that came while this process watched: their bytes, hashed as they came.

A weights file that has just arrived is not read and hashed again when it is verified. What is verified is the
very buffer that the network was read into and whose sha256 was computed then, and the tensors that are loaded
lie in that buffer; the file beside it holds what was written from it, and is what counts after a restart,
when its hash is checked again. A buffer is never changed once its file is whole: whoever completes it hands
it over here and keeps none.

While the rest of an update is on its way the file is flushed to disk. That is no trust: the signed metadata
is asked later, and what it does not name, or names otherwise, is not used.

All buffers together are bounded; a file that finds no room, or came in an earlier process, is read from disk.
"""

from __future__ import annotations

import contextlib
import os
import threading
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from codec_runtime.bundle.durable import flush


@dataclass(frozen=True)
class Arrival:
    """A target file that is whole.

    Attributes:
        content: its bytes. sha256: of them, hex. file: what the file was when they had been written.
        durable: done when they are on disk; holds an OSError if the disk failed.
    """

    content: memoryview
    sha256: str
    file: os.stat_result
    durable: Future[None]


class Arrivals:
    """The buffers of files that are coming and of files that are whole, ``limit`` bytes in all.

    Args:
        threads: that flush whole files.
    """

    def __init__(self, limit: int, threads: ThreadPoolExecutor) -> None:
        self._limit = limit
        self._lock = threading.Lock()
        self._coming: dict[Path, int] = {}
        self._whole: dict[Path, Arrival] = {}
        self._threads = threads

    def room_for(self, path: Path, size: int) -> memoryview | None:
        """A buffer for a file that begins to come; the oldest whole files make room. None: too large.

        Args:
            path: by which it is known until it is whole. size: of the whole file, bytes.
        """
        with self._lock:
            self._coming.pop(path, None)
            while self._whole and self._held() + size > self._limit:
                del self._whole[next(iter(self._whole))]
            if self._held() + size > self._limit:
                return None
            self._coming[path] = size
        # Of NumPy, which asks for large pages: small ones cost 3 us each when they are first written to on a
        # virtual machine, 5 ms for a file of 6 MB, more than its copy or half of its hash.
        return np.empty(size, np.uint8).data

    def give_up(self, path: Path) -> None:
        """A file that was coming does so no longer."""
        with self._lock:
            self._coming.pop(path, None)

    def complete(self, target: Path, content: memoryview, sha256: str) -> None:
        """A file that is no longer coming is whole: it is ``target`` now, and holds these bytes."""
        durable = self._threads.submit(flush, target)
        arrival = Arrival(content, sha256, target.stat(), durable)
        with self._lock:
            self._whole[target] = arrival
        durable.add_done_callback(lambda done: self._flushed(target, done))

    def of(self, target: Path) -> Arrival | None:
        """The file ``target`` as it came; None if that is not known, or it is another file now."""
        with self._lock:
            arrival = self._whole.get(target)
        if arrival is not None:
            with contextlib.suppress(FileNotFoundError):
                if same_file(arrival.file, target.stat()):
                    return arrival
            self.forget(target)
        return None

    def forget(self, target: Path) -> None:
        """Keep the bytes of a whole file no longer."""
        with self._lock:
            self._whole.pop(target, None)

    def _flushed(self, target: Path, done: Future[None]) -> None:
        """A disk tells of a failure once: what it may not hold must not be found again later."""
        if not done.cancelled() and isinstance(done.exception(), OSError):
            self.forget(target)
            target.unlink(missing_ok=True)

    def _held(self) -> int:
        return sum(self._coming.values()) + sum(len(one.content) for one in self._whole.values())


def same_file(before: os.stat_result, now: os.stat_result) -> bool:
    """Whether it is one file, not written to in between; another name for it changes nothing."""
    return (before.st_dev, before.st_ino, before.st_size, before.st_mtime_ns) == (
        now.st_dev, now.st_ino, now.st_size, now.st_mtime_ns
    )
