"""The site's inbox: TUF files as the xApp put them. Nothing in it is trusted.

Layout: ``metadata/<name>.json`` and ``targets/<dir>/<sha256>.<file>`` (python-tuf's names for consistent
snapshots). Names are restricted, sizes and counts bounded, writes atomic.
"""

from __future__ import annotations

import contextlib
import hashlib
import re
from pathlib import Path
from typing import Literal

from codec_runtime.bundle.errors import FileTooLargeError, InboxFullError, UnsafePathError
from codec_runtime.bundle.steps import Reached, unobserved
from codec_runtime.bundle.store import write_atomic

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
        max_file_bytes: limit of one file.
        max_files: limit over the whole inbox; the byte limit is ``8 * max_file_bytes``.
        reached: told every step; for tests.
    """

    def __init__(
        self, directory: Path, *, max_file_bytes: int, max_files: int, reached: Reached = unobserved
    ) -> None:
        self.directory = directory
        self._reached = reached
        self._max_file_bytes = max_file_bytes
        self._max_files = max_files
        self._digests: dict[Path, tuple[int, int, str]] = {}
        for area in ("metadata", "targets"):
            (directory / area).mkdir(parents=True, exist_ok=True)

    def put(self, area: Area, name: str, data: bytes) -> None:
        """Store a file, replacing an earlier one of that name.

        Raises:
            UnsafePathError, FileTooLargeError, InboxFullError. OSError: the disk failed; an earlier file of
            that name is still there.
        """
        self._reached("inbox: bytes received")
        if len(data) > self._max_file_bytes:
            raise FileTooLargeError(f"{name}: {len(data)} bytes, the limit is {self._max_file_bytes}")
        path = self._path(area, name)
        files = [file for file in self._files() if file != path]
        if len(files) >= self._max_files:
            raise InboxFullError(f"{name}: the inbox already holds {len(files)} files")
        if sum(file.stat().st_size for file in files) + len(data) > 8 * self._max_file_bytes:
            raise InboxFullError(f"{name}: the inbox holds its limit of {8 * self._max_file_bytes} bytes")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_atomic(path, data)
        except (FileExistsError, NotADirectoryError, IsADirectoryError) as error:
            raise UnsafePathError(f"{name}: a file and a directory of that name would collide") from error
        self._reached("inbox: file stored")

    def read(self, area: Area, name: str) -> Path | None:
        """Path of a stored file, None if it is not there."""
        path = self._path(area, name)
        return path if path.is_file() else None

    def metadata_names(self) -> list[str]:
        """Names of the metadata files, sorted."""
        return sorted(path.name for path in (self.directory / "metadata").iterdir())

    def targets(self) -> dict[str, str]:
        """sha256 (hex) of each target file by TUF target path (no hash in the name)."""
        root = self.directory / "targets"
        found: dict[str, str] = {}
        for path in sorted(file for file in self._files() if file.is_relative_to(root)):
            relative = path.relative_to(root)
            name = _HASH_PREFIX.sub("", relative.name)
            found[str(relative.with_name(name))] = self._sha256(path)
        return found

    def discard_targets(self, bundle: str) -> None:
        """Remove the target files of an installed bundle, e.g. ``decoder/attention/2``."""
        for path in (self.directory / "targets" / check_name(bundle)).glob("*"):
            path.unlink(missing_ok=True)
            self._digests.pop(path, None)

    def discard_old_metadata(self, keep: int = 3) -> None:
        """Remove versioned metadata but the newest ``keep`` of each role; roots stay, they form a chain."""
        versions: dict[str, list[tuple[int, Path]]] = {}
        for path in (self.directory / "metadata").iterdir():
            if match := _VERSIONED.match(path.name):
                versions.setdefault(match[2], []).append((int(match[1]), path))
        for found in versions.values():
            for _, path in sorted(found)[:-keep]:
                path.unlink(missing_ok=True)

    def _path(self, area: Area, name: str) -> Path:
        if area == "metadata" and "/" in name:
            raise UnsafePathError(f"name {name[:80]!r}: metadata lies in one directory, '/' is not allowed")
        path = self.directory / area / check_name(name)
        root = (self.directory / area).resolve()
        if not path.resolve().is_relative_to(root):  # a symbolic link below the inbox
            raise UnsafePathError(f"name {name!r} leaves the inbox")
        return path

    def _files(self) -> list[Path]:
        # Hidden names are temporaries of this process: check_name lets none in from outside.
        return [path for path in self.directory.rglob("*") if path.is_file() and path.name[0] != "."]

    def _sha256(self, path: Path) -> str:
        with contextlib.suppress(FileNotFoundError):
            stat = path.stat()
            known = self._digests.get(path)
            if known is not None and known[:2] == (stat.st_mtime_ns, stat.st_size):
                return known[2]
            digest = hashlib.sha256(path.read_bytes()).hexdigest()
            self._digests[path] = (stat.st_mtime_ns, stat.st_size, digest)
            return digest
        return ""
