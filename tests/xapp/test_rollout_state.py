"""The roll-out's state machine under any interleaving of answers, commands, verdicts, kills and restores."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xapp.rollout import moves
from xapp.rollout.gates import GateSettings, Verdict
from xapp.rollout.memory import Remembered, bounded, decode
from xapp.rollout.plan import Member, Stage
from xapp.rollout.state import (
    FINAL,
    MAX_HISTORY,
    Phase,
    Rollout,
    SiteStanding,
    intent,
    sites_to_deliver,
    sites_to_withdraw,
)

SITES = ("a", "b")
MEMBERS = [Member(site, f"{site}{i}") for i in range(3) for site in SITES]


def fresh(rollout_id: str = "r1") -> Rollout:
    return Rollout(
        id=rollout_id,
        group="drone",
        family="conv",
        version=2,
        parent=1,
        bundle="decoder/conv/2",
        started_s=0.0,
        members=MEMBERS,
        stages=[Stage(name="canary", count=1, observe_s=6.0), Stage(name="50%", count=3, observe_s=6.0)],
        sites={site: SiteStanding() for site in SITES},
        gates=GateSettings(),
    )


def kill_and_restore(rollout: Rollout) -> Rollout:
    """Through the bytes that the data layer keeps."""
    remembered = decode(msgspec.msgpack.encode(Remembered(rollouts=[rollout])))
    assert remembered is not None
    assert remembered.rollouts == [rollout]
    return remembered.rollouts[0]


def work(rollout: Rollout, now_s: float, answer: str, verdict: str) -> Rollout:
    """What the driver does in a round; ``answer`` is the sites', ``verdict`` the gates'."""
    if rollout.phase is Phase.PENDING:
        rollout = moves.begin(rollout, now_s)
    elif rollout.phase is Phase.PUBLISHING:
        rollout = moves.assigned(rollout, "signed", now_s)
    elif rollout.phase is Phase.ROLLING_BACK and not rollout.withdrawal:
        rollout = moves.withdrawal_signed(rollout, "withdrawn", withdraws=True, now_s=now_s)
    for site in sites_to_deliver(rollout):
        rollout = moves.pushing(rollout, site)
        owed = "away" if answer == "absent" else ""
        rollout = moves.site_answered(rollout, site, answer, owed, now_s)  # type: ignore[arg-type]
    for site in sites_to_withdraw(rollout):
        had = rollout.sites[site].bundle
        away = answer == "absent"
        bundle = had if away else "withdrawn"
        rollout = moves.site_answered(rollout, site, bundle, "away" if away else "", now_s)
    if rollout.phase is Phase.DELIVERING:
        rollout = moves.observe(rollout, now_s)
    return moves.judged(rollout, Verdict(verdict, verdict), [], now_s)  # type: ignore[arg-type]


ANSWERS = st.sampled_from(["delivered", "absent", "refused"])
VERDICTS = st.sampled_from(["go_on", "go_on", "promote", "roll_back"])
STEPS = st.one_of(
    st.tuples(st.just("work"), ANSWERS, VERDICTS),
    st.tuples(st.just("command"), st.sampled_from(list(moves.COMMANDS))),
    st.tuples(st.just("kill")),
)


def check(rollout: Rollout) -> None:
    """What holds always."""
    assert (rollout.phase is Phase.PAUSED) == (rollout.paused is not None)
    assert len(rollout.history) <= MAX_HISTORY
    for site in SITES:
        wanted = intent(rollout, site)
        assert wanted.assigned in (1, 2)
        new = wanted.assigned == 2 or wanted.canary is not None
        assert not new or rollout.sites[site].bundle == "delivered", "a version that the site has not got"
        if wanted.canary is not None:
            assert wanted.assigned == 1
            assert wanted.canary[0] == 2
    if rollout.phase in (Phase.ROLLING_BACK, Phase.ROLLED_BACK, Phase.ABORTED):
        assert all(intent(rollout, site).canary is None for site in SITES)
        assert all(intent(rollout, site).assigned == 1 for site in SITES)
    if rollout.phase is Phase.OBSERVING:
        served = {m for m in MEMBERS[: rollout.treated] if rollout.sites[m.site].bundle == "delivered"}
        assert served, "observed without anybody on trial"
        assert len(served) < len(MEMBERS)


@settings(max_examples=80, deadline=None)
@given(st.lists(STEPS, max_size=40))
def test_any_interleaving_is_consistent_and_comes_to_one_version_for_everybody(
    steps: list[tuple[str, ...]],
) -> None:
    rollout, now_s = fresh(), 0.0
    for step in steps:
        now_s += 1.0
        if step[0] == "work":
            rollout = work(rollout, now_s, step[1], step[2])
        elif step[0] == "kill":
            rollout = kill_and_restore(rollout)
        elif rollout.phase in moves.COMMANDS[step[1]]:  # type: ignore[index]
            rollout = moves.command(rollout, step[1], "me", now_s)  # type: ignore[arg-type]
        else:
            with pytest.raises(moves.IllegalMoveError, match=step[1]):
                moves.command(rollout, step[1], "me", now_s)  # type: ignore[arg-type]
        check(rollout)
    if rollout.phase is Phase.PAUSED:
        rollout = moves.command(rollout, "resume", "me", now_s)
    for _ in range(12):  # the sites are back and the gates are content
        rollout = work(kill_and_restore(rollout), now_s, "delivered", "promote")
        check(rollout)
    assert rollout.phase in FINAL
    for site in SITES:
        refused = rollout.sites[site].bundle == "refused"
        done = rollout.phase is Phase.DONE
        assert intent(rollout, site).canary is None
        assert intent(rollout, site).assigned == (2 if done and not refused else 1)
        if rollout.phase is Phase.ROLLED_BACK:
            assert rollout.sites[site].bundle != "delivered", "withdrawn from every site"


def test_a_late_answer_does_not_bring_back_what_was_taken_back() -> None:
    rollout = work(work(fresh(), 1.0, "absent", "go_on"), 2.0, "absent", "go_on")
    rollout = moves.command(rollout, "rollback", "me", 3.0)
    site = rollout.members[0].site
    rollout = moves.site_answered(rollout, site, "delivered", "", 4.0)
    assert rollout.phase is Phase.ROLLING_BACK
    assert intent(rollout, site).assigned == 1
    rollout = moves.withdrawal_signed(rollout, "signed", withdraws=True, now_s=5.0)
    assert sites_to_withdraw(rollout) == [site]


def test_a_pause_does_not_count_as_observation_time() -> None:
    rollout = fresh()
    for _ in range(3):
        rollout = work(rollout, 10.0, "delivered", "go_on")
    assert rollout.phase is Phase.OBSERVING
    rollout = moves.command(rollout, "pause", "me", 13.0)
    rollout = moves.command(rollout, "resume", "me", 1000.0)
    assert 1000.0 - rollout.since_s == 3.0


def test_ended_roll_outs_are_bounded_but_not_those_that_owe_something() -> None:
    ended = moves.enter(fresh(), Phase.ABORTED, 1.0, "x")
    owing = msgspec.structs.replace(
        ended, id="owing", sites={"a": SiteStanding(bundle="delivered", owed="away"), "b": SiteStanding()}
    )
    many = [owing, *(msgspec.structs.replace(ended, id=f"r{i}") for i in range(80))]
    kept = bounded(many)
    assert [r.id for r in kept] == ["owing", *(f"r{i}" for i in range(30, 80))]


@pytest.mark.parametrize("value", [b"", b"\xc1", msgspec.msgpack.encode({"version": 1, "rollouts": 3})])
def test_a_damaged_value_is_no_value(value: bytes) -> None:
    assert decode(value) is None
