"""Directives to the site: coalesced, numbered, acknowledged; resent in full after a restart of the runtime.

Rules
-----
- At most one batch is in flight. What is decided meanwhile is merged, the newest directive of a user wins;
  directives for the codec and for the cut of a classifier are merged apart and travel in the same batches.
- A batch that was not acknowledged is sent again under a new number, merged with what is newer; applying
  a directive twice does no harm.
- When an answer shows another runtime instance, the whole table is sent with ``full``.
- A rejected directive is reported to ``on_rejected``, not repeated by itself.
- Users who left the site are forgotten there with the next whole table, also with an empty one.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from typing import Protocol

from codec_runtime.contract.classification import SplitDirective
from codec_runtime.contract.directives import Directive, DirectiveAck, DirectiveBatch, RejectedDirective
from xapp.runtime_client import RuntimeRefused, RuntimeUnavailable
from xapp.status import Status

_log = logging.getLogger(__name__)

_MAX_TIMED = 256


class DirectiveSink(Protocol):
    """The part of :class:`xapp.runtime_client.RuntimeClient` needed here."""

    async def push_directives(self, batch: DirectiveBatch) -> DirectiveAck: ...


class Actuator:
    """See the module docstring.

    Args:
        sink: the runtime. issuer: id of this process. status: where outcomes are counted.
        full, full_splits: give the whole tables. on_rejected: told of directives the site cannot follow.
        site: label of the site in metrics and peers. backoff_s: first and longest wait after a failure.
    """

    def __init__(
        self,
        sink: DirectiveSink,
        issuer: str,
        status: Status,
        *,
        full: Callable[[], list[Directive]],
        full_splits: Callable[[], list[SplitDirective]] = list,
        on_rejected: Callable[[list[RejectedDirective]], None],
        site: str = "",
        backoff_s: tuple[float, float] = (0.1, 2.0),
    ) -> None:
        self._sink = sink
        self._issuer = issuer
        self._status = status
        self._full, self._full_splits = full, full_splits
        self._on_rejected = on_rejected
        self._site = site
        self._first_backoff_s, self._max_backoff_s = backoff_s
        self._pending: dict[str, Directive] = {}
        self._pending_splits: dict[str, SplitDirective] = {}
        self._received_ns: list[int] = []
        self._send_all = False
        self._sequence = 0
        self._wake = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()

    def submit(self, directives: list[Directive], received_ns: int) -> None:
        """Queue changed directives; ``received_ns``: perf_counter_ns when their indication was read."""
        if not directives:
            return
        for directive in directives:
            self._pending[directive.user] = directive
        if len(self._received_ns) < _MAX_TIMED:
            self._received_ns.append(received_ns)
        self._idle.clear()
        self._wake.set()

    def submit_splits(self, splits: list[SplitDirective]) -> None:
        """Queue changed cuts; they are decided once a period, so no loop latency is measured of them."""
        if not splits:
            return
        self._pending_splits.update((split.user, split) for split in splits)
        self._idle.clear()
        self._wake.set()

    def resend_all(self) -> None:
        """The runtime lost its directives or holds some of users who left: send the whole table next."""
        self._send_all = True
        self._idle.clear()
        self._wake.set()

    async def flush(self, timeout_s: float) -> bool:
        """Wait until nothing is pending; False after ``timeout_s``."""
        try:
            async with asyncio.timeout(timeout_s):
                await self._idle.wait()
        except TimeoutError:
            return False
        return True

    async def run(self) -> None:
        """Send until cancelled."""
        backoff = self._first_backoff_s
        while True:
            await self._wake.wait()
            self._wake.clear()
            if await self._send():
                backoff = self._first_backoff_s
            else:
                await asyncio.sleep(backoff)
                backoff = min(2 * backoff, self._max_backoff_s)
                self._wake.set()
            if not self._pending and not self._pending_splits and not self._send_all:
                self._idle.set()

    async def _send(self) -> bool:
        """Send what is pending; False when it must be tried again after a wait."""
        full, self._send_all = self._send_all, False
        pending, self._pending = self._pending, {}
        pending_splits, self._pending_splits = self._pending_splits, {}
        received, self._received_ns = self._received_ns, []
        directives = self._full() if full else list(pending.values())
        splits = self._full_splits() if full else list(pending_splits.values())
        if not directives and not splits and not full:
            return True
        self._sequence += 1
        batch = DirectiveBatch(
            issuer=self._issuer,
            sequence=self._sequence,
            issued_ns=time.time_ns(),
            directives=directives,
            full=full,
            splits=splits,
        )
        status = self._status
        try:
            ack = await self._sink.push_directives(batch)
        except RuntimeUnavailable as error:
            status.peers.down("runtime", str(error), self._site)
            status.metrics.batches.labels("retried", self._site).inc()
            # Newer decisions made meanwhile win. An outage is no loop latency: its times are dropped.
            self._pending = pending | self._pending
            self._pending_splits = pending_splits | self._pending_splits
            self._send_all |= full
            return False
        except RuntimeRefused as error:
            status.metrics.batches.labels("refused", self._site).inc()
            _log.error(
                "directive batch refused",
                extra={"reason": str(error), "directives": len(directives) + len(splits), "site": self._site},
            )
            return True
        now = time.perf_counter_ns()
        status.peers.up("runtime", self._site)
        for start in received:
            status.loop.add((now - start) / 1e9)
            status.metrics.loop.observe((now - start) / 1e9)
        status.metrics.batches.labels("acknowledged", self._site).inc()
        applied = len(directives) + len(splits) - len(ack.rejected)
        status.counters["directives"] += applied
        status.metrics.directives.labels("applied", self._site).inc(applied)
        if ack.rejected:
            status.counters["directives_rejected"] += len(ack.rejected)
            status.metrics.directives.labels("rejected", self._site).inc(len(ack.rejected))
            self._on_rejected(ack.rejected)
        return True
