"""`semcom bench split`: a decision about a cut with cached candidates, against minimum cuts from scratch.

A decision is what the xApp does when a user's link or the load has changed: prices, the cost of every
candidate, the best, and the hysteresis. The reference computes the same best cut without a cache: scipy's
maximum flow on a network built anew, and, where it is installed, networkx. All must find cuts of the same
cost.

What counts is CPU time, as in :mod:`xapp.benchmarks.kpm_decode`: what one core needs. On an idle machine
wall time is the same; on a crowded one the p99 of single calls is the length of a scheduler's slice. It is
told beside.
"""

from __future__ import annotations

import platform
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import numpy as np

from codec_runtime.contract.devices import ASSUMED_CLASSES, DeviceClass
from xapp.benchmarks.kpm_decode import BenchError, cpu_name, interleaved
from xapp.split.candidates import CandidateCuts, candidate_cuts
from xapp.split.harness import class_problem
from xapp.split.latency import EdgeLoad, Floats, Link
from xapp.split.mincut import CutNetwork
from xapp.split.objective import DevicePower, Weights, prices
from xapp.split.problem import LinearCost, SplitProblem
from xapp.split.reference_networks import resnet50
from xapp.split.switching import CutSwitcher, SwitchingRule

_WEIGHTS = Weights(1.0, 0.1)
_AGREEMENT = 1e-4


@dataclass(frozen=True)
class SplitBenchmark:
    """What was measured, milliseconds of CPU time unless named otherwise.

    Attributes:
        candidates: cuts that a decision chooses from, by device class.
        prepare_ms: finding the candidates of one class, largest; once for graph and class.
        decision_ms_p50, decision_ms_p99: one user, the p99 over single calls.
        decision_1000_users_ms: all users once, median; ``users_ms_p99`` its p99.
        wall: p99 of one decision and median of all users, by wall time.
        reference_ms: median of one minimum cut, by name.
    """

    nodes: int
    users: int
    decisions: int
    candidates: dict[str, int]
    prepare_ms: float
    decision_ms_p50: float
    decision_ms_p99: float
    decision_1000_users_ms: float
    users_ms_p99: float
    wall: dict[str, float]
    reference_ms: dict[str, float]

    def as_dict(self) -> dict[str, Any]:
        """The keys of ``--json``."""
        return {
            "decision_ms_p99": round(self.decision_ms_p99, 4),
            "decision_1000_users_ms": round(self.decision_1000_users_ms, 3),
            "decision_ms_p50": round(self.decision_ms_p50, 4),
            "decision_1000_users_ms_p99": round(self.users_ms_p99, 3),
            "wall_ms": {name: round(value, 4) for name, value in self.wall.items()},
            "reference_ms": {name: round(value, 3) for name, value in self.reference_ms.items()},
            "speedup": {
                name: round(value / self.decision_ms_p50, 1) for name, value in self.reference_ms.items()
            },
            "prepare_ms": round(self.prepare_ms, 1),
            "nodes": self.nodes,
            "users": self.users,
            "classes": len(self.candidates),
            "candidates": self.candidates,
            "decisions": self.decisions,
            "cpu": cpu_name(),
            "python": platform.python_version(),
        }

    def as_text(self) -> str:
        """A few lines for a terminal."""
        lines = [
            f"{self.nodes} nodes: {self.decision_ms_p50:.3f} ms a decision, p99 {self.decision_ms_p99:.3f}",
            f"{self.users} users of {len(self.candidates)} classes: {self.decision_1000_users_ms:.2f} ms",
            f"candidates of a class: found in up to {self.prepare_ms:.0f} ms, once",
        ]
        lines += [
            f"  {name:22} {value:9.3f} ms  {value / self.decision_ms_p50:6.1f}x"
            for name, value in self.reference_ms.items()
        ]
        return "\n".join(lines)


class _ClassDecider:
    """A device class's users, as the control loop holds them."""

    def __init__(self, cuts: CandidateCuts, power: DevicePower, users: int) -> None:
        self._cuts, self._power = cuts, power
        self._switcher = CutSwitcher(users, SwitchingRule())
        self._moving = 0.05 * (1.0 - np.eye(len(cuts)))

    def decide(self, link: Link, edge: EdgeLoad) -> Floats:
        """(N, C) costs that the cuts in force now follow."""
        priced = prices(link, edge, self._power, _WEIGHTS, self._cuts.problem.result_bytes)
        costs = self._cuts.costs(priced)
        self._switcher.step(costs, self._moving)
        return costs


def bench_split(
    users: int = 1000, decisions: int = 2000, rounds: int = 20, on_round: Callable[[], object] | None = None
) -> SplitBenchmark:
    """Measure; takes some ten seconds.

    Raises:
        BenchError: the cached decision and the references do not agree, or a number is below 1.
    """
    if users < len(ASSUMED_CLASSES) or decisions < 1 or rounds < 1:
        raise BenchError(f"at least {len(ASSUMED_CLASSES)} users, a decision and a round are needed")
    graph = resnet50()
    random = np.random.default_rng(1)
    problems = {device.name: class_problem(graph, device, 8) for device in ASSUMED_CLASSES}
    cuts, prepare = {}, []
    for name, problem in problems.items():
        start = time.perf_counter()
        cuts[name] = candidate_cuts(problem)
        prepare.append(time.perf_counter() - start)

    wearable = ASSUMED_CLASSES[2]
    single = _single_decisions(cuts[wearable.name], wearable, decisions, random)
    many = _many_users(cuts, users, max(rounds, 20), random)
    reference = _references(problems[wearable.name], cuts[wearable.name], wearable, rounds, random, on_round)
    return SplitBenchmark(
        nodes=len(graph.nodes),
        users=users,
        decisions=decisions,
        candidates={name: len(one) for name, one in cuts.items()},
        prepare_ms=1e3 * max(prepare),
        decision_ms_p50=float(np.median(single[:, 0])),
        decision_ms_p99=float(np.percentile(single[:, 0], 99)),
        decision_1000_users_ms=float(np.median(many[:, 0])),
        users_ms_p99=float(np.percentile(many[:, 0], 99)),
        wall={
            "decision_p50": float(np.median(single[:, 1])),
            "decision_p99": float(np.percentile(single[:, 1], 99)),
            "decision_1000_users": float(np.median(many[:, 1])),
        },
        reference_ms=reference,
    )


def _draw(users: int, random: np.random.Generator) -> tuple[Link, EdgeLoad]:
    up = 10 ** random.uniform(5.5, 8.0, users)
    return Link(up, 3.0 * up, 0.008), EdgeLoad(random.exponential(0.01, users), 1.0)


def _single_decisions(
    cuts: CandidateCuts, device: DeviceClass, decisions: int, random: np.random.Generator
) -> Floats:
    """(decisions, 2) CPU and wall milliseconds."""
    decider = _ClassDecider(cuts, DevicePower.of(device), 1)
    for _ in range(20):
        decider.decide(*_draw(1, random))
    times = np.empty((decisions, 2))
    for row in times:
        link, edge = _draw(1, random)
        wall, cpu = time.perf_counter(), time.thread_time()
        decider.decide(link, edge)
        row[:] = 1e3 * (time.thread_time() - cpu), 1e3 * (time.perf_counter() - wall)
    return times


def _many_users(
    cuts: dict[str, CandidateCuts], users: int, rounds: int, random: np.random.Generator
) -> Floats:
    """(rounds, 2) CPU and wall milliseconds for one decision about every user, classes in equal parts."""
    counts = [len(part) for part in np.array_split(np.arange(users), len(ASSUMED_CLASSES))]
    deciders = [
        _ClassDecider(cuts[device.name], DevicePower.of(device), count)
        for device, count in zip(ASSUMED_CLASSES, counts, strict=True)
    ]
    times = np.empty((rounds, 2))
    for row in times:
        drawn = [_draw(count, random) for count in counts]
        wall, cpu = time.perf_counter(), time.thread_time()
        for decider, (link, edge) in zip(deciders, drawn, strict=True):
            decider.decide(link, edge)
        row[:] = 1e3 * (time.thread_time() - cpu), 1e3 * (time.perf_counter() - wall)
    return times


def _references(
    problem: SplitProblem,
    cuts: CandidateCuts,
    device: DeviceClass,
    rounds: int,
    random: np.random.Generator,
    on_round: Callable[[], object] | None,
) -> dict[str, float]:
    link, edge = _draw(1, random)
    scalar = Link(float(np.ravel(link.uplink_bps)[0]), float(np.ravel(link.downlink_bps)[0]), link.delay_s)
    load = EdgeLoad(float(np.ravel(edge.queue_s)[0]), edge.slowdown)
    priced = prices(scalar, load, DevicePower.of(device), _WEIGHTS, problem.result_bytes)
    cost = problem.linear(priced)
    least = float(cuts.costs(priced).min())
    prepared = CutNetwork(problem)
    calls: dict[str, Callable[[], float]] = {
        "scipy_max_flow": lambda: CutNetwork(problem).solve(cost).cost,
        "scipy_max_flow_prepared": lambda: prepared.solve(cost).cost,
    }
    if find_spec("networkx") is not None:
        calls["networkx_minimum_cut"] = lambda: networkx_minimum_cut(problem, cost)
    for name, call in calls.items():
        value = call()
        if abs(value - least) > _AGREEMENT * least:
            raise BenchError(f"{name} finds a cut of cost {value:.9g}, the candidates {least:.9g}")
    times = interleaved(dict(calls), rounds, on_round)
    return {name: 1e3 * float(np.median(values.cpu)) for name, values in times.items()}


def networkx_minimum_cut(problem: SplitProblem, cost: LinearCost) -> float:
    """The same minimum by networkx (development only): the network of :mod:`xapp.split.mincut` in its
    words."""
    networkx = import_module("networkx")
    network = networkx.DiGraph()
    for node in range(problem.size):
        # An arc without a capacity is infinite there.
        if problem.inputs[node]:
            network.add_edge("s", node)
        else:
            network.add_edge("s", node, capacity=cost.edge[node])
        network.add_edge(node, "t", capacity=cost.device[node])
        readers = problem.consumers[node]
        via = ("copy", node) if len(readers) > 1 else None
        if via:
            network.add_edge(node, via, capacity=cost.tensor[node])
        for reader in readers:
            if via:
                network.add_edge(via, reader)
            else:
                network.add_edge(node, reader, capacity=cost.tensor[node])
        for reader in readers:
            network.add_edge(reader, node)
        if not readers:
            network.add_edge("answer", node)
    network.add_edge("s", "answer", capacity=cost.answer)
    return float(networkx.minimum_cut_value(network, "s", "t"))
