"""The label states: what doubts, prunes and restores a pair, and that nothing else does."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from codec_runtime.adapters.tracking import Label, LabelRule, LabelStates

LOW, HIGH = 0.1, 0.9
PAIRS = 4


def confidences(*values: float) -> torch.Tensor:
    return torch.tensor(values)


def test_low_confidence_leaves_this_gradient_and_the_next_epoch_may_bring_it_back():
    doubtful = LabelStates.fresh(2).judged(confidences(LOW, HIGH))
    assert [doubtful[0], doubtful[1]] == [Label.DOUBTFUL, Label.ACTIVE]
    assert doubtful.in_gradient.tolist() == [False, True]
    assert doubtful.judged(confidences(HIGH, HIGH)).in_gradient.all()


def test_own_doubt_alone_never_prunes():
    states = LabelStates.fresh(1, LabelRule(rounds=1))
    for _ in range(10):
        states = states.judged(confidences(LOW))
    assert states[0] == Label.DOUBTFUL


def test_pairs_are_pruned_after_r_rounds_of_disagreement_in_a_row():
    states = LabelStates.fresh(1, LabelRule(rounds=3))
    for expected in (Label.DOUBTFUL, Label.DOUBTFUL, Label.PRUNED):
        states = states.judged(confidences(LOW)).rescored(confidences(LOW))
        assert states[0] == expected
    assert not states.judged(confidences(HIGH)).in_gradient.any()


def test_one_round_of_agreement_starts_the_count_again():
    states = LabelStates.fresh(1, LabelRule(rounds=2))
    for consensus in (LOW, HIGH, LOW):
        states = states.rescored(confidences(consensus))
    assert states[0] == Label.DOUBTFUL


def test_a_pruned_pair_that_the_others_agree_on_returns():
    states = LabelStates.fresh(1, LabelRule(rounds=1)).rescored(confidences(LOW))
    assert states[0] == Label.PRUNED
    returned = states.rescored(confidences(HIGH))
    assert returned[0] == Label.RETURNED
    assert returned.in_gradient.all()
    assert returned.rescored(confidences(HIGH))[0] == Label.ACTIVE


def test_a_pair_that_its_user_trusts_is_pruned_all_the_same_if_the_others_persist():
    states = LabelStates.fresh(1, LabelRule(rounds=2))
    states = states.rescored(confidences(LOW)).judged(confidences(HIGH))
    assert states.in_gradient.all()
    assert states.rescored(confidences(LOW))[0] == Label.PRUNED


def test_counts_name_every_state():
    states = LabelStates.fresh(3, LabelRule(rounds=1)).rescored(confidences(LOW, HIGH, HIGH))
    assert states.counts() == {"active": 2, "doubtful": 0, "pruned": 1, "returned": 0}


@pytest.mark.parametrize(
    "values", [torch.tensor([0.5, float("nan")]), torch.tensor([0.5, 1.5]), torch.tensor([0.5])]
)
def test_bad_confidences_are_refused(values):
    for transition in (LabelStates.fresh(2).judged, LabelStates.fresh(2).rescored):
        with pytest.raises(ValueError, match=r"confidences"):
            transition(values)


@pytest.mark.parametrize("rule", [{"threshold": 1.5}, {"repair": -0.1}, {"rounds": 0}, {"rounds": 256}])
def test_rules_out_of_range_are_refused(rule):
    with pytest.raises(ValueError, match=next(iter(rule))):
        LabelRule(**rule)


@pytest.mark.parametrize(
    ("states", "streaks"),
    [(b"\x07", b"\x00"), (b"\x00\x00", b"\x00"), (b"\x02", b"\x00"), (b"\x00", b"\x03"), (b"\x00", b"\x09")],
)
def test_states_that_no_history_leads_to_are_refused(states, streaks):
    with pytest.raises(ValueError, match=r"state|streak"):
        LabelStates(rule=LabelRule(), states=states, streaks=streaks)


@settings(max_examples=30, deadline=None)
@given(st.binary(max_size=80))
def test_bytes_that_are_no_states_are_refused_by_name(data):
    with pytest.raises(ValueError, match=r"not label states"):
        LabelStates.from_bytes(data)


step = st.tuples(st.booleans(), st.lists(st.sampled_from([LOW, HIGH]), min_size=PAIRS, max_size=PAIRS))


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 4), st.lists(step, max_size=14))
def test_any_history_keeps_the_rules_and_survives_a_restart(rounds, history):
    states = LabelStates.fresh(PAIRS, LabelRule(rounds=rounds))
    disagreements = [0] * PAIRS
    for is_consensus, values in history:
        before = states.to_bytes()
        following = (states.rescored if is_consensus else states.judged)(torch.tensor(values))
        assert states.to_bytes() == before
        if is_consensus:
            disagreements = [
                count + 1 if value == LOW else 0 for count, value in zip(disagreements, values, strict=True)
            ]
        for pair in range(PAIRS):
            assert (following[pair] == Label.PRUNED) == (disagreements[pair] >= rounds)
        if not is_consensus:
            expected = [
                value == HIGH and count < rounds for value, count in zip(values, disagreements, strict=True)
            ]
            assert following.in_gradient.tolist() == expected
        states = LabelStates.from_bytes(following.to_bytes())
        assert states == following
