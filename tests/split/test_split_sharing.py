"""Users that share an edge server: shares in closed form, cuts by best response, against the exact
optimum."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize

from xapp.split.sharing import (
    SharedEdge,
    deadline_shares,
    earliest_shares,
    exact_share,
    share_edge,
    square_root_shares,
)


def _case(seed: int, users: int, candidates: int) -> SharedEdge:
    """Heads grow, tails shrink along the candidates; the last leaves nothing to the edge."""
    rng = np.random.default_rng(seed)
    place = np.sort(rng.random((users, candidates)), axis=1)
    place[:, -1] = 1.0
    speed = rng.uniform(0.05, 0.6, (users, 1))
    own = speed * place + rng.exponential(0.05, (users, candidates)) * (place < 1)
    edge_s = rng.uniform(0.01, 0.1) * (1 - place)
    return SharedEdge(own, np.sqrt(rng.uniform(0.5, 2.0, (users, 1)) * edge_s))


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 5), st.integers(2, 6))
def test_best_response_is_stable_between_bound_and_optimum(seed, users, candidates):
    problem = _case(seed, users, candidates)
    found = share_edge(problem)
    _, least = exact_share(problem)
    assert found.stable
    assert found.lower_bound <= least + 1e-9
    assert least <= found.cost + 1e-9
    for user in range(users):
        for other in range(candidates):
            moved = found.choice.copy()
            moved[user] = other
            assert problem.potential(moved) >= found.cost * (1 - 1e-6)


def test_best_response_is_optimal_in_most_small_cases():
    gaps = []
    for seed in range(60):
        problem = _case(seed, 4, 6)
        least = exact_share(problem)[1]
        gaps.append(share_edge(problem).cost / least - 1.0)
    assert np.mean(np.array(gaps) < 1e-9) > 0.9
    assert np.mean(gaps) < 0.005
    assert max(gaps) < 0.1


def test_gap_to_the_bound_is_small_for_many_users():
    found = share_edge(_case(7, 300, 8))
    assert found.stable
    assert found.gap < 0.01
    assert found.shares.sum() == pytest.approx(1.0)


@given(st.lists(st.floats(1e-3, 10.0), min_size=2, max_size=5))
def test_square_root_shares_minimise_the_weighted_sum(products):
    root = np.sqrt(np.array(products))
    shares = square_root_shares(root)
    least = (root**2 / shares).sum()
    assert least == pytest.approx(root.sum() ** 2)
    rng = np.random.default_rng(0)
    for other in rng.dirichlet(np.ones(len(root)), 20):
        assert (root**2 / other).sum() >= least * (1 - 1e-9)


@settings(max_examples=30)
@given(st.integers(0, 2**32), st.integers(1, 6))
def test_earliest_shares_make_the_largest_latency_smallest(seed, users):
    rng = np.random.default_rng(seed)
    fixed, edge = rng.uniform(0, 0.1, users), rng.exponential(0.05, users)
    edge[rng.random(users) < 0.2] = 0.0
    shares, latest = earliest_shares(fixed, edge)
    assert shares.sum() <= 1 + 1e-9
    busy = edge > 0
    ends = fixed + np.divide(edge, shares, out=np.zeros(users), where=busy)
    assert ends.max() == pytest.approx(latest)
    if busy.any() and latest == pytest.approx(float(ends[busy].max())):
        # Whoever ends earlier with more share takes it from one who then ends later.
        assert shares.sum() == pytest.approx(1.0)
        assert ends[busy] == pytest.approx(np.full(busy.sum(), latest))


def test_earliest_shares_agree_with_a_numerical_optimum():
    fixed, edge = np.array([0.01, 0.05, 0.002]), np.array([0.04, 0.01, 0.03])
    _, latest = earliest_shares(fixed, edge)
    found = minimize(
        lambda v: v[3],
        np.array([0.3, 0.3, 0.3, 1.0]),
        bounds=[(1e-3, 1)] * 3 + [(0, 10)],
        constraints=[
            {"type": "ineq", "fun": lambda v: v[3] - fixed - edge / v[:3]},
            {"type": "ineq", "fun": lambda v: 1 - v[:3].sum()},
        ],
    )
    assert latest == pytest.approx(found.fun, rel=1e-4)


def test_deadlines_are_kept_or_refused():
    fixed, edge = np.array([0.01, 0.02]), np.array([0.01, 0.02])
    shares = deadline_shares(fixed, edge, np.array([0.05, 0.08]))
    assert shares is not None
    assert (fixed + edge / shares <= np.array([0.05, 0.08]) + 1e-12).all()
    assert shares.sum() == pytest.approx(1.0)
    assert deadline_shares(fixed, edge, np.array([0.025, 0.03])) is None
    assert deadline_shares(fixed, edge, np.array([0.005, 1.0])) is None


def test_user_without_a_possible_cut_is_refused():
    with pytest.raises(ValueError, match="no candidate"):
        share_edge(SharedEdge(np.array([[np.inf, np.inf]]), np.zeros((1, 2))))
