"""The site's inbox: TUF files as the xApp put them. Nothing in it is trusted.

Layout: ``metadata/<name>.json`` and ``targets/<dir>/<sha256>.<file>`` (python-tuf's names for consistent
snapshots); ``partial/<dir>/<sha256>.<file>`` is a target on its way
(:mod:`codec_runtime.bundle.partial`). Names are restricted, sizes and counts bounded, writes atomic.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Literal

from codec_runtime.bundle.arrivals import Arrivals, same_file
from codec_runtime.bundle.durable import flushing_threads, rename_over
from codec_runtime.bundle.errors import FileTooLargeError, InboxFullError, UnsafePathError
from codec_runtime.bundle.files import files_below, sizes_below
from codec_runtime.bundle.partial import Chunk, PartialFiles
from codec_runtime.bundle.steps import Reached, unobserved
from codec_runtime.contract.ranges import ByteRange

Area = Literal["metadata", "targets"]

_SAFE = re.compile(r"[A-Za-z0-9._/-]{1,256}", re.ASCII)
_HASH_PREFIX = re.compile(r"^[0-9a-f]{64}\.")
_VERSIONED = re.compile(r"^(\d+)\.(?!root\.)([a-z-]+)\.json$")


def check_name(name: str) -> str:
    """``name`` itself if it is a safe relative path.

    Raises:
        UnsafePathError: other characters than ``[A-Za-z0-9._/-]``, an empty, ``.``, ``..`` or hidden part,
            longer than 256 characters.
    """
    if not _SAFE.fullmatch(name):
        raise UnsafePathError(f"name {name[:80]!r}: 1..256 characters of [A-Za-z0-9._/-] are allowed")
    if any(part == "" or part.startswith(".") for part in name.split("/")):
        raise UnsafePathError(f"name {name!r}: empty, hidden, '.' and '..' parts are not allowed")
    return name


class Inbox:
    """Files below ``directory``.

    Args:
        directory: created if missing.
        max_file_bytes: limit of one file, and of the memory for files that have just come.
        max_files: limit over the whole inbox; the byte limit is ``8 * max_file_bytes``.
        max_partials: target files in transfer at a time, part of ``max_files``; partial_max_age_s: since the
            last byte of one that is forgotten.
        patience_s: without a byte, after which nobody waits for a target on its way any longer.
        reached: told every step; for tests.

    Attributes:
        arrivals: targets that came in this process, in memory.
    """

    def __init__(
        self,
        directory: Path,
        *,
        max_file_bytes: int,
        max_files: int,
        max_partials: int = 16,
        partial_max_age_s: float = 86_400.0,
        patience_s: float = 10.0,
        reached: Reached = unobserved,
    ) -> None:
        self.directory = directory
        self._patience_s = patience_s
        self._reached = reached
        self._max_file_bytes = max_file_bytes
        self._max_files = max_files
        self._digests: dict[Path, tuple[os.stat_result, str]] = {}
        self._threads = flushing_threads()
        self._folders = threading.Lock()
        for area in ("metadata", "targets", "partial"):
            (directory / area).mkdir(parents=True, exist_ok=True)
        self.arrivals = Arrivals(max_file_bytes, self._threads)
        self._partial = PartialFiles(
            directory / "partial", max_files=max_partials, max_age_s=partial_max_age_s,
            admit=lambda path, size: self._admit({path: size}), complete=self._complete,
            arrivals=self.arrivals,
        )

    def put(self, area: Area, name: str, data: bytes) -> None:
        """:meth:`put_all` for one file."""
        self.put_all([(area, name, data)])

    def put_all(self, files: Sequence[tuple[Area, str, bytes]]) -> None:
        """Store files in this order, replacing earlier ones of the same name; all of them are admitted first.

        Raises:
            UnsafePathError, FileTooLargeError, InboxFullError. OSError: the disk failed; an earlier file of
            that name is still there.
        """
        self._reached("inbox: bytes received")
        for _, name, data in files:
            self._check_size(name, len(data))
        paths = [self._path(area, name) for area, name, _ in files]
        self._admit({path: len(data) for path, (_, _, data) in zip(paths, files, strict=True)})
        for path, (_, name, data) in zip(paths, files, strict=True):
            self._store(path, name, data)

    def _store(self, path: Path, name: str, data: bytes) -> None:
        with _collisions(name), self._folders:
            path.parent.mkdir(parents=True, exist_ok=True)
            # Not flushed: nothing here is trusted, so what a power cut garbles is found and pushed again.
            temporary = path.with_name(f".{path.name}.tmp")
            temporary.write_bytes(data)
            for old in rename_over(temporary, path):
                self._threads.submit(old.unlink, missing_ok=True)
            self._remember(path, hashlib.sha256(data).hexdigest())
        self.arrivals.forget(path)
        self._reached("inbox: file stored")

    def begin_chunk(self, name: str, span: ByteRange) -> Chunk:
        """Prepare to receive a chunk of a target; the file that the last one completes is checked.

        Raises:
            UnsafePathError, FileTooLargeError, InboxFullError, LengthOrHashMismatchError, OSError: as of
            :meth:`codec_runtime.bundle.partial.PartialFiles.begin`.
        """
        self._reached("inbox: bytes received")
        self._check_size(name, span.total)
        target = self._path("targets", name)
        path = self._path("partial", name)
        if target.is_file() and self._sha256(target) == target.name[:64]:
            return Chunk(self._partial, path, span, span.total, wanted=False)
        with _collisions(name):
            return self._partial.begin(path, span)

    def partial(self) -> dict[str, int]:
        """Bytes kept of targets in transfer, by path with the hash in the name."""
        return self._partial.listing()

    def read(self, area: Area, name: str) -> Path | None:
        """Path of a stored file, None if it is not there."""
        path = self._path(area, name)
        return path if path.is_file() else None

    def await_target(self, name: str) -> Path | None:
        """As :meth:`read`, of a target that is on its way; None when its bytes fail to come."""
        target = self._path("targets", name)
        whole = self._partial.await_whole(self._path("partial", name), target, self._patience_s)
        return target if whole else None

    def close(self) -> None:
        """End what waits in :meth:`await_target`."""
        self._partial.close()

    def metadata_names(self) -> list[str]:
        """Names of the metadata files, sorted."""
        return sorted(name for name in os.listdir(self.directory / "metadata") if name[0] != ".")

    def metadata(self) -> dict[str, str]:
        """sha256 (hex) of each metadata file by name."""
        return {name: self._sha256(self.directory / "metadata" / name) for name in self.metadata_names()}

    def targets(self) -> dict[str, str]:
        """sha256 (hex) of each target file by TUF target path (no hash in the name)."""
        root = self.directory / "targets"
        with self._folders:
            files = files_below(root, tidy=True)
        found: dict[str, str] = {}
        for path in sorted(files):
            relative = path.relative_to(root)
            name = _HASH_PREFIX.sub("", relative.name)
            found[str(relative.with_name(name))] = self._sha256(path)
        return found

    def discard_targets(self, bundle: str) -> None:
        """Remove the target files of an installed bundle, e.g. ``decoder/attention/2``, whole or not."""
        self._partial.discard(self.directory / "partial" / check_name(bundle))
        for path in (self.directory / "targets" / check_name(bundle)).glob("*"):
            path.unlink(missing_ok=True)
            self._digests.pop(path, None)
            self.arrivals.forget(path)

    def discard_old_metadata(self, keep: int = 3) -> None:
        """Remove versioned metadata but the newest ``keep`` of each role; roots stay, they form a chain."""
        versions: dict[str, list[tuple[int, Path]]] = {}
        for path in (self.directory / "metadata").iterdir():
            if match := _VERSIONED.match(path.name):
                versions.setdefault(match[2], []).append((int(match[1]), path))
        for found in versions.values():
            for _, path in sorted(found)[:-keep]:
                path.unlink(missing_ok=True)
                self._digests.pop(path, None)

    def _check_size(self, name: str, size: int) -> None:
        if size > self._max_file_bytes:
            raise FileTooLargeError(f"{name}: {size} bytes, the limit is {self._max_file_bytes}")

    def _admit(self, wanted: Mapping[Path, int]) -> None:
        """Raises InboxFullError if files of so many bytes would exceed a bound of the whole inbox."""
        sizes = sizes_below(str(self.directory))
        for file, total in self._partial.reserved().items():
            sizes[str(file)] = max(sizes.get(str(file), 0), total)
        for path in wanted:
            sizes.pop(str(path), None)
        full = ""
        if len(sizes) + len(wanted) > self._max_files:
            full = f"already holds {len(sizes)} files"
        elif sum(sizes.values()) + sum(wanted.values()) > 8 * self._max_file_bytes:
            full = f"holds its limit of {8 * self._max_file_bytes} bytes"
        if full:
            names = ", ".join(str(path.relative_to(self.directory)) for path in wanted)[:200]
            raise InboxFullError(f"{names}: the inbox {full}")

    def _complete(self, partial: Path, digest: str) -> Path:
        target = self.directory / "targets" / partial.relative_to(self.directory / "partial")
        with self._folders:
            target.parent.mkdir(parents=True, exist_ok=True)
            partial.replace(target)
            self._remember(target, digest)
        self._reached("inbox: file stored")
        return target

    def _path(self, area: Area | Literal["partial"], name: str) -> Path:
        if area == "metadata" and "/" in name:
            raise UnsafePathError(f"name {name[:80]!r}: metadata lies in one directory, '/' is not allowed")
        places = [f"{self.directory}/{area}"]
        for part in check_name(name).split("/"):
            places.append(f"{places[-1]}/{part}")
        # A symbolic link below the inbox. Not pathlib's resolve, which costs more than all else of a name.
        if any(map(os.path.islink, places)):
            raise UnsafePathError(f"name {name!r} leaves the inbox")
        return Path(places[-1])

    def _remember(self, path: Path, digest: str) -> None:
        self._digests[path] = path.stat(), digest

    def _sha256(self, path: Path) -> str:
        with contextlib.suppress(FileNotFoundError):
            file = path.stat()
            known = self._digests.get(path)
            if known is None or not same_file(known[0], file):
                known = self._digests[path] = file, hashlib.sha256(path.read_bytes()).hexdigest()
            return known[1]
        return ""


@contextlib.contextmanager
def _collisions(name: str) -> Iterator[None]:
    try:
        yield
    except (FileExistsError, NotADirectoryError, IsADirectoryError) as error:
        raise UnsafePathError(f"{name}: a file and a directory of that name would collide") from error
