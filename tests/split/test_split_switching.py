"""Moving cuts: no flapping under bounded noise, few moves, little regret."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xapp.split.switching import CutSwitcher, SwitchingRule, best_sequences


def _moving(count: int, cost: float) -> np.ndarray:
    return cost * (1.0 - np.eye(count))


def _total(choices: np.ndarray, costs: np.ndarray, moving: np.ndarray) -> np.ndarray:
    """(N,) cost of sequences (N, T), moves (N, T, C, C) included."""
    users, steps, count = costs.shape
    moving = np.broadcast_to(moving, (users, steps, count, count))
    total = np.zeros(users)
    for user, step in itertools.product(range(users), range(steps)):
        total[user] += costs[user, step, choices[user, step]]
        if step:
            total[user] += moving[user, step, choices[user, step - 1], choices[user, step]]
    return total


def _run(costs: np.ndarray, moving: np.ndarray, rule: SwitchingRule) -> np.ndarray:
    """(N, T, C) -> (N, T)."""
    switcher = CutSwitcher(len(costs), rule)
    return np.stack([switcher.step(costs[:, t], moving) for t in range(costs.shape[1])], axis=1)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32), st.floats(0.0, 0.3), st.integers(2, 6))
def test_bounded_noise_moves_a_cut_at_most_once(seed, noise, count):
    rng = np.random.default_rng(seed)
    true = rng.uniform(0.5, 1.5, (4, 1, count))
    seen = true * rng.uniform(1 - noise, 1 + noise, (4, 100, count))
    band = ((1 + noise) / (1 - noise)) ** 2 - 1
    choices = _run(seen, _moving(count, 1e-6), SwitchingRule(band=band, patience=1.0))
    assert ((np.diff(choices, axis=1) != 0).sum(axis=1) <= 1).all()


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32), st.floats(0.01, 20.0), st.floats(0.0, 0.5))
def test_moves_are_bounded_by_what_staying_lost(seed, price, band):
    rng = np.random.default_rng(seed)
    costs = rng.uniform(0.1, 2.0, (3, 100, 4))
    choices = _run(costs, _moving(4, price), SwitchingRule(band=band))
    # What was lost in force, before the move of that step.
    before = np.concatenate((choices[:, :1], choices[:, :-1]), axis=1)
    now = np.take_along_axis(costs, before[:, :, None], axis=2)[:, :, 0]
    lost = np.maximum(now - (1 + band) * costs.min(axis=2), 0.0).sum(axis=1)
    assert ((np.diff(choices, axis=1) != 0).sum(axis=1) <= lost / price + 1e-9).all()


def test_cut_follows_a_lasting_change_and_ignores_a_short_one():
    costs = np.ones((1, 100, 2))
    costs[0, :, 1] = 1.5
    costs[0, 50:, 0] = 3.0
    costs[0, 20:22, 0] = 3.0
    choices = _run(costs, _moving(2, 5.0), SwitchingRule(band=0.1))[0]
    assert (choices[:50] == 0).all()
    assert (choices[55:] == 1).all()


def test_impossible_cut_is_left_at_once():
    switcher = CutSwitcher(1, SwitchingRule(band=1.0, patience=100.0))
    moving = _moving(2, 50.0)
    assert switcher.step(np.array([[1.0, 2.0]]), moving).tolist() == [0]
    assert switcher.step(np.array([[np.inf, 2.0]]), moving).tolist() == [1]


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**32))
def test_dynamic_programme_is_as_cheap_as_trying_all_sequences(seed):
    rng = np.random.default_rng(seed)
    costs, moving = rng.random((2, 5, 3)), rng.random((2, 5, 3, 3)) * (1 - np.eye(3))
    best = _total(best_sequences(costs, lambda step: moving[:, step]), costs, moving)
    for user in range(2):
        least = min(
            _total(np.array([order]), costs[[user]], moving[[user]])[0]
            for order in itertools.product(range(3), repeat=5)
        )
        assert best[user] == pytest.approx(least)


@pytest.mark.parametrize("seed", range(4))
def test_regret_against_the_oracle_with_moves_is_a_small_part_of_the_cost(seed):
    rng = np.random.default_rng(seed)
    level = np.cumsum(rng.normal(0, 0.05, (10, 400, 1)), axis=1)
    costs = np.concatenate((np.full_like(level, 1.0), 1.0 + 0.5 * np.tanh(level)), axis=2)
    moving = _moving(2, 0.5)
    ours = _total(_run(costs, moving, SwitchingRule(band=0.02)), costs, moving).sum()
    greedy = _total(costs.argmin(axis=2), costs, moving).sum()
    oracle = _total(best_sequences(costs, lambda step: moving), costs, moving).sum()
    assert oracle <= ours < 1.05 * oracle
    assert ours <= greedy * 1.02


def test_rule_with_a_negative_parameter_is_refused():
    with pytest.raises(ValueError, match="band"):
        SwitchingRule(band=-0.1)
