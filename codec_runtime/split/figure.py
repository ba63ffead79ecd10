"""A network's graph with a cut, and what each candidate cut costs, as one figure. Needs matplotlib.

Nodes stand in a row in topological order, so that hundreds stay readable, and a cut of the row is a
candidate: "all to the left on the device". Edges to the next node are the row itself, longer ones arcs.
Bars below stand under the last node on the device.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Arc

from codec_runtime.contract.split import INPUT_OP, CutSpec, SplitGraph

DEVICE, EDGE, NETWORK = "#0072b2", "#d55e00", "#999999"


class CandidateCost(msgspec.Struct, frozen=True, kw_only=True):
    """What one candidate costs a request.

    Attributes:
        last: index of the last node on the device, in topological order; ``name`` is its name.
        crossing: tensors that cross; ``crossing_bytes`` their size.
        device_s, net_s, edge_s: seconds of head, radio (both ways) and tail.
        energy_j: joules of the device.
    """

    last: int
    name: str
    crossing: int
    crossing_bytes: int
    device_s: float
    net_s: float
    edge_s: float
    energy_j: float

    @property
    def total_s(self) -> float:
        """Seconds from input to answer."""
        return self.device_s + self.net_s + self.edge_s


def cut_figure(
    graph: SplitGraph, cut: CutSpec, candidates: Sequence[CandidateCost], subtitle: str = ""
) -> Figure:
    """Graph with ``cut``; output bytes and MACs of each node; time and energy of each candidate."""
    width = float(np.clip(0.11 * len(graph.nodes), 8, 30))
    figure = Figure(figsize=(width, 9), layout="constrained")
    axes = figure.subplots(4, 1, sharex=True, height_ratios=(2.2, 1.2, 1.6, 1.0))
    _draw_graph(axes[0], graph, cut)
    axes[0].set_title(f"{graph.name}: cut {cut.id}\n{subtitle}".rstrip(), fontsize=10)
    _draw_nodes(axes[1], graph, cut)
    _draw_times(axes[2], candidates)
    places = [candidate.last for candidate in candidates]
    axes[3].bar(places, [1e3 * candidate.energy_j for candidate in candidates], color=DEVICE, width=0.8)
    axes[3].set_ylabel("device mJ")
    axes[3].set_xlabel("node in topological order; bars: cut after this node")
    for lower in axes[1:]:
        lower.grid(alpha=0.3, axis="y")
        lower.spines[["top", "right"]].set_visible(False)
    axes[3].set_xlim(-1.5, len(graph.nodes) + 0.5)
    return figure


def figure_bytes(figure: Figure, kind: str) -> bytes:
    """The figure as ``png`` or ``svg``; carries no date."""
    buffer = io.BytesIO()
    metadata: dict[str, Any] = {"Date": None} if kind == "svg" else {"Software": None}
    figure.savefig(buffer, format=kind, dpi=110, metadata=metadata)
    return buffer.getvalue()


def _draw_graph(axes: Axes, graph: SplitGraph, cut: CutSpec) -> None:
    device, crossing = set(cut.device), set(cut.crossing)
    highest = 1.0
    for source, target in graph.edges:
        crosses = source in crossing and target not in device
        colour = "#cc0000" if crosses else (DEVICE if target in device else EDGE)
        span = target - source
        if span == 1:
            axes.plot([source, target], [0, 0], color=colour, linewidth=1.4, zorder=1)
            continue
        height = 2 * span**0.6
        highest = max(highest, height / 2)
        axes.add_patch(Arc(((source + target) / 2, 0), span, height, theta1=0, theta2=180, color=colour,
                           linewidth=1.4 if crosses else 0.7))
    count = len(graph.nodes)
    for chosen, colour, label in (
        (sorted(device), DEVICE, "device"), (sorted(set(range(count)) - device), EDGE, "edge")
    ):
        axes.scatter(chosen, [0] * len(chosen), s=14, color=colour, zorder=3, label=label)
    axes.plot([], [], color="#cc0000", label="crosses the radio")
    step = max(1, round(count / 60))
    for index in range(0, count, step):
        axes.text(index, -0.35, graph.nodes[index].name, rotation=90, fontsize=5, va="top", ha="center")
    axes.set_ylim(-max(3.5, 0.9 * highest), highest * 1.1)
    axes.axis("off")
    axes.legend(loc="upper right", fontsize=8, ncols=3, frameon=False)


def _draw_nodes(axes: Axes, graph: SplitGraph, cut: CutSpec) -> None:
    places = np.arange(len(graph.nodes))
    crossing = set(cut.crossing)
    colours = ["#cc0000" if index in crossing else NETWORK for index in places]
    axes.bar(places, [node.output_bytes / 1e3 for node in graph.nodes], color=colours, width=0.8)
    axes.set_ylabel("output kB")
    beside = axes.twinx()
    beside.plot(places, [node.macs / 1e6 for node in graph.nodes], ".", color="#222222", markersize=3)
    beside.set_ylabel("MMAC (dots)")
    sent = next(index for index, node in enumerate(graph.nodes) if node.op == INPUT_OP)
    axes.axhline(graph.nodes[sent].output_bytes / 1e3, color="#222222", linewidth=0.7, linestyle=":")


def _draw_times(axes: Axes, candidates: Sequence[CandidateCost]) -> None:
    places = [candidate.last for candidate in candidates]
    bottom = np.zeros(len(candidates))
    for name, colour, label in (
        ("device_s", DEVICE, "device"), ("net_s", NETWORK, "radio"), ("edge_s", EDGE, "edge")
    ):
        heights = np.array([1e3 * getattr(candidate, name) for candidate in candidates])
        axes.bar(places, heights, bottom=bottom, color=colour, width=0.8, label=label)
        bottom += heights
    best = min(range(len(candidates)), key=lambda index: candidates[index].total_s)
    axes.plot([places[best]], [bottom[best]], "v", color="#cc0000", markersize=7, label="quickest prefix")
    axes.set_ylabel("ms a request")
    axes.legend(fontsize=8, ncols=4, frameon=False)
