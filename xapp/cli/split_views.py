"""What `semcom split explain` computes and shows: the best cut, and each cut in topological order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np
from rich.console import Console
from rich.table import Table

from codec_runtime.contract.devices import DEVICES
from codec_runtime.contract.split import CostProfile, CutSpec, SplitGraph, crossing_bytes
from codec_runtime.split.figure import CandidateCost
from xapp.split.chain import prefix_cuts
from xapp.split.latency import CutMeasures, EdgeLoad, Link, stage_times
from xapp.split.mincut import CutNetwork
from xapp.split.objective import DevicePower, Weights, energy_j, prices
from xapp.split.problem import SplitProblem, split_problem

HOST_WATTS = 15.0
"""Active power taken where a device's is not known: that of a laptop's processor, and no measurement."""


@dataclass(frozen=True)
class Explanation:
    """The quickest cut of all, its cost, and the candidates.

    Attributes:
        candidates: the cuts in topological order; ``best``: the cost of ``cut`` itself, ``last`` -1 where its
            device set is no such prefix.
        device, edge: profiles the figures come from.
    """

    graph: SplitGraph
    cut: CutSpec
    best: CandidateCost
    candidates: Sequence[CandidateCost]
    device: CostProfile
    edge: CostProfile

    def as_json(self) -> dict[str, Any]:
        """One object; seconds, bytes, joules."""
        return {
            "network": self.graph.name, "graph": self.graph.digest, "device": _origin(self.device),
            "edge": _origin(self.edge), "cut": msgspec.to_builtins(self.cut), "best": _row(self.best),
            "candidates": [_row(candidate) for candidate in self.candidates],
        }


def link_of(uplink_mbps: float, downlink_mbps: float, delay_ms: float) -> Link:
    """The link of a user from the units of the command line."""
    return Link(1e6 * uplink_mbps, 1e6 * downlink_mbps, delay_ms / 1e3)


def power_of(device: str) -> DevicePower:
    """Power of a named device; of any other, :data:`HOST_WATTS`."""
    return DevicePower.of(DEVICES[device]) if device in DEVICES else DevicePower(HOST_WATTS)


def explain(
    graph: SplitGraph, device: CostProfile, edge: CostProfile, link: Link, power: DevicePower
) -> Explanation:
    """The quickest of all legal cuts, and the cost of each in topological order, on an idle edge server."""
    problem = split_problem(graph, device, edge)
    load = EdgeLoad()
    asked = prices(link, load, power, Weights(), problem.result_bytes)
    found = CutNetwork(problem).solve(problem.linear(asked)).device
    prefixes = prefix_cuts(problem)
    first = max(graph.inputs) + 1
    candidates = []
    for count in range(first, problem.size + 1):
        measures = CutMeasures(*(np.asarray(values)[count] for values in prefixes.measures))
        crossing = int(np.asarray(prefixes.crossing)[count])
        candidates.append(_cost(problem, measures, count - 1, crossing, link, power))
    cut = problem.cut(found)
    whole = len(cut.device) == cut.device[-1] + 1
    best = _cost(problem, problem.measures(found), cut.device[-1], len(cut.crossing), link, power)
    best = msgspec.structs.replace(best, crossing_bytes=crossing_bytes(graph, cut))
    if not whole:
        names = ", ".join(graph.nodes[index].name for index in cut.crossing)
        best = msgspec.structs.replace(best, last=-1, name=f"after {names}")
    return Explanation(graph, cut, best, candidates, device, edge)


def show(explanation: Explanation) -> None:
    """Print the table on stdout, the best cut first."""
    device, edge = explanation.device, explanation.edge
    table = Table(
        "", "last on the device",
        title=f"{explanation.graph.name}: cut {explanation.cut.id}",
        caption=f"device {device.device_class} ({device.source}), edge {edge.device_class} ({edge.source})",
    )
    for name in ("tensors", "kB", "device ms", "radio ms", "edge ms", "total ms", "device mJ"):
        table.add_column(name, justify="right")
    table.add_row(*_cells("best", explanation.best), style="bold", end_section=True)
    quickest = min(candidate.total_s for candidate in explanation.candidates)
    for candidate in explanation.candidates:
        table.add_row(*_cells("<" if candidate.total_s == quickest else "", candidate))
    console = Console()
    (console if console.is_terminal else Console(width=130)).print(table)


def _cost(
    problem: SplitProblem, measures: CutMeasures, last: int, crossing: int, link: Link, power: DevicePower
) -> CandidateCost:
    times = stage_times(measures, link, EdgeLoad(), problem.result_bytes)
    return CandidateCost(
        last=last, name=problem.graph.nodes[last].name, crossing=crossing,
        crossing_bytes=int(measures.crossing_bytes), device_s=float(times.device_s), net_s=float(times.net_s),
        edge_s=float(times.edge_s),
        energy_j=float(energy_j(measures, link, EdgeLoad(), power, problem.result_bytes)),
    )


def _cells(mark: str, cost: CandidateCost) -> list[str]:
    times = (cost.device_s, cost.net_s, cost.edge_s, cost.total_s, cost.energy_j)
    return [mark, cost.name, str(cost.crossing), f"{cost.crossing_bytes / 1e3:.1f}",
            *(f"{1e3 * value:.2f}" for value in times)]


def _row(cost: CandidateCost) -> dict[str, Any]:
    return {**msgspec.to_builtins(cost), "total_s": cost.total_s}


def _origin(profile: CostProfile) -> dict[str, Any]:
    fields = ("device_class", "source", "host", "cpu", "threads", "measured_at", "error")
    return {name: getattr(profile, name) for name in fields}
