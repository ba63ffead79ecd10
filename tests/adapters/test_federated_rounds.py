"""Federated rounds: the server's state machine against a simulator of users, and the local engine."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from codec_runtime.adapters.aggregation import Rule
from codec_runtime.adapters.federation.messages import (
    FederationError,
    Member,
    RoundOrder,
    RoundReply,
    decode,
    encode,
    read_weights,
    weights_file,
)
from codec_runtime.adapters.federation.server import Server
from codec_runtime.adapters.federation.settings import FederationSettings
from codec_runtime.adapters.privacy import Privacy

START = {"w": torch.zeros(2)}


def server(users: int = 3, **options: object) -> Server:
    state = Server(FederationSettings(**{"quorum": 1, **options}), START)
    for index in range(users):
        state = state.joined(Member(client=f"u{index}", group=f"g{index % 2}", encoder_bytes=1000))
    return state


def reply(client: str, number: int, value: float = 1.0, **fields: object) -> bytes:
    message = {"samples": 10, "confidence": 1.0, "loss": 0.5, "score": value, **fields}
    weights = weights_file({"w": torch.full((2,), value)})
    return encode(RoundReply(round=number, client=client, **{"weights": weights, **message}))


def value(state: Server) -> float:
    return float(state.weights["w"][0])


# ---- the state machine


def test_a_round_closes_when_all_have_answered():
    state, orders = server().opened(now=0.0)
    assert sorted(orders) == ["u0", "u1", "u2"]
    for client in orders:
        assert not state.due(now=1.0)
        state = state.received(client, reply(client, 1, 3.0))
    assert state.due(now=1.0)
    state, record = state.closed()
    assert value(state) == 3.0
    assert record.aggregated
    assert record.participants == ["u0", "u1", "u2"]
    assert record.stragglers == record.refused == []


def test_the_order_of_arrival_does_not_matter():
    results = []
    for order in (("u0", "u1", "u2"), ("u2", "u0", "u1")):
        state, _ = server().opened(0.0)
        for client in order:
            state = state.received(client, reply(client, 1, 0.1 + int(client[1]) / 3, samples=7))
        results.append(weights_file(state.closed()[0].weights))
    assert results[0] == results[1]


def test_updates_weigh_by_samples_times_confidence():
    state, _ = server(2).opened(0.0)
    state = state.received("u0", reply("u0", 1, 0.0, samples=30, confidence=0.5))
    state = state.received("u1", reply("u1", 1, 4.0, samples=5, confidence=1.0))
    state, record = state.closed()
    assert value(state) == 1.0
    assert record.confidence == pytest.approx((30 * 0.5 + 5 * 1.0) / 35)


def test_silent_users_are_waited_for_until_the_deadline_and_named():
    state, _ = server(deadline_s=10.0).opened(now=100.0)
    state = state.received("u1", reply("u1", 1, 2.0))
    assert not state.due(now=109.9)
    assert state.due(now=110.0)
    state, record = state.closed()
    assert (value(state), record.stragglers) == (2.0, ["u0", "u2"])


def test_too_few_updates_change_nothing_and_say_so():
    state, _ = server(quorum=2).opened(0.0)
    state, record = state.received("u1", reply("u1", 1, 2.0)).closed()
    assert (value(state), state.round) == (0.0, 1)
    assert not record.aggregated
    assert record.reason == "1 usable updates, 2 are needed"


def test_krum_waits_for_the_updates_that_its_guarantee_takes():
    state, orders = server(4, rule=Rule(name="krum", malicious=1)).opened(0.0)
    assert orders == {}
    _, record = state.closed()
    assert record.reason == "0 usable updates, 5 are needed"


def late_by_one(**options: object) -> tuple[Server, object]:
    """u0 answers round 1 with 4.0 while round 2 is open, where u1 and u2 stay at 1.0."""
    state, _ = server(**options).opened(0.0)
    for client in ("u1", "u2"):
        state = state.received(client, reply(client, 1, 1.0))
    state, _ = state.closed()[0].opened(0.0)
    state = state.received("u0", reply("u0", 1, 4.0))
    for client in ("u1", "u2"):
        state = state.received(client, reply(client, 2, 1.0))
    return state.closed()


def test_a_late_update_is_folded_in_from_where_it_started_at_a_discount():
    state, record = late_by_one(discount=0.5)
    # Its step is 4 from 0, today's weights are 1: (1 + 1 + 0.5 * 5) / 2.5
    assert value(state) == pytest.approx(4.5 / 2.5)
    assert (record.late, record.stragglers) == (["u0"], ["u0"])


@pytest.mark.parametrize(
    "options",
    [
        {"staleness": 0},
        {"rule": Rule(name="median")},
    ],
)
def test_late_updates_are_dropped_where_they_cannot_be_discounted(options):
    state, record = late_by_one(**options)
    assert value(state) == 1.0
    assert record.refused == ["u0: answers round 1; late updates are dropped"]


def test_an_update_that_is_too_late_or_from_the_future_is_refused():
    state, _ = server().opened(0.0)
    for number in range(1, 4):
        state = state.received("u1", reply("u1", number)).closed()[0].opened(0.0)[0]
    state = state.received("u0", reply("u0", 2)).received("u2", reply("u2", 9))
    _, record = state.closed()
    assert record.refused == [
        "u0: answers round 2, which is no longer or not yet open",
        "u2: answers round 9, which is no longer or not yet open",
    ]


def test_a_fresh_update_replaces_the_users_late_one():
    state, _ = server(1).opened(0.0)
    state = state.closed()[0].received("u0", reply("u0", 1, 50.0))
    state, _ = state.opened(0.0)
    state, record = state.received("u0", reply("u0", 2, 2.0)).closed()
    assert (value(state), record.late) == (2.0, [])


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "not a RoundReply"),
        (b"\x93\x01\x02", "not a RoundReply"),
        (reply("u1", 1), "signs as 'u1'"),
        (reply("u0", 1, weights=b"\x80\x04pickle"), "pickle"),
        (reply("u0", 1, weights=weights_file({"w": torch.zeros(3)})), "tensor w is (3,)"),
        (reply("u0", 1, weights=weights_file({"w": torch.full((2,), float("nan"))})), "NaN"),
        (reply("u0", 1).replace(encode("samples"), encode("Samples")), "not a RoundReply"),
    ],
)
def test_bad_updates_are_refused_and_counted_and_the_round_goes_on(data, reason):
    state, _ = server().opened(0.0)
    state = state.received("u0", data).received("u1", reply("u1", 1, 2.0))
    state, record = state.closed()
    assert value(state) == 2.0
    (refused,) = record.refused
    assert refused.startswith("u0: ")
    assert reason in refused


def test_claims_that_would_break_the_mean_are_refused():
    raw = reply("u0", 1).replace(encode(10), encode(-1), 1)
    for data in (raw, reply("u0", 1).replace(b"\xcb?\xf0", b"\xcb\x7f\xf8")):
        state, _ = server().opened(0.0)
        _, record = state.received("u0", data).closed()
        assert len(record.refused) == 1


def test_a_second_answer_does_not_replace_the_first():
    state, _ = server().opened(0.0)
    state = state.received("u0", reply("u0", 1, 2.0)).received("u0", reply("u0", 1, 9.0))
    state, record = state.closed()
    assert (value(state), record.refused) == (2.0, ["u0: answers round 1 twice"])


def test_users_that_trust_none_of_their_pairs_abstain():
    state, _ = server(2).opened(0.0)
    state = state.received("u0", reply("u0", 1, 9.0, samples=0, confidence=0.0))
    state, record = state.received("u1", reply("u1", 1, 1.0)).closed()
    assert (value(state), record.participants) == (1.0, ["u0", "u1"])


def test_users_join_and_leave_between_and_within_rounds():
    state, _ = server(2).opened(0.0)
    state = state.joined(Member(client="new")).left("u1").received("u0", reply("u0", 1, 1.0))
    assert state.due(now=0.0)
    state, record = state.closed()
    assert record.stragglers == []
    _, orders = state.opened(0.0)
    assert sorted(orders) == ["new", "u0"]


def test_one_that_was_not_invited_is_refused():
    state, orders = server(10, fraction=0.3).opened(0.0)
    assert len(orders) == 3
    stranger = next(name for name in sorted(state.members) if name not in orders)
    _, record = state.received(stranger, reply(stranger, 1)).closed()
    assert record.refused == [f"{stranger}: was not invited to round 1"]


def test_selection_reaches_everybody_and_is_a_function_of_seed_and_round():
    state, met = server(10, fraction=0.2), set()
    for _ in range(30):
        state, orders = state.opened(0.0)
        assert len(orders) == 2
        met |= orders.keys()
        state, _ = state.closed()
    assert len(met) == 10


def test_participants_get_the_aggregate_of_the_others():
    state, _ = server().opened(0.0)
    for index in range(3):
        state = state.received(f"u{index}", reply(f"u{index}", 1, float(index)))
    _, orders = state.closed()[0].opened(0.0)
    others = {c: float(read_weights(decode(o, RoundOrder).others)["w"][0]) for c, o in orders.items()}
    assert others == {"u0": 1.5, "u1": 1.0, "u2": 0.5}


def test_the_record_counts_real_bytes_and_names_who_fares_worst():
    state, _ = server().opened(0.0)
    size = len(weights_file(START))
    for index in range(3):
        state = state.received(f"u{index}", reply(f"u{index}", 1, float(3 - index)))
    _, record = state.closed()
    assert (record.bytes_down, record.bytes_up, record.encoder_bytes) == (3 * size, 3 * size, 6000)
    assert (record.worst_user, record.worst_score) == ("u2", 1.0)
    assert record.groups == {"g0": 2.0, "g1": 2.0}
    assert record.epsilon is None


def test_privacy_samples_by_coin_adds_noise_reports_epsilon_and_shares_no_consensus():
    privacy = Privacy(clip=1.0, noise=1.0, secret=11)
    state, epsilons, invited = server(40, fraction=0.5, privacy=privacy), [], set()
    for number in range(1, 4):
        state, orders = state.opened(0.0)
        invited.add(len(orders))
        for client, order in orders.items():
            assert decode(order, RoundOrder).others == b""
            state = state.received(client, reply(client, number, 1.0))
        state, record = state.closed()
        epsilons.append(record.epsilon)
    assert len(invited) > 1
    assert 0.0 < epsilons[0] < epsilons[1] < epsilons[2]
    assert not torch.equal(state.weights["w"][0], state.weights["w"][1])


@pytest.mark.parametrize(
    "bad",
    [
        {"fraction": 0.0},
        {"quorum": 0},
        {"deadline_s": 0.0},
        {"discount": 1.5},
        {"rule": Rule(name="median"), "privacy": Privacy(clip=1.0, noise=1.0, secret=1)},
    ],
)
def test_settings_that_make_no_sense_are_refused(bad):
    with pytest.raises(ValueError, match=r"fraction|quorum|deadline_s|discount|fedavg"):
        FederationSettings(**bad)


def test_transitions_out_of_order_are_refused():
    state = server()
    with pytest.raises(FederationError, match=r"no round is open"):
        state.closed()
    with pytest.raises(FederationError, match=r"round 1 is still open"):
        state.opened(0.0)[0].opened(0.0)


@settings(max_examples=15, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(["u0", "u1", "x"]), st.binary(max_size=40)), max_size=8))
def test_no_message_whatsoever_ends_a_round(messages):
    state, _ = server().opened(0.0)
    for client, data in messages:
        state = state.received(client, data)
    state, record = state.closed()
    assert (value(state), len(record.refused)) == (0.0, len(messages))
