"""Push the repository's state to sites: metadata, missing targets, then activation.

Order (python-tuf's consistent snapshot): roots, targets and snapshot metadata, and beside them the target
files that the site lacks, small beside large ones; ``timestamp.json`` last, so that a reader between two
writes sees the old consistent state.

Each step may be repeated and each may be the last: a push that was cut short, by either side's restart too,
is repeated as a whole, and what the site has of it does not travel again. Who is still owed one follows from
the saved state of the roll-outs (:mod:`xapp.rollout.state`).
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import math
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Final, Protocol

from codec_runtime.contract.ranges import ByteRange
from codec_runtime.contract.updates import ActivationReport, InboxListing
from xapp.delivery.pacing import Patience, Sleep, TokenBucket
from xapp.delivery.plan import PushPlan, Transfer, plan_push
from xapp.delivery.repository import RepositoryFiles
from xapp.runtime_client import RuntimeRefused
from xapp.settings import XAppSettings

WRONG_CONTENT_STATUS: Final = 422
"""The site's answer to a file that is whole but not the one of its name; it has thrown it away."""
DELTA_REFUSALS: Final = frozenset({"DeltaError", "MissingParentError"})
"""Refusals of an activation that the whole weights answer."""
_NOT_THERE: Final = "MissingFileError"
"""Refusal of an activation that a target did not come in time for."""
_SMALL: Final = 64 << 10
"""Bytes of a file that costs a round trip and hardly a transfer: it comes with the activation, or, at a site
of an earlier version, beside the large ones."""
_LANES: Final = 2
"""Large files on their way at a time: while one waits for an answer, or is read here, the other goes on."""
_SOON_S: Final = 2.0
"""What the rate limit lets through in this time is worth the site's waiting for it in the activation."""
_ALONG_LIMIT: Final = 1 << 20
"""Bytes that come with the activation, timestamp.json apart."""

_log = logging.getLogger(__name__)


class Site(Protocol):
    """The part of :class:`xapp.runtime_client.RuntimeClient` that a push needs."""

    async def inbox(self) -> InboxListing: ...

    async def put_metadata(self, name: str, data: bytes) -> None: ...

    async def put_chunk(self, name: str, span: ByteRange, data: bytes) -> int: ...

    async def activate(
        self,
        bundles: list[str],
        *,
        targets: Mapping[str, bytes] | None = None,
        metadata: Mapping[str, bytes] | None = None,
        coming: Sequence[str] = (),
    ) -> ActivationReport: ...


@dataclass(frozen=True)
class PushProgress:
    """How far a push is: bytes of ``bundle`` that the site has, of those that it is to have.

    Attributes:
        site: "" where the push was given no name.
    """

    site: str
    bundle: str
    done: int
    total: int


Progress = Callable[[PushProgress], object]
Tell = Callable[[Transfer, int], None]
"""Told how many bytes of a file the site has."""


@dataclass(frozen=True)
class PushOptions:
    """How pushes are done.

    Attributes:
        chunk_bytes: of one request, and the memory that a push takes. A connection that breaks within costs
            less: the site keeps what came of the chunk.
        rate: bytes/s to one site; ``math.inf`` for no limit.
        shared: bucket of all sites together; one object for all pushes that share the link. None: no limit.
        parallel_sites: pushes of the roll-outs at a time (:mod:`xapp.rollout.pushes`).
        attempts, backoff_s, busy_limit_s, sleep: see :class:`~xapp.delivery.pacing.Patience`.
    """

    chunk_bytes: int = 8 << 20
    rate: float = math.inf
    shared: TokenBucket | None = None
    parallel_sites: int = 8
    attempts: int = 5
    backoff_s: float = 0.5
    busy_limit_s: float = 300.0
    sleep: Sleep = asyncio.sleep

    @classmethod
    def of(cls, settings: XAppSettings) -> PushOptions:
        """As the settings say, with one shared bucket: to be made once a process."""
        total = settings.push_total_rate_bytes_per_s
        return cls(
            chunk_bytes=settings.push_chunk_bytes,
            rate=settings.push_rate_bytes_per_s or math.inf,
            shared=TokenBucket(total) if total else None,
            parallel_sites=settings.push_parallel_sites,
            busy_limit_s=settings.push_busy_limit_s,
        )


DEFAULTS: Final = PushOptions()


@dataclass(frozen=True)
class PushReport:
    """What travelled and what the site said.

    Attributes:
        bytes_pushed: body bytes of all PUTs, repeated ones included.
        bytes_saved: that would have travelled to a site that has nothing, in whole files.
        targets_pushed: target files sent; targets_skipped: already at the site.
        retries: requests made again; waited_s: spent waiting for the site and for the rate limit.
        activation: the site's answer.
    """

    bytes_pushed: int
    bytes_saved: int
    targets_pushed: int
    targets_skipped: int
    retries: int
    waited_s: float
    activation: ActivationReport


async def push(
    site: Site,
    files: RepositoryFiles,
    bundles: list[str],
    options: PushOptions = DEFAULTS,
    *,
    name: str = "",
    progress: Progress | None = None,
) -> PushReport:
    """Bring ``bundles`` to a site and activate them.

    Args:
        site: client of the site.
        files: state of the repository.
        bundles: bundle paths to deliver; other targets of the repository do not travel.
        name: of the site, for progress.
        progress: told after each chunk.

    Raises:
        RuntimeUnavailable: still unreachable or busy after all attempts.
        RuntimeRefused: the site said no.
        KeyError: a bundle is not in the repository. OSError, ValueError: a file of it is gone or empty.
    """
    return await _Push(site, files, options, name, progress).run(bundles)


@dataclass
class _Along:
    """Files that the activation brings along; none for a site that takes none."""

    transfers: list[Transfer] = field(default_factory=list)
    targets: dict[str, bytes] = field(default_factory=dict)
    metadata: dict[str, bytes] = field(default_factory=dict)
    coming: list[str] = field(default_factory=list)

    @property
    def size(self) -> int:
        return sum(len(data) for data in [*self.targets.values(), *self.metadata.values()])

    def others(self, plan: PushPlan) -> list[Transfer]:
        """Of the plan, what travels by itself."""
        return [transfer for transfer in plan.transfers if transfer not in self.transfers]


class _Push:
    """One push on its way."""

    def __init__(
        self, site: Site, files: RepositoryFiles, options: PushOptions, name: str, progress: Progress | None
    ) -> None:
        self._site = site
        self._files = files
        self._options = options
        self._name = name
        self._progress = progress
        self._patience = Patience(
            options.attempts, options.backoff_s, options.busy_limit_s, options.sleep
        )
        self._buckets = [TokenBucket(options.rate, sleep=options.sleep)]
        if options.shared is not None:
            self._buckets.append(options.shared)
        self._sent = 0
        self._paced_s = 0.0

    async def run(self, bundles: list[str]) -> PushReport:
        listing = await self._patience.ask(self._site.inbox)
        plan = plan_push(self._files, bundles, listing)
        *before, last = self._files.metadata
        lacking = [
            (name, data) for name, data in before
            if listing.metadata.get(name) != hashlib.sha256(data).hexdigest()
        ]
        along = _Along()
        if listing.takes_files:
            along = await asyncio.to_thread(_small_ones, plan.transfers, lacking)
            along.metadata[last[0]] = last[1]
        tell = self._teller(plan)
        alone = [file for file in lacking if file[0] not in along.metadata]
        if listing.awaits_files and self._soon_there(plan, along):
            activation = await self._send_activating(bundles, plan, tell, along, alone)
        else:
            await _together(self._put_all(alone), self._send(plan, tell, along))
            if not along.metadata:
                await self._put_metadata(*last)
            activation = await self._activate(bundles, along)
        for transfer in along.transfers:
            tell(transfer, transfer.size)
        pushed, saved = len(plan.transfers), plan.bytes_saved
        if plan.deltas and activation.outcome == "refused" and activation.error in DELTA_REFUSALS:
            _log.warning("delta refused, the weights follow", extra={"site": self._name, **_why(activation)})
            listing = await self._patience.ask(self._site.inbox)
            plan = plan_push(self._files, bundles, listing, deltas=False)
            await self._send(plan, self._teller(plan), _Along())
            activation = await self._activate(bundles, _Along())
            pushed, saved = pushed + len(plan.transfers), 0
        waited_s = self._patience.waited_s + self._paced_s
        return PushReport(
            self._sent, saved, pushed, plan.skipped, self._patience.retries, waited_s, activation
        )

    def _soon_there(self, plan: PushPlan, along: _Along) -> bool:
        """Whether the last chunk of every large file can go now: then the site verifies what comes while it
        comes. It does one activation at a time, so it is not made to wait for a long transfer."""
        large = along.others(plan)
        limit = min(_SOON_S * self._options.rate, _LANES * self._options.chunk_bytes)
        return 0 < len(large) <= _LANES and sum(transfer.missing for transfer in large) <= limit

    async def _send_activating(
        self,
        bundles: list[str],
        plan: PushPlan,
        tell: Tell,
        along: _Along,
        alone: Iterable[tuple[str, bytes]],
    ) -> ActivationReport:
        """Send the large files and activate at once; if the site does not wait as long, activate again."""
        await self._put_all(alone)
        along.coming = [transfer.hashed for transfer in along.others(plan)]
        answers: list[ActivationReport] = []

        async def activate() -> None:
            answers.append(await self._activate(bundles, along))

        await _together(self._send(plan, tell, along), activate())
        if answers[0].outcome == "refused" and answers[0].error == _NOT_THERE:
            return await self._activate(bundles, _Along())
        return answers[0]

    async def _activate(self, bundles: list[str], along: _Along) -> ActivationReport:
        if not along.size:
            return await self._patience.ask(lambda: self._site.activate(bundles))

        async def once() -> ActivationReport:
            await self._pay(along.size)
            return await self._site.activate(
                bundles, targets=along.targets, metadata=along.metadata, coming=along.coming
            )

        return await self._patience.ask(once)

    async def _put_all(self, metadata: Iterable[tuple[str, bytes]]) -> None:
        for name, data in metadata:
            await self._put_metadata(name, data)

    async def _put_metadata(self, name: str, data: bytes) -> None:
        async def once() -> None:
            await self._pay(len(data))
            await self._site.put_metadata(name, data)

        await self._patience.ask(once)

    def _teller(self, plan: PushPlan) -> Tell:
        totals: dict[str, int] = {}
        for transfer in plan.transfers:
            totals[transfer.bundle] = totals.get(transfer.bundle, 0) + transfer.size
        done = {transfer.bundle: dict[str, int]() for transfer in plan.transfers}

        def tell(transfer: Transfer, offset: int) -> None:
            there = done[transfer.bundle]
            there[transfer.path] = offset
            if self._progress is not None:
                now = PushProgress(
                    self._name, transfer.bundle, sum(there.values()), totals[transfer.bundle]
                )
                self._progress(now)

        return tell

    async def _send(self, plan: PushPlan, tell: Tell, along: _Along) -> None:
        alone = along.others(plan)
        small = [transfer for transfer in alone if transfer.size <= _SMALL]
        large = iter([transfer for transfer in alone if transfer.size > _SMALL])
        lanes = [self._send_files(large, tell) for _ in range(_LANES)]
        await _together(self._send_files(small, tell), *lanes)

    async def _send_files(self, transfers: Iterable[Transfer], tell: Tell) -> None:
        for transfer in transfers:
            try:
                await self._send_file(transfer, transfer.offset, partial(tell, transfer))
            except RuntimeRefused as error:
                if error.status != WRONG_CONTENT_STATUS:
                    raise
                # What the site had kept, from an earlier push or over a power cut, was not this file.
                _log.warning("transfer begins anew", extra={"site": self._name, "reason": str(error)})
                await self._send_file(transfer, 0, partial(tell, transfer))

    async def _send_file(self, transfer: Transfer, offset: int, tell: Callable[[int], None]) -> None:
        """Send a file from ``offset`` on; the site may say that it wants another.

        Raises:
            RuntimeRefused: it asks for earlier bytes as often as there are attempts.
        """
        steps_back = 0
        while offset < transfer.size:
            data = await asyncio.to_thread(_read, transfer.local, offset, self._options.chunk_bytes)
            span = ByteRange(offset, offset + len(data) - 1, transfer.size)

            async def once(span: ByteRange = span, data: bytes = data) -> int:
                await self._pay(len(data))
                return await self._site.put_chunk(transfer.hashed, span, data)

            wanted = await self._patience.ask(once)
            steps_back += wanted <= offset
            if steps_back >= self._options.attempts or wanted > transfer.size:
                raise RuntimeRefused(
                    f"{transfer.hashed}: the site wants byte {wanted} of {transfer.size} after byte {offset}"
                )
            offset = wanted
            tell(offset)

    async def _pay(self, size: int) -> None:
        for bucket in self._buckets:
            self._paced_s += await bucket.take(size)
        self._sent += size


def _small_ones(transfers: Iterable[Transfer], metadata: Iterable[tuple[str, bytes]]) -> _Along:
    """As many small files as may travel together."""
    along = _Along()
    for name, data in metadata:
        if len(data) <= _SMALL and along.size + len(data) <= _ALONG_LIMIT:
            along.metadata[name] = data
    for transfer in transfers:
        if transfer.missing == transfer.size <= _SMALL and along.size + transfer.size <= _ALONG_LIMIT:
            along.transfers.append(transfer)
            along.targets[transfer.hashed] = _read(transfer.local, 0, transfer.size)
    return along


async def _together(*work: Coroutine[object, object, None]) -> None:
    """All of ``work`` at once; the first error ends the others and is raised."""
    tasks = [asyncio.ensure_future(one) for one in work]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _read(path: Path, offset: int, size: int) -> bytes:
    with path.open("rb") as file:
        file.seek(offset)
        data = file.read(size)
    if not data:
        raise OSError(f"{path} ends before byte {offset}: it was changed")
    return data


def _why(activation: ActivationReport) -> dict[str, str]:
    return {"error": activation.error, "detail": activation.detail}
