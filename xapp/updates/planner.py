"""The plan of codec updates, one state machine a user group. Pure: no I/O, the clock is an argument.

Rules
-----
::

    steady --drift--> drifted --site free--> training --succeeded--> gating --accepted--> delivering

    delivering --next part--> drifted; delivering --last part--> steady
    training, gating, delivering --failed, refused, late--> backoff --time--> steady

- *What* is updated follows from what drifted. PSNR fell below what channel and rate explain, alignment did
  not: the decoders (``decoder``). Alignment confidence or label consistency fell, PSNR did not: the adapter
  (``adapter``), whose frozen encoders see something else now. Both, the second before training for the first
  began: the adapter, which takes seconds, then the decoders (``full``). Devices' encoders stay frozen.
- ``drifted``: for ``collect_s``, and until there are ``min_pictures`` (but at most ``COLLECT_PATIENCE *
  collect_s``), pictures of the new kind gather at the site: a job on a handful of them is refused, and its
  back-off costs more than waiting (an adapter waits for ``collect_s`` alone). Then the families of the group
  wait for the training slot (one job at a time), the group with the largest drop and its most used family
  first.
- ``training``: a job runs at the site. No end within ``job_timeout_s`` counts as a failure.
- ``gating``: the candidate is fetched and judged (:func:`gate`), within ``step_timeout_s``; ``delivering``:
  signed and rolled out in stages, for as long as the roll-out takes (:mod:`xapp.rollout`): it has limits of
  its own, and an operator may pause it.
- ``backoff``: a failure waits ``cooldown_s * 2 ** attempt`` (at most ``backoff_max_s``) and goes back to
  ``steady``; only drift that is still seen starts the next attempt. A refused candidate counts as a failure:
  the update did not help, an immediate repetition would not either.
- A delivered part gives way to the next waiting one of the group; after the last the group is ``steady``,
  and deaf to drift for ``cooldown_s`` while its baselines are learned anew.
- An answer that names another job than the group's current one is ignored: late answers cannot move a plan.
- A version number is used once, also when its candidate fails.
- A restart of the xApp forgets jobs in progress (drift will be seen again), not versions and cool-downs.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final, Literal

from codec_runtime.contract.telemetry import TrainingReport
from codec_runtime.contract.updates import TrainingJob

COLLECT_PATIENCE: Final = 4.0


class Stage(StrEnum):
    """States of a group (module docstring)."""

    STEADY = "steady"
    DRIFTED = "drifted"
    TRAINING = "training"
    GATING = "gating"
    DELIVERING = "delivering"
    BACKOFF = "backoff"


@dataclass(frozen=True, slots=True)
class PlannerSettings:
    """Durations in seconds, see the rules; drift_lag_s: a drift began about so long before it was noticed;
    min_pictures: measured at the site since then."""

    budget_s: float = 12.0
    job_timeout_s: float = 78.0
    step_timeout_s: float = 60.0
    collect_s: float = 3.0
    min_pictures: int = 16
    drift_lag_s: float = 2.0
    cooldown_s: float = 20.0
    backoff_max_s: float = 300.0
    min_gain_db: float = 0.1


@dataclass(frozen=True, slots=True)
class AdapterJob:
    """A federated update of an adapter among all sites that have users of the group.

    Attributes:
        adapter, parent_version: what to update; new_version: of the candidate.
        max_age_s: samples aligned longer ago show what was before the drift.
    """

    job: str
    adapter: str
    parent_version: int
    new_version: int
    max_age_s: float


Job = TrainingJob | AdapterJob
Choice = Literal["", "adapter", "decoder", "full"]


@dataclass(slots=True)
class GroupPlan:
    """Where a group stands.

    Attributes:
        adapters, families: adapters and decoder families still to update; the first one is in work.
        choice: what the drift asks for (the module's rules).
        job: the current training job; since: when the stage was entered, s.
        drop_db: how far quality fell. pictures: measured at the training site since the drift.
        drifted_at: when the drift now being worked on was first noticed, s; kept over failed attempts.
        not_before: drift is ignored before that, s. attempt: failures since the last success.
    """

    group: str
    stage: Stage = Stage.STEADY
    adapters: list[str] = field(default_factory=list)
    families: list[str] = field(default_factory=list)
    choice: Choice = ""
    users: list[str] = field(default_factory=list)
    job: Job | None = None
    progress: float = 0.0
    drop_db: float = 0.0
    pictures: int = 0
    since: float = 0.0
    drifted_at: float = 0.0
    not_before: float = 0.0
    attempt: int = 0
    updates: int = 0
    last_gain_db: float | None = None
    reported_gain_db: float | None = None
    last_gain_rsum: float | None = None


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a plan went to ``backoff``."""

    group: str
    job: str
    reason: str


class UpdatePlanner:
    """Plans of all groups (module docstring).

    Args:
        settings: durations and the gate.
        issuer: makes job ids unique across restarts of the xApp; ``[A-Za-z0-9._-]``.
    """

    def __init__(self, settings: PlannerSettings, issuer: str) -> None:
        self.settings = settings
        self.plans: dict[str, GroupPlan] = {}
        self._issuer = issuer
        self._jobs = 0
        self._highest: dict[str, int] = {}

    def plan(self, group: str) -> GroupPlan:
        """Plan of a group, steady if it is new."""
        return self.plans.setdefault(group, GroupPlan(group))

    def note_version(self, family: str, version: int) -> None:
        """A version of a family exists (served, signed or tried), so that a new one gets a higher number."""
        self._highest[family] = max(self._highest.get(family, 0), version)

    def on_drift(
        self, group: str, families: Counter[str], users: Sequence[str], now: float, drop_db: float = 0.0
    ) -> bool:
        """Drift of a group; returns whether a plan began.

        Args:
            families: decoder families in use in the group, with their number of users.
            users: whose recent pictures show the drift.
            drop_db: how far quality fell, dB.
        """
        plan = self.plan(group)
        if not families or not users or plan.families or not self._listens(plan, now):
            return False
        plan.families = [family for family, _ in families.most_common()]
        plan.users = list(users)
        plan.drop_db = drop_db
        self._drifted(plan, "decoder", now)
        return True

    def on_alignment_drift(self, group: str, adapter: str, now: float) -> bool:
        """Drift of a group's alignment through an adapter; returns whether a plan began or became wider."""
        plan = self.plan(group)
        if plan.adapters or not self._listens(plan, now):
            return False
        plan.adapters = [adapter]
        self._drifted(plan, "adapter", now)
        return True

    def on_picture(self, group: str) -> None:
        """A picture of the group was measured at the site that trains for it."""
        self.plan(group).pictures += 1

    def next_job(
        self,
        parents: Mapping[tuple[str, str], int],
        now: float,
        adapters: Mapping[tuple[str, str], int] | None = None,
    ) -> tuple[str, Job] | None:
        """Start the next waiting job if the site is free.

        Args:
            parents: (group, family) -> version in force; adapters: the same of adapters.

        Returns:
            (group, job), or None.
        """
        busy = any(plan.stage in (Stage.TRAINING, Stage.GATING) for plan in self.plans.values())
        waiting = [
            plan
            for plan in self.plans.values()
            if plan.stage is Stage.DRIFTED and self._collected(plan, now - plan.since)
        ]
        if busy or not waiting:
            return None
        plan = max(waiting, key=lambda p: (p.drop_db, -p.since))
        aligned = adapters or {}
        plan.adapters = [adapter for adapter in plan.adapters if (plan.group, adapter) in aligned]
        if plan.adapters:
            return self._train(plan, self._adapter_job(plan, aligned, now), now)
        while plan.families and (plan.group, plan.families[0]) not in parents:
            plan.families.pop(0)  # no longer served
        if not plan.families:
            self._enter(plan, Stage.STEADY, now)
            return None
        family = plan.families[0]
        parent = parents[plan.group, family]
        job = TrainingJob(
            job=self._new_id(),
            users=plan.users,
            decoder=family,
            parent_version=parent,
            new_version=self._new_version(family, parent),
            budget_s=self.settings.budget_s,
            max_age_s=now - plan.drifted_at + self.settings.drift_lag_s,
        )
        return self._train(plan, job, now)

    def on_training(self, report: TrainingReport, now: float) -> GroupPlan | Failure | None:
        """State of a job. Returns the plan when its candidate can be fetched, the failure, or None."""
        plan = self._of_job(report.job)
        if plan is None or plan.stage is not Stage.TRAINING:
            return None
        plan.progress = max(plan.progress, report.progress)
        if report.state == "failed":
            return self.fail(report.job, report.detail or "the training job failed", now)
        if report.state == "succeeded":
            plan.progress = 1.0
            plan.reported_gain_db = report.heldout_gain_db
            self._enter(plan, Stage.GATING, now)
            return plan
        return None

    def on_accepted(self, job: str, gain: float, now: float) -> bool:
        """The candidate passed the gate, with a gain in dB or, of an adapter, in RSUM; returns False for an
        answer that came too late."""
        plan = self._of_job(job)
        if plan is None or plan.stage is not Stage.GATING:
            return False
        if isinstance(plan.job, AdapterJob):
            plan.last_gain_rsum = gain
        else:
            plan.last_gain_db = gain
        self._enter(plan, Stage.DELIVERING, now)
        return True

    def on_delivered(self, job: str, now: float) -> bool:
        """The site serves the new version; returns False for an answer that came too late."""
        plan = self._of_job(job)
        if plan is None or plan.stage is not Stage.DELIVERING:
            return False
        (plan.adapters if isinstance(plan.job, AdapterJob) else plan.families).pop(0)
        plan.job = None
        plan.attempt = 0
        plan.updates += 1
        plan.not_before = now + self.settings.cooldown_s
        self._enter(plan, Stage.DRIFTED if plan.adapters or plan.families else Stage.STEADY, now)
        return True

    def fail(self, job: str, reason: str, now: float) -> Failure | None:
        """The job's plan failed; None when the job is not current."""
        plan = self._of_job(job)
        if plan is None:
            return None
        wait = min(self.settings.cooldown_s * 2**plan.attempt, self.settings.backoff_max_s)
        plan.attempt += 1
        plan.job = None
        plan.adapters, plan.families = [], []
        plan.not_before = now + wait
        self._enter(plan, Stage.BACKOFF, now)
        return Failure(plan.group, job, reason)

    def tick(self, now: float) -> list[Failure]:
        """Let time pass: time-outs fail, back-offs end. Returns the failures."""
        failures: list[Failure] = []
        for plan in self.plans.values():
            if plan.stage is Stage.BACKOFF and now >= plan.not_before:
                self._enter(plan, Stage.STEADY, now)
            limit = {
                Stage.TRAINING: self.settings.job_timeout_s,
                Stage.GATING: self.settings.step_timeout_s,
            }.get(plan.stage)
            if limit is not None and now - plan.since > limit and plan.job is not None:
                failure = self.fail(plan.job.job, f"{plan.stage}: no end within {limit:.0f} s", now)
                if failure is not None:
                    failures.append(failure)
        return failures

    def snapshot(self, now: float) -> dict[str, Any]:
        """What survives a restart, as plain values; times relative to ``now``."""
        return {
            "highest": dict(self._highest),
            "groups": {
                group: {
                    "wait_s": max(plan.not_before - now, 0.0),
                    "attempt": plan.attempt,
                    "updates": plan.updates,
                    "last_gain_db": plan.last_gain_db,
                }
                for group, plan in self.plans.items()
            },
        }

    def restore(self, snapshot: Mapping[str, Any], now: float) -> None:
        """Inverse of :meth:`snapshot`. Raises: KeyError, TypeError, ValueError for another shape."""
        for family, version in snapshot["highest"].items():
            self.note_version(str(family), int(version))
        for group, values in snapshot["groups"].items():
            plan = self.plan(str(group))
            plan.not_before = now + float(values["wait_s"])
            plan.attempt, plan.updates = int(values["attempt"]), int(values["updates"])
            plan.drifted_at = now
            gain = values["last_gain_db"]
            plan.last_gain_db = None if gain is None else float(gain)

    def _listens(self, plan: GroupPlan, now: float) -> bool:
        """A group at rest, or one whose samples gather before its first training."""
        if plan.stage is Stage.STEADY:
            return now >= plan.not_before
        return plan.stage is Stage.DRIFTED and plan.choice != "full" and now >= plan.not_before

    def _drifted(self, plan: GroupPlan, choice: Choice, now: float) -> None:
        if plan.stage is Stage.DRIFTED:
            plan.choice = "full"
            return
        plan.choice = choice
        if plan.attempt == 0:
            plan.drifted_at, plan.pictures = now, 0
        self._enter(plan, Stage.DRIFTED, now)

    def _adapter_job(self, plan: GroupPlan, parents: Mapping[tuple[str, str], int], now: float) -> AdapterJob:
        adapter = plan.adapters[0]
        parent = parents[plan.group, adapter]
        version = self._new_version(adapter_key(adapter), parent)
        age_s = now - plan.drifted_at + self.settings.drift_lag_s
        return AdapterJob(self._new_id(), adapter, parent, version, age_s)

    def _new_version(self, key: str, parent: int) -> int:
        self.note_version(key, parent)
        self._highest[key] += 1
        return self._highest[key]

    def _new_id(self) -> str:
        self._jobs += 1
        return f"{self._issuer}-{self._jobs}"

    def _train(self, plan: GroupPlan, job: Job, now: float) -> tuple[str, Job]:
        plan.job, plan.progress = job, 0.0
        self._enter(plan, Stage.TRAINING, now)
        return plan.group, job

    def _collected(self, plan: GroupPlan, waited_s: float) -> bool:
        enough = bool(plan.adapters) or plan.pictures >= self.settings.min_pictures
        return waited_s >= self.settings.collect_s * (1.0 if enough else COLLECT_PATIENCE)

    def _of_job(self, job: str) -> GroupPlan | None:
        for plan in self.plans.values():
            if plan.job is not None and plan.job.job == job:
                return plan
        return None

    @staticmethod
    def _enter(plan: GroupPlan, stage: Stage, now: float) -> None:
        plan.stage, plan.since = stage, now


def adapter_key(name: str) -> str:
    """What version numbers of an adapter are counted under."""
    return f"adapter/{name}"
