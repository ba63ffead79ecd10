"""Keeps up with one site: telemetry stream into the table, what it serves, restarts of its runtime.

Each site has its own connections, time limits and back-off, so that one that is away delays no other.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Callable, Sequence
from typing import Final, Protocol

import msgspec
import numpy as np

from codec_runtime.contract.alignment import AlignmentReport
from codec_runtime.contract.bundle import BundleManifest
from codec_runtime.contract.classification import PublishedCut, SplitReport
from codec_runtime.contract.directives import RejectedDirective
from codec_runtime.contract.telemetry import (
    CapabilityReport,
    FailureReport,
    QualityReport,
    TelemetryEvent,
    TrainingReport,
)
from xapp.policy.catalog import DecoderCatalog
from xapp.runtime_client import RuntimeClient, RuntimeRefused, RuntimeUnavailable
from xapp.status import Status
from xapp.telemetry.user_table import UserTable

_log = logging.getLogger(__name__)

ONLY_SITE: Final = "site-1"
"""Name of the site of ``runtime_url`` until its runtime says what it is called."""

_FIRST_BACKOFF_S = 0.2
_LONGEST_BACKOFF_S = 2.0


class SiteListener(Protocol):
    """Who is told, with the site's name, of what its telemetry and its listing say."""

    def on_served(self, site: str, models: Sequence[BundleManifest]) -> None:
        """The site serves these bundles."""

    def on_quality(self, site: str, report: QualityReport, expected_psnr_db: float, row: int) -> None:
        """A transmission was measured; NaN where no surface says what to expect; row of the user table."""

    def on_failure(self, site: str, report: FailureReport) -> None:
        """A transmission gave no picture."""

    def on_training(self, site: str, report: TrainingReport) -> None:
        """State of a training job at the site."""

    def on_alignment(self, site: str, index: int, report: AlignmentReport) -> None:
        """Samples of a user were aligned; index of the site in the user table."""


class SplitListener(Protocol):
    """Who is told of the classifiers of a site."""

    def publish(self, cuts: Sequence[PublishedCut]) -> None:
        """The site publishes these cuts, and no others."""

    def note_report(self, report: SplitReport) -> None:
        """A device classified a picture."""


class AlignmentListener(Protocol):
    """Who is told of the adapters of a site."""

    def publish(self, models: Sequence[BundleManifest]) -> bool:
        """The site serves these bundles; whether its adapters changed."""

    def note_report(self, report: AlignmentReport) -> None:
        """Samples of a user were aligned."""


class SiteWatch:
    """See the module docstring.

    Args:
        label: configured name of the site; empty for that of ``runtime_url``. index: its place in the user
            table's column ``site``.
        client, catalog: the site's. table, status, capabilities: shared by all sites.
        listener: see :class:`SiteListener`. splits: see :class:`SplitListener`.
        alignment: see :class:`AlignmentListener`.
        on_restart: called after the runtime's instance changed (not at the first contact).
        clock: monotonic seconds.

    Attributes:
        capabilities: last report of each device.
    """

    def __init__(
        self,
        label: str,
        index: int,
        client: RuntimeClient,
        catalog: DecoderCatalog,
        table: UserTable,
        status: Status,
        capabilities: dict[str, CapabilityReport],
        listener: SiteListener,
        splits: SplitListener,
        *,
        alignment: AlignmentListener,
        on_restart: Callable[[], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.label = label
        self.capabilities = capabilities
        self._index = index
        self._client = client
        self._catalog = catalog
        self._table = table
        self._status = status
        self._listener = listener
        self._splits = splits
        self._alignment = alignment
        self._on_restart = on_restart
        self._clock = clock
        self._called = ""
        self._instance = ""
        self._seq = 0
        self._refresh = asyncio.Event()

    @property
    def name(self) -> str:
        """Name of the site: as configured, else as its runtime calls itself."""
        return self.label or self._called or ONLY_SITE

    def on_instance(self, old: str, new: str) -> None:
        """The client saw another runtime instance."""
        self._refresh.set()
        if old:
            self._status.events.add(
                "runtime_restarted",
                f"{self._prefix()}the runtime restarted; resending all directives",
                site=self.name,
            )
            self._on_restart()

    def on_rejected(self, rejected: list[RejectedDirective]) -> None:
        """The site cannot follow some directives: look again at what it serves, then decide anew."""
        _log.warning(
            "directives rejected",
            extra={
                "site": self.name,
                "count": len(rejected),
                "first": msgspec.to_builtins(rejected[0]),
            },
        )
        codec = (self._table.row(item.user) for item in rejected if item.about == "codec")
        found = [row for row in codec if row is not None]
        rows = np.array(found, np.int64)
        rows = rows[self._table.site[rows] == self._index]  # a user may have left meanwhile
        self._table.prefix[rows] = 0
        self._table.directive_snr_db[rows] = np.nan
        self._refresh.set()

    async def refresh(self) -> bool:
        """Ask the site what it serves; returns whether that changed.

        Raises:
            RuntimeUnavailable, RuntimeRefused.
        """
        site = await self._client.site()
        self._note_name(site.site)
        self._listener.on_served(self.name, site.models)
        self._splits.publish(site.classifiers)
        adapters_changed = self._alignment.publish(site.models)
        return adapters_changed | self._catalog.update(site.models, site.conventional)

    async def watch_models(self, period_s: float = 2.0) -> None:
        """Ask the site what it serves, every period and when woken, until cancelled."""
        wait = _FIRST_BACKOFF_S
        while True:
            try:
                await self.refresh()
                self._status.peers.up("runtime", self.label)
                wait = period_s
            except RuntimeUnavailable as error:
                self._status.peers.down("runtime", str(error), self.label)
                wait = _FIRST_BACKOFF_S if wait == period_s else min(2 * wait, _LONGEST_BACKOFF_S)
            except RuntimeRefused as error:
                _log.error("site status is not usable", extra={"site": self.name, "reason": str(error)})
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
                self._status.peers.up("telemetry", self.label)
                wait = _FIRST_BACKOFF_S
                async for event in self._client.telemetry(self._seq):
                    self.fold(event)
            except RuntimeUnavailable as error:
                self._status.peers.down("telemetry", str(error), self.label)
                wait = min(2 * wait, _LONGEST_BACKOFF_S)
            except RuntimeRefused as error:
                _log.error("telemetry stream is not usable", extra={"site": self.name, "reason": str(error)})
                self._status.peers.down("telemetry", str(error), self.label)
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
            self._status.metrics.telemetry_gaps.labels(self.label).inc(lost)
        self._seq = event.seq
        report = event.report
        count = self._status.metrics.telemetry
        if isinstance(report, CapabilityReport):
            count.labels("capability", self.label).inc()
            self.fold_capability(report)
        elif isinstance(report, QualityReport):
            count.labels("quality", self.label).inc()
            self._fold_quality(report)
        elif isinstance(report, FailureReport):
            count.labels("failure", self.label).inc()
            self._listener.on_failure(self.name, report)
        elif isinstance(report, SplitReport):
            count.labels("split", self.label).inc()
            self._splits.note_report(report)
        elif isinstance(report, AlignmentReport):
            count.labels("alignment", self.label).inc()
            self._alignment.note_report(report)
            self._listener.on_alignment(self.name, self._index, report)
        else:
            count.labels("training", self.label).inc()
            self._listener.on_training(self.name, report)

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
            self._listener.on_quality(self.name, report, expected, row)

    def _resume(self, instance: str) -> None:
        if instance != self._instance:
            self._instance, self._seq = instance, 0

    def _note_name(self, called: str) -> None:
        """A runtime that is called otherwise at its own end finds no assignment under the name used here."""
        if called == self._called:
            return
        self._called = called
        if self.label and called != self.label:
            self._status.events.add(
                "site_misnamed",
                f"{self.label}: its runtime calls itself {called!r}; both need the same name",
                site=self.label,
            )

    def _prefix(self) -> str:
        return f"{self.label}: " if self.label else ""
