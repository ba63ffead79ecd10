"""Keeps up with one site: telemetry stream into the table, what it serves, restarts of its runtime."""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Callable

import msgspec
import numpy as np

from codec_runtime.contract.directives import RejectedDirective
from codec_runtime.contract.telemetry import CapabilityReport, QualityReport, TelemetryEvent
from xapp.policy.catalog import DecoderCatalog
from xapp.runtime_client import RuntimeClient, RuntimeRefused, RuntimeUnavailable
from xapp.status import Status
from xapp.telemetry.user_table import UserTable
from xapp.updates.coordinator import UpdateCoordinator

_log = logging.getLogger(__name__)

_FIRST_BACKOFF_S = 0.2
_LONGEST_BACKOFF_S = 2.0


class SiteWatch:
    """See the module docstring.

    Args:
        client, coordinator, catalog, table, status: shared parts.
        on_restart: called after the runtime's instance changed (not at the first contact).
        clock: monotonic seconds.
    """

    def __init__(
        self,
        client: RuntimeClient,
        coordinator: UpdateCoordinator,
        catalog: DecoderCatalog,
        table: UserTable,
        status: Status,
        *,
        on_restart: Callable[[], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._client = client
        self._coordinator = coordinator
        self._catalog = catalog
        self._table = table
        self._status = status
        self._on_restart = on_restart
        self._clock = clock
        self._instance = ""
        self._seq = 0
        self.capabilities: dict[str, CapabilityReport] = {}
        self._refresh = asyncio.Event()

    def on_instance(self, old: str, new: str) -> None:
        """The client saw another runtime instance."""
        self._refresh.set()
        if old:
            self._status.events.add("runtime_restarted", "the runtime restarted; resending all directives")
            self._on_restart()

    def on_rejected(self, rejected: list[RejectedDirective]) -> None:
        """The site cannot follow some directives: look again at what it serves, then decide anew."""
        _log.warning(
            "directives rejected", extra={"count": len(rejected), "first": msgspec.to_builtins(rejected[0])}
        )
        rows = [row for row in (self._table.row(item.user) for item in rejected) if row is not None]
        self._table.prefix[np.array(rows, np.int64)] = 0
        self._table.directive_snr_db[np.array(rows, np.int64)] = np.nan
        self._refresh.set()

    async def watch_models(self, period_s: float = 2.0) -> None:
        """Ask the site what it serves, every period and when woken, until cancelled."""
        wait = _FIRST_BACKOFF_S
        while True:
            try:
                await self._coordinator.refresh_catalog()
                self._status.peers.up("runtime")
                wait = period_s
            except RuntimeUnavailable as error:
                self._status.peers.down("runtime", str(error))
                wait = _FIRST_BACKOFF_S if wait == period_s else min(2 * wait, _LONGEST_BACKOFF_S)
            except RuntimeRefused as error:
                _log.error("site status is not usable", extra={"reason": str(error)})
                wait = period_s
            # A rejected directive asks for a refresh; not more often than this.
            await asyncio.sleep(_FIRST_BACKOFF_S)
            try:
                async with asyncio.timeout(wait):
                    await self._refresh.wait()
            except TimeoutError:
                pass
            self._refresh.clear()

    async def consume_telemetry(self) -> None:
        """Fold the telemetry stream, reconnecting with back-off, until cancelled."""
        wait = _FIRST_BACKOFF_S
        while True:
            try:
                # Another instance counts from 1 again: ask before resuming behind the old number.
                site = await self._client.site()
                self._resume(site.instance)
                self._status.peers.up("telemetry")
                wait = _FIRST_BACKOFF_S
                async for event in self._client.telemetry(self._seq):
                    self.fold(event)
            except RuntimeUnavailable as error:
                self._status.peers.down("telemetry", str(error))
                wait = min(2 * wait, _LONGEST_BACKOFF_S)
            except RuntimeRefused as error:
                _log.error("telemetry stream is not usable", extra={"reason": str(error)})
                self._status.peers.down("telemetry", str(error))
                wait = _LONGEST_BACKOFF_S
            await asyncio.sleep(wait)

    def fold(self, event: TelemetryEvent) -> None:
        """Fold one event; gaps in the numbers are counted, repeated events ignored."""
        self._resume(event.instance)
        if event.seq <= self._seq:
            return
        # The first event after a start may follow others that the buffer dropped before we existed.
        if self._seq and event.seq > self._seq + 1:
            lost = event.seq - self._seq - 1
            self._status.counters["telemetry_gaps"] += lost
            self._status.metrics.telemetry_gaps.inc(lost)
        self._seq = event.seq
        report = event.report
        if isinstance(report, CapabilityReport):
            self._status.metrics.telemetry.labels("capability").inc()
            self.fold_capability(report)
        elif isinstance(report, QualityReport):
            self._status.metrics.telemetry.labels("quality").inc()
            self._fold_quality(report)
        else:
            self._status.metrics.telemetry.labels("training").inc()
            self._coordinator.on_training(report)

    def fold_capability(self, report: CapabilityReport) -> None:
        """Fold what a device can run."""
        self.capabilities[report.user] = report
        if self._table.fold_capability(report):
            self._status.events.add(
                "capability",
                f"{report.user} of group {report.group} runs {', '.join(report.decoders)}",
                user=report.user,
                group=report.group,
            )

    def _fold_quality(self, report: QualityReport) -> None:
        self._status.counters["quality_reports"] += 1
        surface = self._catalog.surface(report.decoder, report.decoder_version)
        expected = math.nan
        if surface is not None and surface.covers(report.snr_db, report.prefix):
            expected = surface.at(report.snr_db, report.prefix)
        # Reports of the past (resumed stream) count at their time; a clock ahead of ours counts as now.
        age_s = max((time.time_ns() - report.time_ns) / 1e9, 0.0)
        row = self._table.fold_quality(report, expected, self._clock() - age_s)
        if row >= 0:
            self._coordinator.on_quality(report, expected, row)

    def _resume(self, instance: str) -> None:
        if instance != self._instance:
            self._instance, self._seq = instance, 0
