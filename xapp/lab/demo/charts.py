"""Charts of the report as inline SVG that follows the page's colours (light or dark).

Matplotlib draws; colours are then replaced by CSS variables, text stays text, and everything that names an
external resource (document type, metadata, namespaces) is removed. Series colours are Okabe and Ito's, which
people with any kind of colour blindness can tell apart; lines also carry their name at their end.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from codec_runtime.contract.directives import RATE_DENOMINATOR
from xapp.lab.captioned import IMAGE_ENCODER, TEXT_ENCODER
from xapp.lab.demo.aligning import MARKS
from xapp.lab.demo.summary import Delivered, RunData, RunEvent, compared, update_gains_db

CLASS_COLOURS = {"mobile": "#0072b2", "drone": "#d55e00", "car": "#009e73", "fixed": "#cc79a7"}
"""Light-mode colours by device class; the page overrides ``--mobile`` and so on in dark mode."""

_OTHER_COLOUR = "#777777"
_INK, _GRID, _ACCENT, _STATIC = "#010203", "#040506", "#0072b3", "#e69f01"
_CSS = {
    _INK: "currentColor",
    _GRID: "var(--grid)",
    _ACCENT: "var(--accent)",
    _STATIC: "var(--static)",
    **{colour: f"var(--{name})" for name, colour in CLASS_COLOURS.items()},
}
_RC: dict[str, Any] = {
    "svg.fonttype": "none",
    "font.size": 10.5,
    "font.family": "sans-serif",
    "text.color": _INK,
    "axes.edgecolor": _GRID,
    "axes.labelcolor": _INK,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": _GRID,
    "grid.linewidth": 0.6,
    "xtick.color": _INK,
    "ytick.color": _INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
}
_MARKED = {
    "drift": "drift",
    "drift_detected": "noticed",
    "job_started": "training",
    "rollout_observing": "canary",
    "rollout_rolling_back": "rolled back",
    "bundle_swapped": "update",
    "died": "process died",
}

FloatArray = NDArray[np.float64]


def timelines(data: RunData) -> str:
    """SNR, rate and PSNR over time, a line for each device class, with marks for drift and updates."""
    classes = sorted({t.device_class for t in data.delivered}, key=_class_order)
    end = max([data.live_s, *(t.time_s for t in data.delivered)], default=1.0) or 1.0
    width = max(1.0, end / 30)

    def draw(figure: Figure) -> None:
        axes = figure.subplots(3, 1, sharex=True)
        rows: list[tuple[str, Callable[[Delivered], float]]] = [
            ("SNR (dB)", lambda t: t.snr_db),
            ("Rate R (source bandwidth)", lambda t: t.prefix / RATE_DENOMINATOR),
            (f"PSNR (dB); dashed: the target of {data.quality_target_db:g} dB", lambda t: t.psnr_db),
        ]
        for axis, (label, value) in zip(axes, rows, strict=True):
            axis.set_title(label, loc="left", fontsize=10.5, fontweight="bold")
            ends = []
            for name in classes:
                mine = [t for t in data.delivered if t.device_class == name]
                times, means = binned_means(
                    np.array([t.time_s for t in mine]), np.array([value(t) for t in mine]), width
                )
                if len(times):
                    axis.plot(times, means, color=_colour(name), linewidth=1.8)
                    ends.append((float(means[-1]), name))
            if value is rows[1][1]:
                axis.set_yscale("log")
                axis.minorticks_off()
            axis.margins(y=0.12)
            _label_ends(axis, ends, end)
        ticks = _rate_ticks(axes[1].get_ylim())
        axes[1].set_yticks(ticks, [f"1/{1 / tick:.3g}" for tick in ticks])
        target = data.quality_target_db
        axes[2].axhline(target, color=_INK, linewidth=1, linestyle=(0, (4, 3)))
        axes[2].set_xlabel("seconds since the start")
        axes[2].set_xlim(0, end)
        _mark_events(axes, data.events, end)

    return _svg("timelines", (8.6, 7.2), draw)


def confidence_timeline(data: RunData, steps: Mapping[str, float | None]) -> str:
    """Alignment confidence of pictures and of sentences over time; empty text without any.

    Args:
        steps: of the adapter's update, seconds; those of :data:`MARKS` and the drift are marked.
    """
    records = data.aligned.records
    if not records:
        return ""

    def draw(figure: Figure) -> None:
        axis = figure.subplots()
        for name, encoder, colour, style in (
            ("pictures", IMAGE_ENCODER, _ACCENT, "-"),
            ("sentences", TEXT_ENCODER, _STATIC, (0, (5, 2))),
        ):
            mine = [one for one in records if one.encoder == encoder]
            times, means = binned_means(
                np.array([data.seconds(one.time_ns) for one in mine]),
                np.array([one.confidence for one in mine]),
                1.0,
            )
            axis.plot(times, means, color=colour, linewidth=1.8, linestyle=style, label=name)
        marks = [("drift", "drift"), *((text, step) for step, text in MARKS.items())]
        known = sorted((time, text) for text, step in marks if (time := steps.get(step)) is not None)
        for place, (time, text) in enumerate(known):
            strong = text in ("drift", MARKS["rolled_out"])
            axis.axvline(
                time, color=_INK, linewidth=1.3 if strong else 0.8, linestyle="-" if strong else (0, (1, 2))
            )
            axis.annotate(
                text, (time, 1.0), xycoords=("data", "axes fraction"), xytext=(2, 4 + 11 * (place % 3)),
                textcoords="offset points", fontsize=9, annotation_clip=False,
            )
        axis.set_ylim(0, 1)
        axis.set_ylabel("alignment confidence")
        axis.set_xlabel("seconds since the start")
        axis.legend(frameon=False, loc="upper right")

    return _svg("confidence", (8.6, 3.2), draw)


def loop_histogram(data: RunData) -> str:
    """Histogram of indication in -> directive applied, logarithmic in time; empty text without samples."""
    edges, counts = data.xapp.loop_histogram()
    latency = data.xapp.latency("loop")
    bars = _histogram_bars(edges, counts)
    if not bars:
        return ""

    def draw(figure: Figure) -> None:
        axis = figure.subplots()
        low, high, height = (np.array(column) for column in zip(*bars, strict=True))
        axis.bar(low, height, width=high - low, align="edge", color=_ACCENT, edgecolor="none", alpha=0.85)
        axis.set_xscale("log")
        ticks = [
            t for t in (0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100, 200, 500, 1000) if low[0] <= t <= high[-1]
        ]
        axis.set_xticks(ticks, [f"{t:g}" for t in ticks])
        axis.minorticks_off()
        axis.set_xlabel("milliseconds, logarithmic")
        axis.set_ylabel("decisions")
        top = float(height.max())
        for label, value, level in (("p50", latency.p50, 1.12), ("p99", latency.p99, 1.02)):
            if value:
                axis.axvline(value, color=_INK, linewidth=1, linestyle=(0, (4, 3)))
                axis.annotate(
                    f"{label} {value:.1f} ms",
                    (value, top * level),
                    xytext=(5, 0),
                    textcoords="offset points",
                    fontsize=10,
                    fontweight="bold",
                )
        axis.set_ylim(0, top * 1.25)

    return _svg("loop", (8.6, 3.0), draw)


def quality_distribution(data: RunData) -> str:
    """Share of transmissions below a PSNR, adaptive against static; empty text without a replay."""
    pairs = compared(data)
    if not pairs:
        return ""
    target = data.quality_target_db
    ours = np.sort([t.psnr_db for t, _ in pairs])
    static = np.sort([s.psnr_db for _, s in pairs])

    def draw(figure: Figure) -> None:
        axis = figure.subplots()
        shares = np.arange(1, len(ours) + 1) / len(ours) * 100
        for name, values, colour, style in (
            ("adaptive", ours, _ACCENT, "-"),
            ("static", static, _STATIC, (0, (5, 2))),
        ):
            axis.plot(values, shares, color=colour, linewidth=2.2, linestyle=style, drawstyle="steps-post")
            missed = float(np.mean(values < target) * 100)
            axis.plot([target], [missed], "o", color=colour, markersize=7)
            below = name == "adaptive"
            axis.annotate(
                f"{name}: {missed:.0f}% below target",
                (target, missed),
                xytext=(10, -14) if below else (-10, 8),
                textcoords="offset points",
                ha="left" if below else "right",
                color=colour,
                fontweight="bold",
            )
        axis.axvline(target, color=_INK, linewidth=1, linestyle=(0, (4, 3)))
        axis.annotate(
            f"target {target:g} dB", (target, 101), xytext=(5, 0), textcoords="offset points", fontsize=9
        )
        axis.set_xlabel("PSNR of a restored picture (dB)")
        axis.set_ylabel("pictures below that PSNR (%)")
        axis.set_ylim(0, 106)

    return _svg("distribution", (8.6, 3.6), draw)


def gain_histogram(data: RunData) -> str:
    """Histogram of new minus parent version on the same picture and noise; empty text without pairs."""
    gains = update_gains_db(data)
    if len(gains) < 2:
        return ""

    def draw(figure: Figure) -> None:
        axis = figure.subplots()
        axis.hist(gains, bins=min(24, max(6, len(gains) // 2)), color=_ACCENT, alpha=0.85)
        average = float(np.mean(gains))
        axis.axvline(0, color=_INK, linewidth=1)
        axis.axvline(average, color=_INK, linewidth=1, linestyle=(0, (4, 3)))
        axis.annotate(
            f" mean {average:+.2f} dB",
            (average, 1.0),
            xycoords=("data", "axes fraction"),
            va="bottom",
            fontsize=10,
            fontweight="bold",
        )
        axis.set_xlabel("PSNR gain of the new decoder on one picture (dB)")
        axis.set_ylabel("pictures")

    return _svg("gains", (8.6, 2.8), draw)


def binned_means(times: FloatArray, values: FloatArray, width: float) -> tuple[FloatArray, FloatArray]:
    """Means of ``values`` in time bins of ``width`` seconds; times are bin centres, empty bins left out."""
    if len(times) == 0:
        return np.empty(0, dtype=np.float64), np.empty(0, dtype=np.float64)
    index = np.floor(times / width).astype(np.int64)
    index -= index.min()
    first = float(np.floor(times.min() / width))
    counts = np.bincount(index)
    sums = np.bincount(index, weights=values)
    filled = np.flatnonzero(counts)
    centres = np.asarray((filled + first + 0.5) * width, dtype=np.float64)
    means = np.asarray(sums[filled] / counts[filled], dtype=np.float64)
    return centres, means


def _histogram_bars(edges: Sequence[float], counts: Sequence[float]) -> list[tuple[float, float, float]]:
    """(low, high, count) of the filled range.

    ``counts`` has one entry for each bucket between edges, or one more for overflow, or one for each
    edge as upper bound (first bucket from 0).
    """
    finite = [float(e) for e in edges if np.isfinite(e)]
    if not finite or not any(counts):
        return []
    if len(counts) >= len(finite):
        # Edges are upper bounds. A logarithmic axis has no 0: the first bucket is drawn one ratio wide.
        ratio = finite[1] / finite[0] if len(finite) > 1 and finite[0] > 0 else 2.0
        bounds = [finite[0] / ratio, *finite] if finite[0] > 0 else finite
        if len(counts) >= len(bounds):
            bounds.append(bounds[-1] * 2)
    else:
        bounds = finite
    bars = [
        (low, high, float(n)) for (low, high), n in zip(pairwise(bounds), counts, strict=False) if low > 0
    ]
    filled = [i for i, bar in enumerate(bars) if bar[2] > 0]
    return bars[filled[0] : filled[-1] + 1] if filled else []


def _rate_ticks(limits: tuple[float, float]) -> list[float]:
    ladder = [k / RATE_DENOMINATOR for k in (1, 2, 3, 4, 6, 8, 12, 16)]
    return [tick for tick in ladder if limits[0] <= tick <= limits[1]]


def _class_order(name: str) -> tuple[int, str]:
    names = list(CLASS_COLOURS)
    return (names.index(name) if name in names else len(names), name)


def _colour(name: str) -> str:
    return CLASS_COLOURS.get(name, _OTHER_COLOUR)


def _label_ends(axis: Any, ends: list[tuple[float, str]], x: float) -> None:
    """Names at the ends of the lines, pushed apart where they would overlap."""
    scale = np.log if axis.get_yscale() == "log" else np.asarray
    low, high = scale(np.array(axis.get_ylim()))
    heights = sorted((float((scale(value) - low) / (high - low)), name) for value, name in ends)
    last = -1.0
    for height, name in heights:
        last = max(height, last + 0.13)
        axis.annotate(
            name,
            (x, last),
            xycoords=("data", "axes fraction"),
            xytext=(6, 0),
            textcoords="offset points",
            va="center",
            color=_colour(name),
            fontweight="bold",
            annotation_clip=False,
        )


def _mark_events(axes: Any, events: Sequence[RunEvent], end: float) -> None:
    marked = [e for e in events if e.kind in _MARKED and not e.of_adapter and 0 <= e.time_s <= end]
    last_x, level = -1e9, 0
    for event in sorted(marked, key=lambda e: e.time_s):
        strong = event.kind in ("drift", "bundle_swapped")
        for axis in axes:
            axis.axvline(
                event.time_s,
                color=_INK,
                linewidth=1.3 if strong else 0.8,
                linestyle="-" if strong else (0, (1, 2)),
            )
        # Labels closer than a tenth of the chart go to another line.
        level = (level + 1) % 3 if event.time_s - last_x < end * 0.12 else 0
        last_x = event.time_s
        axes[0].annotate(
            _MARKED[event.kind],
            (event.time_s, 1.0),
            xycoords=("data", "axes fraction"),
            xytext=(2, 18 + 11 * level),
            textcoords="offset points",
            fontsize=9,
            fontweight="bold" if strong else "normal",
            annotation_clip=False,
        )


def _svg(name: str, size: tuple[float, float], draw: Callable[[Figure], None]) -> str:
    settings: Any = {**_RC, "svg.hashsalt": name}
    with mpl.rc_context(settings):
        figure = Figure(figsize=size, layout="constrained")
        draw(figure)
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    return clean_svg(buffer.getvalue())


def clean_svg(text: str) -> str:
    """SVG for inlining in HTML: no document type, metadata, namespaces or size; colours as variables."""
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r'\s+xmlns(:\w+)?="[^"]*"', "", text)
    text = re.sub(r'(<svg\b[^>]*?)\s+width="[^"]*"', r"\1", text)
    text = re.sub(r'(<svg\b[^>]*?)\s+height="[^"]*"', r"\1", text)
    text = re.sub(r'<(g|svg) id="[A-Za-z]+[._0-9A-Za-z]*"', r"<\1", text)
    text = re.sub(r"<defs>\s*<style.*?</style>\s*</defs>", "", text, flags=re.DOTALL)
    text = re.sub(r"font-family: [^;\"]*;?\s*", "", text).replace("xlink:href=", "href=")
    for colour, variable in _CSS.items():
        text = re.sub(re.escape(colour), variable, text, flags=re.IGNORECASE)
    return text.strip()
