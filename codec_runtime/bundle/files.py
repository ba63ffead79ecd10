"""Files of bundles: bounded reads with progress, atomic writes."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from pathlib import Path

from codec_runtime.bundle.errors import MissingFileError, SizeLimitError

Content = bytes | bytearray | memoryview
"""Of a file in memory; a memoryview of bytes."""
OnBytes = Callable[[int], object]
"""Called with the number of bytes done since the last call, for progress bars."""
_CHUNK = 1 << 20


def read_bounded(path: Path, limit: int, on_bytes: OnBytes | None = None) -> bytes:
    """The whole file, of at most ``limit`` bytes.

    Raises:
        MissingFileError: it is not there or not readable.
        SizeLimitError: it is larger.
    """
    parts: list[bytes] = []
    size = 0
    try:
        with path.open("rb") as file:
            while size <= limit and (chunk := file.read(min(_CHUNK, limit + 1 - size))):
                parts.append(chunk)
                size += len(chunk)
                if on_bytes is not None:
                    on_bytes(len(chunk))
    except FileNotFoundError as error:
        raise MissingFileError(f"{path} does not exist") from error
    except OSError as error:
        raise MissingFileError(f"{path} is not readable: {error}") from error
    if size > limit:
        raise SizeLimitError(f"{path}: larger than the limit of {limit} bytes")
    return b"".join(parts)


def files_below(directory: Path, *, tidy: bool = False) -> list[Path]:
    """All files below ``directory`` but hidden ones, which are somebody's temporaries.

    Args:
        tidy: remove the innermost directories that hold nothing; nobody may be making one.
    """
    found: list[Path] = []
    for folder, folders, names in os.walk(directory):
        if tidy and not folders and not names and folder != str(directory):
            with contextlib.suppress(OSError):  # it is not empty any more, or not there
                os.rmdir(folder)
        found += [Path(folder, name) for name in names if name[0] != "."]
    return found


def sizes_below(directory: str) -> dict[str, int]:
    """Bytes of the files of :func:`files_below` by path; one that goes away meanwhile may be left out."""
    sizes: dict[str, int] = {}
    with contextlib.suppress(FileNotFoundError), os.scandir(directory) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                sizes |= sizes_below(entry.path)
            elif entry.name[0] != ".":
                with contextlib.suppress(FileNotFoundError):
                    sizes[entry.path] = entry.stat().st_size
    return sizes


def write_atomic(path: Path, data: bytes) -> None:
    """Write beside ``path`` and rename, so that readers see all of it or nothing."""
    temporary = path.with_name(f".{path.name}.tmp")
    with temporary.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
