"""Cuts within limits: feasible, and with a bound that holds, against the oracle."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from split_problems import any_prices, chain_problem, problems, random_problem

from xapp.split.constrained import InfeasibleError, constrained_cut
from xapp.split.constraints import Constraints, bounds, forbidden_tensors, keeps
from xapp.split.latency import EdgeLoad, Link
from xapp.split.objective import DevicePower
from xapp.split.oracle import legal_cuts

LINK, EDGE, POWER = Link(2e5, 1e6, 0.002), EdgeLoad(0.001, 1.5), DevicePower(2.0)


def _least(problem, cost, constraints):
    limits = bounds(problem, constraints, LINK, EDGE, POWER)
    values = [
        problem.cost(device, cost)
        for device in legal_cuts(problem)
        if keeps(problem, device, constraints, limits)
    ]
    return min(values, default=np.inf)


@st.composite
def limits_of(draw, problem):
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    whole = np.ones(problem.size, dtype=bool)

    def some(value: float) -> float | None:
        return float(value * rng.uniform(0.2, 1.1)) if rng.random() < 0.5 else None

    return Constraints(
        deadline_s=some(problem.device_s.sum() + 0.02),
        energy_j=some(2.0 * problem.device_s.sum() + 0.01),
        device_s=some(problem.device_s.sum()),
        edge_s=some(problem.edge_s.sum()),
        memory_bytes=some(problem.memory_bytes(whole)),
        min_depth=int(rng.integers(0, 3)) if rng.random() < 0.3 else None,
        max_leakage=0.7 if rng.random() < 0.3 else None,
        leakage=tuple(rng.random(problem.size)),
    )


@settings(max_examples=30, deadline=None)
@given(problems(10).flatmap(lambda problem: st.tuples(st.just(problem), limits_of(problem))), any_prices)
def test_answer_keeps_to_the_limits_and_its_bound_holds(case, prices):
    problem, constraints = case
    cost = problem.linear(prices)
    limits = bounds(problem, constraints, LINK, EDGE, POWER)
    least = _least(problem, cost, constraints)
    try:
        found = constrained_cut(problem, cost, constraints, limits)
    except InfeasibleError as error:
        refused = error
    else:
        refused = None
    if refused is not None:
        assert not refused.proven or np.isinf(least)
        return
    assert problem.is_legal(found.device)
    assert keeps(problem, found.device, constraints, limits)
    assert found.lower_bound <= least * (1 + 1e-6) + 1e-9
    assert least <= found.cost + 1e-9


def test_most_answers_on_small_networks_are_optimal_and_gaps_are_small():
    optimal, feasible, gaps = 0, 0, []
    for seed in range(40):
        problem = random_problem(seed, 10, 1.5)
        cost = problem.linear(_prices(problem))
        whole = float(problem.device_s.sum())
        constraints = Constraints(device_s=0.4 * whole, memory_bytes=900.0)
        least = _least(problem, cost, constraints)
        if np.isinf(least):
            continue
        found = constrained_cut(problem, cost, constraints, bounds(problem, constraints, LINK, EDGE, POWER))
        feasible += 1
        optimal += found.cost <= least * (1 + 1e-6)
        gaps.append(found.gap)
    assert feasible > 20
    assert optimal == feasible
    assert np.median(gaps) < 0.1


def _prices(problem):
    from xapp.split.objective import Weights, prices

    return prices(LINK, EDGE, POWER, Weights(1.0, 0.2), problem.result_bytes)


def test_chain_is_solved_exactly_whatever_the_limits():
    for seed in range(20):
        problem = chain_problem(seed, 12)
        constraints = Constraints(memory_bytes=1500.0, deadline_s=0.08)
        cost = problem.linear(_prices(problem))
        least = _least(problem, cost, constraints)
        limits = bounds(problem, constraints, LINK, EDGE, POWER)
        if np.isinf(least):
            with pytest.raises(InfeasibleError):
                constrained_cut(problem, cost, constraints, limits)
            continue
        found = constrained_cut(problem, cost, constraints, limits)
        assert found.cost == pytest.approx(least)
        assert found.gap == 0.0


def test_impossible_limit_is_named_and_proven():
    problem = random_problem(1, 10)
    constraints = Constraints(deadline_s=1e-9)
    with pytest.raises(InfeasibleError, match="deadline_s is at least") as error:
        constrained_cut(
            problem,
            problem.linear(_prices(problem)),
            constraints,
            bounds(problem, constraints, LINK, EDGE, POWER),
        )
    assert error.value.proven


def test_minimum_depth_and_leakage_forbid_early_and_telling_tensors():
    problem = random_problem(2, 8)
    depths = [node.depth for node in problem.graph.nodes]
    deep = forbidden_tensors(problem, Constraints(min_depth=2))
    assert deep.tolist() == [depth < 2 for depth in depths]
    leakage = np.linspace(0.0, 1.0, 8)
    telling = forbidden_tensors(problem, Constraints(max_leakage=0.5, leakage=tuple(leakage)))
    assert telling.tolist() == (leakage > 0.5).tolist()
    unknown = forbidden_tensors(problem, Constraints(max_leakage=0.5, leakage=(float("nan"),) * 8))
    assert unknown.all()
    with pytest.raises(ValueError, match="leakage"):
        forbidden_tensors(problem, Constraints(max_leakage=0.5))
