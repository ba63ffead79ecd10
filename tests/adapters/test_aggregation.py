"""Aggregation rules on numbers that can be checked by hand."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from codec_runtime.adapters.aggregation import (
    Contribution,
    Rule,
    TooFewUpdatesError,
    Weights,
    aggregate,
    flattened,
    krum_ranking,
    unflattened,
    update_problems,
)
from codec_runtime.adapters.rescoring import consensus_of_others

RULES = [
    Rule(),
    Rule(name="q-fair"),
    Rule(name="trimmed-mean", malicious=1),
    Rule(name="median", malicious=1),
    Rule(name="krum", malicious=1),
    Rule(name="multi-krum", malicious=1),
]


def weights(*values: float, steps: int = 0) -> Weights:
    return {"w": torch.tensor(values), "steps": torch.tensor(steps)}


def contributions(*values: float, shares: tuple[float, ...] = (), losses: tuple[float, ...] = ()):
    return [
        Contribution(
            f"u{index}",
            weights(float(value), -float(value), steps=9),
            shares[index] if shares else 1.0,
            losses[index] if losses else 1.0,
        )
        for index, value in enumerate(values)
    ]


def result(rule: Rule, given) -> list[float]:
    return aggregate(rule, weights(0.0, 0.0), given)["w"].tolist()


def test_fedavg_weighs_by_share():
    assert result(Rule(), contributions(1.0, 4.0, shares=(2.0, 1.0))) == [2.0, -2.0]


def test_trimmed_mean_leaves_out_the_extremes_of_every_value():
    assert result(Rule(name="trimmed-mean", malicious=1), contributions(1, 2, 3, 900)) == [2.5, -2.5]


def test_median_of_odd_and_even_numbers():
    assert result(Rule(name="median"), contributions(1, 9, 2)) == [2.0, -2.0]
    assert result(Rule(name="median"), contributions(1, 9, 2, 3)) == [2.5, -2.5]


def test_krum_takes_the_update_in_the_thickest_crowd():
    given = contributions(1.0, 1.1, 1.3, 7.0, -50.0)
    assert result(Rule(name="krum", malicious=1), given) == pytest.approx([1.1, -1.1])


def test_multi_krum_averages_all_but_the_f_worst():
    given = contributions(1.0, 1.1, 1.3, 1.4, -50.0)
    assert result(Rule(name="multi-krum", malicious=1), given) == pytest.approx([1.2, -1.2])


@pytest.mark.parametrize("malicious", [0, 1, 2])
def test_krum_needs_two_f_plus_three(malicious):
    needed = 2 * malicious + 3
    krum_ranking([weights(float(i)) for i in range(needed)], malicious)
    with pytest.raises(TooFewUpdatesError, match=rf"at least {needed} updates, got {needed - 1}"):
        krum_ranking([weights(float(i)) for i in range(needed - 1)], malicious)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)
def test_every_rule_says_how_many_updates_it_takes(rule):
    result(rule, contributions(*range(1, rule.minimum + 1)))
    with pytest.raises(TooFewUpdatesError, match=f"at least {rule.minimum} updates, got {rule.minimum - 1}"):
        result(rule, contributions(*range(1, rule.minimum)))


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)
def test_counters_and_dtypes_stay_the_references(rule):
    got = aggregate(rule, weights(0.0, 0.0), contributions(*[2.0] * 5))
    assert int(got["steps"]) == 0
    assert got["w"].dtype == torch.float32


@pytest.mark.parametrize("rule", [r for r in RULES if r.name != "q-fair"], ids=lambda rule: rule.name)
def test_equal_updates_are_their_own_aggregate(rule):
    assert result(rule, contributions(*[2.5] * 5)) == [2.5, -2.5]


def test_q_fair_with_q_zero_is_the_plain_mean():
    given = contributions(1.0, 4.0, losses=(9.0, 0.1))
    for lipschitz in (1.0, 50.0):
        assert result(Rule(name="q-fair", q=0.0, lipschitz=lipschitz), given) == pytest.approx([2.5, -2.5])


def test_q_fair_follows_its_formula():
    rule = Rule(name="q-fair", q=1.0, lipschitz=2.0)
    # D = 2 (0 - (v, -v)): norms 8 v^2; h = |D|^2 + 2 F
    step = (0.5 * -2.0 + 3.0 * 4.0) / ((8.0 + 1.0) + (32.0 + 6.0))
    assert result(rule, contributions(1.0, -2.0, losses=(0.5, 3.0)))[0] == pytest.approx(-step)


def test_q_fair_turns_towards_the_user_that_fares_worse():
    given = contributions(1.0, -1.0, losses=(0.1, 2.0))
    assert result(Rule(name="q-fair", q=2.0), given)[0] < 0.0


@pytest.mark.parametrize(
    ("update", "problem"),
    [
        ({"w": torch.zeros(3), "steps": torch.tensor(0)}, r"tensor w is \(3,\) torch.float32, not \(2,\)"),
        ({"w": torch.zeros(2).half(), "steps": torch.tensor(0)}, r"torch.float16, not \(2,\) torch.float32"),
        ({"w": torch.zeros(2)}, r"tensor steps is missing"),
        ({**weights(0.0, 0.0), "x": torch.zeros(1)}, r"tensor x is unknown"),
        (weights(float("nan"), 0.0), r"tensor w holds NaN"),
        (weights(float("inf"), 0.0), r"tensor w holds NaN or infinity"),
    ],
)
def test_updates_that_do_not_fit_are_named(update, problem):
    (found,) = update_problems(update, weights(0.0, 0.0))
    with pytest.raises(AssertionError, match=problem):
        raise AssertionError(found)


def test_an_update_that_fits_has_no_problem():
    assert update_problems(weights(1.0, 2.0), weights(0.0, 0.0)) == []


@pytest.mark.parametrize("bad", [{"name": "mean"}, {"malicious": -1}, {"q": -1.0}, {"lipschitz": 0.0}])
def test_rules_that_make_no_sense_are_refused(bad):
    with pytest.raises(ValueError, match=r"rule"):
        Rule(**bad)


@pytest.mark.parametrize("shares", [(0.0, 1.0), (-1.0, 2.0), (float("nan"), 1.0)])
def test_shares_that_make_no_mean_are_refused(shares):
    with pytest.raises(ValueError, match=r"positive, finite shares"):
        result(Rule(), contributions(1.0, 2.0, shares=shares))


def test_consensus_leaves_out_the_one_it_is_for():
    found = consensus_of_others(Rule(), weights(0.0, 0.0), contributions(1.0, 2.0, 6.0))
    assert {client: float(w["w"][0]) for client, w in found.items()} == {"u0": 4.0, "u1": 3.5, "u2": 1.5}


def test_there_is_no_consensus_of_too_few_others():
    assert consensus_of_others(Rule(), weights(0.0, 0.0), contributions(1.0)) == {}
    rule = Rule(name="krum", malicious=1)
    assert consensus_of_others(rule, weights(0.0, 0.0), contributions(*range(5))) == {}


@settings(max_examples=15, deadline=None)
@given(st.lists(st.floats(-100, 100, width=32), min_size=5, max_size=9), st.randoms(use_true_random=False))
def test_robust_rules_stay_within_the_updates_and_do_not_care_for_order(values, random):
    shuffled = list(values)
    random.shuffle(shuffled)
    for name in ("trimmed-mean", "median"):
        rule = Rule(name=name, malicious=1)
        got = result(rule, contributions(*values))
        assert min(values) <= got[0] <= max(values)
        assert result(rule, contributions(*shuffled)) == pytest.approx(got, abs=1e-4)


@settings(max_examples=10, deadline=None)
@given(st.lists(st.floats(-10, 10, width=32), min_size=6, max_size=6))
def test_flattening_is_undone(values):
    reference = {"b": torch.zeros(2, 2), "a": torch.zeros(2), "n": torch.tensor(5)}
    vector = torch.tensor(values, dtype=torch.float64)
    assert torch.equal(flattened(unflattened(vector, reference)), vector)
