"""The table of a bottleneck as a picture: bytes of what crosses against what the edge still recognises."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from codec_runtime.split.bottleneck_evaluation import CrossingRow

_SHOWN = {"bottleneck": ("o-", "bottleneck"), "bottleneck-prefix": ("x:", "its middle point, cut off")}


def frontier_rows(rows: Sequence[CrossingRow], method: str) -> list[CrossingRow]:
    """Of a method the rows that no row of fewer bytes matches in agreement, by bytes."""
    found: list[CrossingRow] = []
    for row in sorted((row for row in rows if row.method == method), key=lambda row: row.bytes):
        if not found or row.agreement > found[-1].agreement:
            found.append(row)
    return found


def write_figure(path: Path, rows: Sequence[CrossingRow]) -> None:
    """Agreement and KL over bytes; of image codecs the frontier of their settings."""
    from matplotlib.figure import Figure  # noqa: PLC0415 (extra `lab`)

    figure = Figure(figsize=(9, 3.6), layout="constrained")
    agreement, divergence = figure.subplots(1, 2)
    for method, (style, label) in _SHOWN.items():
        chosen = sorted((row for row in rows if row.method == method), key=lambda row: row.bytes)
        kilobytes = [row.bytes / 1e3 for row in chosen]
        agreement.plot(kilobytes, [row.agreement for row in chosen], style, label=label)
        divergence.plot(kilobytes, [row.kl for row in chosen], style, label=label)
    for method in ("jpeg", "webp"):
        chosen = frontier_rows(rows, method)
        kilobytes = [row.bytes / 1e3 for row in chosen]
        label = f"{method.upper()} of the picture, best settings"
        agreement.plot(kilobytes, [row.agreement for row in chosen], "s--", label=label, markersize=4)
        divergence.plot(kilobytes, [row.kl for row in chosen], "s--", label=label, markersize=4)
    agreement.set(ylabel="agreement with the uncut network", ylim=(0, 1))
    divergence.set(ylabel="KL from the uncut network, nats", yscale="log")
    for axes in (agreement, divergence):
        axes.set(xlabel="kB a picture", xlim=(0, 8))
        axes.grid(alpha=0.3)
    agreement.legend(fontsize="small")
    figure.savefig(path, dpi=110)
