"""The subscription's rules, event by event."""

from __future__ import annotations

from typing import Any

import pytest

from xapp.ric.subscription_state import (
    ANSWER_TIMEOUT_S,
    LONGEST_BACKOFF_S,
    Phase,
    Step,
    SubscriptionState,
)


def notification(
    identifier: str | None, e2_instance: int, *, xapp_instance: int = 1, cause: str = ""
) -> dict[str, Any]:
    instance = {
        "XappEventInstanceId": xapp_instance,
        "E2EventInstanceId": e2_instance,
        "ErrorCause": cause,
        "ErrorSource": "",
    }
    return {"SubscriptionId": identifier, "SubscriptionInstances": [instance]}


def requested() -> SubscriptionState:
    state = SubscriptionState(1, 0.1)
    assert state.step(0.0) is Step.SUBSCRIBE
    state.requested(0.0)
    return state


def active(e2_instance: int = 7) -> SubscriptionState:
    state = requested()
    state.accepted({"SubscriptionId": "s1"}, 0.0)
    assert state.notified(notification("s1", e2_instance), 0.0)
    return state


def test_answer_then_notification_makes_it_active() -> None:
    state = requested()
    state.accepted({"SubscriptionId": "s1", "SubscriptionInstances": None}, 0.1)
    assert state.phase is Phase.REQUESTED
    assert state.notified(notification("s1", 7), 0.2)
    assert (state.phase, state.subscription_id, state.e2_instance_id) == (Phase.ACTIVE, "s1", 7)


def test_notification_before_the_answer_counts() -> None:
    state = requested()
    assert state.notified(notification("s1", 7), 0.1)
    assert state.phase is Phase.ACTIVE
    state.accepted({"SubscriptionId": "s1"}, 0.2)
    assert (state.phase, state.subscription_id) == (Phase.ACTIVE, "s1")


def test_failed_post_after_an_early_notification_changes_nothing() -> None:
    state = requested()
    state.notified(notification("s1", 7), 0.1)
    state.refused("timed out", 0.2)
    assert state.phase is Phase.ACTIVE


def test_event_instance_zero_is_valid() -> None:
    state = active(e2_instance=0)
    assert state.phase is Phase.ACTIVE
    assert state.indication(0, 0.1)


@pytest.mark.parametrize(
    "body",
    [
        notification("another", 9),
        notification("s1", 9, xapp_instance=2),
        {},
        {"SubscriptionId": "s1", "SubscriptionInstances": None},
        {"SubscriptionId": 5, "SubscriptionInstances": []},
        {"SubscriptionId": "s1", "SubscriptionInstances": ["x"]},
        {
            "SubscriptionId": "s1",
            "SubscriptionInstances": [{"XappEventInstanceId": 1, "E2EventInstanceId": "9"}],
        },
    ],
)
def test_foreign_or_malformed_notifications_change_nothing(body: dict[str, Any]) -> None:
    state = requested()
    state.accepted({"SubscriptionId": "s1"}, 0.1)
    assert not state.notified(body, 0.2)
    assert (state.phase, state.e2_instance_id) == (Phase.REQUESTED, None)


def test_error_cause_gives_up_and_deletes_before_the_next_request() -> None:
    state = requested()
    state.accepted({"SubscriptionId": "s1"}, 0.1)
    assert state.notified(notification("s1", 0, cause="E2 node not connected"), 0.2)
    assert state.phase is Phase.IDLE
    assert "not connected" in state.detail
    assert state.step(0.3) is Step.WAIT
    assert state.step(1.3) is Step.DELETE
    state.deleted()
    assert state.step(1.3) is Step.SUBSCRIBE


def test_missing_notification_times_out() -> None:
    state = requested()
    state.accepted({"SubscriptionId": "s1"}, 0.1)
    assert state.step(ANSWER_TIMEOUT_S - 0.1) is Step.WAIT
    state.step(ANSWER_TIMEOUT_S)
    assert state.phase is Phase.IDLE
    assert state.obsolete_id == "s1"


def test_answer_that_comes_too_late_is_deleted() -> None:
    state = requested()
    state.step(ANSWER_TIMEOUT_S)
    state.accepted({"SubscriptionId": "late"}, ANSWER_TIMEOUT_S + 1)
    assert state.step(ANSWER_TIMEOUT_S + 2) is Step.DELETE
    assert state.obsolete_id == "late"


def test_silence_of_three_periods_but_at_least_a_second_stalls() -> None:
    state = active()
    state.indication(7, 5.0)
    state.step(5.99)
    assert state.phase.value == "active"
    state.step(6.0)
    assert state.phase.value == "stalled"
    slow = SubscriptionState(1, 2.0)
    slow.take_over("s", 1, 0.0)
    slow.step(5.9)
    assert slow.phase is Phase.ACTIVE
    slow.step(6.0)
    assert slow.phase.value == "stalled"


def test_stalled_subscription_is_deleted_and_requested_anew() -> None:
    state = active()
    state.step(1.0)
    assert state.phase is Phase.STALLED
    assert state.step(1.5) is Step.WAIT
    assert state.step(2.0) is Step.DELETE
    state.deleted()
    assert state.step(2.0) is Step.SUBSCRIBE
    assert state.e2_instance_id is None


def test_indications_that_come_back_end_the_stall() -> None:
    state = active()
    state.step(1.0)
    assert state.indication(7, 1.5)
    assert state.phase is Phase.ACTIVE
    assert state.step(2.0) is Step.WAIT


def test_foreign_indications_do_not_keep_it_alive() -> None:
    state = active()
    assert not state.indication(8, 0.9)
    assert not state.indication(-1, 0.9)
    state.step(1.0)
    assert state.phase is Phase.STALLED


def test_delays_double_to_a_limit_and_an_indication_resets_them() -> None:
    state = SubscriptionState(1, 0.1)
    now, delays = 0.0, []
    for _ in range(8):
        assert state.step(now) is Step.SUBSCRIBE
        state.requested(now)
        state.refused("HTTP 503", now)
        delays.append(state.seconds_to_next_step(now))
        now += delays[-1]
    assert delays == [1, 2, 4, 8, 16, 30, 30, 30]
    assert max(delays) == LONGEST_BACKOFF_S
    state.step(now)
    state.requested(now)
    state.notified(notification("s1", 7), now)
    state.indication(7, now)
    state.step(now + 1)
    assert state.seconds_to_next_step(now + 1) == 1


def test_failed_deletion_is_retried_after_the_delay() -> None:
    state = SubscriptionState(1, 0.1)
    state.obsolete_id = "old"
    assert state.step(0.0) is Step.DELETE
    state.delete_failed("connection refused", 0.0)
    assert state.step(0.5) is Step.WAIT
    assert state.step(1.0) is Step.DELETE


def test_answer_without_an_id_is_an_error() -> None:
    with pytest.raises(ValueError, match="SubscriptionId"):
        requested().accepted({}, 0.1)
