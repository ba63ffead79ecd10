"""Figures of `semcom eval split` (needs matplotlib, extra `lab`)."""

from __future__ import annotations

from pathlib import Path

from matplotlib.figure import Figure

from xapp.split.harness import SplitComparison

_OURS, _ORACLES, _OTHERS = "#0072b2", "#999999", "#d55e00"


def comparison_figure(comparison: SplitComparison) -> Figure:
    """Mean and 95th percentile latency, device energy and moves, a bar a decider."""
    rows = comparison.rows
    names = [row.decider for row in rows]
    places = list(range(len(rows)))
    colours = [
        _OURS if name == "ours" else _ORACLES if name.startswith("oracle") else _OTHERS for name in names
    ]
    figure = Figure(figsize=(12.0, 4.2), layout="constrained")
    left, middle, right = figure.subplots(1, 3, sharey=True)
    left.barh(places, [row.p95_ms for row in rows], color=colours, alpha=0.35)
    left.barh(places, [row.mean_ms for row in rows], color=colours)
    left.set_xlabel("latency, ms: mean (full), 95th percentile (pale)")
    left.set_xscale("log")
    middle.barh(places, [row.energy_j for row in rows], color=colours)
    middle.set_xlabel("energy of the device, J a request")
    right.barh(places, [row.moves_per_hour for row in rows], color=colours)
    right.set_xlabel("moves of the cut, an hour and user")
    left.set_yticks(places, names)
    left.invert_yaxis()
    figure.suptitle(
        f"{comparison.network}: {comparison.traces} drive tests x "
        f"{len(comparison.evaluation.classes)} device classes"
    )
    return figure


def write_comparison(comparison: SplitComparison, path: Path) -> None:
    """As PNG; the folder is made.

    Raises:
        OSError: not writable.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    comparison_figure(comparison).savefig(path, format="png", dpi=110, metadata={"Software": None})
