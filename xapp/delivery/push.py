"""Push the repository's state to a site: metadata, missing targets, then activation.

Order (python-tuf's consistent snapshot): roots, targets and snapshot metadata, target files the site lacks,
``timestamp.json`` last, so that a reader between two writes sees the old consistent state.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Protocol, TypeVar

from codec_runtime.contract.updates import ActivationReport, InboxListing
from xapp.delivery.repository import RepositoryFiles
from xapp.runtime_client import RuntimeUnavailable

ResultT = TypeVar("ResultT")

_log = logging.getLogger(__name__)


class Site(Protocol):
    """The part of :class:`xapp.runtime_client.RuntimeClient` that a push needs."""

    async def inbox(self) -> InboxListing: ...

    async def put_metadata(self, name: str, data: bytes) -> None: ...

    async def put_target(self, name: str, data: bytes) -> None: ...

    async def activate(self, bundles: list[str]) -> ActivationReport: ...


@dataclass(frozen=True)
class PushReport:
    """What travelled and what the site said.

    Attributes:
        bytes_pushed: body bytes of all PUTs, repeated ones included.
        targets_pushed: target files sent; targets_skipped: already at the site.
        activation: the site's answer.
    """

    bytes_pushed: int
    targets_pushed: int
    targets_skipped: int
    activation: ActivationReport


async def push(
    site: Site,
    files: RepositoryFiles,
    bundles: list[str],
    *,
    attempts: int = 5,
    backoff_s: float = 0.5,
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
) -> PushReport:
    """Bring ``bundles`` to a site and activate them.

    Args:
        site: client of the site.
        files: state of the repository.
        bundles: bundle paths to deliver; other targets of the repository do not travel.
        attempts: tries of each request; backoff_s: first wait, doubled up to 16 times that.

    Raises:
        RuntimeUnavailable: still unreachable after all attempts. RuntimeRefused: the site said no.
        KeyError: a bundle is not in the repository.
    """
    sent = 0

    async def retry(request: Callable[[], Awaitable[ResultT]]) -> ResultT:
        wait = backoff_s
        for attempt in range(1, attempts + 1):
            try:
                return await request()
            except RuntimeUnavailable as error:
                if attempt == attempts:
                    raise
                _log.warning("push is retried", extra={"reason": str(error), "wait_s": wait})
            await sleep(wait)
            wait = min(2 * wait, 16 * backoff_s)
        raise AssertionError("unreachable")

    async def put(write: Callable[[str, bytes], Awaitable[None]], name: str, data: bytes) -> None:
        nonlocal sent

        async def once() -> None:
            nonlocal sent
            sent += len(data)
            await write(name, data)

        await retry(once)

    wanted = [path for bundle in bundles for path in _paths_of(files, bundle)]
    listing = await retry(site.inbox)
    *before, last = files.metadata
    for name, data in before:
        await put(site.put_metadata, name, data)
    pushed = 0
    for path in wanted:
        hashed, digest, local = files.targets[path]
        if listing.targets.get(path) == digest:
            continue
        await put(site.put_target, hashed, await asyncio.to_thread(local.read_bytes))
        pushed += 1
    await put(site.put_metadata, *last)
    activation = await retry(lambda: site.activate(bundles))
    return PushReport(sent, pushed, len(wanted) - pushed, activation)


def _paths_of(files: RepositoryFiles, bundle: str) -> list[str]:
    found = [path for path in files.targets if path.rpartition("/")[0] == bundle]
    if not found:
        raise KeyError(f"{bundle} is not in the repository")
    return found
