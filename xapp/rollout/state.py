"""A roll-out as a value: where it stands, at which sites what is in place, and how it got there.

::

    pending -> publishing -> delivering(0) -> observing(0) -> delivering(1) -> ... -> delivering(all) -> done

    publishing, delivering, observing <-> paused
    pending, publishing, delivering, observing, paused --abort--> aborted
    any of these, done and aborted --rollback, harm, refused everywhere--> rolling-back -> rolled-back

- ``pending``: the bundle is in the repository; nobody has it. ``publishing``: the sites are being named in
  the signed director's metadata. ``delivering(k)``: the bundle travels to the sites of stage k; its users are
  not switched yet. ``observing(k)``: they are, and the gates look. ``delivering(all)``: the other sites.
- ``paused``: the users of the stage stay as they are, nothing is promoted; harm still leads to rolling back.
- ``aborted``: all users are on the parent; what was delivered stays installed, unused.
- ``rolling-back``: all users are on the parent again; metadata that no longer assigns the version is being
  signed and pushed. ``rolled-back``: every site that can be reached has withdrawn it.
- A site that cannot be reached is *owed* its step: tried again for as long as the roll-out is remembered,
  also in a final state; its users stay on the parent. A site that refuses is left out; when all refuse, the
  roll-out is rolled back.

What the users of a site get is a function of the value (:func:`intent`), not a series of commands, and every
step towards it can be repeated. So a process that is killed anywhere goes on by doing what its last saved
value asks for.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final, Literal

import msgspec

from xapp.rollout.gates import GateSettings, Reading
from xapp.rollout.orders import UpdatedKind
from xapp.rollout.plan import Member, Stage

MAX_HISTORY: Final = 64
"""Transitions kept of a roll-out: the first and the latest."""


class Phase(StrEnum):
    """States of a roll-out (module docstring)."""

    PENDING = "pending"
    PUBLISHING = "publishing"
    DELIVERING = "delivering"
    OBSERVING = "observing"
    PAUSED = "paused"
    DONE = "done"
    ROLLING_BACK = "rolling-back"
    ROLLED_BACK = "rolled-back"
    ABORTED = "aborted"


FINAL: Final = frozenset({Phase.DONE, Phase.ROLLED_BACK, Phase.ABORTED})

Bundle = Literal["absent", "delivered", "refused", "withdrawn"]


class Transition(msgspec.Struct, frozen=True, kw_only=True):
    """One step of the history.

    Attributes:
        time_s: of the wall clock. evidence: the gates at that moment, where they led to it.
    """

    time_s: float
    phase: Phase
    stage: int
    reason: str
    evidence: list[Reading] = []


class SiteStanding(msgspec.Struct, frozen=True, kw_only=True):
    """What a site has of the version.

    Attributes:
        bundle: ``refused`` also where the site refused to withdraw it.
        owed: why its step is still to be done; empty when it is done.
        tried: a push was begun, so that the site may have it whatever the answer was.
    """

    bundle: Bundle = "absent"
    owed: str = ""
    tried: bool = False


class Rollout(msgspec.Struct, frozen=True, kw_only=True):
    """One roll-out. Times are seconds of the wall clock, since they outlive the process.

    Attributes:
        bundle: path in the repository. version, parent: of the decoder family. gain_db: off-line, if known.
        members: in the order of change; stages: the gated ones.
        stage: index; ``len(stages)`` while everybody gets it.
        since_s: when the phase was entered, put off by pauses. paused: phase to go back to, and how long that
            had lasted, s.
        withdrawal: what was signed to take it back, empty before; withdraws: whether sites can follow it.
    """

    id: str
    group: str
    family: str
    version: int
    parent: int
    bundle: str
    started_s: float
    members: list[Member]
    stages: list[Stage]
    sites: dict[str, SiteStanding]
    gates: GateSettings
    gain_db: float | None = None
    phase: Phase = Phase.PENDING
    stage: int = 0
    since_s: float = 0.0
    paused: tuple[Phase, float] | None = None
    withdrawal: str = ""
    withdraws: bool = True
    history: list[Transition] = []

    @property
    def kind(self) -> UpdatedKind:
        """Of the bundle."""
        return "adapter" if self.bundle.startswith("adapter/") else "decoder"

    @property
    def active(self) -> bool:
        """Whether it has not come to an end."""
        return self.phase not in FINAL

    @property
    def standing_phase(self) -> Phase:
        """The phase, or the one that a pause holds up."""
        return self.paused[0] if self.paused is not None else self.phase

    @property
    def stage_name(self) -> str:
        """For people."""
        return self.stages[self.stage].name if self.stage < len(self.stages) else "all"

    @property
    def treated(self) -> int:
        """How many members, the first ones, are to be on the new version where their site serves it; 0 when
        it is not on trial."""
        phase = self.standing_phase
        if phase is Phase.OBSERVING:
            return self.stages[self.stage].count
        if phase is Phase.DELIVERING and self.stage:
            return self.stages[self.stage - 1].count
        return 0

    def stage_sites(self) -> frozenset[str]:
        """Sites that the stage needs."""
        if self.stage >= len(self.stages):
            return frozenset(self.sites)
        return frozenset(member.site for member in self.members[: self.stages[self.stage].count])


class Intent(msgspec.Struct, frozen=True):
    """What a site's catalog should say about a group and family.

    Attributes:
        assigned: version of the group. canary: (version, users) of those that get another one.
    """

    assigned: int
    canary: tuple[int, frozenset[str]] | None = None


def intent(rollout: Rollout, site: str) -> Intent:
    """What the users of a site are to get now."""
    if rollout.sites[site].bundle != "delivered":
        return Intent(rollout.parent)
    if rollout.phase is Phase.DONE:
        return Intent(rollout.version)
    trial = rollout.members[: rollout.treated]
    users = frozenset(member.user for member in trial if member.site == site)
    return Intent(rollout.parent, (rollout.version, users) if users else None)


def sites_to_deliver(rollout: Rollout) -> list[str]:
    """Sites whose bundle is due, owed ones of earlier stages included."""
    phase = rollout.standing_phase
    if phase not in (Phase.DELIVERING, Phase.OBSERVING, Phase.DONE) or rollout.phase is Phase.PAUSED:
        return []
    return sorted(s for s in rollout.stage_sites() if rollout.sites[s].bundle == "absent")


def sites_to_withdraw(rollout: Rollout) -> list[str]:
    """Sites that have or may have the version, once the metadata that takes it back is signed."""
    if rollout.phase not in (Phase.ROLLING_BACK, Phase.ROLLED_BACK) or not rollout.withdrawal:
        return []
    if not rollout.withdraws:
        return []
    return sorted(
        s
        for s, standing in rollout.sites.items()
        if standing.bundle == "delivered" or (standing.tried and standing.bundle == "absent")
    )


def needs_too(other: Rollout, rollout: Rollout) -> bool:
    """Whether another group has, or is getting, the same version."""
    out = (Phase.ROLLING_BACK, Phase.ROLLED_BACK, Phase.ABORTED)
    return other.id != rollout.id and other.bundle == rollout.bundle and other.phase not in out
