"""The report of a run: one HTML file that needs nothing else, no network, no script.

Pure: measurements in, text out; the pictures that it embeds are read from the run's folder.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from codec_runtime.contract.directives import RATE_DENOMINATOR
from xapp.lab.demo import charts
from xapp.lab.demo.aligning import alignment_section
from xapp.lab.demo.bandwidth import rate_text
from xapp.lab.demo.pictures import PHASES, PicturePair, pairs_by_phase, pairs_by_snr
from xapp.lab.demo.report_style import CSS
from xapp.lab.demo.splitting import split_section
from xapp.lab.demo.summary import RunData

_UNKNOWN = "–"  # noqa: RUF001 - an en dash is what a table shows for nothing


def build_report(data: RunData, summary: Mapping[str, Any]) -> str:
    """The whole HTML page of a run and its summary (as :func:`xapp.lab.demo.summary.summarise` gives it)."""
    sections = [
        f"<h1>{escape(headline(summary))}</h1>",
        f'<p class="lead">{escape(story(data, summary))}</p>',
        _cards(summary),
        _pictures(pairs_by_snr(data)),
        _phases(pairs_by_phase(data), summary),
        _section(
            "What happened, second by second",
            "Means over the users of a device class. Vertical lines: the drift, and what the system did "
            "about it.",
            charts.timelines(data) if data.delivered else "",
            "Three time lines: SNR, rate and PSNR by device class, with marks for drift and updates",
        ),
        _section(
            "Adaptive against static at the same bandwidth",
            "Every point of a line is the share of pictures that came out worse than that PSNR. Left of the "
            "target is a miss. Both lines are the same pictures through the same channel draws and spend the "
            "same mean bandwidth.",
            charts.quality_distribution(data),
            "Cumulative distribution of PSNR, adaptive and static",
        ),
        _section(
            "What the update gained",
            "Pictures that the new decoder restored were restored again by the old one, from the same "
            "received symbols.",
            charts.gain_histogram(data),
            "Histogram of the PSNR gain of the new decoder",
        ),
        _section(
            "Control loop",
            "From a RIC indication's bytes arriving at the xApp to the runtime's acknowledgement that new "
            "directives are in force.",
            charts.loop_histogram(data),
            "Histogram of the control loop's latency",
        ),
        split_section(summary),
        alignment_section(summary, charts.confidence_timeline(data, summary["alignment"]["times_s"])),
        _class_table(summary),
        _event_table(summary),
        _method(data, summary),
    ]
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>Semantic communication demo: {escape(headline(summary))}</title>\n"
        f"<style>{CSS}</style></head>\n<body>\n" + "\n".join(s for s in sections if s) + "\n</body></html>\n"
    )


def headline(summary: Mapping[str, Any]) -> str:
    """One sentence: what adapting brought."""
    misses = summary["quality_misses"]
    ours, static = misses["adaptive"], misses["static_same_bandwidth"]
    if ours is None:
        return "The run ended before any picture was measured"
    if static is None:
        return f"{_percent(ours)} of the pictures missed the quality target"
    if ours < static:
        return (
            f"Adapting cut missed pictures from {_percent(static)} to {_percent(ours)} at the same bandwidth"
        )
    return (
        f"Adapting did not help in this run: {_percent(ours)} missed pictures against {_percent(static)} "
        "without it"
    )


def story(data: RunData, summary: Mapping[str, Any]) -> str:
    """A paragraph of plain words."""
    parts = [
        f"{summary['users']} users of {len(summary['classes'])} device classes sent "
        f"{summary['transmissions']} photographs in {summary['live_s']:.0f} seconds over a simulated radio "
        "channel, each compressed by one neural encoder and restored by the device's own decoder. The xApp "
        f"took in {summary['ue_reports']:,} channel reports and changed a user's directive "
        f"{summary['directives']:,} times."
    ]
    swaps = data.swap_times()
    drift = summary["drift"]
    if drift["time_s"] is not None:
        parts.append(
            f"At {drift['time_s']:.0f} s the {drift['group']} users' channel got worse and their cameras "
            "changed to pictures of a kind that the codec had never seen."
        )
    later = [t for t in swaps if drift["time_s"] is None or t >= drift["time_s"]]
    gain = summary["update_gain_db"]
    if later:
        text = f"A decoder fine-tuned on what they had sent was signed, pushed and in use at {later[0]:.0f} s"
        if gain is not None:
            text += (
                f": {gain:+.2f} dB against the old one on the same {summary['update_gain_pairs']} pictures"
            )
        parts.append(text + ".")
    elif drift["time_s"] is not None:
        parts.append("No codec update was completed before the end.")
    if summary["restarts"]:
        names = ", ".join(f"{name} ({count}x)" for name, count in summary["restarts"].items())
        parts.append(f"Processes that died and were started again: {names}.")
    if summary["interrupted"]:
        parts.append("The run was interrupted; this report covers what was measured until then.")
    return " ".join(parts)


def _cards(summary: Mapping[str, Any]) -> str:
    misses, psnr = summary["quality_misses"], summary["psnr_db"]
    ratio, gain = summary["bandwidth_ratio_mean"], summary["update_gain_db"]
    loop, failed = summary["loop_ms"], summary["failed_requests"]
    rows = [
        (
            f"{_percent(misses['adaptive'])} vs {_percent(misses['static_same_bandwidth'])}",
            "pictures below target",
            f"adaptive vs static; target {summary['quality_target_db']:g} dB PSNR",
            "",
        ),
        (
            f"{_number(psnr['adaptive'], 2)} vs {_number(psnr['static_same_bandwidth'], 2)} dB",
            "mean PSNR",
            "adaptive vs static; adapting spends bandwidth where it saves a picture",
            "",
        ),
        (
            "R = " + (rate_text(ratio * RATE_DENOMINATOR) if ratio else _UNKNOWN),
            "mean bandwidth ratio",
            "complex channel symbols for each colour value of the picture; the same on both sides",
            "",
        ),
        (
            _UNKNOWN if gain is None else f"{gain:+.2f} dB",
            "gain of the update",
            "new minus old decoder, same pictures and noise",
            "" if gain is None else "good" if gain > 0 else "bad",
        ),
        (
            f"{_number(loop['p50'], 1)} / {_number(loop['p99'], 1)} ms",
            "control loop p50 / p99",
            "indication in to directive applied",
            "",
        ),
        (
            f"{failed:,} of {summary['requests']:,}",
            "failed requests",
            f"{summary['decode_errors']:,} undecodable indications of {summary['indications']:,}",
            "good" if failed == 0 else "bad",
        ),
    ]
    cards = "".join(
        f'<div class="card"><b class="{tone}">{escape(value)}</b><span>{escape(label)}</span>'
        f"<small>{escape(note)}</small></div>"
        for value, label, note, tone in rows
    )
    return f'<div class="cards">{cards}</div>'


def _pictures(pairs: Sequence[PicturePair]) -> str:
    if not pairs:
        return ""
    return (
        "<h2>Pictures, sent and restored</h2>\n"
        '<p class="soft">Left: the original. Right: what the device restored. From the worst channel to the '
        f'best.</p>\n<div class="pairs">{"".join(_figure(pair) for pair in pairs)}</div>'
    )


def _phases(story: Mapping[str, Sequence[PicturePair]], summary: Mapping[str, Any]) -> str:
    if not story:
        return ""
    columns = "".join(
        f"<div><h3>{escape(PHASES[phase][:1].upper() + PHASES[phase][1:])}</h3>"
        f"{''.join(_figure(pair) for pair in pairs)}</div>"
        for phase, pairs in story.items()
    )
    return (
        "<h2>The drift and the update, in pictures</h2>\n"
        f'<p class="soft">The {escape(summary["drift"]["group"])} users before the drift, after it, and with '
        "the updated decoder, at a similar SNR where the run had one. Different pictures: the measured gain "
        f'further down is on the same ones.</p>\n<div class="phases">{columns}</div>'
    )


def _figure(pair: PicturePair) -> str:
    return (
        f'<figure><div class="pair"><img src="{pair.original}" alt="original: {escape(pair.alt)}">'
        f'<img src="{pair.restored}" alt="restored: {escape(pair.alt)}"></div>'
        f"<figcaption>{escape(pair.caption)}</figcaption></figure>"
    )


def _section(title: str, note: str, svg: str, alt: str) -> str:
    if not svg:
        return ""
    labelled = svg.replace("<svg", f'<svg role="img" aria-label="{escape(alt)}"', 1)
    return (
        f'<h2>{escape(title)}</h2>\n<p class="soft">{escape(note)}</p>\n<div class="chart">{labelled}</div>'
    )


def _class_table(summary: Mapping[str, Any]) -> str:
    rows = []
    for name, row in summary["classes"].items():
        psnr, misses, ssim = row["psnr_db"], row["quality_misses"], row["ms_ssim"]
        ratio = row["bandwidth_ratio_mean"]
        cells = [
            str(row["users"]),
            str(row["transmissions"]),
            _number(row["snr_db_mean"], 1),
            rate_text(ratio * RATE_DENOMINATOR) if ratio else _UNKNOWN,
            f"{_number(psnr['adaptive'], 2)} / {_number(psnr['static_same_bandwidth'], 2)}",
            f"{_number(ssim['adaptive'], 3)} / {_number(ssim['static_same_bandwidth'], 3)}",
            f"{_percent(misses['adaptive'])} / {_percent(misses['static_same_bandwidth'])}",
        ]
        dot = f'<span class="dot" style="background: var(--{escape(name)}, var(--soft))"></span>'
        rows.append(
            f'<tr><td class="word">{dot}{escape(name)}</td>'
            + "".join(f"<td>{c}</td>" for c in cells)
            + "</tr>"
        )
    if not rows:
        return ""
    return (
        "<h2>By device class</h2>\n"
        '<p class="soft">Pairs are adaptive / static at the same mean bandwidth over all classes.</p>\n'
        '<div class="scroll"><table><thead><tr><th class="word">class</th><th>users</th><th>pictures</th>'
        "<th>mean SNR (dB)</th><th>mean R</th><th>PSNR (dB)</th><th>MS-SSIM</th><th>below target</th></tr>"
        f"</thead><tbody>{''.join(rows)}</tbody></table></div>"
    )


def _event_table(summary: Mapping[str, Any]) -> str:
    rows = "".join(
        f'<tr><td>{event["time_s"]:.1f} s</td><td class="word">{escape(event["text"])}</td></tr>'
        for event in summary["events"]
    )
    if not rows:
        return ""
    return f'<h2>Events</h2>\n<div class="scroll"><table><tbody>{rows}</tbody></table></div>'


def _method(data: RunData, summary: Mapping[str, Any]) -> str:
    shared = summary["compared_transmissions"]
    total = len(data.delivered)
    mean_prefix = _number(summary["static_prefix_mean"], 2)
    share = (
        "."
        if shared == total
        else ", a random share, because the time was limited; the adaptive numbers beside it are over the "
        "same share."
    )
    left_out = _left_out(summary["left_out"].get("static_same_bandwidth", {}))
    if left_out and shared < total:
        share = ", those that could be repeated in time; the adaptive numbers beside it are over the same."
    notes = [
        "Every process is the one a testbed runs: RMR frames with APER-encoded E2SM-KPM indications, a REST "
        "subscription, the Open Inference Protocol, and updates signed and verified by The Update Framework. "
        "The radio is simulated; its numbers say nothing about a real cell's coverage.",
        "“Static” sends the same pictures through the same fading and noise at one rate (a mix of two "
        f"neighbouring ones, on average R = {mean_prefix}/{RATE_DENOMINATOR}), restored by the decoder "
        "version in use at that moment, after the live phase. It "
        f"was measured on {shared:,} of {total:,} transmissions{share}{left_out}",
        "“Gain of the update”: pictures that the new decoder restored are restored a second time, with the "
        "version it was fine-tuned from. They came after the update; the fine-tuning saw only earlier ones, "
        f"which can show the same scenes.{_left_out(summary['left_out'].get('update_gain', {}))}",
        "SNR on the time line is the mean that the base station reports; a single picture meets its own "
        "fading, which the xApp cannot know beforehand. Pictures show the SNR at the decoder.",
        f"Seed {summary['seed']}, {summary['users']} users, {summary['duration_s']:g} s. Timing depends on "
        "the machine, so a second run with the same seed differs in its details.",
    ]
    items = "".join(f"<li>{escape(note)}</li>" for note in notes)
    return f"<h2>How this was measured</h2>\n<ul>{items}</ul>"


def _left_out(reasons: Mapping[str, int]) -> str:
    """A sentence on pictures that could not be repeated; empty where there are none."""
    if not reasons:
        return ""
    return " Left out: " + "; ".join(f"{count:,} pictures ({why})" for why, count in reasons.items()) + "."


def _percent(share: float | None) -> str:
    if share is None:
        return _UNKNOWN
    return f"{share * 100:.0f}%" if share >= 0.1 or share == 0 else f"{share * 100:.1f}%"


def _number(value: float | None, digits: int) -> str:
    return _UNKNOWN if value is None else f"{value:.{digits}f}"
