"""Minimum cuts against the exhaustive oracle."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from split_problems import any_prices, problems, random_problem

from codec_runtime.contract.split import CutError, SplitNode, make_graph
from xapp.split.mincut import CutNetwork, NoCutError
from xapp.split.objective import Prices
from xapp.split.oracle import cheapest, legal_cuts
from xapp.split.problem import ProblemError, SplitProblem


@settings(max_examples=60, deadline=None)
@given(problems(), any_prices)
def test_minimum_cut_is_as_cheap_as_the_best_of_all_legal_cuts(problem, prices):
    cost = problem.linear(prices)
    found = CutNetwork(problem).solve(cost)
    _, least = cheapest(problem, cost)
    assert problem.is_legal(found.device)
    assert found.cost == pytest.approx(problem.cost(found.device, cost))
    assert found.lower_bound <= least + 1e-12
    assert least <= found.cost <= least + found.rounding + 1e-12


@settings(max_examples=30, deadline=None)
@given(problems(9), any_prices, st.integers(0, 2**31))
def test_minimum_cut_respects_forbidden_tensors_and_nodes(problem, prices, seed):
    rng = np.random.default_rng(seed)
    cost = problem.linear(prices)
    cost = replace(
        cost,
        tensor=np.where(rng.random(problem.size) < 0.3, np.inf, cost.tensor),
        device=np.where((rng.random(problem.size) < 0.2) & ~problem.inputs, np.inf, cost.device),
    )
    _, least = cheapest(problem, cost)
    network = CutNetwork(problem)
    if np.isinf(least):
        with pytest.raises(NoCutError):
            network.solve(cost)
    else:
        found = network.solve(cost)
        assert least <= found.cost <= least + found.rounding + 1e-12


def _fork() -> SplitProblem:
    """input -> a; a -> b, c, d -> join."""
    nodes = [SplitNode(name="x", op="input", output_bytes=1000)]
    nodes += [
        SplitNode(name=name, op="relu", output_bytes=size)
        for name, size in zip("abcd", (10, 90, 90, 90), strict=True)
    ]
    nodes += [SplitNode(name="join", op="add", output_bytes=10)]
    graph = make_graph("fork", nodes, [(0, 1), (1, 2), (1, 3), (1, 4), (2, 5), (3, 5), (4, 5)])
    ones = np.full(6, 1.0)
    return SplitProblem(graph, ones, ones * 0.1, np.array([node.output_bytes for node in graph.nodes], float))


def test_tensor_with_three_readers_is_paid_once():
    problem = _fork()
    found = CutNetwork(problem).solve(problem.linear(Prices(1.0, 0.1, 1.0, 0.0)))
    assert np.flatnonzero(found.device).tolist() == [0, 1]
    assert found.cost == pytest.approx(2.0 + 0.1 * 10 + 0.4)
    assert problem.cut(found.device).crossing == (1,)


def test_answer_is_free_of_offloading_cost_only_when_all_is_on_the_device():
    problem = _fork()
    dear = CutNetwork(problem).solve(problem.linear(Prices(1.0, 0.1, 1.0, 100.0)))
    assert dear.device.all()
    assert dear.cost == pytest.approx(6.0)
    forced = CutNetwork(problem).solve(problem.linear(Prices(1.0, 0.1, 1.0, 100.0)), all_device=False)
    assert not forced.device.all()


def test_costs_of_many_magnitudes_do_not_overflow():
    problem = random_problem(5, 12, 2.0)
    for factor in (1e-12, 1.0, 1e15):
        prices = Prices(factor, factor * 1e-9, factor * 3.0, factor * 1e6)
        found = CutNetwork(problem).solve(problem.linear(prices))
        assert found.cost <= cheapest(problem, problem.linear(prices))[1] * (1 + 1e-5)


@given(problems(8))
def test_oracle_gives_each_legal_cut_once(problem):
    every = [tuple(device) for device in legal_cuts(problem)]
    assert len(every) == len(set(every))
    masks = ((np.arange(2**problem.size)[:, None] >> np.arange(problem.size)) & 1).astype(bool)
    assert len(every) == sum(problem.is_legal(mask) for mask in masks)


def test_illegal_sets_and_wrong_sizes_are_refused():
    problem = _fork()
    with pytest.raises(CutError, match="join"):
        problem.cut(np.array([True, True, True, False, False, True]))
    with pytest.raises(ProblemError, match="device_s"):
        replace(problem, device_s=np.ones(3))
    with pytest.raises(ProblemError, match="finite"):
        replace(problem, edge_s=np.full(6, -1.0))
