"""The candidate set is enough: no minimum cut is cheaper than the best candidate, whatever the prices."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from split_problems import any_prices, problems, random_problem

from codec_runtime.contract.devices import ASSUMED_CLASSES, EDGE_SERVER, class_profile
from xapp.split.candidates import TOLERANCE, candidate_cuts
from xapp.split.constraints import Constraints, restricted
from xapp.split.latency import EdgeLoad, Link
from xapp.split.mincut import CutNetwork, NoCutError
from xapp.split.objective import DevicePower, Prices, Weights, prices
from xapp.split.oracle import cheapest
from xapp.split.problem import split_problem
from xapp.split.reference_networks import efficientnet_lite0


@settings(max_examples=25, deadline=None)
@given(problems(10), st.lists(any_prices, min_size=20, max_size=20))
def test_best_candidate_is_as_cheap_as_the_oracle_at_all_prices(problem, several):
    candidates = candidate_cuts(problem)
    assert all(problem.is_legal(device) for device in candidates.device)
    for chosen in several:
        least = cheapest(problem, problem.linear(chosen))[1]
        assert candidates.costs(chosen).min() <= least * (1 + 10 * TOLERANCE) + 1e-9


def test_best_candidate_matches_minimum_cuts_over_random_links_and_loads():
    graph = efficientnet_lite0()
    device, edge = class_profile(graph, ASSUMED_CLASSES[1]), class_profile(graph, EDGE_SERVER)
    problem = split_problem(graph, device, edge)
    problem = replace(problem, tensor_bytes=problem.tensor_bytes / 4)
    candidates = candidate_cuts(problem)
    network = CutNetwork(problem)
    rng = np.random.default_rng(1)
    chosen = set()
    for _ in range(100):
        chosen_prices = prices(
            Link(10 ** rng.uniform(4, 8), 10 ** rng.uniform(5, 9), rng.uniform(0, 0.05)),
            EdgeLoad(rng.exponential(0.02), 1.0 / rng.uniform(0.02, 1.0)),
            DevicePower(rng.uniform(0.5, 6.0)),
            Weights(1.0, rng.uniform(0.0, 2.0)),
            problem.result_bytes,
        )
        costs = candidates.costs(chosen_prices)[0]
        least = network.solve(problem.linear(chosen_prices)).cost
        assert costs.min() <= least * (1 + 10 * TOLERANCE)
        chosen.add(int(costs.argmin()))
    assert len(chosen) > 2


def test_candidates_keep_to_privacy_and_memory_and_are_enough_under_privacy():
    problem = random_problem(8, 10, 1.0)
    constraints = Constraints(min_depth=2)
    candidates = candidate_cuts(problem, constraints)
    depths = np.array([node.depth for node in problem.graph.nodes])
    for device in candidates.device:
        assert not (problem.crossing(device) & (depths < 2)).any()
    chosen = Prices(2.0, 1e-4, 1.0, 0.01)
    least = cheapest(problem, restricted(problem, problem.linear(chosen), constraints))[1]
    assert candidates.costs(chosen).min() == pytest.approx(least, rel=1e-5)

    small = candidate_cuts(problem, Constraints(memory_bytes=700.0))
    assert small.memory_bytes.max() <= 700.0
    with pytest.raises(NoCutError):
        candidate_cuts(problem, Constraints(min_depth=100, memory_bytes=10.0))


def test_no_candidate_is_worse_than_another_in_everything():
    candidates = candidate_cuts(random_problem(9, 40, 2.0), with_prefixes=True)
    rows = np.column_stack((*candidates.measures, candidates.memory_bytes))
    for index, row in enumerate(rows):
        others = np.delete(rows, index, axis=0)
        assert not (others <= row).all(axis=1).any()


def test_weights_to_send_are_those_of_the_new_head_that_the_old_one_lacks():
    problem = random_problem(10, 12, 1.0)
    candidates = candidate_cuts(problem)
    extra = candidates.extra_head_bytes()
    for old, head in enumerate(candidates.device):
        for new, other in enumerate(candidates.device):
            assert extra[old, new] == problem.parameter_bytes[other & ~head].sum()
