"""Does the I/O of the update plans: submits jobs, fetches and gates candidates, signs, pushes, assigns.

One loop, woken by drift and training reports or by time. A step that meets an unreachable runtime stays where
it is and is tried again at the next round, until the planner's time limit fails it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import time
from collections import Counter
from collections.abc import Callable

import numpy as np

from codec_runtime.contract.bundle import BundleManifest
from codec_runtime.contract.telemetry import QualityReport, TrainingReport
from codec_runtime.contract.updates import ActivationReport, TrainingJob
from xapp.delivery.push import PushReport, push
from xapp.delivery.repository import TufRepository
from xapp.policy.catalog import DecoderCatalog
from xapp.runtime_client import CandidateError, RuntimeClient, RuntimeRefused, RuntimeUnavailable
from xapp.status import Status
from xapp.telemetry.user_table import UNKNOWN_GROUP, UserTable
from xapp.updates.drift import GroupDriftDetector
from xapp.updates.planner import Failure, GroupPlan, Stage, UpdatePlanner, gate

_log = logging.getLogger(__name__)

_POLL_JOB_S = 2.0
_RECONCILE_S = 3.0


class UpdateCoordinator:
    """See the module docstring.

    Args:
        client: the site. repository: signs and keeps bundles. planner, catalog, table, status: shared state.
        make_detector: a fresh drift detector for a group.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        client: RuntimeClient,
        repository: TufRepository,
        planner: UpdatePlanner,
        catalog: DecoderCatalog,
        table: UserTable,
        status: Status,
        *,
        make_detector: Callable[[], GroupDriftDetector],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._client = client
        self._repository = repository
        self._planner = planner
        self._catalog = catalog
        self._table = table
        self._status = status
        self._make_detector = make_detector
        self._clock = clock
        self.detectors: dict[str, GroupDriftDetector] = {}
        self._submitted: set[str] = set()
        self._polled = -math.inf
        self._reconciled = -math.inf
        self._published: dict[str, str] = {}
        self._candidates: dict[str, tuple[BundleManifest, dict[str, bytes]]] = {}
        self._wake = asyncio.Event()
        for bundle in repository.bundles():
            _, family, version = bundle.split("/")
            planner.note_version(family, int(version))

    def on_quality(self, report: QualityReport, expected_psnr_db: float, row: int) -> None:
        """Fold a measured transmission into its group's drift detector."""
        group = self._table.group_name(row)
        if group == UNKNOWN_GROUP or not math.isfinite(expected_psnr_db):
            return
        detector = self.detectors.get(group)
        if detector is None:
            detector = self.detectors[group] = self._make_detector()
        signal = detector.update(report.user, report.psnr_db - expected_psnr_db)
        if signal is None:
            return
        families, users = self._group_members(group)
        if not self._planner.on_drift(group, families, users, self._clock(), signal.drop_db):
            return  # an update is under way or was, a moment ago
        self._status.metrics.drifts.labels(group).inc()
        self._status.events.add(
            "drift_detected",
            f"{group}: quality {signal.drop_db:.1f} dB below what channel and rate explain",
            group=group,
            drop_db=round(signal.drop_db, 2),
            samples=signal.samples,
            detector=signal.detector,
        )
        self._wake.set()

    def on_training(self, report: TrainingReport) -> None:
        """Fold the state of a training job."""
        outcome = self._planner.on_training(report, self._clock())
        if isinstance(outcome, Failure):
            self._failed(outcome)
        self._wake.set()

    async def refresh_catalog(self) -> bool:
        """Ask the site what it serves; returns whether that changed.

        Raises:
            RuntimeUnavailable, RuntimeRefused.
        """
        site = await self._client.site()
        for manifest in site.models:
            if manifest.kind == "decoder":
                self._planner.note_version(manifest.name, manifest.version)
        return self._catalog.update(site.models)

    async def run(self, period_s: float = 0.5) -> None:
        """Work on the plans until cancelled."""
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(period_s):
                    await self._wake.wait()
            self._wake.clear()
            try:
                await self._round()
            except RuntimeUnavailable as error:
                _log.warning("update step waits for the runtime", extra={"reason": str(error)})
                await asyncio.sleep(period_s)
            except (RuntimeRefused, OSError, RuntimeError, ValueError) as error:
                _log.exception("update step failed", extra={"reason": str(error)})
                self._fail_active(f"{type(error).__name__}: {error}")

    async def _round(self) -> None:
        now = self._clock()
        for failure in self._planner.tick(now):
            self._failed(failure)
        waiting = [plan for plan in self._planner.plans.values() if plan.stage is Stage.DRIFTED]
        if waiting:
            started = self._planner.next_job(self._parents(waiting), now)
            if started is not None:
                group, job = started
                self._status.events.add(
                    "job_started",
                    f"{group}: fine-tuning {job.decoder} {job.parent_version} -> {job.new_version}",
                    group=group,
                    job=job.job,
                    decoder=job.decoder,
                    version=job.new_version,
                )
        for plan in list(self._planner.plans.values()):
            job_in_work = plan.job
            if job_in_work is None:
                continue
            if plan.stage is Stage.TRAINING:
                await self._watch(job_in_work, now)
            if plan.stage is Stage.GATING:
                await self._gate(plan, job_in_work)
            if plan.stage is Stage.DELIVERING:
                await self._deliver(plan, job_in_work)
        await self._reconcile(now)

    async def _watch(self, job: TrainingJob, now: float) -> None:
        """Submit, and poll now and then: the telemetry stream may have lost the report."""
        try:
            if job.job not in self._submitted:
                report = await self._client.submit_job(job)
                self._submitted.add(job.job)
                self._polled = now
            elif now - self._polled >= _POLL_JOB_S:
                self._polled = now
                report = await self._client.job(job.job)
            else:
                return
        except RuntimeRefused as error:
            self._fail(job.job, str(error))
            return
        outcome = self._planner.on_training(report, self._clock())
        if isinstance(outcome, Failure):
            self._failed(outcome)

    async def _gate(self, plan: GroupPlan, job: TrainingJob) -> None:
        try:
            manifest, files = await self._client.candidate(job.job)
        except (CandidateError, RuntimeRefused) as error:
            self._fail(job.job, str(error), refused=True)
            return
        parent = self._catalog.decoders.get((job.decoder, job.parent_version))
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
        self._candidates[job.job] = (manifest, files)
        self._planner.on_accepted(job.job, verdict.gain_db, self._clock())
        self._status.events.add(
            "candidate_gated",
            f"{plan.group}: {job.decoder} {job.new_version} accepted, {verdict.reason}",
            group=plan.group,
            job=job.job,
            gain_db=round(verdict.gain_db, 3),
        )

    async def _deliver(self, plan: GroupPlan, job: TrainingJob) -> None:
        if job.job not in self._published:
            manifest, files = self._candidates[job.job]
            self._published[job.job] = await asyncio.to_thread(self._repository.publish, manifest, files)
        report = await self._push([self._published[job.job]])
        if report.activation.outcome == "refused":
            answer = report.activation
            self._status.events.add("site_refused", f"{plan.group}: {answer.error} {answer.detail}")
            self._fail(job.job, f"the site refused: {answer.error} {answer.detail}", refused=True)
            return
        await self.refresh_catalog()
        if (job.decoder, job.new_version) not in self._catalog.decoders:
            self._fail(job.job, f"the site does not serve {job.decoder} {job.new_version} after activation")
            return
        if not self._planner.on_delivered(job.job, self._clock()):
            return
        self._forget(job.job)
        self.assign(plan.group, job.decoder, job.new_version)
        status = self._status
        status.counters["updates_pushed"] += 1
        status.metrics.updates.labels("activated").inc()
        status.events.add(
            "update_done",
            f"{plan.group}: now served by {job.decoder} {job.new_version} (gain {plan.last_gain_db:+.2f} dB)",
            group=plan.group,
            decoder=job.decoder,
            version=job.new_version,
            parent_version=job.parent_version,
            gain_db=plan.last_gain_db,
        )

    async def _push(self, bundles: list[str]) -> PushReport:
        await asyncio.to_thread(self._repository.refresh)
        files = await asyncio.to_thread(self._repository.files)
        report = await push(self._client, files, bundles)
        status, names = self._status, ", ".join(bundles)
        status.counters["bytes_pushed"] += report.bytes_pushed
        status.metrics.bytes_pushed.inc(report.bytes_pushed)
        status.events.add(
            "bundle_pushed",
            f"{names}: {report.bytes_pushed / 1e6:.2f} MB pushed",
            bundles=bundles,
            bytes=report.bytes_pushed,
            targets=report.targets_pushed,
        )
        self._activated(names, report.activation)
        return report

    def _activated(self, names: str, answer: ActivationReport) -> None:
        if answer.outcome != "activated":
            return
        self._status.counters["swaps"] += 1
        self._status.events.add(
            "bundle_swapped",
            f"{names}: swapped in {answer.publish_ms:.2f} ms",
            verify_ms=answer.verify_ms,
            load_ms=answer.load_ms,
            publish_ms=answer.publish_ms,
        )

    async def _reconcile(self, now: float) -> None:
        """Bring back what the site lost, e.g. after it was installed anew."""
        missing = self._catalog.missing()
        if not missing or not self._catalog.decoders or now - self._reconciled < _RECONCILE_S:
            return
        self._reconciled = now
        await self.refresh_catalog()
        known = set(self._repository.bundles())
        missing = self._catalog.missing()
        bundles = sorted({f"decoder/{family}/{version}" for (_, family), version in missing.items()} & known)
        if bundles:
            await self._push(bundles)
            await self.refresh_catalog()

    def assign(self, group: str, family: str, version: int) -> None:
        """The group's users of that family get this version from the next decision on."""
        old = self._catalog.assigned.get((group, family))
        if old is not None:
            with contextlib.suppress(KeyError):
                self._status.metrics.model_version.remove(group, family, str(old))
        self._catalog.assign(group, family, version)
        self._status.metrics.model_version.labels(group, family, str(version)).set(1)
        if group in self.detectors:
            self.detectors[group].reset()
        index = self._table.groups.index(group)
        self._table.forget_content(np.flatnonzero(self._table.group == index))

    def _parents(self, plans: list[GroupPlan]) -> dict[tuple[str, str], int]:
        found = {}
        for plan in plans:
            for family in plan.families:
                decoder = self._catalog.version_for(plan.group, family)
                if decoder is not None:
                    found[plan.group, family] = decoder.version
        return found

    def _group_members(self, group: str) -> tuple[Counter[str], list[str]]:
        table = self._table
        rows = np.flatnonzero(table.group == table.groups.index(group))
        families = Counter(
            table.decoders.name(int(table.decoder[row])) for row in rows if table.decoder[row] >= 0
        )
        return families, [table.users[row] for row in rows if table.qualities[row] > 0]

    def _fail(self, job: str, reason: str, *, refused: bool = False) -> None:
        failure = self._planner.fail(job, reason, self._clock())
        if failure is not None:
            self._failed(failure, refused=refused)

    def _fail_active(self, reason: str) -> None:
        for plan in self._planner.plans.values():
            if plan.job is not None:
                self._fail(plan.job.job, reason)

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
        self._published.pop(job, None)
        self._candidates.pop(job, None)
