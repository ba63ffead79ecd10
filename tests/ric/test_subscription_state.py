"""The subscription's rules, event by event."""

from __future__ import annotations

from typing import Any

import pytest
from subscription_bench import TWO_DETAILS, notification, request

from xapp.ric.subscription_counters import Cause, Reason
from xapp.ric.subscription_phase import Phase, Step, Verdict
from xapp.ric.subscription_request import (
    INSTANCE_ID_STRIDE,
    E2Directives,
)
from xapp.ric.subscription_state import (
    ANSWER_TIMEOUT_S,
    DELETE_ATTEMPTS,
    LONGEST_BACKOFF_S,
    SubscriptionState,
)


def requested(**changes: Any) -> SubscriptionState:
    state = SubscriptionState(request(**changes))
    assert state.step(0.0) is Step.SUBSCRIBE
    state.requested(0.0)
    return state


def active(e2_instance: int = 7) -> SubscriptionState:
    state = requested()
    state.accepted({"SubscriptionId": "s1"}, 0.0)
    assert state.notified(notification("s1", e2_instance), 0.0) is Verdict.TAKEN
    return state


def test_answer_then_notification_makes_it_active() -> None:
    state = requested()
    state.accepted({"SubscriptionId": "s1", "SubscriptionInstances": None}, 0.1)
    assert state.phase is Phase.REQUESTED
    assert state.notified(notification("s1", 7), 0.2) is Verdict.TAKEN
    assert (state.phase, state.subscription_id, state.e2_instance_id) == (Phase.ACTIVE, "s1", 7)
    assert state.notified(notification("s1", 7), 0.3) is Verdict.DUPLICATE


def test_notification_before_the_answer_counts() -> None:
    state = requested()
    assert state.notified(notification("s1", 7), 0.1) is Verdict.TAKEN
    assert state.phase is Phase.ACTIVE
    state.accepted({"SubscriptionId": "s1"}, 0.2)
    assert (state.phase, state.subscription_id, state.obsolete) == (Phase.ACTIVE, "s1", {})


def test_answer_that_contradicts_an_early_notification_decides() -> None:
    state = requested()
    state.notified(notification("of an earlier run", 7), 0.1)
    state.accepted({"SubscriptionId": "s1"}, 0.2)
    assert (state.phase, state.subscription_id, state.instances) == (Phase.REQUESTED, "s1", {})
    assert state.notified(notification("s1", 8), 0.3) is Verdict.TAKEN
    # What another id stands for is unknown, so it is not deleted either.
    assert (state.phase, state.ids) == (Phase.ACTIVE, {"s1": frozenset({8})})


def test_failed_post_after_an_early_notification_changes_nothing() -> None:
    state = requested()
    state.notified(notification("s1", 7), 0.1)
    state.refuse(Cause.TIMEOUT, "timed out", 0.2)
    assert state.phase is Phase.ACTIVE


def test_confirmation_of_a_post_whose_answer_was_lost_is_welcome() -> None:
    state = requested()
    state.refuse(Cause.TIMEOUT, "timed out", 5.0)
    assert state.phase is Phase.IDLE
    assert state.notified(notification("s1", 7), 5.5) is Verdict.TAKEN
    assert (state.phase, state.subscription_id) == (Phase.ACTIVE, "s1")
    assert state.step(6.0) is Step.WAIT


def test_confirmation_of_what_is_being_deleted_is_too_late() -> None:
    state = requested()
    state.accepted({"SubscriptionId": "s1"}, 0.1)
    state.step(ANSWER_TIMEOUT_S)
    state.deleting("s1")
    assert state.notified(notification("s1", 7), ANSWER_TIMEOUT_S + 1) is Verdict.LATE
    assert state.phase is Phase.IDLE


@pytest.mark.parametrize("cause", ["", " ", "RICSubscriptionResponse partially accepted: ..."])
def test_an_event_instance_above_zero_confirms_whatever_the_cause(cause: str) -> None:
    state = requested()
    state.accepted({"SubscriptionId": "s1"}, 0.1)
    state.notified(notification("s1", 7, cause=cause), 0.2)
    assert state.phase is Phase.ACTIVE
    assert ("partially" in state.detail) == ("partially" in cause)


@pytest.mark.parametrize("cause", ["", "E2 node not connected"])
def test_an_event_instance_of_zero_refuses_even_without_a_cause(cause: str) -> None:
    state = requested()
    state.accepted({"SubscriptionId": "s1"}, 0.1)
    assert state.notified(notification("s1", 0, cause=cause), 0.2) is Verdict.TAKEN
    assert state.phase is Phase.IDLE
    assert (cause or "no cause given") in state.detail
    assert state.step(0.3) is Step.WAIT
    assert state.step(1.3) is Step.DELETE
    state.deleted("s1")
    assert state.step(1.3) is Step.SUBSCRIBE


@pytest.mark.parametrize(
    ("source", "timeout", "cause"),
    [
        ("E2Node", "", Cause.E2_NODE),
        ("SUBMGR", "E2-Timeout", Cause.E2_TIMEOUT),
        ("RTMGR", "", Cause.RTMGR),
        ("DBAAS", "DBAAS-Timeout", Cause.DBAAS_TIMEOUT),
        ("ASN1", "", Cause.ASN1),
        ("news", "", Cause.SUBMGR),
        ("", "", Cause.SUBMGR),
    ],
)
def test_a_refusal_is_counted_under_its_source_or_timeout(source: str, timeout: str, cause: Cause) -> None:
    state = requested()
    state.notified(notification("s1", 0, ErrorSource=source, TimeoutType=timeout), 0.1)
    assert (state.take_failure(), state.take_failure()) == (cause, None)


@pytest.mark.parametrize(
    "body",
    [
        notification("another", 9),
        notification("s1", 9, xapp_instance=2),
        {},
        {"SubscriptionId": "s1", "SubscriptionInstances": None},
        {"SubscriptionId": 5, "SubscriptionInstances": []},
        {"SubscriptionId": "s1", "SubscriptionInstances": ["x"]},
        {"SubscriptionId": "s1", "SubscriptionInstances": [{"XappEventInstanceId": 1}]},
        {
            "SubscriptionId": "s1",
            "SubscriptionInstances": [{"XappEventInstanceId": 1, "E2EventInstanceId": "9"}],
        },
    ],
)
def test_foreign_or_malformed_notifications_change_nothing(body: dict[str, Any]) -> None:
    state = requested()
    state.accepted({"SubscriptionId": "s1"}, 0.1)
    assert state.notified(body, 0.2) is Verdict.FOREIGN
    assert (state.phase, state.e2_instance_id) == (Phase.REQUESTED, None)


def test_notification_of_an_earlier_attempt_is_late() -> None:
    state = requested()
    state.accepted({"SubscriptionId": "s1"}, 0.1)
    state.step(ANSWER_TIMEOUT_S)
    state.deleted("s1")
    state.requested(20.0)
    assert state.notified(notification("s1", 9), 20.1) is Verdict.LATE
    fresh = notification("s2", 10, xapp_instance=1 + INSTANCE_ID_STRIDE)
    assert state.notified(fresh, 20.2) is Verdict.TAKEN


def test_missing_notification_times_out() -> None:
    state = requested()
    state.accepted({"SubscriptionId": "s1"}, 0.1)
    assert state.step(ANSWER_TIMEOUT_S - 0.1) is Step.WAIT
    state.step(ANSWER_TIMEOUT_S)
    assert (state.phase, state.take_failure()) == (Phase.IDLE, Cause.NO_NOTIFICATION)
    assert list(state.obsolete) == ["s1"]


def test_patience_follows_what_the_manager_was_told_to_try() -> None:
    state = requested(directives=E2Directives(timeout_s=10, retries=2))
    assert state.answer_timeout_s == 35.0


def test_answer_that_comes_too_late_is_deleted() -> None:
    state = requested()
    state.step(ANSWER_TIMEOUT_S)
    state.accepted({"SubscriptionId": "late"}, ANSWER_TIMEOUT_S + 1)
    assert state.step(ANSWER_TIMEOUT_S + 2) is Step.DELETE
    assert state.deletable() == "late"


def test_silence_of_three_periods_but_at_least_a_second_stalls() -> None:
    state = active()
    state.indication(7, 5.0)
    state.step(5.99)
    assert state.phase.value == "active"
    state.step(6.0)
    assert state.phase.value == "stalled"
    slow = SubscriptionState(request(period_s=2.0))
    slow.take_over("s", {0: 1}, 0.0)
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
    state.deleted("s1")
    assert state.step(2.0) is Step.SUBSCRIBE
    assert (state.e2_instance_id, state.reason) == (None, Reason.STALL)
    assert not state.indication(7, 2.1)
    assert (state.was_ours(7), state.was_ours(8)) == (True, False)
    assert state.silent, "until an indication comes, whatever is confirmed"


def test_indications_that_come_back_end_the_stall() -> None:
    state = active()
    state.step(1.0)
    assert state.silent
    assert state.indication(7, 1.5)
    assert (state.phase, state.silent) == (Phase.ACTIVE, False)
    assert state.step(2.0) is Step.WAIT


def test_foreign_indications_do_not_keep_it_alive() -> None:
    state = active()
    assert not state.indication(8, 0.9)
    assert not state.indication(-1, 0.9)
    state.step(1.0)
    assert state.phase is Phase.STALLED


def test_delays_double_to_a_limit_and_an_indication_resets_them() -> None:
    state = SubscriptionState(request())
    now, delays = 0.0, []
    for _ in range(8):
        assert state.step(now) is Step.SUBSCRIBE
        state.requested(now)
        state.refuse(Cause.HTTP_503, "HTTP 503", now)
        delays.append(state.seconds_to_next_step(now))
        now += delays[-1]
    assert delays == [1, 2, 4, 8, 16, 30, 30, 30]
    assert max(delays) == LONGEST_BACKOFF_S
    state.step(now)
    state.requested(now)
    state.notified(notification("s1", 7, xapp_instance=1 + 8 * INSTANCE_ID_STRIDE), now)
    state.indication(7, now)
    state.step(now + 1)
    assert state.seconds_to_next_step(now + 1) == 1


def test_failed_deletion_is_retried_after_the_delay_and_holds_the_request_back() -> None:
    state = SubscriptionState(request())
    state.obsolete["old"] = frozenset()
    assert state.step(0.0) is Step.DELETE
    state.delete_failed("old", "connection refused", 0.0)
    assert state.step(0.5) is Step.WAIT
    assert state.step(1.0) is Step.DELETE


def test_an_id_that_the_manager_keeps_refusing_is_left_behind() -> None:
    state = SubscriptionState(request())
    state.obsolete["old"] = frozenset()
    for attempt in range(3 * DELETE_ATTEMPTS):
        state.delete_failed("old", "connection refused", 100.0 * attempt, answered=False)
    assert state.obsolete
    for attempt in range(DELETE_ATTEMPTS):
        assert state.obsolete
        state.delete_failed("old", "HTTP 400", 5000.0 + 100 * attempt)
    assert (state.abandoned, state.step(9000.0)) == (["old"], Step.SUBSCRIBE)


def test_an_id_that_shares_an_event_instance_in_force_is_not_deleted() -> None:
    state = active()
    state.obsolete = {"alias": frozenset({7}), "old": frozenset({6})}
    assert (state.step(0.1), state.deletable()) == (Step.DELETE, "old")
    state.deleted("old")
    assert (state.step(0.2), state.deletable()) == (Step.WAIT, None)
    state.step(1.0)
    state.step(2.0)
    assert set(state.obsolete) == {"alias", "s1"}
    assert state.step(2.0) is Step.DELETE


def test_nothing_is_asked_for_until_the_xapp_is_ready_and_the_node_there() -> None:
    state = SubscriptionState(request())
    assert state.step(0.0, ready=False) is Step.WAIT
    state.disconnected()
    assert state.step(0.0) is Step.WAIT
    state.reconnected()
    assert state.step(0.0) is Step.SUBSCRIBE


def test_a_node_that_comes_back_is_asked_at_once_whatever_the_delay() -> None:
    state = active()
    state.disconnected()
    assert (state.phase, state.e2_instance_id) == (Phase.IDLE, None)
    state.deleted("s1")
    state.reconnected()
    assert (state.step(0.2), state.reason) == (Step.SUBSCRIBE, Reason.RECONNECT)
    unaware = active()
    unaware.reconnected()
    assert (unaware.step(0.2), unaware.deletable()) == (Step.DELETE, "s1")
    refused = SubscriptionState(request())
    refused.requested(0.0)
    refused.refuse(Cause.HTTP_503, "no E2 connection", 0.0)
    assert refused.step(0.1) is Step.WAIT
    refused.reconnected()
    assert refused.step(0.1) is Step.SUBSCRIBE


def test_details_are_confirmed_one_by_one() -> None:
    state = requested(**TWO_DETAILS)
    state.accepted({"SubscriptionId": "s1"}, 0.0)
    state.notified(notification("s1", 7), 0.1)
    assert state.phase is Phase.REQUESTED
    state.notified(notification("s1", 8, xapp_instance=2), 0.2)
    assert (state.phase, state.instances) == (Phase.ACTIVE, {0: 7, 1: 8})
    assert state.indication(8, 0.9)
    assert state.step(1.5) is Step.WAIT
    assert state.phase is Phase.ACTIVE


def test_a_refused_detail_leaves_the_other_in_force() -> None:
    state = requested(**TWO_DETAILS)
    state.accepted({"SubscriptionId": "s1"}, 0.0)
    state.notified(notification("s1", 0, cause="too many measurements", ErrorSource="E2Node"), 0.1)
    state.notified(notification("s1", 8, xapp_instance=2), 0.2)
    assert (state.phase, state.instances) == (Phase.ACTIVE, {1: 8})
    assert state.refused == {0: "e2node: too many measurements"}
    assert "too many measurements" in state.detail


def test_an_unanswered_detail_leaves_the_other_in_force_after_the_timeout() -> None:
    state = requested(**TWO_DETAILS)
    state.accepted({"SubscriptionId": "s1"}, 0.0)
    state.notified(notification("s1", 8, xapp_instance=2), 0.2)
    state.step(ANSWER_TIMEOUT_S)
    assert (state.phase.value, state.instances) == ("active", {1: 8})
    assert state.notified(notification("s1", 9), ANSWER_TIMEOUT_S + 0.1) is Verdict.TAKEN
    assert state.instances == {1: 8, 0: 9}


def test_details_whose_answer_was_lost_are_waited_for_together() -> None:
    state = requested(**TWO_DETAILS)
    state.refuse(Cause.PROTOCOL, "cut off", 0.1)
    state.notified(notification("s1", 7), 0.2)
    assert state.step(5.0) is Step.WAIT
    state.notified(notification("s1", 8, xapp_instance=2), 5.1)
    assert (state.phase, state.subscription_id, state.instances) == (Phase.ACTIVE, "s1", {0: 7, 1: 8})


def test_answer_without_an_id_is_an_error() -> None:
    with pytest.raises(ValueError, match="SubscriptionId"):
        requested().accepted({}, 0.1)
