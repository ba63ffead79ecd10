"""What becomes an alarm, and when it is over."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from xapp.alarm_rules import PATIENCE_S, RUNTIME, AlarmRules
from xapp.ric.alarms import ActiveAlarmList
from xapp.ric.registration import Standing
from xapp.ric.subscription_phase import Phase
from xapp.status import Status
from xapp.telemetry.user_table import UserTable


class Scene:
    """The rules with everything that they look at, all in order, at time 0."""

    def __init__(self) -> None:
        self.now = 0.0
        self.status = Status()
        self.status.peers.expect(RUNTIME)
        self.status.peers.up(RUNTIME)
        self.alarms = ActiveAlarmList("x", "x", lambda mtype, payload: True)
        self.rules = AlarmRules(self.alarms, self.status, UserTable(), lambda: self.now)
        state = SimpleNamespace(phase=Phase.ACTIVE, detail="", silent=False)
        self.subscriptions: Any = SimpleNamespace(clients={"gnb": SimpleNamespace(state=state)})
        self.registration: Any = SimpleNamespace(standing=Standing.REGISTERED)

    def look(self, after_s: float = 0.0) -> list[tuple[str, str]]:
        self.now += after_s
        self.rules.look(self.subscriptions, self.registration)
        return [(alarm["text"], alarm["identifying_info"]) for alarm in self.alarms.active()]

    def phase(self, phase: Phase) -> None:
        state = self.subscriptions.clients["gnb"].state
        state.phase, state.silent = phase, phase is Phase.STALLED


def test_nothing_is_alarmed_when_everything_is_well() -> None:
    assert Scene().look() == []


@pytest.mark.parametrize(
    ("spoil", "mend", "expected"),
    [
        (
            lambda scene: scene.status.peers.down(RUNTIME, "refused"),
            lambda scene: scene.status.peers.up(RUNTIME),
            ("CODEC RUNTIME UNREACHABLE", ""),
        ),
        (
            lambda scene: scene.phase(Phase.STALLED),
            lambda scene: scene.phase(Phase.ACTIVE),
            ("NO INDICATIONS FROM E2 NODE", "gnb"),
        ),
        (
            lambda scene: scene.phase(Phase.REQUESTED),
            lambda scene: scene.phase(Phase.ACTIVE),
            ("SUBSCRIPTION FAILING", "gnb"),
        ),
        (
            lambda scene: setattr(scene.registration, "standing", Standing.UNKNOWN),
            lambda scene: setattr(scene.registration, "standing", Standing.REGISTERED),
            ("XAPP NOT REGISTERED", ""),
        ),
    ],
)
def test_a_state_that_lasts_is_an_alarm_until_it_is_over(spoil, mend, expected) -> None:
    scene = Scene()
    spoil(scene)
    assert scene.look() == []
    assert scene.look(PATIENCE_S - 0.1) == []
    assert scene.look(0.2) == [expected]
    mend(scene)
    assert scene.look(1.0) == []


def test_a_state_that_passes_in_time_starts_its_patience_anew() -> None:
    scene = Scene()
    for _ in range(3):
        scene.phase(Phase.STALLED)
        assert scene.look(PATIENCE_S - 1.0) == []
        scene.phase(Phase.ACTIVE)
        assert scene.look(1.0) == []


def test_alarms_of_a_node_end_with_it() -> None:
    scene = Scene()
    scene.phase(Phase.STALLED)
    scene.look()
    assert scene.look(PATIENCE_S) == [("NO INDICATIONS FROM E2 NODE", "gnb")]
    scene.subscriptions.clients.clear()
    assert scene.look(1.0) == []


def test_a_silent_node_stays_an_alarm_while_it_is_subscribed_to_anew() -> None:
    scene = Scene()
    scene.phase(Phase.STALLED)
    scene.look()
    for phase in (Phase.STALLED, Phase.IDLE, Phase.REQUESTED, Phase.ACTIVE):
        scene.subscriptions.clients["gnb"].state.phase = phase
        scene.look(PATIENCE_S / 2)
    assert scene.look() == [("NO INDICATIONS FROM E2 NODE", "gnb")]
    scene.phase(Phase.ACTIVE)
    assert scene.look() == []


def test_a_refused_update_is_alarmed_at_once_and_until_the_next_swap() -> None:
    scene = Scene()
    scene.rules.on_event("site_refused", "drone: BadSignature")
    assert scene.look() == [("CODEC UPDATE REFUSED", "")]
    scene.rules.on_event("bundle_swapped", "conv 3")
    assert scene.look() == []
