"""What the adapter experiment's file says, as tables and plots."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from codec_runtime.evaluation.plots import select

METHOD_COLOURS = {
    "ours": "#0072b2", "fedavg": "#d55e00", "fedgnn": "#e69f00", "no_graph": "#56b4e9",
    "no_confidence": "#009e73", "no_rescoring": "#cc79a7", "central": "#222222", "local": "#999999",
    "split_learning": "#8c6d31", "transfer": "#7b4173", "no_common": "#a6cee3", "fedgnn_common": "#fdbf6f",
}
_BOUNDS = ("central", "local")


def adapter_noise_table(result: Mapping[str, Any]) -> list[str]:
    """Methods down, label errors across; then users by mix, and what became of the labels."""
    rows, alpha = result["rows"], result["config"]["alpha"]
    main = select(rows, alpha=alpha)
    levels = list(dict.fromkeys(row["errors"] for row in main))
    body, worst, labels = [], [], []
    for method in dict.fromkeys(row["method"] for row in main):
        cells = {row["errors"]: row for row in select(main, method=method)}
        body.append([method, *(_mean(cells[e]["rsum"]) if e in cells else "" for e in levels)])
        worst.append([method, *(_mean(cells[e]["worst"]) if e in cells else "" for e in levels)])
        told = [cells[e]["labels"] if e in cells else {} for e in levels]
        if any(told):
            labels.append([method, *(_labels(entry) for entry in told)])
    head = ["method", *(level if level == "mixed" else f"{level} %" for level in levels)]
    lines = [
        f"RSUM (0..600), mean over users, mean ± spread over seeds, by label errors; Dirichlet {alpha}", "",
        *_grid(head, body), "", "RSUM of the worst user", "", *_grid(head, worst),
    ]
    if labels:
        lines += ["", "Wrong pairs still learned from / right pairs left out, at the end", ""]
        lines += _grid(head, labels)
    groups = [row for row in main if len(row["groups"]) > 1]
    if groups:
        names = list(groups[0]["groups"])
        lines += [
            "", "Mixed errors (the seed's Fig. 4): mean RSUM of the users of each group", "",
            *_grid(["method", *(f"users with {name} %" for name in names)],
                   [[row["method"], *(_mean(row["groups"][name]) for name in names)] for row in groups]),
        ]
    return lines + _mixes(result)


def _mixes(result: Mapping[str, Any]) -> list[str]:
    rows, config = result["rows"], result["config"]
    mixes = [mix for mix in dict.fromkeys(row["alpha"] for row in rows) if mix != config["alpha"]]
    if not mixes:
        return []
    errors = config["mix_errors"]
    shown = [*mixes, config["alpha"]]
    body = []
    for method in dict.fromkeys(row["method"] for row in rows if row["alpha"] in mixes):
        cells = {row["alpha"]: row for row in select(rows, method=method, errors=errors)}
        body.append([method, *(_mean(cells[mix]["rsum"]) if mix in cells else "" for mix in shown)])
    return [
        "", f"RSUM at {errors} % errors by how the pictures are spread over users (Dirichlet's alpha)", "",
        *_grid(["method", *shown], body),
    ]


def _mean(of_seeds: Mapping[str, Any]) -> str:
    spread = of_seeds["spread"]
    return f"{of_seeds['mean']:.1f}" + ("" if spread is None else f" ± {spread:.1f}")


def _labels(labels: Mapping[str, float]) -> str:
    parts = [labels.get("wrong_kept"), labels.get("right_dropped")]
    return " / ".join("-" if part is None else f"{100 * part:.0f} %" for part in parts) if labels else ""


def _grid(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    return [
        "| " + " | ".join(head) + " |", "|---" * len(head) + "|",
        *("| " + " | ".join(row) + " |" for row in rows),
    ]


def adapter_noise_figures(result: Mapping[str, Any]) -> dict[str, Figure]:
    """By name: RSUM over label errors, and the curve over rounds at every level."""
    main = select(result["rows"], alpha=result["config"]["alpha"])
    levels = list(dict.fromkeys(row["errors"] for row in main))
    figures = {"adapter-noise-levels": _over_errors(main)}
    for level in levels:
        figures[f"adapter-noise-rounds-{level}"] = _over_rounds(select(main, errors=level), level)
    return figures


def _over_errors(rows: Sequence[Mapping[str, Any]]) -> Figure:
    figure, axes = _axes()
    for method in dict.fromkeys(row["method"] for row in rows):
        points = sorted(
            (float(row["errors"]), row["rsum"]["mean"], row["rsum"]["spread"] or 0.0)
            for row in select(rows, method=method) if row["errors"] != "mixed"
        )
        if points:
            x, y, spreads = zip(*points, strict=True)
            axes.errorbar(x, y, yerr=spreads, capsize=2, marker="o", markersize=3, label=method,
                          **_style(method))
    axes.set(xlabel="wrong labels (%)", ylabel="RSUM")
    figure.legend(loc="outside right upper", fontsize=7)
    return figure


def _over_rounds(rows: Sequence[Mapping[str, Any]], level: str) -> Figure:
    figure, axes = _axes()
    for row in rows:
        curve = row["curve"]
        axes.plot([step["round"] for step in curve], [step["rsum"] for step in curve], label=row["method"],
                  **_style(row["method"]))
    axes.set(xlabel="round", ylabel="RSUM", title=f"label errors: {level}{'' if level == 'mixed' else ' %'}")
    figure.legend(loc="outside right upper", fontsize=7)
    return figure


def _axes() -> tuple[Figure, Axes]:
    figure = Figure(figsize=(6.4, 4.2), layout="constrained")
    axes = figure.add_subplot()
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _style(method: str) -> dict[str, Any]:
    return {
        "color": METHOD_COLOURS.get(method, "#777777"), "linestyle": ":" if method in _BOUNDS else "-",
        "linewidth": 2.2 if method == "ours" else 1.2,
    }
