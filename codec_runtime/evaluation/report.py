"""One HTML page with everything that was measured: plots, tables, the same crops under each scheme.

Pure: rows, results and crops in, text out. The page carries its pictures (base64) and needs no network and no
script. What was not measured is left out; nothing is filled in.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from matplotlib.figure import Figure

from codec_runtime.evaluation import plots
from codec_runtime.evaluation.codec import rate_name
from codec_runtime.evaluation.comparison import Comparison, Crop
from codec_runtime.evaluation.references import KODAK_AWGN_1_16, ReferenceLine

CSS = """
:root { color-scheme: light dark; --ink: #1b1f24; --soft: #57606a; --page: #ffffff; --line: #d8dee4; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6e9ec; --soft: #9aa4ae; --page: #14181c;
  --line: #323a42; } }
body { margin: 0 auto; padding: 1.5rem 1rem 4rem; max-width: 72rem; background: var(--page);
  color: var(--ink);
  font: 16px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; }
h1 { font-size: 1.6rem; } h2 { font-size: 1.2rem; margin-top: 2.4rem; border-top: 1px solid var(--line);
  padding-top: .6rem; } h3 { font-size: 1rem; margin: 1.2rem 0 .4rem; }
.soft, figcaption { color: var(--soft); } figure { margin: 0; } figcaption { font-size: .82rem; }
.plot img { max-width: 100%; background: #fff; }
.crops { display: flex; flex-wrap: wrap; gap: .7rem; }
.crops img { display: block; width: 10rem; image-rendering: pixelated; }
.scroll { overflow-x: auto; } table { border-collapse: collapse; font-size: .85rem; }
td, th { padding: .15rem .6rem; text-align: right; border-bottom: 1px solid var(--line);
  font-variant-numeric: tabular-nums; } td:first-child, th:first-child { text-align: left; }
code { font-size: .82rem; overflow-wrap: anywhere; }
"""

REPORT_SNR_DB = 7.0
"""The SNR at which rate and cost plots are drawn when it was measured, else the middle one."""


def quality_figures(rows: Sequence[Mapping[str, Any]]) -> dict[str, Figure]:
    """Every plot that rows of ``semcom eval codec --json`` allow, by name (its file: ``codec-NAME.png``)."""
    drawn: dict[str, Figure] = {}
    for channel in dict.fromkeys(row["channel"] for row in rows):
        here = plots.select(rows, channel=channel)
        rates = list(dict.fromkeys(row["rate"] for row in here))
        snrs = sorted({float(row["snr_db"]) for row in here})
        snr = REPORT_SNR_DB if REPORT_SNR_DB in snrs else snrs[len(snrs) // 2]
        for rate in rates:
            drawn[f"quality-{channel}-{rate.replace('/', '-')}"] = plots.quality_over_snr(
                here, channel=channel, rate=rate
            )
            if any(row.get("macs_per_pixel") for row in plots.select(here, rate=rate, snr_db=snr)):
                drawn[f"cost-{channel}-{rate.replace('/', '-')}"] = plots.quality_over_cost(
                    here, channel=channel, rate=rate, snr_db=snr
                )
        if len({row["rate"] for row in plots.select(here, snr_db=snr)}) > 1:
            drawn[f"surface-{channel}"] = plots.quality_over_rate(here, channel=channel, snr_db=snr)
    return drawn


def experiment_figures(name: str, result: Mapping[str, Any]) -> dict[str, Figure]:
    """The plots of one experiment's JSON file, by name."""
    kind = result.get("experiment")
    if kind == "schemes":
        return {
            f"{name}-psnr": plots.scheme_lines(result),
            f"{name}-ms-ssim": plots.scheme_lines(result, "ms_ssim"),
        }
    if kind == "forgetting":
        return {
            f"{name}-bars": plots.forgetting_bars(result),
            f"{name}-psnr": plots.forgetting_lines(result),
            f"{name}-ms-ssim": plots.forgetting_lines(result, "ms_ssim"),
        }
    if kind == "conflict":
        recipes = dict.fromkeys(row["recipe"] for row in result["rows"])
        return {f"{name}-{recipe}": plots.gradient_cosines(result, recipe) for recipe in recipes}
    return {name: plots.rate_comparison(result)} if kind == "rates" else {}


def build_report(
    rows: Sequence[Mapping[str, Any]],
    results: Mapping[str, Mapping[str, Any]],
    comparisons: Sequence[Comparison],
    *,
    quality: Mapping[str, Figure],
    experiments: Mapping[str, Mapping[str, Figure]],
    references: Sequence[ReferenceLine] = KODAK_AWGN_1_16,
) -> str:
    """The whole page.

    Args:
        rows: of ``semcom eval codec --json``.
        results: experiment name -> content of its JSON file.
        quality: of :func:`quality_figures`; experiments: of :func:`experiment_figures`, by experiment. The
            caller draws, since it may store them as files too.
    """
    parts = ["<h1>The anchor codec, measured</h1>", _pictures(comparisons)]
    if rows:
        parts += [
            "<h2>Quality over SNR, rate and cost</h2>",
            '<p class="soft">Full lines: decoders against one frozen encoder. Dashed: baselines on the same '
            "pictures. Dotted with hollow marks: published, not measured here.</p>",
            *(_plot(name, figure) for name, figure in quality.items()),
            _rows_table(rows),
        ]
    for name, result in results.items():
        parts += [
            f"<h2>Experiment: {escape(str(result.get('experiment', name)))}</h2>",
            f"<p><code>{escape(str(result.get('command', '')))}</code></p>",
            *(_plot(plot, figure) for plot, figure in experiments.get(name, {}).items()),
            _verdict(result),
        ]
    parts.append(_sources(references))
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>The anchor codec, measured</title>\n<style>{CSS}</style></head>\n<body>\n"
        + "\n".join(part for part in parts if part)
        + "\n</body></html>\n"
    )


def data_uri(png: bytes) -> str:
    """PNG bytes as a ``data:`` address."""
    return "data:image/png;base64," + base64.b64encode(png).decode()


def _plot(name: str, figure: Figure) -> str:
    return (
        f'<figure class="plot"><img src="{data_uri(plots.png(figure))}" alt="plot {escape(name)}">'
        f"<figcaption>{escape(name)}</figcaption></figure>"
    )


def _pictures(comparisons: Sequence[Comparison]) -> str:
    if not comparisons:
        return ""
    blocks = []
    for comparison in comparisons:
        crops = "".join(map(_crop, comparison.crops))
        blocks.append(
            f"<h3>{escape(comparison.picture)}, {comparison.snr_db:g} dB, R = {rate_name(comparison.prefix)}"
            f'</h3><div class="crops">{crops}</div>'
        )
    return (
        "<h2>The same crop under each scheme</h2>\n"
        '<p class="soft">AWGN. The whole picture was sent, at the same number of channel symbols for every '
        "scheme; PSNR and MS-SSIM are of the whole picture.</p>\n" + "\n".join(blocks)
    )


def _crop(crop: Crop) -> str:
    measured = "" if crop.psnr_db is None else f"<br>{crop.psnr_db:.2f} dB"
    measured += "" if crop.ms_ssim is None else f", {crop.ms_ssim:.3f}"
    return (
        f'<figure><img src="{data_uri(crop.png)}" alt="{escape(crop.scheme)}">'
        f"<figcaption>{escape(crop.scheme)}{measured}</figcaption></figure>"
    )


def _rows_table(rows: Sequence[Mapping[str, Any]]) -> str:
    """One table a channel and rate: schemes down, SNRs across."""
    tables = []
    for channel, rate in dict.fromkeys((row["channel"], row["rate"]) for row in rows):
        here = plots.select(rows, channel=channel, rate=rate)
        snrs = sorted({float(row["snr_db"]) for row in here})
        lines = []
        for name in dict.fromkeys(plots.line_name(row) for row in here):
            cells = {float(row["snr_db"]): row for row in here if plots.line_name(row) == name}
            shown = "".join(f"<td>{_quality(cells.get(snr))}</td>" for snr in snrs)
            lines.append(f"<tr><td>{escape(name)}</td>{shown}</tr>")
        head = "".join(f"<th>{snr:g} dB</th>" for snr in snrs)
        tables.append(
            f"<h3>{escape(channel)}, R = {escape(rate)}: PSNR (dB) / MS-SSIM</h3>"
            f'<div class="scroll"><table><tr><th>scheme</th>{head}</tr>{"".join(lines)}</table></div>'
        )
    return "\n".join(tables)


def _quality(row: Mapping[str, Any] | None) -> str:
    if row is None:
        return ""
    similar = row.get("ms_ssim")
    return f"{row['psnr_db']:.2f}" + ("" if similar is None else f" / {similar:.3f}")


def _verdict(result: Mapping[str, Any]) -> str:
    lines = result.get("verdict_text", [])
    return "<ul>" + "".join(f"<li>{escape(line)}</li>" for line in lines) + "</ul>" if lines else ""


def _sources(references: Sequence[ReferenceLine]) -> str:
    items = "".join(f"<li>{escape(line.name)}: {escape(line.source)}</li>" for line in references)
    return f"<h2>Sources of the published lines</h2><ul>{items}</ul>"
