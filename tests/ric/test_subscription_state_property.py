"""What holds for every sequence of events of a subscription."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from subscription_bench import notification, request

from xapp.ric.subscription_counters import Cause
from xapp.ric.subscription_phase import Phase, Step
from xapp.ric.subscription_request import SubscriptionRequest
from xapp.ric.subscription_state import SubscriptionState

_EVENTS = st.one_of(
    st.tuples(st.just("time"), st.floats(0, 40)),
    st.tuples(st.just("notify"), st.integers(0, 3), st.integers(0, 2), st.sampled_from(["s1", "s2", None])),
    st.tuples(st.just("indicate"), st.integers(0, 3)),
    st.tuples(st.sampled_from(["disconnect", "reconnect", "fail"])),
)


@settings(max_examples=50)
@given(st.lists(_EVENTS, max_size=40))
def test_no_sequence_of_events_loses_an_id_or_deletes_what_is_in_force(events: list[tuple[Any, ...]]) -> None:
    wanted: SubscriptionRequest = request()
    state, now, posted, deleted = SubscriptionState(wanted), 0.0, 0, set[str]()
    for event in events:
        match event:
            case ("time", float(seconds)):
                now += seconds
            case ("notify", e2_instance, age, identifier):
                name = wanted.instance_id(max(state.attempt - age, 0), 0)
                state.notified(notification(identifier, e2_instance, xapp_instance=name), now)
            case ("indicate", sub_id):
                state.indication(sub_id, now)
            case ("disconnect",):
                state.disconnected()
            case ("reconnect",):
                state.reconnected()
            case ("fail",):
                state.refuse(Cause.TIMEOUT, "timed out", now)
        step = state.step(now)
        if step is Step.SUBSCRIBE:
            assert not state.obsolete
            state.requested(now)
            posted += 1
            state.accepted({"SubscriptionId": f"p{posted}"}, now)
        elif step is Step.DELETE:
            identifier = state.deletable()
            assert identifier is not None
            assert identifier != state.subscription_id
            assert not state.obsolete[identifier] & set(state.instances.values())
            deleted.add(identifier)
            state.deleted(identifier)
        assert (state.phase in (Phase.ACTIVE, Phase.STALLED)) <= bool(state.instances)
        assert {f"p{number}" for number in range(1, posted + 1)} <= deleted | set(state.ids)
