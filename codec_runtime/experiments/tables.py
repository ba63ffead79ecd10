"""Markdown tables of results, and where they go in docs/codec.md and docs/adapter.md.

A document marks a table's place by ``<!-- table NAME -->`` and ``<!-- end -->`` on lines of their own;
what is between them is replaced by the table made from ``NAME.json``. A place whose file is missing stays
as it is.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from codec_runtime.evaluation.plots import line_name, rate_value, select
from codec_runtime.experiments.adapter_views import adapter_noise_table

_PLACE = re.compile(r"(<!-- table (?P<name>[\w.-]+) -->\n)(?P<old>.*?)(<!-- end -->)", re.DOTALL)


def fill(document: str, results: Mapping[str, Mapping[str, Any]]) -> str:
    """``document`` with the tables of ``results`` (file name without ``.json`` -> content) in their places.

    Raises:
        ValueError: a result is of no known kind.
    """

    def place(found: re.Match[str]) -> str:
        result = results.get(found["name"])
        if result is None:
            return found[0]
        return f"{found[1]}{table(result)}\n{found[4]}"

    return _PLACE.sub(place, document)


def table(result: Mapping[str, Any]) -> str:
    """Markdown of one result, with the command that makes it.

    Raises:
        ValueError: neither an experiment known here nor rows of ``semcom eval codec``.
    """
    kind = result.get("experiment")
    makers = {
        "schemes": schemes_table, "forgetting": forgetting_table, "conflict": conflict_table,
        "rates": rates_table, "adapter-noise": adapter_noise_table, None: quality_table,
    }
    if kind not in makers or "rows" not in result:
        raise ValueError(f"no table is known for experiment {kind!r}")
    lines = makers[kind](result)
    told = [f"- {line}" for line in result.get("verdict_text", [])]
    seeds = result.get("seeds")
    of_seeds = f" Seeds: {', '.join(map(str, seeds))}." if isinstance(seeds, list) else ""
    command = [f"Made by `{result['command']}`.{of_seeds}"] if result.get("command") else []
    return "\n".join([*lines, *(["", *told] if told else []), *(["", *command] if command else []), ""])


def _grid(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    return [
        "| " + " | ".join(head) + " |",
        "|---" * len(head) + "|",
        *("| " + " | ".join(row) + " |" for row in rows),
    ]


def _snrs(rows: Sequence[Mapping[str, Any]]) -> list[float]:
    return sorted({float(row["snr_db"]) for row in rows})


def _signed(value: float, spread: float | None = None, digits: int = 2) -> str:
    about = "" if spread is None else f" ± {spread:.{digits}f}"
    return f"{value:+.{digits}f}{about}"


def _cell(row: Mapping[str, Any] | None) -> str:
    if row is None:
        return ""
    similar = row.get("ms_ssim")
    return f"{row['psnr_db']:.2f}" + ("" if similar is None else f" / {similar:.4f}")


def quality_table(result: Mapping[str, Any]) -> list[str]:
    """Rows of ``semcom eval codec``: schemes down, SNRs across, one table a channel and rate."""
    lines: list[str] = []
    rows = result["rows"]
    for channel, rate in dict.fromkeys((row["channel"], row["rate"]) for row in rows):
        here = select(rows, channel=channel, rate=rate)
        snrs = _snrs(here)
        body = []
        for name in dict.fromkeys(line_name(row) for row in here):
            cells = {float(row["snr_db"]): row for row in here if line_name(row) == name}
            body.append([name, *(_cell(cells.get(snr)) for snr in snrs)])
        lines += [
            "", f"{channel}, R = {rate}, {here[0]['images']} pictures: PSNR (dB) / MS-SSIM", "",
            *_grid(["scheme", *(f"{snr:g} dB" for snr in snrs)], body),
        ]
    return lines[1:]


def schemes_table(result: Mapping[str, Any]) -> list[str]:
    """Decoder and recipe down, SNRs across; then the paired differences."""
    lines: list[str] = []
    rows = result["rows"]
    for channel in dict.fromkeys(row["channel"] for row in rows):
        here = select(rows, channel=channel)
        snrs = _snrs(here)
        body, differences = [], []
        for decoder in dict.fromkeys(row["decoder"] for row in here):
            for recipe in dict.fromkeys(row["recipe"] for row in here):
                cells = {
                    float(row["snr_db"]): row for row in select(here, decoder=decoder, recipe=recipe)
                }
                if cells:
                    body.append([decoder, recipe, *(_cell(cells.get(snr)) for snr in snrs)])
            against = result["verdict"][channel]["decoders"][decoder]["against"]
            differences += [
                [decoder, other, _signed(of["psnr_db"]["mean"], of["psnr_db"]["spread"]),
                 _signed(of["ms_ssim"]["mean"], of["ms_ssim"]["spread"], 4),
                 f"{of['psnr_db']['seeds_above']} of {len(of['psnr_db']['per_seed'])}",
                 _of_seed_paper(of["seed_paper"])]
                for other, of in against.items()
            ]
        first = here[0]
        lines += [
            "",
            f"{channel}, R = {first['rate']}, {first['images']} pictures: PSNR (dB) / MS-SSIM (seeds' mean)",
            "",
            *_grid(["decoder", "recipe", *(f"{snr:g} dB" for snr in snrs)], body), "",
            f"{channel}: anchor minus the other recipe, averaged over SNR, mean ± spread over seeds", "",
            *_grid(["decoder", "minus", "PSNR (dB)", "MS-SSIM", "seeds above", "seed paper"], differences),
        ]
    return lines[1:]


def _of_seed_paper(difference: Mapping[str, float | None]) -> str:
    psnr, similar = difference["psnr_db"], difference["ms_ssim"]
    told = [] if psnr is None else [f"{_signed(psnr)} dB"]
    told += [] if similar is None else [_signed(similar, digits=4)]
    return ", ".join(told)


def forgetting_table(result: Mapping[str, Any]) -> list[str]:
    """PSNR and MS-SSIM lost by each user after one, two, three other users' epochs."""
    losses = result["losses"]
    counts = sorted({row["others"] for row in losses})
    body = []
    for recipe, user in dict.fromkeys((row["recipe"], row["decoder"]) for row in losses):
        found = {row["others"]: row for row in select(losses, recipe=recipe, decoder=user)}
        body.append(
            [recipe, user,
             *(f"{_signed(found[n]['psnr_loss_db'], found[n]['psnr_loss_spread'])} / "
               f"{_signed(found[n]['ms_ssim_loss'], digits=4)}" if n in found else "" for n in counts)]
        )
    return [
        "PSNR (dB, mean ± spread over seeds) / MS-SSIM *lost* since the user's own turn, mean over SNR", "",
        *_grid(["recipe", "user", *(f"after {n} other{'s' if n > 1 else ''}" for n in counts)], body),
    ]


def conflict_table(result: Mapping[str, Any]) -> list[str]:
    """Mean cosine of each pair by third of the training, and the share below zero."""
    thirds = ("first third", "middle third", "last third")
    body = [
        [pair["recipe"], pair["pair"], *("" if pair[third] is None else _signed(pair[third], digits=3)
                                         for third in thirds),
         f"{100 * pair['share_negative']:.1f}%"]
        for pair in result["pairs"]
    ]
    return _grid(["recipe", "users", *thirds, "below zero"], body)


def rates_table(result: Mapping[str, Any]) -> list[str]:
    """Rates down, SNRs across: one model, a model for each rate, difference."""
    rows = result["rows"]
    snrs = _snrs(rows)
    body = []
    for rate in sorted({row["rate"] for row in rows}, key=rate_value):
        cells = {float(row["snr_db"]): row for row in select(rows, rate=rate)}
        body.append(
            [rate, *(f"{cells[s]['multi_psnr_db']:.2f} / {cells[s]['single_psnr_db']:.2f} "
                     f"({_signed(cells[s]['difference_db'])})" for s in snrs)]
        )
    first = rows[0]
    return [
        f"{first['decoder']} decoder, {first['channel']}, {first['images']} pictures: PSNR (dB) of the one "
        "model / of a model for that rate (difference)", "",
        *_grid(["R", *(f"{snr:g} dB" for snr in snrs)], body),
    ]
