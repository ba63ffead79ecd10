"""Does the I/O of the update plans: submits jobs, gates candidates, publishes them, has them rolled out.

One loop, woken by drift and training reports or by time. A step that meets an unreachable runtime stays where
it is and is tried again at the next round, until the planner's time limit fails it.

A group is trained for at one site, the one with most of the users that show the drift: their pictures are
there and stay there. The version then goes to every site by way of the roll-out.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import time
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Literal

import numpy as np

from codec_runtime.contract.alignment import AlignmentReport
from codec_runtime.contract.bundle import BundleManifest
from codec_runtime.contract.telemetry import QualityReport, TrainingReport
from codec_runtime.contract.updates import TrainingJob
from xapp.delivery.repository import TufRepository
from xapp.rollout.driver import RolloutDriver
from xapp.rollout.orders import RolloutConflictError, RolloutOrder
from xapp.rollout.state import Phase, Rollout
from xapp.runtime_client import CandidateError, RuntimeRefused, RuntimeUnavailable
from xapp.sites import SiteLink
from xapp.status import Status
from xapp.telemetry.user_table import UNKNOWN_GROUP, UserTable
from xapp.updates.alignment import AlignmentUpdates
from xapp.updates.candidates import Verdict, gate
from xapp.updates.drift import GroupDriftDetector
from xapp.updates.federation import RoundSettings
from xapp.updates.planner import AdapterJob, Failure, GroupPlan, Job, Stage, UpdatePlanner, adapter_key

_log = logging.getLogger(__name__)

_POLL_JOB_S = 2.0


class UpdateCoordinator:
    """See the module docstring.

    Args:
        sites: by name. repository: signs and keeps bundles. planner, table, status: shared state.
        rollouts: deliver accepted candidates in stages.
        make_detector: a fresh drift detector for a group.
        rounds: of federated updates. min_gain_rsum: of an adapter on held-out pairs.
        clock: monotonic seconds.

    Attributes:
        alignment: the adapters' part.
    """

    def __init__(
        self,
        sites: Mapping[str, SiteLink],
        repository: TufRepository,
        planner: UpdatePlanner,
        table: UserTable,
        status: Status,
        *,
        rollouts: RolloutDriver,
        make_detector: Callable[[], GroupDriftDetector],
        rounds: RoundSettings | None = None,
        min_gain_rsum: float = 0.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._sites = sites
        self._repository = repository
        self._planner = planner
        self._table = table
        self._status = status
        self._rollouts = rollouts
        self._make_detector = make_detector
        self._clock = clock
        self.detectors: dict[str, GroupDriftDetector] = {}
        self.alignment = AlignmentUpdates(
            sites,
            planner,
            table,
            status,
            make_detector=make_detector,
            rounds=rounds or RoundSettings(),
            min_gain_rsum=min_gain_rsum,
            clock=clock,
        )
        self._submitted: set[str] = set()
        self._polled = -math.inf
        self._trains_at: dict[str, SiteLink] = {}
        self._rolling: dict[str, str] = {}
        self._candidates: dict[str, tuple[BundleManifest, dict[str, bytes]]] = {}
        self._wake = asyncio.Event()
        rollouts.ended = self._rollout_ended
        for bundle in repository.bundles():
            kind, family, version = bundle.split("/")
            planner.note_version(adapter_key(family) if kind == "adapter" else family, int(version))

    def on_quality(self, report: QualityReport, expected_psnr_db: float, row: int) -> None:
        """Fold a measured transmission into its group's drift detector."""
        group = self._table.group_name(row)
        trains_at = self._trains_at.get(group)
        if trains_at is not None and trains_at.index == self._table.site[row]:
            self._planner.on_picture(group)
        if group == UNKNOWN_GROUP or not math.isfinite(expected_psnr_db):
            return
        if self._rollouts.on_trial(report.user):
            return  # what a version on trial changes is for the roll-out's gates to say
        detector = self.detectors.get(group)
        if detector is None:
            detector = self.detectors[group] = self._make_detector()
        signal = detector.update(report.user, report.psnr_db - expected_psnr_db)
        if signal is None or self._rollouts.busy(group):
            return  # a roll-out, an operator's too, would refuse another one
        link, families, users = self._drifting(group)
        if not self._planner.on_drift(group, families, users, self._clock(), signal.drop_db):
            return  # an update is under way or was, a moment ago
        self._trains_at[group] = link
        self._status.metrics.drifts.labels(group).inc()
        self._status.events.add(
            "drift_detected",
            f"{group}: quality {signal.drop_db:.1f} dB below what channel and rate explain",
            group=group,
            drop_db=round(signal.drop_db, 2),
            samples=signal.samples,
            detector=signal.detector,
            site=link.name,
        )
        self._wake.set()

    def on_alignment(self, report: AlignmentReport, site: int) -> None:
        """Fold aligned samples of a user into its group's drift detectors; ``site``: index in the table."""
        row = self._table.row(report.user)
        if row is None:
            return
        group = self._table.group_name(row)
        deaf = self._rollouts.busy(group) or self._rollouts.on_trial(report.user, "adapter")
        if self.alignment.on_report(report, deaf=deaf):
            self._wake.set()

    def on_training(self, report: TrainingReport) -> None:
        """Fold the state of a training job."""
        outcome = self._planner.on_training(report, self._clock())
        if isinstance(outcome, Failure):
            self._failed(outcome)
        self._wake.set()

    async def run(self, period_s: float = 0.5) -> None:
        """Work on the plans until cancelled."""
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(period_s):
                    await self._wake.wait()
            self._wake.clear()
            await self._round()

    async def _round(self) -> None:
        now = self._clock()
        for failure in self._planner.tick(now):
            self._failed(failure)
        waiting = [plan for plan in self._planner.plans.values() if plan.stage is Stage.DRIFTED]
        if waiting:
            started = self._planner.next_job(self._parents(waiting), now, self.alignment.parents())
            if started is not None and isinstance(started[1], AdapterJob):
                self.alignment.begin(started[0], started[1])
            elif started is not None and isinstance(started[1], TrainingJob):
                group, job = started[0], started[1]
                self._status.events.add(
                    "job_started",
                    f"{group}: fine-tuning {job.decoder} {job.parent_version} -> {job.new_version}",
                    group=group,
                    job=job.job,
                    decoder=job.decoder,
                    version=job.new_version,
                    site=self._trains_at[group].name,
                )
        for plan in list(self._planner.plans.values()):
            if plan.job is not None:
                await self._advance(plan, plan.job, now)

    async def _advance(self, plan: GroupPlan, job: Job, now: float) -> None:
        """The next step of a plan; what goes wrong with it is no matter of the others."""
        try:
            if plan.stage is Stage.TRAINING:
                if isinstance(job, AdapterJob):
                    await self._train_adapter(plan, job)
                else:
                    await self._watch(self._trains_at[plan.group], job, now)
            if plan.stage is Stage.GATING:
                if isinstance(job, AdapterJob):
                    await self._gate_adapter(plan, job)
                else:
                    await self._gate(plan, job)
            if plan.stage is Stage.DELIVERING:
                await self._deliver(plan, job)
        except RuntimeUnavailable as error:
            _log.warning("update step waits for the runtime", extra={"job": job.job, "reason": str(error)})
        except (RuntimeRefused, OSError, RuntimeError, ValueError) as error:
            _log.exception("update step failed", extra={"job": job.job})
            self._fail(job.job, f"{type(error).__name__}: {error}")

    async def _watch(self, site: SiteLink, job: TrainingJob, now: float) -> None:
        """Submit, and poll now and then: the telemetry stream may have lost the report."""
        try:
            if job.job not in self._submitted:
                report = await site.client.submit_job(job)
                self._submitted.add(job.job)
                self._polled = now
            elif now - self._polled >= _POLL_JOB_S:
                self._polled = now
                report = await site.client.job(job.job)
            else:
                return
        except RuntimeRefused as error:
            self._fail(job.job, str(error))
            return
        outcome = self._planner.on_training(report, self._clock())
        if isinstance(outcome, Failure):
            self._failed(outcome)

    async def _gate(self, plan: GroupPlan, job: TrainingJob) -> None:
        site = self._trains_at[plan.group]
        try:
            manifest, files = await site.client.candidate(job.job)
        except (CandidateError, RuntimeRefused) as error:
            self._fail(job.job, str(error), refused=True)
            return
        parent = site.catalog.decoders.get((job.decoder, job.parent_version))
        verdict = gate(
            manifest,
            job,
            encoder_sha256=parent.encoder_sha256 if parent else "",
            min_gain_db=self._planner.settings.min_gain_db,
            reported_gain_db=plan.reported_gain_db,
        )
        if not verdict.accepted:
            self._fail(job.job, verdict.reason, refused=True)
            return
        self._accept(plan, job, verdict, manifest, files)

    async def _train_adapter(self, plan: GroupPlan, job: AdapterJob) -> None:
        outcome = await self.alignment.train(job)
        plan.progress = max(plan.progress, self.alignment.progress(job))
        if outcome is None:
            return
        state: Literal["failed", "succeeded"] = "failed" if outcome.failed else "succeeded"
        self.on_training(
            TrainingReport(job=job.job, time_ns=time.time_ns(), state=state, detail=outcome.failed)
        )

    async def _gate_adapter(self, plan: GroupPlan, job: AdapterJob) -> None:
        verdict, manifest, files = await self.alignment.judged(job)
        if manifest is None or not verdict.accepted:
            self._fail(job.job, verdict.reason, refused=True)
        else:
            self._accept(plan, job, verdict, manifest, files)

    def _accept(
        self, plan: GroupPlan, job: Job, verdict: Verdict, manifest: BundleManifest, files: dict[str, bytes]
    ) -> None:
        if not self._planner.on_accepted(job.job, verdict.gain_db, self._clock()):
            return
        self._candidates[job.job] = (manifest, files)
        self._status.events.add(
            "candidate_gated",
            f"{plan.group}: {manifest.name} {manifest.version} accepted, {verdict.reason}",
            group=plan.group,
            job=job.job,
            gain_db=round(verdict.gain_db, 3),
        )

    async def _deliver(self, plan: GroupPlan, job: Job) -> None:
        """Sign the candidate and begin its roll-out; the rest is :meth:`_rollout_ended`."""
        if job.job in self._rolling:
            return
        manifest, files = self._candidates.pop(job.job)
        # No site is named yet: that is the roll-out's business.
        await self._rollouts.signed.call(self._repository.publish, manifest, files, ())
        drifted_s = time.time() - (self._clock() - plan.drifted_at) - self._planner.settings.drift_lag_s
        adapter = isinstance(job, AdapterJob)
        order = RolloutOrder(
            kind="adapter" if adapter else "decoder",
            group=plan.group,
            family=manifest.name,
            version=job.new_version,
            parent=job.parent_version,
            gain_db=None if adapter else plan.last_gain_db,
            baseline_after_s=drifted_s,
        )
        try:
            self._rolling[job.job] = self._rollouts.start(order).id
        except RolloutConflictError as error:
            self._fail(job.job, str(error))
        await self._rollouts.remember()

    def _rollout_ended(self, rollout: Rollout) -> None:
        """A roll-out, of ours or of an operator, came to an end."""
        job = next((job for job, started in self._rolling.items() if started == rollout.id), None)
        if rollout.phase is not Phase.DONE:
            if job is not None:
                self._fail(job, rollout.history[-1].reason)
            return
        if rollout.kind == "adapter":
            self.alignment.rolled_out(rollout)
        if job is not None:
            self._planner.on_delivered(job, self._clock())
            self._forget(job)
        status = self._status
        status.counters["updates_pushed"] += 1
        status.metrics.updates.labels("activated").inc()
        gain = "" if rollout.gain_db is None else f" (gain {rollout.gain_db:+.2f} dB)"
        status.events.add(
            "update_done",
            f"{rollout.group}: now served by {rollout.family} {rollout.version}{gain}",
            group=rollout.group,
            decoder=rollout.family,
            version=rollout.version,
            parent_version=rollout.parent,
            gain_db=rollout.gain_db,
        )

    def assign(self, site: str, group: str, family: str, version: int) -> None:
        """The group's users of that family at a site get this version from the next decision on."""
        link, gauge = self._sites[site], self._status.metrics.model_version
        old = link.catalog.assigned.get((group, family))
        if old is not None:
            with contextlib.suppress(KeyError):
                gauge.remove(group, family, str(old), link.label)
        link.catalog.assign(group, family, version)
        gauge.labels(group, family, str(version), link.label).set(1)
        if group in self.detectors:
            self.detectors[group].reset()
        table = self._table
        at_site = (table.group == table.groups.index(group)) & (table.site == link.index)
        table.forget_content(np.flatnonzero(at_site))

    def _parents(self, plans: list[GroupPlan]) -> dict[tuple[str, str], int]:
        found = {}
        for plan in plans:
            for family in plan.families:
                decoder = self._trains_at[plan.group].catalog.version_for(plan.group, family)
                if decoder is not None:
                    found[plan.group, family] = decoder.version
        return found

    def _drifting(self, group: str) -> tuple[SiteLink, Counter[str], list[str]]:
        """The site with most users of the group whose pictures were measured, the decoder families in use
        among the group's users there, and those users."""
        table = self._table
        members = table.group == table.groups.index(group)
        measured = members & (table.qualities > 0)

        def count(link: SiteLink) -> int:
            return int((measured & (table.site == link.index)).sum())

        site = max(self._sites.values(), key=count)
        here = table.site == site.index
        families = Counter(
            table.decoders.name(int(index)) for index in table.decoder[members & here] if index >= 0
        )
        return site, families, [table.users[row] for row in np.flatnonzero(measured & here)]

    def _fail(self, job: str, reason: str, *, refused: bool = False) -> None:
        failure = self._planner.fail(job, reason, self._clock())
        if failure is not None:
            self._failed(failure, refused=refused)

    def _failed(self, failure: Failure, *, refused: bool = False) -> None:
        self._forget(failure.job)
        self._status.metrics.updates.labels("refused" if refused else "failed").inc()
        self._status.events.add(
            "candidate_refused" if refused else "update_failed",
            f"{failure.group}: {failure.reason[:300]}",
            group=failure.group,
            job=failure.job,
        )

    def _forget(self, job: str) -> None:
        self._submitted.discard(job)
        self._rolling.pop(job, None)
        self._candidates.pop(job, None)
        self.alignment.forget(job)
