"""The target files that verified TUF metadata names, and what the director says in it.

A target is read once: the caller is given the very bytes whose length and hash were checked, and no file is
trusted to hold them still. Bytes that came in this process were hashed as they came, and are not read at all
(:mod:`codec_runtime.bundle.arrivals`). A target gets its place in the staging directory as a second name
(hard link) of the inbox's file where that is, without doubt, the file that was read or written, else by
writing the bytes.
"""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tuf.api.exceptions import DownloadError, DownloadLengthMismatchError, RepositoryError
from tuf.api.metadata import TargetFile, Targets  # type: ignore[attr-defined]
from tuf.ngclient.updater import Updater

from codec_runtime.bundle.arrivals import Arrival, same_file
from codec_runtime.bundle.director import Assignment, assignment_paths, parse_assignment
from codec_runtime.bundle.errors import (
    InvalidMetadataError,
    MissingFileError,
    MissingTargetError,
    NotAssignedError,
)
from codec_runtime.bundle.fetcher import InboxFetcher
from codec_runtime.bundle.files import Content
from codec_runtime.bundle.inbox import Inbox
from codec_runtime.bundle.refusals import refusal_of

_NO_LINKS: Final = frozenset({errno.EXDEV, errno.EPERM, errno.EOPNOTSUPP, errno.EMLINK, errno.ENOENT})
"""Another file system, one without hard links, too many, or the inbox's name is gone."""


@dataclass(frozen=True)
class Taken:
    """The content of a target, of the signed length and hash; ``arrival`` if it came in this process."""

    data: Content
    arrival: Arrival | None = None


class SignedTargets:
    """The target files that verified metadata names, and their contents.

    Args:
        updater: refreshed. fetcher, inbox: what it reads from.
        coming: targets on their way to the inbox, hash in the name, which are waited for.

    Attributes:
        awaited_s: spent on that.
    """

    def __init__(
        self, updater: Updater, fetcher: InboxFetcher, inbox: Inbox, coming: Collection[str] = frozenset()
    ) -> None:
        self._updater = updater
        self._fetcher = fetcher
        self._inbox = inbox
        self._coming = coming
        self.awaited_s = 0.0

    def find(self, path: str) -> TargetFile | None:
        """What the metadata says about a path; None if it is not named by the role that may name it.

        Raises:
            RefusalError, MissingFileError: metadata of a delegated role is not to be trusted or not there.
        """
        try:
            return self._updater.get_targetinfo(path)
        except (RepositoryError, DownloadError) as error:
            raise refusal_of(error, self._inbox, self._fetcher.last) from error

    def named(self, path: str) -> TargetFile:
        """As :meth:`find`.

        Raises:
            MissingTargetError: the metadata does not name it. RefusalError, MissingFileError.
        """
        target = self.find(path)
        if target is None:
            raise MissingTargetError(f"{path} is not named by the signed targets metadata")
        return target

    def is_here(self, target: TargetFile) -> bool:
        """Whether a file under the target's name is installed, in the inbox or on its way there; its content
        is not checked."""
        name = _hashed(target)
        return name in self._coming or self._fetcher.target(name) is not None

    def take(self, target: TargetFile, place: Path) -> Taken:
        """The content of a target, its length and hash checked, which ``place`` holds then too.

        Raises:
            RefusalError, MissingFileError. OSError: the disk failed.
        """
        source, taken, file = self._checked(target)
        if not _linked(source, place, file):
            place.write_bytes(taken.data)
        return taken

    def read(self, target: TargetFile) -> bytes:
        """As :meth:`take`, for a file that needs no place."""
        return bytes(self._checked(target)[1].data)

    def _checked(self, target: TargetFile) -> tuple[Path, Taken, os.stat_result]:
        """Where a target is, its content, and the file that it was read from or written to."""
        name = _hashed(target)
        source = self._fetcher.target(name)
        if source is None and name in self._coming:
            began = time.perf_counter()
            source = self._inbox.await_target(name)
            self.awaited_s += time.perf_counter() - began
        if source is None:
            raise MissingFileError(f"targets/{name} is not in the inbox")
        arrival = self._inbox.arrivals.of(source)
        signed = target.length, {"sha256": arrival.sha256 if arrival else ""}
        if arrival is not None and signed == (len(arrival.content), target.hashes):
            return source, Taken(arrival.content, arrival), arrival.file
        with source.open("rb", buffering=0) as file:
            data = _read(file.fileno(), target.length + 1)
            try:
                if len(data) > target.length:
                    raise DownloadLengthMismatchError(f"{name}: more than the signed {target.length} bytes")
                target.verify_length_and_hashes(data)
            except (RepositoryError, DownloadError) as error:
                raise refusal_of(error, self._inbox) from error
            return source, Taken(data), os.fstat(file.fileno())

    def assignment(self, site: str) -> Assignment | None:
        """What the director assigns to ``site``; None if the metadata has no director.

        Raises:
            NotAssignedError: there is a director, and it assigns nothing to this site.
        """
        if not self._has_director():
            return None
        for path in assignment_paths(site):
            target = self.find(path)
            if target is not None:
                return parse_assignment(target.custom, path)
        raise NotAssignedError(f"the signed director says nothing about site {site!r}")

    def _has_director(self) -> bool:
        targets = self._updater._trusted_set.targets  # python-tuf offers no other way to the delegations
        assert isinstance(targets, Targets)
        return targets.delegations is not None and "director" in (targets.delegations.roles or {})


def _hashed(target: TargetFile) -> str:
    """Path with the hash in the file name, as consistent snapshots have it."""
    if "sha256" not in target.hashes:
        raise InvalidMetadataError(f"{target.path}: signed without a sha256")
    folder, _, file = target.path.rpartition("/")
    return f"{folder}/{target.hashes['sha256']}.{file}"


def _read(descriptor: int, limit: int) -> bytes:
    """The file's first ``limit`` bytes, or all."""
    at_once = os.fstat(descriptor).st_size + 1
    parts: list[bytes] = []
    while limit and (data := os.read(descriptor, min(limit, at_once))):
        parts.append(data)
        limit -= len(data)
    return parts[0] if len(parts) == 1 else b"".join(parts)


def _linked(source: Path, place: Path, read: os.stat_result) -> bool:
    """Whether ``place`` is now a name of the file that was read, unchanged since."""
    try:
        place.hardlink_to(source)
    except OSError as error:
        if error.errno in _NO_LINKS:
            return False
        raise
    if same_file(read, place.stat()):
        return True
    place.unlink()
    return False
