"""Target files that arrive in chunks: partial files of the inbox, one a target, named as the target will be.

Rules:

1. A partial file holds the first bytes of its target, without a gap; only a chunk that begins where it ends
   makes it longer. A chunk that is there already changes nothing.
2. It becomes a target by one rename, and only after all bytes are there and their sha256 is the one in its
   name. With another sha256 it is thrown away. Nobody waits for the disk: as a target it is not trusted
   either, and has to be durable when it is installed.
3. What a process leaves behind is resumed by the next: the length of the file is all the state there is, and
   its bytes are read again for the sha256. Bytes that a power cut garbled are found by rule 2, or by the
   listing if it was a target already.
4. Of two writers of one file the later one counts: the earlier is a connection that its client has given up.
5. Their number, the bytes they may grow to and their age are bounded.
6. Bytes are written and hashed outside of the lock, so that several files may come at once; whoever else
   wants to do something to a file that is being written waits.

All of it blocks; callers run it in a thread.
"""

from __future__ import annotations

import hashlib
import io
import re
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

from codec_runtime.bundle.arrivals import Arrivals
from codec_runtime.bundle.errors import (
    InboxFullError,
    LengthOrHashMismatchError,
    SupersededTransferError,
    UnsafePathError,
)
from codec_runtime.bundle.files import files_below
from codec_runtime.contract.ranges import ByteRange

if TYPE_CHECKING:
    from hashlib import _Hash

_HASHED: Final = re.compile(r"([0-9a-f]{64})\.[^/]+", re.ASCII)
_READ: Final = 1 << 20
_LOOK_AGAIN_S: Final = 0.5
"""For a target that came otherwise than in chunks."""

Admit = Callable[[Path, int], None]
"""Raises :class:`InboxFullError` if a file of so many bytes may not be added to the inbox."""
Complete = Callable[[Path, str], Path]
"""Moves a partial file that is whole to its place, which it returns; told its sha256."""


class Chunk:
    """One chunk on its way into a partial file; :meth:`PartialFiles.begin` makes it.

    Attributes:
        offset: bytes of the file that are there.
        wanted: whether the chunk begins there; if not, its body is of no use.
    """

    def __init__(self, files: PartialFiles, path: Path, span: ByteRange, offset: int, wanted: bool) -> None:
        self.offset = offset
        self.wanted = wanted
        self._files = files
        self._path = path
        self._span = span

    def append(self, *parts: bytes) -> None:
        """Add bytes, one part after another; they stay whatever happens to the rest of the chunk.

        Raises:
            SupersededTransferError: another transfer of the file has begun. OSError: the disk failed.
        """
        self.offset = self._files.append(self._path, self, parts)

    def finish(self) -> int:
        """To be called once the body is there: completes the file if nothing is missing.

        Returns:
            Bytes of the file that are there.

        Raises:
            LengthOrHashMismatchError: all bytes are there, but not the file of that name. It is gone.
            SupersededTransferError. OSError.
        """
        return self._files.finish(self._path, self, self._span.total)

    def close(self) -> None:
        """The transfer is cut off; of no effect after :meth:`finish`, or if another has begun."""
        self._files.release(self._path, self)


class PartialFiles:
    """Partial files below ``directory``.

    Args:
        max_files: at a time. max_age_s: since the last byte of one that is forgotten.
        admit: bound of the whole inbox, asked before a file is begun. complete: see :data:`Complete`.
        arrivals: told of files that came from their first byte to the last without a break, with the bytes.
        clock: seconds since the epoch, as file times are.
    """

    def __init__(
        self,
        directory: Path,
        *,
        max_files: int,
        max_age_s: float,
        admit: Admit,
        complete: Complete,
        arrivals: Arrivals,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._directory = directory
        self._max_files = max_files
        self._max_age_s = max_age_s
        self._admit = admit
        self._complete = complete
        self._arrivals = arrivals
        self._clock = clock
        self._lock = threading.Condition(threading.RLock())
        self._in_work: set[Path] = set()
        self._writers: dict[Path, Chunk] = {}
        self._hashes: dict[Path, tuple[int, _Hash]] = {}
        self._contents: dict[Path, memoryview] = {}
        self._totals: dict[Path, int] = {}
        self._closed = False
        directory.mkdir(parents=True, exist_ok=True)

    def listing(self) -> dict[str, int]:
        """Bytes kept, by path with the hash in the name."""
        with self._lock:
            files = files_below(self._directory, tidy=not self._writers and not self._in_work)
            self._forget_old(files)
            return {
                str(path.relative_to(self._directory)): path.stat().st_size for path in files if path.exists()
            }

    def reserved(self) -> dict[Path, int]:
        """Bytes to which each may grow, as far as its total has been said to this process."""
        with self._lock:
            return dict(self._totals)

    def begin(self, path: Path, span: ByteRange) -> Chunk:
        """Prepare to receive a chunk.

        Args:
            path: of the partial file, checked to lie below the directory.

        Raises:
            UnsafePathError: no sha256 in the name. InboxFullError: too many partial files, or bytes.
            LengthOrHashMismatchError: see :meth:`Chunk.finish`; a process may die before it gets there.
            OSError: the disk failed.
        """
        if _HASHED.fullmatch(path.name) is None:
            raise UnsafePathError(f"{path.name[:80]}: chunks are of a file named <sha256>.<file>")
        with self._lock:
            self._wait_for(path)
            files = files_below(self._directory)
            if path not in self._totals:
                self._forget_old(files)
            have = path.stat().st_size if path.is_file() else 0
            if have > span.total:  # not the beginning of that file
                self._drop(path)
                have = 0
            if path not in self._totals:
                self._admit(path, span.total)
                others = {*filter(Path.exists, files), *self._totals} - {path}
                if len(others) >= self._max_files:
                    raise InboxFullError(f"{path.name}: {len(others)} files are in transfer already")
            chunk = Chunk(self, path, span, have, wanted=span.first == have < span.total)
            if chunk.wanted:
                self._writers[path] = chunk
                self._totals[path] = span.total
                if have == 0 and (room := self._arrivals.room_for(path, span.total)) is not None:
                    self._contents[path] = room
            elif have == span.total:
                chunk.offset = self._finish(path, span.total)
            return chunk

    def append(self, path: Path, writer: Chunk, parts: Sequence[bytes]) -> int:
        """See :meth:`Chunk.append`; returns the bytes that are there."""
        with self._lock:
            self._wait_for(path)
            self._check(path, writer)
            have, digest = self._hash(path)
            content = self._content(path, have)
            # Not true any more if the disk fails half-way.
            self._hashes.pop(path, None)
            self._in_work.add(path)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("ab", buffering=0) as file:
                # In one piece: each call that lets go of the interpreter's lock waits for it afterwards.
                if content is not None and have + sum(map(len, parts)) > len(content):
                    content = None  # not of the total that was said at first
                data = _gathered(parts, None if content is None else content[have:])
                _write(file, data)
                digest.update(data)
                have += len(data)
            self._hashes[path] = have, digest
            if content is not None:
                self._contents[path] = content
            return have
        finally:
            with self._lock:
                self._in_work.remove(path)
                self._lock.notify_all()

    def finish(self, path: Path, writer: Chunk, total: int) -> int:
        """See :meth:`Chunk.finish`."""
        with self._lock:
            self._wait_for(path)
            self._check(path, writer)
            del self._writers[path]
            try:
                return self._finish(path, total)
            finally:
                self._lock.notify_all()

    def release(self, path: Path, writer: Chunk) -> None:
        """See :meth:`Chunk.close`."""
        with self._lock:
            if self._writers.get(path) is writer:
                del self._writers[path]
                self._contents.pop(path, None)  # who knows when it goes on
                self._arrivals.give_up(path)
                if not path.exists():  # no byte came, so nothing is owed to it
                    self._totals.pop(path, None)

    def await_whole(self, path: Path, target: Path, patience_s: float) -> bool:
        """Return when ``target`` is there, of which ``path`` is the partial file, or when no byte of it has
        come for ``patience_s``, or after :meth:`close`; whether it is there."""
        have, until = -1, 0.0
        with self._lock:
            while not (there := target.is_file()) and not self._closed:
                now, size = time.monotonic(), path.stat().st_size if path.is_file() else 0
                if size > have:  # what is thrown away and sent anew is no progress
                    have, until = size, now + patience_s
                elif now >= until:
                    break
                self._lock.wait(min(until - now, _LOOK_AGAIN_S))
        return there

    def close(self) -> None:
        """Nobody waits for a file any longer."""
        with self._lock:
            self._closed = True
            self._lock.notify_all()

    def discard(self, folder: Path) -> None:
        """Forget the partial files in ``folder``."""
        with self._lock:
            for path in files_below(folder):
                self._wait_for(path)
                self._drop(path)

    def _finish(self, path: Path, total: int) -> int:
        size, digest = self._hash(path)
        if size < total:
            return size
        found = digest.hexdigest()
        if found != path.name[:64]:
            self._drop(path)
            raise LengthOrHashMismatchError(
                f"{path.name}: {size} bytes with sha256 {found[:12]}... are not the file of that name and "
                "are thrown away"
            )
        content = self._content(path, size)
        target = self._complete(path, found)
        self._drop(path)
        # Last, since changing names waits for a flush that has begun.
        if content is not None and len(content) == size:
            self._arrivals.complete(target, content, found)
        return total

    def _wait_for(self, path: Path) -> None:
        self._lock.wait_for(lambda: path not in self._in_work)

    def _check(self, path: Path, writer: Chunk) -> None:
        if self._writers.get(path) is not writer:
            raise SupersededTransferError(f"{path.name}: another transfer of the same file has begun")

    def _content(self, path: Path, size: int) -> memoryview | None:
        """The buffer of a file, taken out; None if it does not hold the ``size`` bytes that the file has."""
        content = self._contents.pop(path, None)
        written = self._hashes[path][0] if path in self._hashes else 0
        return content if written == size else None  # else somebody else wrote to the file

    def _hash(self, path: Path) -> tuple[int, _Hash]:
        """Length and running sha256; read again where this process has not seen the bytes."""
        size = path.stat().st_size if path.is_file() else 0
        known = self._hashes.get(path)
        if known is not None and known[0] == size:
            return known
        digest = hashlib.sha256()
        if size:
            with path.open("rb") as file:
                while piece := file.read(_READ):
                    digest.update(piece)
        return size, digest

    def _forget_old(self, files: Iterable[Path]) -> None:
        limit = self._clock() - self._max_age_s
        for path in files:
            if path not in self._writers and path not in self._in_work and path.stat().st_mtime < limit:
                self._drop(path)

    def _drop(self, path: Path) -> None:
        path.unlink(missing_ok=True)  # its folder is removed by the next listing, when nothing waits for it
        for known in (self._writers, self._hashes, self._contents, self._totals):
            known.pop(path, None)
        self._arrivals.give_up(path)


def _gathered(parts: Sequence[bytes], room: memoryview | None) -> memoryview:
    """The parts one after another, at the beginning of ``room`` if there is any."""
    if room is None:
        return memoryview(b"".join(parts))
    end = 0
    for part in parts:
        begin, end = end, end + len(part)
        room[begin:end] = part
    return room[:end]


def _write(file: io.FileIO, data: memoryview) -> None:
    written = 0
    while written < len(data):
        with data[written:] as left:
            written += file.write(left)
