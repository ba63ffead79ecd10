"""Prefix cuts: exact for chains, legal and rightly measured for all networks."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from split_problems import any_prices, chain_problem, problems

from xapp.split.chain import is_chain, prefix_cuts
from xapp.split.latency import CutMeasures, EdgeLoad, Link, stage_times
from xapp.split.objective import DevicePower, Prices, Weights, energy_j, prices, weighted_cost
from xapp.split.oracle import cheapest, legal_cuts


@settings(max_examples=30, deadline=None)
@given(problems())
def test_prefixes_are_legal_and_measured_as_the_problem_measures_them(problem):
    cuts = prefix_cuts(problem)
    for index in range(problem.size + 1):
        device = cuts.device(index)
        assert problem.is_legal(device)
        expected = problem.measures(device)
        got = tuple(float(values[index]) for values in cuts.measures)
        assert got == pytest.approx(tuple(expected), abs=1e-12)
        assert cuts.memory_bytes[index] == pytest.approx(problem.memory_bytes(device))
        assert cuts.crossing[index] == problem.crossing(device).sum()


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32), st.integers(2, 14), any_prices)
def test_scan_of_a_chain_is_as_cheap_as_the_oracle(seed, count, chosen):
    problem = chain_problem(seed, count)
    assert is_chain(problem)
    cuts = prefix_cuts(problem)
    index = cuts.cheapest(chosen)
    cost = problem.linear(chosen)
    assert problem.cost(cuts.device(index), cost) == pytest.approx(cheapest(problem, cost)[1], abs=1e-12)


def test_a_chain_has_no_cuts_but_its_prefixes():
    problem = chain_problem(3, 9)
    prefixes = {prefix_cuts(problem).device(index).tobytes() for index in range(10)}
    assert {device.tobytes() for device in legal_cuts(problem)} == prefixes


def test_scan_keeps_to_what_is_allowed():
    problem = chain_problem(4, 8)
    cuts = prefix_cuts(problem)
    allowed = np.arange(9) == 5
    assert cuts.cheapest(Prices(1.0, 1e-3, 1.0, 0.1), allowed) == 5
    assert cuts.cheapest(Prices(1.0, 1e-3, 1.0, 0.1), np.zeros(9, bool)) is None


def test_latency_adds_device_both_ways_queue_and_tail():
    times = stage_times(
        CutMeasures(0.02, 1000.0, 0.004, 1.0), Link(1e6, 4e6, 0.005), EdgeLoad(0.003, 2.0), result_bytes=500.0
    )
    assert times.device_s == pytest.approx(0.02)
    assert times.net_s == pytest.approx(0.008 + 0.001 + 0.01)
    assert times.edge_s == pytest.approx(0.011)
    assert times.total_s == pytest.approx(0.05)


def test_nothing_but_the_head_is_paid_when_all_is_on_the_device():
    measures = CutMeasures(0.02, 0.0, 0.0, 0.0)
    link, edge = Link(1e6, 1e6, 0.1), EdgeLoad(1.0, 5.0)
    assert stage_times(measures, link, edge, 500.0).total_s == pytest.approx(0.02)
    assert energy_j(measures, link, edge, DevicePower(2.0), 500.0) == pytest.approx(0.04)


def test_energy_counts_computing_airtime_bits_and_waiting():
    power = DevicePower(2.0, idle_w=0.5, radio_w=1.0, up_j_per_bit=1e-6, down_j_per_bit=1e-7)
    energy = energy_j(
        CutMeasures(0.02, 1000.0, 0.004, 1.0), Link(1e6, 4e6, 0.005), EdgeLoad(0.003, 2.0), power, 500.0
    )
    assert energy == pytest.approx(0.04 + 0.009 + 0.008 + 0.0004 + 0.5 * (0.01 + 0.011))


@given(
    st.tuples(st.floats(0, 1), st.floats(0, 1e6), st.floats(0, 1)),
    st.floats(1e4, 1e9),
    st.floats(0, 0.1),
    st.floats(0, 1),
    st.floats(1, 20),
    st.floats(0, 10),
)
def test_prices_give_the_weighted_sum(measure, rate, delay, queue, slowdown, joule):
    measures = CutMeasures(*measure, 1.0)
    arguments = (
        Link(rate, rate * 3, delay),
        EdgeLoad(queue, slowdown),
        DevicePower(3.0),
        Weights(1.0, joule),
        4e3,
    )
    assert prices(*arguments).of(measures) == pytest.approx(float(weighted_cost(measures, *arguments)))
