"""The legal moves of a roll-out (:mod:`xapp.rollout.state`): value and event in, new value out. Pure.

An answer of a site is always folded into what is known about that site; it moves the phase only where the
phase waits for it, so that late and repeated answers are harmless. A command that does not fit raises.
"""

from __future__ import annotations

from typing import Final, Literal

import msgspec

from xapp.rollout.gates import Reading, Verdict
from xapp.rollout.state import (
    FINAL,
    MAX_HISTORY,
    Bundle,
    Phase,
    Rollout,
    SiteStanding,
    Transition,
    sites_to_withdraw,
)

Command = Literal["pause", "resume", "abort", "rollback"]

COMMANDS: Final[dict[Command, frozenset[Phase]]] = {
    "pause": frozenset({Phase.PUBLISHING, Phase.DELIVERING, Phase.OBSERVING}),
    "resume": frozenset({Phase.PAUSED}),
    "abort": frozenset(
        {Phase.PENDING, Phase.PUBLISHING, Phase.DELIVERING, Phase.OBSERVING, Phase.PAUSED}
    ),
    "rollback": frozenset(Phase) - {Phase.ROLLING_BACK, Phase.ROLLED_BACK},
}
"""Phases in which a command is legal."""


class IllegalMoveError(ValueError):
    """The command does not fit the phase; the message says which phases it fits."""


def begin(rollout: Rollout, now_s: float) -> Rollout:
    """``pending -> publishing``; other phases stay."""
    if rollout.phase is not Phase.PENDING:
        return rollout
    plan = ", ".join(f"{stage.name}: {stage.count}" for stage in rollout.stages)
    lonely = "no gate: a group of fewer than two users has no control group"
    return enter(rollout, Phase.PUBLISHING, now_s, f"users by stage: {plan or lonely}; then all")


def assigned(rollout: Rollout, note: str, now_s: float) -> Rollout:
    """The sites are named in signed metadata."""
    if rollout.phase is not Phase.PUBLISHING:
        return rollout
    return enter(rollout, Phase.DELIVERING, now_s, note)


def pushing(rollout: Rollout, site: str) -> Rollout:
    """A push to a site begins."""
    return _stand(rollout, site, tried=True)


def site_answered(rollout: Rollout, site: str, bundle: Bundle, owed: str, now_s: float) -> Rollout:
    """A push came to an end.

    Args:
        bundle: what the site has now. owed: why the step is still to be done, e.g. not reachable.
    """
    rollout = _stand(rollout, site, bundle=bundle, owed=owed, tried=True)
    if rollout.standing_phase is Phase.DELIVERING and rollout.paused is None:
        return _delivered(rollout, now_s)
    if rollout.phase is Phase.ROLLING_BACK:
        return _withdrawn(rollout, now_s)
    if rollout.standing_phase is Phase.OBSERVING and _refused(rollout):
        return roll_back(rollout, f"every site of stage {rollout.stage_name} refused it", now_s)
    return rollout


def lost(rollout: Rollout, site: str) -> Rollout:
    """The site does not serve the version any more; its users are on the parent until it does."""
    return _stand(rollout, site, bundle="absent", tried=True)


def observe(rollout: Rollout, now_s: float) -> Rollout:
    """The baselines suffice: the users of the first stage are switched."""
    if rollout.phase is not Phase.DELIVERING or rollout.stage >= len(rollout.stages):
        return rollout
    if not _in_place(rollout):
        return rollout
    count = rollout.stages[rollout.stage].count
    return enter(rollout, Phase.OBSERVING, now_s, f"{count} of {len(rollout.members)} users get it")


def judged(rollout: Rollout, verdict: Verdict, evidence: list[Reading], now_s: float) -> Rollout:
    """The gates were read."""
    if rollout.standing_phase is not Phase.OBSERVING:
        return rollout
    if verdict.decision == "roll_back":
        return roll_back(rollout, verdict.reason, now_s, evidence)
    if verdict.decision == "promote" and rollout.phase is Phase.OBSERVING:
        rollout = msgspec.structs.replace(rollout, stage=rollout.stage + 1)
        rollout = enter(rollout, Phase.DELIVERING, now_s, verdict.reason, evidence)
        return _delivered(rollout, now_s)
    return rollout


def roll_back(
    rollout: Rollout, reason: str, now_s: float, evidence: list[Reading] | None = None
) -> Rollout:
    """Everybody back to the parent, then withdraw."""
    return enter(rollout, Phase.ROLLING_BACK, now_s, reason, evidence)


def withdrawal_signed(rollout: Rollout, note: str, *, withdraws: bool, now_s: float) -> Rollout:
    """Metadata that does not assign the version any more is current.

    Args:
        note: what was done, for the history.
        withdraws: False for a repository without a director: it cannot take back what it has signed, and the
            sites keep the version, unused.
    """
    if rollout.phase is not Phase.ROLLING_BACK:
        return rollout
    return _withdrawn(msgspec.structs.replace(rollout, withdrawal=note, withdraws=withdraws), now_s)


def command(rollout: Rollout, what: Command, by: str, now_s: float) -> Rollout:
    """What an operator wants.

    Raises:
        IllegalMoveError: it does not fit the phase.
    """
    if rollout.phase not in COMMANDS[what]:
        fitting = ", ".join(sorted(COMMANDS[what]))
        raise IllegalMoveError(f"{what} does not fit {rollout.phase}: it fits {fitting}")
    reason = f"{what} by {by}"
    if what == "pause":
        held = rollout.phase, now_s - rollout.since_s
        return msgspec.structs.replace(enter(rollout, Phase.PAUSED, now_s, reason), paused=held)
    if what == "resume":
        assert rollout.paused is not None
        phase, lasted_s = rollout.paused
        rollout = enter(rollout, phase, now_s, reason)
        rollout = msgspec.structs.replace(rollout, since_s=now_s - lasted_s)
        return _delivered(rollout, now_s) if phase is Phase.DELIVERING else rollout
    if what == "abort":
        return enter(rollout, Phase.ABORTED, now_s, reason)
    return roll_back(rollout, reason, now_s)


def enter(
    rollout: Rollout, phase: Phase, now_s: float, reason: str, evidence: list[Reading] | None = None
) -> Rollout:
    """Into a phase, with a line of history."""
    line = Transition(time_s=now_s, phase=phase, stage=rollout.stage, reason=reason, evidence=evidence or [])
    history = [*rollout.history, line]
    if len(history) > MAX_HISTORY:
        history = [history[0], *history[-(MAX_HISTORY - 1) :]]
    return msgspec.structs.replace(rollout, phase=phase, since_s=now_s, paused=None, history=history)


def _stand(
    rollout: Rollout, site: str, *, bundle: Bundle | None = None, owed: str = "", tried: bool
) -> Rollout:
    old = rollout.sites[site]
    new = SiteStanding(bundle=old.bundle if bundle is None else bundle, owed=owed, tried=old.tried or tried)
    return msgspec.structs.replace(rollout, sites={**rollout.sites, site: new})


def _in_place(rollout: Rollout) -> bool:
    """Every site of the stage has answered or is owed, and one has the bundle."""
    standings = [rollout.sites[site] for site in rollout.stage_sites()]
    waiting = any(standing.bundle == "absent" and not standing.owed for standing in standings)
    return not waiting and any(standing.bundle == "delivered" for standing in standings)


def _delivered(rollout: Rollout, now_s: float) -> Rollout:
    """Leave ``delivering`` when that is done."""
    if _refused(rollout):
        return roll_back(rollout, f"every site of stage {rollout.stage_name} refused it", now_s)
    if not _in_place(rollout):
        return rollout
    if rollout.stage >= len(rollout.stages):
        return enter(rollout, Phase.DONE, now_s, "all users of the group get it")
    # Before the first stage the baselines must suffice; that is for the driver to say.
    return observe(rollout, now_s) if rollout.stage else rollout


def _refused(rollout: Rollout) -> bool:
    return all(rollout.sites[site].bundle == "refused" for site in rollout.stage_sites())


def _withdrawn(rollout: Rollout, now_s: float) -> Rollout:
    if rollout.phase in FINAL or not rollout.withdrawal:
        return rollout
    if any(not rollout.sites[site].owed for site in sites_to_withdraw(rollout)):
        return rollout
    return enter(rollout, Phase.ROLLED_BACK, now_s, rollout.withdrawal)
