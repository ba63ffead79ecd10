"""Drives the roll-outs: reads gates, signs, pushes, sets canaries, remembers; operators' commands come here.

One loop. What it does in a round follows from the saved values (:mod:`xapp.rollout.state`) alone, and every
action can be repeated; pushes run beside it (:mod:`xapp.rollout.pushes`), so that a slow site holds up
neither gates nor rollbacks. Roll-outs of different groups go on at the same time; of one group and family
there is one.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import secrets
import time
from collections.abc import Callable, Mapping, Sequence

from codec_runtime.contract.telemetry import FailureReport, QualityReport
from xapp.delivery.repository import TufRepository
from xapp.persistence import KeyValueStore
from xapp.rollout import actions, moves
from xapp.rollout.actions import Delivery, RolloutSite, SignedAssignments, SiteOutcome, catalog_of
from xapp.rollout.announce import tell_outcome, tell_phase
from xapp.rollout.evidence import Evidence
from xapp.rollout.gates import GateSettings, judge
from xapp.rollout.memory import RolloutMemory, bounded
from xapp.rollout.metrics import RolloutMetrics
from xapp.rollout.observations import Observations
from xapp.rollout.orders import RolloutConflictError, RolloutOrder, UpdatedKind
from xapp.rollout.plan import Member, PlanSettings, order_members, plan_stages
from xapp.rollout.pushes import SitePushes
from xapp.rollout.state import FINAL, Phase, Rollout, SiteStanding, intent, needs_too
from xapp.status import Status

_log = logging.getLogger(__name__)

STUCK_RETRY_S = 5.0, 60.0
SAVE_S = 2.0


class RolloutDriver:
    """See the module docstring.

    Args:
        sites: by name. repository: signed bundles. store: shared data layer. status: events and metrics.
        plan, gates: settings of roll-outs that begin from now on. delivery: how pushes are done.
        alignment_gates: of adapters. population: users concerned, by site.
        assign: called with site, group, family, version of a decoder: all users of the group there get it.
        switched: called with users whose version changes within a trial.
        clock: wall clock, s.

    Attributes:
        ended: called with each roll-out that comes to an end, or goes on from one.
        evidence: what is measured of those in progress.
    """

    def __init__(
        self,
        sites: Mapping[str, RolloutSite],
        repository: TufRepository,
        store: KeyValueStore,
        status: Status,
        plan: PlanSettings,
        gates: GateSettings,
        *,
        alignment_gates: GateSettings | None = None,
        population: Callable[[RolloutOrder], Mapping[str, Sequence[str]]],
        assign: Callable[[str, str, str, int], None],
        switched: Callable[[list[str]], None] = lambda users: None,
        delivery: Delivery | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.signed = SignedAssignments(repository)
        self.delivery = delivery or Delivery()
        self.metrics = RolloutMetrics(status.metrics.registry)
        self.ended: Callable[[Rollout], None] = lambda rollout: None
        self.evidence = Evidence(sites)
        self._sites = sites
        self._memory = RolloutMemory(store)
        self._status = status
        self._plan = plan
        self._gates = gates
        self._alignment_gates = alignment_gates or gates
        self._population = population
        self._assign = assign
        self._switched = switched
        self._clock = clock
        self._rollouts: dict[str, Rollout] = {}
        self._pushes = SitePushes(
            sites, self.signed, self.delivery, clock, remember=self.remember, answered=self._site_answered
        )
        self._stuck: dict[str, tuple[float, float]] = {}
        self._saved_s = 0.0
        self._saving = asyncio.Lock()
        self._dirty = False
        self._wake = asyncio.Event()

    @property
    def rollouts(self) -> list[Rollout]:
        """All that are remembered, oldest first."""
        return list(self._rollouts.values())

    def get(self, rollout_id: str) -> Rollout | None:
        """By its id."""
        return self._rollouts.get(rollout_id)

    def current(self, group: str, family: str) -> Rollout | None:
        """The newest of a group and family."""
        found = [r for r in self._rollouts.values() if (r.group, r.family) == (group, family)]
        return found[-1] if found else None

    def busy(self, group: str) -> bool:
        """Whether a version is on its way to a group, or back."""
        return any(r.active and r.group == group for r in self._rollouts.values())

    def takes_back(self, group: str, family: str, version: int) -> bool:
        """Whether a version must not be brought to the group's sites again; also while that is not known."""
        newest = self.current(group, family)
        taken = newest is not None and newest.phase in (Phase.ROLLING_BACK, Phase.ROLLED_BACK)
        return not self._memory.looked or (taken and newest is not None and newest.version == version)

    def version_of(self, group: str, family: str) -> int | None:
        """What the group's users of that decoder family have now, where they are not on trial."""
        for site in self._sites.values():
            served = site.catalog.version_for(group, family)
            if served is not None:
                return int(served.version)
        return None

    def on_trial(self, user: str, kind: UpdatedKind = "decoder") -> bool:
        """Whether the user has another version than its group: its quality says nothing about the content."""
        for rollout_id, observations in self.evidence.observations.items():
            rollout = self._rollouts.get(rollout_id)
            if rollout is not None and rollout.kind == kind and any(
                user in records and records[user].rank < rollout.treated
                for records in observations.users.values()
            ):
                return True
        return False

    def start(self, order: RolloutOrder) -> Rollout:
        """Begin; the loop does the rest.

        Raises:
            RolloutConflictError: see there.
        """
        before = self.current(order.group, order.family)
        if before is not None and before.active:
            raise RolloutConflictError(
                f"roll-out {before.id} of {before.bundle} to {order.group} is {before.phase}: one at a time"
            )
        if before is not None and before.kind != order.kind:
            raise RolloutConflictError(f"{order.family} is the name of bundles of kind {before.kind}")
        if order.version == order.parent:
            raise RolloutConflictError(f"{order.group} has version {order.version} of {order.family} already")
        catalogs = (catalog_of(site, order.kind) for site in self._sites.values())
        if not any(catalog.serves(order.family, order.parent) for catalog in catalogs):
            raise RolloutConflictError(f"no site serves {order.family} {order.parent}, the parent")
        rollout_id = secrets.token_hex(4)
        population = self._population(order)
        everybody = [Member(site, user) for site, users in population.items() for user in users]
        known = {
            member
            for member in everybody
            if self.evidence.known(member, order.family, order.parent, order.baseline_after_s)
        }
        members, at_first = order_members(population, rollout_id, self._plan.canary_sites, known)
        rollout = Rollout(
            id=rollout_id,
            group=order.group,
            family=order.family,
            version=order.version,
            parent=order.parent,
            bundle=order.bundle,
            started_s=self._clock(),
            members=members,
            stages=plan_stages(self._plan, len(members), at_first),
            # Those without such users too: they come there by a handover.
            sites={site: SiteStanding() for site in sorted(self._sites)},
            gates=self._gates if order.kind == "decoder" else self._alignment_gates,
            gain_db=order.gain_db,
        )
        self.evidence.begin(rollout, order.baseline_after_s)
        self._rollouts[rollout.id] = rollout
        self._put(moves.begin(rollout, self._clock()))
        return self._rollouts[rollout.id]

    def command(self, rollout_id: str, what: moves.Command, by: str) -> Rollout:
        """What an operator wants.

        Raises:
            KeyError: there is no such roll-out. IllegalMoveError: the command does not fit its phase.
            RolloutConflictError: a later roll-out of that group and family stands on it.
        """
        rollout = self._rollouts[rollout_id]
        newest = self.current(rollout.group, rollout.family)
        if newest is not None and newest.id != rollout.id:
            raise RolloutConflictError(f"{newest.id} of {newest.bundle} came after it: {what} that one")
        self._put(moves.command(rollout, what, by, self._clock()))
        return self._rollouts[rollout_id]

    def on_quality(self, site: str, report: QualityReport, expected_psnr_db: float) -> None:
        """A transmission was measured; what the surface of the version that restored it lets expect, dB."""
        self.evidence.on_quality(self._rollouts.values(), site, report, expected_psnr_db)

    def on_failure(self, site: str, report: FailureReport) -> None:
        """A transmission gave no picture."""
        self.evidence.on_failure(self._rollouts.values(), site, report)

    async def run(self, period_s: float = 0.25) -> None:
        """Work until cancelled."""
        try:
            while True:
                await self.round()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(period_s):
                        await self._wake.wait()
                self._wake.clear()
        finally:
            self._pushes.cancel()

    async def round(self) -> None:
        """Take over what an earlier process left, do the next step of every roll-out, remember."""
        remembered = await self._memory.load()
        if remembered is not None:
            self._take_over(remembered.rollouts, remembered.observations)
        await self.remember()  # what is begun is known of before it is signed
        for rollout_id in list(self._rollouts):
            not_before, waited_s = self._stuck.get(rollout_id, (-math.inf, 0.0))
            if self._clock() < not_before or rollout_id not in self._rollouts:
                continue
            try:
                await self._step(rollout_id)
                self._stuck.pop(rollout_id, None)
            except Exception as error:  # one that is stuck, by a defect even, holds up no other
                _log.exception("a roll-out is stuck", extra={"rollout": rollout_id})
                if not waited_s:
                    self._status.events.add("rollout_stuck", f"{rollout_id}: {type(error).__name__}: {error}")
                shortest, longest = STUCK_RETRY_S
                wait_s = min(max(2.0 * waited_s, shortest), longest)
                self._stuck[rollout_id] = self._clock() + wait_s, wait_s
                self._give_up(rollout_id, str(error))
        now = self._clock()
        observing = any(r.standing_phase is Phase.OBSERVING for r in self._rollouts.values())
        if observing and now - self._saved_s >= SAVE_S:
            self._saved_s = now
            self._dirty = True
        await self.remember()

    async def remember(self) -> None:
        """Write down what changed; what the store does not take is written later."""
        async with self._saving:  # what changes meanwhile is not taken for written
            if self._dirty:
                self._dirty = False
                written = await self._memory.save(self.rollouts, self.evidence.observations)
                self._dirty = self._dirty or not written

    async def settle(self) -> None:
        """Wait for the pushes in flight."""
        await self._pushes.settle()

    async def _step(self, rollout_id: str) -> None:
        self._notice_losses(self._rollouts[rollout_id])
        rollout = self._rollouts[rollout_id]
        now = self._clock()
        if rollout.phase is Phase.PENDING:
            self._put(moves.begin(rollout, now))
        elif rollout.phase is Phase.PUBLISHING:
            note = await self.signed.call(self.signed.give, sorted(rollout.sites), rollout.bundle)
            self._put(moves.assigned(self._rollouts[rollout_id], note, self._clock()))
        elif rollout.phase is Phase.DELIVERING and self._baselines_suffice(rollout, now):
            self._put(moves.observe(rollout, now))
        elif rollout.standing_phase is Phase.OBSERVING:
            self._look(rollout, now)
        elif rollout.phase is Phase.ROLLING_BACK and not rollout.withdrawal:
            self._pushes.cancel(rollout_id)
            shared = any(needs_too(other, rollout) for other in self.rollouts)
            note, follows = await self.signed.call(self.signed.take, rollout, shared)
            rollout = self._rollouts[rollout_id]
            self._put(moves.withdrawal_signed(rollout, note, withdraws=follows, now_s=self._clock()))
        self._apply(self._rollouts[rollout_id])
        self._begin_pushes(self._rollouts[rollout_id])

    def _notice_losses(self, rollout: Rollout) -> None:
        """A site that serves, but not what it was brought, was installed anew: bring it again."""
        for name, standing in rollout.sites.items():
            site = self._sites.get(name)
            wanted = rollout.active and rollout.phase is not Phase.ROLLING_BACK
            if not wanted or standing.bundle != "delivered" or site is None:
                continue
            if catalog_of(site, rollout.kind).lacks(rollout.family, rollout.version):
                self._put(moves.lost(self._rollouts[rollout.id], name))

    def _look(self, rollout: Rollout, now: float) -> None:
        readings = self.evidence.read(rollout)
        self.metrics.show_gates(rollout, readings)
        observe_s = rollout.stages[rollout.stage].observe_s
        verdict = judge(readings, now - rollout.since_s, observe_s, rollout.gates)
        if verdict.decision != "go_on":
            self._put(moves.judged(rollout, verdict, readings, now))

    def _apply(self, rollout: Rollout) -> None:
        """Bring the catalogs in line with what the newest roll-out of a group and family wants."""
        newest = self.current(rollout.group, rollout.family)
        if newest is None or newest.id != rollout.id:
            return
        for name in rollout.sites:
            site = self._sites.get(name)
            if site is None:
                continue
            wanted = intent(rollout, name)
            catalog = catalog_of(site, rollout.kind)
            assigned = catalog.assigned.get((rollout.group, rollout.family))
            promoted = rollout.phase is Phase.DONE and wanted.assigned == rollout.version
            taken_back = rollout.phase in FINAL | {Phase.ROLLING_BACK} and assigned == rollout.version
            if wanted.assigned != assigned and (promoted or taken_back):
                if rollout.kind == "adapter":
                    catalog.assign(rollout.group, rollout.family, wanted.assigned)
                else:
                    self._assign(name, rollout.group, rollout.family, wanted.assigned)
            users = actions.apply_intent(catalog, rollout, wanted)
            if users and rollout.kind == "decoder":
                self._switched(users)

    def _begin_pushes(self, rollout: Rollout) -> None:
        names = self._pushes.due(rollout)
        for name in names:
            if not rollout.sites[name].tried:
                rollout = moves.pushing(rollout, name)
        self._put(rollout)
        self._pushes.begin(rollout, names)

    def _site_answered(self, rollout_id: str, name: str, outcome: SiteOutcome) -> None:
        rollout = self._rollouts.get(rollout_id)
        if rollout is None:
            return
        tell_outcome(self._status, rollout, name, outcome)
        self._put(moves.site_answered(rollout, name, outcome.bundle, outcome.owed, self._clock()))
        self._wake.set()

    def _put(self, rollout: Rollout) -> None:
        """Take over a new value; tell of the phases that it entered."""
        old = self._rollouts[rollout.id]
        self._rollouts[rollout.id] = rollout
        self._dirty |= rollout != old
        if rollout != old:
            self._show(rollout)
        if rollout.history == old.history:
            return
        self.metrics.decisions.labels(str(rollout.phase)).inc()
        if rollout.phase is Phase.OBSERVING and old.phase is not Phase.PAUSED:
            self.evidence.begin_stage(rollout.id)
        if rollout.phase in FINAL:
            self.evidence.end(rollout.id)
        tell_phase(self._status, rollout)
        self._apply(rollout)
        if rollout.phase in FINAL:
            self._rollouts = {r.id: r for r in bounded(self.rollouts)}
            self._pushes.forget(self._rollouts)
            self.ended(rollout)
        self._wake.set()

    def _show(self, rollout: Rollout) -> None:
        who = rollout.group, rollout.family
        same = [r for r in self._rollouts.values() if (r.group, r.family) == who]
        owed = sum(bool(site.owed) for r in same for site in r.sites.values())
        self.metrics.show(same[-1], owed)

    def _give_up(self, rollout_id: str, reason: str) -> None:
        """A step that failed for a reason of our own side, e.g. a signing key that is away."""
        rollout = self._rollouts[rollout_id]
        if rollout.phase is Phase.PUBLISHING:
            self._put(moves.enter(rollout, Phase.ABORTED, self._clock(), f"not signed: {reason}"))

    def _take_over(self, earlier: Sequence[Rollout], observations: Mapping[str, Observations]) -> None:
        """Go on with what an earlier process left; what this one began while the store was away is newer."""
        own = dict(self._rollouts)
        began = {(r.group, r.family) for r in own.values()}
        for rollout in earlier:
            self._rollouts[rollout.id] = rollout
            if rollout.active and (rollout.group, rollout.family) in began:
                reason = "another one was begun while the store was away"
                self._rollouts[rollout.id] = moves.enter(rollout, Phase.ABORTED, self._clock(), reason)
            if rollout.id in observations:
                self.evidence.observations[rollout.id] = observations[rollout.id]
        for rollout_id, rollout in own.items():
            self._rollouts[rollout_id] = self._rollouts.pop(rollout_id, rollout)
        for rollout in earlier:
            self._show(rollout)
        if active := [r for r in self._rollouts.values() if r.active]:
            named = ", ".join(f"{r.id} ({r.phase})" for r in active)
            self._status.events.add("rollout_resumed", f"going on with {named}")

    def _baselines_suffice(self, rollout: Rollout, now: float) -> bool:
        """For the first stage: baselines exist, or a stage's time was waited for them in vain."""
        if rollout.stage or not rollout.stages:
            return False
        waited_s = now - rollout.since_s
        return waited_s >= rollout.stages[0].observe_s or self.evidence.comparable(rollout)
