"""python-tuf's view of the inbox: every URL is a metadata file there; nothing is fetched from a network."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from tuf.api.exceptions import DownloadHTTPError
from tuf.ngclient.fetcher import FetcherInterface

from codec_runtime.bundle.errors import UnsafePathError
from codec_runtime.bundle.inbox import Inbox, check_name
from codec_runtime.bundle.steps import Reached, unobserved

METADATA_URL: Final = "inbox://metadata/"
_CHUNK: Final = 1 << 20
_ROLE: Final = re.compile(r"(?:\d+\.)?(?!root\.)([a-z-]+)\.json")


class InboxFetcher(FetcherInterface):
    """Serves ``inbox://metadata/...`` from the inbox, and says where targets are.

    A target that was installed earlier is found in the bundle store, so it need not travel again; its hash is
    checked all the same.

    Attributes:
        last: name of the metadata file asked for last, so that a refusal can say which one was wrong.
    """

    def __init__(self, inbox: Inbox, installed: Path, reached: Reached = unobserved) -> None:
        self._inbox = inbox
        self._installed = installed
        self._reached = reached
        self.last = ""

    def _fetch(self, url: str) -> Iterator[bytes]:
        name = url.removeprefix(METADATA_URL)
        self.last = name
        if match := _ROLE.fullmatch(name):
            role = match[1] if match[1] in ("timestamp", "snapshot") else "targets"  # or delegated
            self._reached(f"trust: {role} wanted")
        try:
            path = self._inbox.read("metadata", name)
        except UnsafePathError as error:
            raise DownloadHTTPError(str(error), 404) from error
        if path is None:
            raise DownloadHTTPError(f"metadata/{name} is not in the inbox", 404)
        return _chunks(path)

    def target(self, name: str) -> Path | None:
        """The file of a target, hash in its name; None if it is neither in the inbox nor installed.

        Raises:
            UnsafePathError.
        """
        return self._inbox.read("targets", name) or self._from_store(name)

    def _from_store(self, name: str) -> Path | None:
        folder, _, file = check_name(name).rpartition("/")
        path = self._installed / folder / file.partition(".")[2]
        return path if path.is_file() else None


def _chunks(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            yield chunk
