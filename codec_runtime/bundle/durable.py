"""Files and names that have to outlast a power cut."""

from __future__ import annotations

import os
from collections.abc import Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Final, Self

_AT_ONCE: Final = 8


class Flushing:
    """Flushes files (their bytes) and directories (the names in them) while other work goes on.

    All at once: a journalling file system commits together what waits at the same time; asked for one file
    after another it makes each wait for a commit of its own.
    """

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(_AT_ONCE, "flush")
        self._begun: list[Future[None]] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._threads.shutdown(cancel_futures=True)

    def begin(self, paths: Iterable[Path]) -> None:
        """Start on ``paths``."""
        self._begun += [self._threads.submit(flush, path) for path in paths]

    def join(self, begun: Future[None]) -> None:
        """Wait at the end for a flush that was begun elsewhere, too."""
        self._begun.append(begun)

    def finish(self) -> None:
        """Return when all that was begun is durable.

        Raises:
            OSError: the disk failed.
        """
        while self._begun:
            self._begun.pop().result()


def make_durable(paths: Iterable[Path]) -> None:
    """Flush files and directories; raises OSError if the disk fails."""
    with Flushing() as flushing:
        flushing.begin(paths)
        flushing.finish()


def files_and_folders(directory: Path) -> list[Path]:
    """All files and directories below ``directory``, and itself."""
    return [directory, *(path for path in directory.rglob("*") if path.is_file() or path.is_dir())]


def make_folder(directory: Path) -> list[Path]:
    """Make ``directory`` and its parents; returns the directories that hold a new name for it."""
    missing = [place for place in (directory, *directory.parents) if not place.is_dir()]
    directory.mkdir(parents=True, exist_ok=True)
    return [place.parent for place in missing]


def flush(path: Path) -> None:
    """Flush one file or directory; raises OSError if the disk fails."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
