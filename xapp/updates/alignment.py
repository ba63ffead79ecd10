"""Alignment in the loop: drift of confidence or labels, the federated update it asks for, and the recovery.

Confidence of each (group, encoder), and label consistency likewise, go through the same detector as quality
does (:mod:`xapp.updates.drift`), in per cent in place of dB. What is done about a drift is the planner's to
say; this module does the adapter's part of it and measures confidence before, during and after.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from prometheus_client import CollectorRegistry, Gauge

from codec_runtime.contract.alignment import AlignmentReport
from codec_runtime.contract.bundle import BundleManifest
from xapp.rollout.state import Rollout
from xapp.runtime_client import CandidateError, RuntimeRefused
from xapp.sites import SiteLink
from xapp.status import Status
from xapp.telemetry.user_table import UNKNOWN_GROUP, UserTable
from xapp.updates.candidates import Verdict, gate_adapter
from xapp.updates.drift import GroupDriftDetector
from xapp.updates.federation import FederatedUpdate, Outcome, RoundSettings
from xapp.updates.planner import AdapterJob, UpdatePlanner

RECOVERY_REPORTS: Final = 20
"""Reports of the new version that say what an update has brought."""
LEAST_LABEL_DROP: Final = 12.0
"""Of label consistency, per cent: one of the 32 pairs that it is a share of is three, which the detector's
smallest spread, made for decibels, is far below."""
_SMOOTHING: Final = 0.1
MAX_SOURCES: Final = 256


@dataclass(frozen=True, slots=True, order=True)
class Source:
    """What drifts: an encoder of a group, in its confidence or its labels."""

    group: str
    encoder: str
    what: str


@dataclass(slots=True)
class Recovery:
    """Mean confidence around an update of an adapter, 0..1, of the source that drifted.

    Attributes:
        before: of the baseline; during: since the suspicion began.
        version: whose reports count as after; 0 until one is rolled out. total, reports: of these.
    """

    source: Source
    adapter: str
    before: float
    during: float
    version: int = 0
    total: float = 0.0
    reports: int = 0

    @property
    def after(self) -> float | None:
        """None while too few have been heard."""
        return self.total / self.reports if self.reports >= RECOVERY_REPORTS else None

    @property
    def kind(self) -> str:
        """Of its event: whether at least half of what the drift took came back."""
        half = (self.before + self.during) / 2.0
        return "alignment_recovered" if self.after is not None and self.after >= half else "alignment_low"


class AlignmentUpdates:
    """See the module docstring.

    Args:
        sites: by name. planner, table, status: shared state.
        make_detector: a fresh drift detector, for per cent.
        rounds: of federated updates. min_gain_rsum: of a candidate on held-out pairs.
        clock: monotonic seconds.

    Attributes:
        confidence: smoothed, 0..1, by source. recoveries: the latest of each group.
    """

    def __init__(
        self,
        sites: Mapping[str, SiteLink],
        planner: UpdatePlanner,
        table: UserTable,
        status: Status,
        *,
        make_detector: Callable[[], GroupDriftDetector],
        rounds: RoundSettings,
        min_gain_rsum: float,
        clock: Callable[[], float],
    ) -> None:
        self._sites = sites
        self._planner = planner
        self._table = table
        self._status = status
        self._make_detector = make_detector
        self._rounds = rounds
        self._min_gain_rsum = min_gain_rsum
        self._clock = clock
        self._detectors: OrderedDict[Source, GroupDriftDetector] = OrderedDict()
        self._updates: dict[str, FederatedUpdate] = {}
        self._outcomes: dict[str, Outcome] = {}
        self.confidence: dict[Source, float] = {}
        self.recoveries: dict[str, Recovery] = {}
        self._metrics = _Gauges(status.metrics.registry)

    def on_report(self, report: AlignmentReport, *, deaf: bool) -> bool:
        """Fold a report; returns whether it began or widened a plan.

        Args:
            deaf: a roll-out of the group is under way, or its user is on trial.
        """
        row = self._table.row(report.user)
        group = UNKNOWN_GROUP if row is None else self._table.group_name(row)
        if group == UNKNOWN_GROUP:
            return False
        began = False
        values = [("confidence", report.confidence), ("labels", report.label_consistency)]
        for what, value in values:
            if value is not None:
                began |= self._fold(Source(group, report.encoder, what), value, report, deaf)
        return began

    def _fold(self, source: Source, value: float, report: AlignmentReport, deaf: bool) -> bool:
        smoothed = self.confidence.get(source, value)
        self.confidence[source] = smoothed = smoothed + _SMOOTHING * (value - smoothed)
        self._metrics.alignment.labels(source.group, source.encoder, source.what).set(smoothed)
        self._recovered(source, value, report)
        if deaf:
            return False
        detector = self._detectors.setdefault(source, self._make_detector())
        self._detectors.move_to_end(source)
        if len(self._detectors) > MAX_SOURCES:
            forgotten, _ = self._detectors.popitem(last=False)
            self.confidence.pop(forgotten, None)
        baseline = detector.baseline_db
        signal = detector.update(report.user, 100.0 * value)
        if signal is None or (source.what == "labels" and signal.drop_db < LEAST_LABEL_DROP):
            return False
        if not self._planner.on_alignment_drift(source.group, report.adapter, self._clock()):
            return False
        during = (baseline - signal.drop_db) / 100.0
        self.recoveries[source.group] = Recovery(source, report.adapter, baseline / 100.0, during)
        self._metrics.show(self.recoveries[source.group])
        self._status.metrics.drifts.labels(source.group).inc()
        self._status.events.add(
            "alignment_drift",
            f"{source.group}: {source.what} of {source.encoder} fell by {signal.drop_db:.0f} points",
            group=source.group,
            encoder=source.encoder,
            what=source.what,
            drop=round(signal.drop_db / 100.0, 3),
            samples=signal.samples,
            detector=signal.detector,
            choice=self._planner.plan(source.group).choice,
        )
        return True

    def parents(self) -> dict[tuple[str, str], int]:
        """(group, adapter) -> version in force, of the plans that name one."""
        found = {}
        for plan in self._planner.plans.values():
            for adapter in plan.adapters:
                served = [link.adapters.version_for(plan.group, adapter) for link in self._sites.values()]
                versions = [adapter_.version for adapter_ in served if adapter_ is not None]
                if versions:
                    found[plan.group, adapter] = max(versions)
        return found

    def begin(self, group: str, job: AdapterJob) -> None:
        """A federated update begins."""
        users = {name: link.alignment.users_of(group, job.adapter) for name, link in self._sites.items()}
        clients = {name: link.client for name, link in self._sites.items()}
        self._updates[job.job] = FederatedUpdate(job, users, clients, self._rounds, self._clock)
        count = sum(len(names) for names in users.values())
        self._status.events.add(
            "round_started",
            f"{group}: adapter {job.adapter} {job.parent_version} -> {job.new_version}, {count} users of "
            f"{len(self._updates[job.job].parts)} sites",
            group=group,
            job=job.job,
            adapter=job.adapter,
            version=job.new_version,
            sites=sorted(self._updates[job.job].parts),
        )

    async def train(self, job: AdapterJob) -> Outcome | None:
        """Work on a federated update; its outcome once it has ended."""
        update = self._updates.get(job.job)
        if update is None:
            return Outcome(failed="the update is not known any more")
        outcome = await update.step()
        if outcome is not None and not outcome.failed:
            self._outcomes[job.job] = outcome
            text = f"parts of {', '.join(outcome.sites)}; measured at {outcome.site}"
            left_out = f"; left out: {'; '.join(outcome.refused)[:200]}" if outcome.refused else ""
            self._status.events.add("round_done", f"adapter {job.adapter}: {text}{left_out}", job=job.job)
        return outcome

    def progress(self, job: AdapterJob) -> float:
        """0..1."""
        return self._updates[job.job].progress if job.job in self._updates else 0.0

    async def judged(self, job: AdapterJob) -> tuple[Verdict, BundleManifest | None, dict[str, bytes]]:
        """The candidate and the gate's word on it.

        Raises:
            RuntimeUnavailable: its site is away.
        """
        outcome = self._outcomes[job.job]
        link = self._sites[outcome.site]
        try:
            manifest, files = await link.client.candidate(outcome.job)
        except (CandidateError, RuntimeRefused) as error:
            return Verdict(False, str(error)), None, {}
        parent = link.adapters.adapters.get((job.adapter, job.parent_version))
        verdict = gate_adapter(
            manifest, job, skb_sha256=parent.skb_sha256 if parent else "", min_gain_rsum=self._min_gain_rsum
        )
        return verdict, manifest, files

    def rolled_out(self, rollout: Rollout) -> None:
        """An adapter has reached everybody in a group: baselines are learned anew, recovery is measured."""
        for source in [source for source in self._detectors if source.group == rollout.group]:
            del self._detectors[source]
        recovery = self.recoveries.get(rollout.group)
        if recovery is not None and recovery.adapter == rollout.family:
            recovery.version, recovery.total, recovery.reports = rollout.version, 0.0, 0

    def forget(self, job: str) -> None:
        """The job has come to an end."""
        self._updates.pop(job, None)
        self._outcomes.pop(job, None)

    def view(self) -> dict[str, Any]:
        """For people: what is measured now, and how the latest updates went."""
        return {
            "sources": [
                {
                    "group": source.group,
                    "encoder": source.encoder,
                    "what": source.what,
                    "value": round(value, 4),
                }
                for source, value in sorted(self.confidence.items(), key=lambda entry: entry[0])
            ],
            "recoveries": [
                {
                    "group": group,
                    "encoder": recovery.source.encoder,
                    "what": recovery.source.what,
                    "adapter": recovery.adapter,
                    "version": recovery.version or None,
                    "before": round(recovery.before, 4),
                    "during": round(recovery.during, 4),
                    "after": None if recovery.after is None else round(recovery.after, 4),
                }
                for group, recovery in sorted(self.recoveries.items())
            ],
        }

    def _recovered(self, source: Source, value: float, report: AlignmentReport) -> None:
        recovery = self.recoveries.get(source.group)
        if recovery is None or recovery.source != source or recovery.after is not None:
            return
        if not recovery.version or (report.adapter, report.adapter_version) != (
            recovery.adapter,
            recovery.version,
        ):
            return
        recovery.total += value
        recovery.reports += 1
        if recovery.after is None:
            return
        self._metrics.show(recovery)
        self._status.events.add(
            recovery.kind,
            f"{source.group}: {source.what} of {source.encoder} {recovery.before:.2f} before the drift, "
            f"{recovery.during:.2f} in it, {recovery.after:.2f} with {recovery.adapter} {recovery.version}",
            group=source.group,
            encoder=source.encoder,
            before=round(recovery.before, 4),
            during=round(recovery.during, 4),
            after=round(recovery.after, 4),
            version=recovery.version,
        )


class _Gauges:
    def __init__(self, registry: CollectorRegistry) -> None:
        self.alignment = Gauge(
            "semcom_xapp_alignment_ratio",
            "Smoothed alignment confidence or label consistency, 0..1",
            ["group", "encoder", "what"],
            registry=registry,
        )
        self._recovery = Gauge(
            "semcom_xapp_alignment_recovery_ratio",
            "Confidence around a group's latest adapter update (before, during, after the drift)",
            ["group", "phase"],
            registry=registry,
        )

    def show(self, recovery: Recovery) -> None:
        phases = {"before": recovery.before, "during": recovery.during, "after": recovery.after}
        for phase, value in phases.items():
            if value is not None:
                self._recovery.labels(recovery.source.group, phase).set(value)
