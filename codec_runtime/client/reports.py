"""Reports to the site: a bounded queue, sent in bundles; when full it drops the oldest and counts them."""

from __future__ import annotations

import asyncio
import logging
from collections import deque

from codec_runtime.client.connection import SiteConnection
from codec_runtime.client.errors import SiteError, SiteUnavailableError
from codec_runtime.contract import paths
from codec_runtime.contract.classification import SplitReport
from codec_runtime.contract.telemetry import CapabilityReport

logger = logging.getLogger(__name__)

_AT_ONCE = 64


class ReportQueue:
    """Used from one event loop; :meth:`run` sends until cancelled.

    Args:
        connection: to the site.
        capacity: reports kept while the site is away.
        every_s: how long reports are gathered.

    Attributes:
        sent, dropped: reports that arrived, and that were lost to a full queue or refused by the site.
    """

    def __init__(self, connection: SiteConnection, *, capacity: int = 256, every_s: float = 1.0) -> None:
        self._connection = connection
        self._waiting: deque[CapabilityReport | SplitReport] = deque()
        self._capacity = capacity
        self._every_s = every_s
        self.sent = 0
        self.dropped = 0

    def add(self, report: CapabilityReport | SplitReport) -> None:
        """Queue a report; never waits."""
        if len(self._waiting) >= self._capacity:
            self._waiting.popleft()
            self.dropped += 1
        self._waiting.append(report)

    async def run(self) -> None:
        """Send what waits, every ``every_s``, until cancelled."""
        while True:
            await asyncio.sleep(self._every_s)
            try:
                await self.flush()
            except SiteError as error:
                logger.warning("reports not sent", extra={"reason": str(error)})

    async def flush(self) -> None:
        """Send what waits now.

        Raises:
            SiteUnavailableError: what was not sent waits on. SiteError: the site refused it: dropped.
        """
        while self._waiting:
            bundle = [self._waiting.popleft() for _ in range(min(_AT_ONCE, len(self._waiting)))]
            try:
                await self._connection.post(paths.TELEMETRY, bundle)
            except (SiteUnavailableError, asyncio.CancelledError):
                room = max(0, self._capacity - len(self._waiting))
                self.dropped += max(0, len(bundle) - room)
                self._waiting.extendleft(reversed(bundle[len(bundle) - min(room, len(bundle)) :]))
                raise
            except SiteError:
                self.dropped += len(bundle)
                raise
            self.sent += len(bundle)
