"""Who decides about the cut, for comparison: fixed cuts, the published methods, oracles, and ours.

All choose among the same cuts of a network on a device class, second by second, for all users at once, and
all but the oracles and the best fixed cut know the past alone: at second t the link and the queue of t - 1.

- ``device``, ``edge``: everything here, everything there.
- ``static``: the one cut that is best on average for the user's whole trace, known beforehand.
- ``neurosurgeon`` (Kang et al., ASPLOS 2017): node times by a regression over layer features, a scan over the
  points where a single tensor crosses, last throughput and server load; moves whenever another cut looks
  better.
- ``dads-light``, ``dads-heavy`` (Hu et al., INFOCOM 2019): by last throughput; lightly loaded the cut of
  least latency, heavily loaded the one whose slowest stage (device, radio, edge) is fastest, here the best
  over all candidates, which is no worse than their sweep of weighted minimum cuts. They know neither energy
  nor queue.
- ``greedy``: ours without smoothing and hysteresis.
- ``ours``: link and queue smoothed, moves after arrears (:mod:`xapp.split.switching`).
- ``oracle``: the best cut of every second, known, moves free: what nobody can be better than.
- ``oracle-moves``: the best sequence, known, moves paid.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from xapp.split.candidates import CandidateCuts
from xapp.split.chain import PrefixCuts, prefix_cuts
from xapp.split.latency import CutMeasures, EdgeLoad, Floats, Link, stage_times
from xapp.split.objective import DevicePower, Weights, weighted_cost
from xapp.split.problem import SplitProblem
from xapp.split.scenario import Scenario
from xapp.split.switching import Choices, CutSwitcher, SwitchingRule, best_sequences


@dataclass(frozen=True)
class MovingCost:
    """What it takes to move a cut: a pause, and the weights that the device lacks, which the user waits for.

    Attributes:
        extra_bytes: (C, C) weights to send for a move from one cut to another.
        pause_s: state and warm-up.
        downlink_bps: (N, T).
        power, weights: of the objective.
    """

    extra_bytes: Floats
    pause_s: float
    downlink_bps: Floats
    power: DevicePower
    weights: Weights

    def stall_s(self, step: int | slice, size: Floats) -> Floats:
        """Seconds to send ``size`` bytes, and the pause."""
        return np.asarray(self.pause_s + 8.0 * size / self.downlink_bps[:, step], dtype=np.float64)

    def energy_j(self, stall_s: Floats, size: Floats) -> Floats:
        """Of the device for a move that takes ``stall_s``."""
        return np.asarray(self.power.radio_w * stall_s + 8.0 * self.power.down_j_per_bit * size)

    def at(self, step: int, count: int) -> Floats:
        """(N, count, count) cost of moves among the first cuts; staying costs nothing."""
        size = self.extra_bytes[:count, :count]
        stall = self.pause_s + 8.0 * size[None] / self.downlink_bps[:, step, None, None]
        cost = self.weights.per_second * stall + self.weights.per_joule * self.energy_j(stall, size[None])
        return cost * (1.0 - np.eye(count))


@dataclass(frozen=True)
class ClassCase:
    """All that deciders work with for one device class; N users, T seconds, C cuts.

    Attributes:
        problem: network and class.
        cuts: measures of the C cuts to choose from: hull first, then single-tensor prefixes.
        hull: number of those on the hull.
        power, weights: of the objective.
        scenario: what happens.
        moving: what a move costs.
        requests: a second and user.
        rule: hysteresis of ours.
        smoothing: weight of the newest sample in ours.
    """

    problem: SplitProblem
    cuts: CutMeasures
    hull: int
    power: DevicePower
    weights: Weights
    scenario: Scenario
    moving: MovingCost
    requests: float
    rule: SwitchingRule
    smoothing: float

    def costs(self, link: Link, edge: EdgeLoad) -> Floats:
        """(N, T, C) of a request with each cut, for links and loads (N, T)."""
        return weighted_cost(
            self.cuts,
            _cutwise(link),
            _cutwise_load(edge),
            self.power,
            self.weights,
            self.problem.result_bytes,
        )

    def actual(self) -> Floats:
        """(N, T, C) what each cut really costs."""
        return self.costs(self.scenario.link, self.scenario.edge)

    def past(self) -> tuple[Link, EdgeLoad]:
        """What is known at each second; before the first, a probe of the first."""
        scenario = self.scenario
        link = Link(_delayed(scenario.uplink_bps), _delayed(scenario.downlink_bps), scenario.delay_s)
        return link, EdgeLoad(_delayed(np.asarray(scenario.edge.queue_s)))


def _cutwise(link: Link) -> Link:
    up, down = np.asarray(link.uplink_bps), np.asarray(link.downlink_bps)
    return Link(up[..., None], down[..., None], link.delay_s)


def _cutwise_load(edge: EdgeLoad) -> EdgeLoad:
    return EdgeLoad(np.asarray(edge.queue_s)[..., None], edge.slowdown)


def _delayed(values: Floats) -> Floats:
    return np.concatenate((values[:, :1], values[:, :-1]), axis=1)


def _smoothed(values: Floats, newest: float) -> Floats:
    """Exponential average along time, (N, T)."""
    out = np.empty_like(values)
    out[:, 0] = values[:, 0]
    for step in range(1, values.shape[1]):
        out[:, step] = (1.0 - newest) * out[:, step - 1] + newest * values[:, step]
    return out


def _worse(times: Floats, newest: float) -> Floats:
    """The larger of the averages with this weight and with a tenth of it, (N, T)."""
    return np.maximum(_smoothed(times, newest), _smoothed(times, 0.1 * newest))


def menu(candidates: CandidateCuts) -> tuple[NDArray[np.bool_], CutMeasures, int]:
    """The cuts to choose from: (C, n) sets, measures (C,), and how many are on the hull."""
    prefixes = prefix_cuts(candidates.problem)
    seen = {device.tobytes() for device in candidates.device}
    extra = []
    for index in np.flatnonzero(prefixes.crossing <= 1):
        device = prefixes.device(int(index))
        if device.tobytes() not in seen:
            seen.add(device.tobytes())
            extra.append(device)
    devices = np.array([*candidates.device, *extra])
    rows = np.array([candidates.problem.measures(device) for device in devices], dtype=np.float64)
    return devices, CutMeasures(*rows.T), len(candidates)


def _fixed(case: ClassCase, index: int) -> Choices:
    return np.full(case.scenario.uplink_bps.shape, index, dtype=np.int64)


def _device(case: ClassCase) -> Choices:
    return _fixed(case, int(np.argmin(case.cuts.offloaded)))


def _edge(case: ClassCase) -> Choices:
    """Of the cuts without device time the one that sends least: the input."""
    cost = np.asarray(case.cuts.device_s) * 1e6 + np.asarray(case.cuts.crossing_bytes) * 1e-6
    return _fixed(case, int(np.argmin(cost)))


def _static(case: ClassCase) -> Choices:
    best = case.actual().mean(axis=1).argmin(axis=1)
    return np.repeat(best[:, None], case.scenario.uplink_bps.shape[1], axis=1)


def regressed_seconds(problem: SplitProblem, seconds: Floats) -> Floats:
    """Node times (n,) by least squares over multiply-accumulates, bytes moved and one, for each operation."""
    nodes = problem.graph.nodes
    features = np.array([(node.macs, node.working_bytes + node.parameter_bytes, 1.0) for node in nodes])
    scale = features.max(axis=0)
    predicted = np.zeros(problem.size)
    kinds = np.array([node.op for node in nodes])
    for kind in np.unique(kinds):
        rows = kinds == kind
        known = features[rows] / np.where(scale > 0, scale, 1.0)
        solution = np.linalg.lstsq(known, seconds[rows], rcond=None)[0]
        predicted[rows] = np.maximum(known @ solution, 0.0)
    return predicted


def _neurosurgeon(case: ClassCase) -> Choices:
    problem = case.problem
    believed = SplitProblem(
        problem.graph,
        regressed_seconds(problem, problem.device_s),
        regressed_seconds(problem, problem.edge_s),
        problem.tensor_bytes,
        problem.result_bytes,
    )
    prefixes = prefix_cuts(believed)
    rows, places = _single_tensor_rows(prefixes, case)
    measures = CutMeasures(*(np.asarray(values)[rows] for values in prefixes.measures))
    link, edge = case.past()
    costs = weighted_cost(
        measures, _cutwise(link), _cutwise_load(edge), case.power, case.weights, problem.result_bytes
    )
    return np.asarray(places[costs.argmin(axis=2)], dtype=np.int64)


def _single_tensor_rows(prefixes: PrefixCuts, case: ClassCase) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Prefixes at which at most one tensor crosses, and where the menu has a cut of the same true
    measures."""
    true = prefix_cuts(case.problem).measures
    rows = np.flatnonzero(prefixes.crossing <= 1)
    menu_rows = np.column_stack(case.cuts)
    scale = np.maximum(menu_rows.max(axis=0), 1e-12)
    distance = np.abs((np.column_stack(true)[rows, None] - menu_rows[None]) / scale).sum(axis=2)
    return rows, np.asarray(distance.argmin(axis=1), dtype=np.int64)


def _dads(case: ClassCase, *, heavy: bool) -> Choices:
    link, _ = case.past()
    idle = EdgeLoad(np.zeros_like(np.asarray(link.uplink_bps)))
    times = stage_times(case.cuts, _cutwise(link), _cutwise_load(idle), case.problem.result_bytes)
    if not heavy:
        return np.asarray(times.total_s[..., : case.hull].argmin(axis=2), dtype=np.int64)
    slowest = np.maximum(np.maximum(times.device_s, times.net_s), times.edge_s)
    return np.asarray(slowest.argmin(axis=2), dtype=np.int64)


def _greedy(case: ClassCase) -> Choices:
    return np.asarray(case.costs(*case.past())[..., : case.hull].argmin(axis=2), dtype=np.int64)


def _ours(case: ClassCase) -> Choices:
    link, edge = case.past()
    # Times are linear in 1 / rate, so that is averaged; the worse of a short and a long memory counts,
    # as a link that failed a minute ago may fail again while a move is under way.
    up = 1.0 / _worse(1.0 / np.asarray(link.uplink_bps), case.smoothing)
    down = 1.0 / _worse(1.0 / np.asarray(link.downlink_bps), case.smoothing)
    queue = _smoothed(np.asarray(edge.queue_s), case.smoothing)
    costs = case.costs(Link(up, down, link.delay_s), EdgeLoad(queue))[..., : case.hull]
    moving = replace(case.moving, downlink_bps=down)
    switcher = CutSwitcher(len(up), case.rule)
    steps = [
        switcher.step(costs[:, step], moving.at(step, case.hull), case.requests)
        for step in range(up.shape[1])
    ]
    return np.stack(steps, axis=1)


def _oracle(case: ClassCase) -> Choices:
    return np.asarray(case.actual().argmin(axis=2), dtype=np.int64)


def _oracle_moves(case: ClassCase) -> Choices:
    costs = case.actual()[..., : case.hull]
    return best_sequences(costs, lambda step: case.moving.at(step, case.hull), case.requests)


DECIDERS: dict[str, Callable[[ClassCase], Choices]] = {
    "device": _device,
    "edge": _edge,
    "static": _static,
    "neurosurgeon": _neurosurgeon,
    "dads-light": lambda case: _dads(case, heavy=False),
    "dads-heavy": lambda case: _dads(case, heavy=True),
    "greedy": _greedy,
    "ours": _ours,
    "oracle-moves": _oracle_moves,
    "oracle": _oracle,
}
FREE_MOVES = frozenset({"oracle"})
"""Whose moves are not charged."""
