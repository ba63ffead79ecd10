"""Deciders on traces: causal, rightly charged, none better than the oracles."""

from dataclasses import replace
from datetime import datetime, timedelta

import numpy as np
import pytest

from codec_runtime.contract.devices import ASSUMED_CLASSES
from xapp.lab.trace import Trace, parse_trace
from xapp.split.candidates import candidate_cuts
from xapp.split.chain import prefix_cuts
from xapp.split.deciders import DECIDERS, ClassCase, MovingCost, menu, regressed_seconds
from xapp.split.harness import SplitEvaluation, class_problem, compare_deciders
from xapp.split.objective import DevicePower, Weights
from xapp.split.reference_networks import efficientnet_lite0, resnet50
from xapp.split.scenario import LoadProcess, RadioShare, claim_check, scenario_from_traces
from xapp.split.switching import SwitchingRule

CLASSES = (ASSUMED_CLASSES[2], ASSUMED_CLASSES[3])


def _trace(seed: int, seconds: int = 80, name: str = "Download__x.csv") -> Trace:
    rng = np.random.default_rng(seed)
    cqi = np.clip(np.round(9 + np.cumsum(rng.normal(0, 1.2, seconds))), 1, 15)
    start = datetime(2020, 1, 1)
    lines = ["Timestamp,SNR,RSRP,CQI,DL_bitrate,UL_bitrate"]
    for second, value in enumerate(cqi):
        time = (start + timedelta(seconds=second)).strftime("%Y.%m.%d_%H.%M.%S")
        lines.append(f"{time},{value},-90,{value:.0f},{value * 2000:.0f},{value * 10:.0f}")
    return parse_trace("\n".join(lines), name)


TRACES = [_trace(1), _trace(2), _trace(3, name="Netflix__y.csv")]


@pytest.fixture(scope="module")
def comparison():
    return compare_deciders(TRACES, SplitEvaluation(classes=CLASSES, seconds=80))


def test_no_decider_beats_the_oracles(comparison):
    rows = {row.decider: row for row in comparison.rows}
    assert set(rows) == set(DECIDERS)
    for row in comparison.rows:
        assert row.cost >= rows["oracle"].cost - 1e-12
        assert row.users == 6
        assert row.p95_ms > 0
        assert row.energy_j > 0
    assert rows["static"].cost <= min(rows["device"].cost, rows["edge"].cost)
    assert rows["oracle-moves"].cost <= min(rows["ours"].cost, rows["greedy"].cost)
    assert rows["device"].offloaded == 0
    assert rows["edge"].offloaded == 1
    assert rows["edge"].split == 0


def test_hysteresis_moves_less_often_than_going_after_every_sample(comparison):
    rows = {row.decider: row for row in comparison.rows}
    assert rows["greedy"].moves_per_hour > 0
    assert rows["ours"].moves_per_hour < rows["greedy"].moves_per_hour
    assert rows["ours"].cost <= rows["greedy"].cost


@pytest.mark.slow
def test_result_is_the_same_in_every_run(comparison):
    again = compare_deciders(TRACES, SplitEvaluation(classes=CLASSES, seconds=80))
    assert again.as_dict() == comparison.as_dict()


def _case(scenario) -> ClassCase:
    device = CLASSES[1]
    problem = class_problem(efficientnet_lite0(), device, 8)
    devices, cuts, hull = menu(candidate_cuts(problem))
    extra = np.zeros((len(devices), len(devices)))
    weights = Weights(1.0, 0.1)
    moving = MovingCost(extra, 0.05, scenario.downlink_bps, DevicePower.of(device), weights)
    power = DevicePower.of(device)
    return ClassCase(problem, cuts, hull, power, weights, scenario, moving, 2.0, SwitchingRule(), 0.5)


@pytest.mark.parametrize("name", ["neurosurgeon", "dads-light", "dads-heavy", "greedy", "ours"])
def test_deciders_know_the_past_alone(name):
    scenario = scenario_from_traces(TRACES, 60, RadioShare(), LoadProcess(), seed=3)
    up, queue = scenario.uplink_bps.copy(), scenario.queue_s.copy()
    up[:, 30:] /= 50.0
    down = scenario.downlink_bps.copy()
    down[:, 30:] /= 50.0
    queue[30:] += 1.0
    other = replace(scenario, uplink_bps=up, downlink_bps=down, queue_s=queue)
    before, after = DECIDERS[name](_case(scenario)), DECIDERS[name](_case(other))
    assert (before[:, :31] == after[:, :31]).all()
    assert (before[:, 31:] != after[:, 31:]).any()


def test_rate_follows_the_cqi_or_what_downloads_carried():
    share = RadioShare()
    by_cqi = scenario_from_traces(TRACES, 20, share, LoadProcess(), 1)
    expected = share.uplink_bps(TRACES[0].values["CQI"][:20])
    assert by_cqi.uplink_bps[0] == pytest.approx(expected)
    assert by_cqi.uplink_bps.shape == (3, 20)
    carried = scenario_from_traces(TRACES, 20, share, LoadProcess(), 1, "carried")
    assert carried.uplink_bps.shape == (2, 20)
    assert carried.downlink_bps[1] == pytest.approx(1e3 * TRACES[1].values["DL_bitrate"][:20])
    with pytest.raises(ValueError, match="0 of 1 traces"):
        scenario_from_traces(TRACES[2:], 20, share, LoadProcess(), 1, "carried")


def test_claimed_rate_is_held_against_the_carried_one():
    check = claim_check(TRACES, RadioShare())
    assert check.samples == 240
    assert check.uplink_exceeded == 0.0
    assert check.download_rank_correlation > 0.95
    low = claim_check(TRACES, RadioShare(cell_share=1e-6, least_bps=1.0))
    assert low.uplink_exceeded == 1.0


def test_load_has_light_and_heavy_times_and_repeats_with_its_seed():
    waits = LoadProcess().queue_s(2000, 4)
    assert (waits == LoadProcess().queue_s(2000, 4)).all()
    assert (waits != LoadProcess().queue_s(2000, 5)).any()
    light, heavy = np.percentile(waits, (10, 90))
    assert light < 0.01
    assert heavy > 0.06


def test_reference_networks_are_those_of_the_papers():
    graph = resnet50()
    assert len(graph.nodes) == 177
    assert graph.macs == pytest.approx(4.09e9, rel=0.01)
    assert sum(node.op == "conv2d" for node in graph.nodes) == 53
    lite = efficientnet_lite0()
    assert graph.inputs == lite.inputs == (0,)
    assert lite.macs == 385_187_552


def test_regression_of_node_times_is_close_in_sum():
    problem = class_problem(efficientnet_lite0(), ASSUMED_CLASSES[0], 8)
    predicted = regressed_seconds(problem, problem.device_s)
    assert predicted.sum() == pytest.approx(problem.device_s.sum(), rel=0.05)
    assert prefix_cuts(problem).crossing.max() >= 2


def test_feature_bits_out_of_range_are_refused():
    with pytest.raises(ValueError, match="feature bits"):
        compare_deciders(TRACES, SplitEvaluation(classes=CLASSES, feature_bits=0))
