"""Plots of the codec's measurements: rows or an experiment's JSON in, a matplotlib figure out.

Rows are those of ``semcom eval codec --json``. Decoders are drawn in full lines of fixed colour,
baselines dashed, published references dotted with hollow marks. Figures are built without pyplot, so no
state is shared and no display is needed.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from codec_runtime.evaluation.references import KODAK_AWGN_1_16, ReferenceLine

Row = Mapping[str, Any]

DECODERS = ("attention", "conv", "resnet", "vgg")
DECODER_COLOURS = {"attention": "#0072b2", "conv": "#d55e00", "resnet": "#009e73", "vgg": "#cc79a7"}
RECIPE_COLOURS = {
    "anchor": "#0072b2", "iterative": "#d55e00", "iterative-final": "#e69f00", "simultaneous": "#009e73",
    "joint-single": "#555555",
}
_BASELINE_COLOURS = ("#222222", "#8c6d31", "#7b4173", "#3182bd", "#637939", "#843c39", "#9c9ede")
_PLAIN_TIERS = (None, "", "medium", "baseline")
_REFERENCE_COLOUR = "#777777"
_SEED_SPREAD = {"psnr_db": "psnr_seed_spread", "ms_ssim": "ms_ssim_seed_spread"}
METRIC_NAMES = {"psnr_db": "PSNR (dB)", "ms_ssim": "MS-SSIM"}
_DPI = 110


def png(figure: Figure) -> bytes:
    """The figure as a PNG file; carries no date, so equal figures are equal bytes."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=_DPI, metadata={"Software": None})
    return buffer.getvalue()


def select(rows: Sequence[Row], **wanted: Any) -> list[Row]:
    """Rows whose keys have these values; a key that a row lacks does not match."""
    return [row for row in rows if all(row.get(key) == value for key, value in wanted.items())]


def rate_value(rate: str) -> float:
    """``1/16`` -> 0.0625."""
    return float(Fraction(rate))


def line_name(row: Row) -> str:
    """``conv``, or ``conv (small)`` where the row is of another tier than the middle one."""
    tier, decoder = row.get("tier"), str(row["decoder"]).removesuffix(f"-{row.get('tier')}")
    return decoder if tier in _PLAIN_TIERS else f"{decoder} ({tier})"


def _axes(columns: int = 1, *, height: float = 4.2) -> tuple[Figure, list[Axes]]:
    figure = Figure(figsize=(6.4 * columns, height), layout="constrained")
    made = [figure.add_subplot(1, columns, column + 1) for column in range(columns)]
    for axes in made:
        axes.grid(alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
    return figure, made


def _legend_beside(figure: Figure, axes: Axes) -> None:
    """Of many lines, where it covers none."""
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside right center", fontsize=8)


def _kind(name: str) -> str:
    """``conv (small)`` and ``conv-small`` are of kind ``conv``."""
    return name.replace("-", " ").split(" ")[0]


def _style(name: str, baselines: Sequence[str]) -> dict[str, Any]:
    decoder, tier = _kind(name), name.partition("(")[2].rstrip(")")
    if decoder in DECODER_COLOURS:
        marker = {"small": "v", "large": "^"}.get(tier, "o")
        return {"color": DECODER_COLOURS[decoder], "linestyle": "-", "marker": marker, "markersize": 4}
    colour = _BASELINE_COLOURS[baselines.index(name) % len(_BASELINE_COLOURS)]
    return {"color": colour, "linestyle": "--", "marker": "s", "markersize": 3, "linewidth": 1.1}


def _by_line(rows: Sequence[Row]) -> dict[str, list[Row]]:
    lines: dict[str, list[Row]] = {}
    for row in rows:
        lines.setdefault(line_name(row), []).append(row)
    return lines


def _draw_lines(axes: Axes, rows: Sequence[Row], x: str, metric: str) -> None:
    lines = _by_line(rows)
    baselines = [name for name in lines if _kind(name) not in DECODER_COLOURS]
    for name, points in lines.items():
        of = rate_value if x == "rate" else float
        ordered = sorted((of(p[x]), float(p[metric])) for p in points if p.get(metric) is not None)
        if not ordered:
            continue
        axes.plot(*zip(*ordered, strict=True), label=name, **_style(name, baselines))


def quality_over_snr(
    rows: Sequence[Row], *, channel: str, rate: str, references: Sequence[ReferenceLine] = KODAK_AWGN_1_16
) -> Figure:
    """PSNR and MS-SSIM over SNR for every decoder and baseline at one channel and rate, with reference lines.

    Raises:
        ValueError: no row is of this channel and rate.
    """
    chosen = select(rows, channel=channel, rate=rate)
    if not chosen:
        raise ValueError(f"no row of channel {channel!r} and rate {rate}")
    figure, pair = _axes(2)
    for axes, metric in zip(pair, METRIC_NAMES, strict=True):
        _draw_lines(axes, chosen, "snr_db", metric)
        for index, line in enumerate(references):
            if (line.metric, line.channel, line.rate) == (metric, channel, rate):
                axes.plot(line.snrs_db, line.values, ":", color=_REFERENCE_COLOUR, marker="oD^v"[index % 4],
                          markerfacecolor="white", markersize=5, label=line.name)
        axes.set(xlabel="SNR (dB)", ylabel=METRIC_NAMES[metric])
    _legend_beside(figure, pair[0])
    figure.suptitle(f"{channel}, R = {rate}")
    return figure


def quality_over_rate(rows: Sequence[Row], *, channel: str, snr_db: float) -> Figure:
    """PSNR and MS-SSIM over bandwidth ratio at one channel and SNR.

    Raises:
        ValueError: fewer than two rates were measured there.
    """
    chosen = select(rows, channel=channel, snr_db=snr_db)
    rates = sorted({row["rate"] for row in chosen}, key=rate_value)
    if len(rates) < 2:
        raise ValueError(f"fewer than two rates of channel {channel!r} at {snr_db:g} dB")
    figure, pair = _axes(2)
    for axes, metric in zip(pair, METRIC_NAMES, strict=True):
        _draw_lines(axes, chosen, "rate", metric)
        axes.set_xscale("log")
        axes.set_xticks([rate_value(rate) for rate in rates], rates)
        axes.minorticks_off()
        axes.set(xlabel="bandwidth ratio R", ylabel=METRIC_NAMES[metric])
    _legend_beside(figure, pair[0])
    figure.suptitle(f"{channel}, {snr_db:g} dB")
    return figure


def quality_over_cost(rows: Sequence[Row], *, channel: str, rate: str, snr_db: float) -> Figure:
    """PSNR against multiply-accumulates a pixel of each decoder and tier (rows with ``macs_per_pixel``).

    Raises:
        ValueError: no such row has a cost.
    """
    chosen = [row for row in select(rows, channel=channel, rate=rate, snr_db=snr_db)
              if row.get("macs_per_pixel")]
    if not chosen:
        raise ValueError("no row has macs_per_pixel")
    figure, (axes,) = _axes()
    baselines = [line_name(row) for row in chosen if _kind(row["decoder"]) not in DECODER_COLOURS]
    for row in chosen:
        style = _style(line_name(row), baselines) | {"linestyle": "none", "markersize": 7}
        axes.plot(row["macs_per_pixel"], row["psnr_db"], **style)
        axes.annotate(line_name(row), (row["macs_per_pixel"], row["psnr_db"]), xytext=(6, 3),
                      textcoords="offset points", fontsize=8)
    axes.set_xscale("log")
    axes.set(xlabel="decoder MACs per pixel", ylabel="PSNR (dB)",
             title=f"{channel}, R = {rate}, {snr_db:g} dB")
    return figure


def scheme_lines(result: Mapping[str, Any], metric: str = "psnr_db") -> Figure:
    """The seed's Fig. 6: training schemes over SNR, one column a decoder, one row a channel; bars: seeds."""
    rows = result["rows"]
    channels = list(dict.fromkeys(row["channel"] for row in rows))
    decoders = list(dict.fromkeys(row["decoder"] for row in rows))
    figure = Figure(figsize=(3.6 * len(decoders), 3.2 * len(channels)), layout="constrained")
    grid = figure.subplots(len(channels), len(decoders), squeeze=False, sharey="row")
    for line, channel in enumerate(channels):
        for column, decoder in enumerate(decoders):
            axes = grid[line][column]
            for recipe in dict.fromkeys(row["recipe"] for row in rows):
                points = sorted(select(rows, channel=channel, decoder=decoder, recipe=recipe),
                                key=lambda row: float(row["snr_db"]))
                axes.errorbar(
                    [p["snr_db"] for p in points], [p[metric] for p in points],
                    [p[_SEED_SPREAD[metric]] or 0.0 for p in points], capsize=2,
                    color=RECIPE_COLOURS.get(recipe), label=recipe, marker="o", markersize=3,
                    linestyle=":" if recipe == "joint-single" else "-",
                )
            axes.grid(alpha=0.3)
            axes.set_title(f"{decoder}, {channel}", fontsize=9)
            axes.set_xlabel("SNR (dB)")
        grid[line][0].set_ylabel(METRIC_NAMES[metric])
    grid[0][0].legend(fontsize=8)
    return figure


def forgetting_lines(result: Mapping[str, Any], metric: str = "psnr_db", recipe: str = "iterative") -> Figure:
    """The seed's Fig. 5: each user over SNR, when targeted and after one, two, three other users' epochs."""
    rows = select(result["rows"], recipe=recipe)
    users = list(dict.fromkeys(row["decoder"] for row in rows))
    figure = Figure(figsize=(3.6 * len(users), 3.4), layout="constrained")
    colours = ("#0072b2", "#56b4e9", "#e69f00", "#d55e00")
    for axes, user in zip(figure.subplots(1, len(users), squeeze=False, sharey=True)[0], users, strict=True):
        for others in sorted({row["others"] for row in rows}):
            points = sorted(select(rows, decoder=user, others=others), key=lambda row: float(row["snr_db"]))
            if points:
                trained = "+".join(points[0]["trained_since"])
                label = "targeted" if others == 0 else f"after {others}: {trained}"
                axes.plot([p["snr_db"] for p in points], [p[metric] for p in points], marker="o",
                          markersize=3, color=colours[others % len(colours)], label=label)
        axes.grid(alpha=0.3)
        axes.legend(fontsize=7)
        axes.set(title=f"{user} ({recipe})", xlabel="SNR (dB)", ylabel=METRIC_NAMES[metric])
    return figure


def forgetting_bars(result: Mapping[str, Any]) -> Figure:
    """PSNR lost (averaged over SNR) by each user after 1, 2, 3 others were trained, by recipe."""
    losses = result["losses"]
    recipes = list(dict.fromkeys(row["recipe"] for row in losses))
    figure, columns = _axes(len(recipes), height=3.6)
    for axes, recipe in zip(columns, recipes, strict=True):
        users = [user for user in DECODERS if select(losses, recipe=recipe, decoder=user)]
        for others in (1, 2, 3):
            places, values = [], []
            for place, user in enumerate(users):
                for row in select(losses, recipe=recipe, decoder=user, others=others):
                    places.append(place + 0.25 * (others - 2))
                    values.append(row["psnr_loss_db"])
            axes.bar(places, values, 0.23, label=f"after {others} other user{'s' if others > 1 else ''}",
                     color=("#56b4e9", "#e69f00", "#d55e00")[others - 1])
        axes.axhline(0.0, color="black", linewidth=0.8)
        axes.set_xticks(range(len(users)), users)
        axes.set(title=recipe, ylabel="PSNR lost (dB)")
    for axes in columns[1:]:
        axes.sharey(columns[0])
    columns[0].legend(fontsize=8)
    return figure


def gradient_cosines(result: Mapping[str, Any], recipe: str = "simultaneous") -> Figure:
    """Cosine between users' encoder gradients over training, one line a pair; below zero is conflict."""
    figure, (axes,) = _axes()
    rows = select(result["rows"], recipe=recipe)
    for pair in dict.fromkeys(row["pair"] for row in rows):
        points = sorted((row["step"], row["cosine"]) for row in select(rows, pair=pair))
        axes.plot(*zip(*points, strict=True), label=pair, linewidth=1.1)
    axes.axhline(0.0, color="black", linewidth=0.8)
    axes.legend(fontsize=8, ncols=2)
    axes.set(xlabel="encoder update", ylabel="cosine of encoder gradients", ylim=(-1.05, 1.05), title=recipe)
    return figure


def rate_comparison(result: Mapping[str, Any]) -> Figure:
    """PSNR over R: the multi-rate model (full) and the single-rate ones (hollow), one colour an SNR."""
    figure, (axes,) = _axes()
    rows = result["rows"]
    rates = sorted({row["rate"] for row in rows}, key=rate_value)
    for index, snr in enumerate(sorted({row["snr_db"] for row in rows})):
        points = sorted(select(rows, snr_db=snr), key=lambda row: rate_value(row["rate"]))
        x = [rate_value(point["rate"]) for point in points]
        colour = f"C{index}"
        axes.plot(x, [p["multi_psnr_db"] for p in points], "-o", color=colour, markersize=4,
                  label=f"{snr:g} dB")
        axes.plot(x, [p["single_psnr_db"] for p in points], ":o", color=colour, markerfacecolor="white",
                  markersize=6, zorder=1)
    axes.set_xscale("log")
    axes.set_xticks([rate_value(rate) for rate in rates], rates)
    axes.minorticks_off()
    axes.legend(fontsize=8, title="one model (full), one a rate (hollow)", title_fontsize=8)
    axes.set(xlabel="bandwidth ratio R", ylabel="PSNR (dB)")
    return figure
