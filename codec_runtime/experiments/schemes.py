"""Training schemes at equal budget: the seed's Fig. 6 and its Tables III (AWGN) and IV (Rayleigh).

Every recipe makes exactly E updates of the encoder and B of each user's decoder (E = 4 B, since
`iterative` updates the encoder with every decoder's step), from the same initial weights of a seed, on
crops of the same pictures, and is measured on the same test pictures under the same noise. `joint-single`
trains an encoder for each decoder and is the upper reference, not a competitor: it needs four encoders.

The verdict compares `anchor` with `iterative` and `simultaneous` seed by seed (paired differences
averaged over SNR) and counts the decoders for which the mean is above both. The claim of the seed paper
holds here when that is at least 3 of 4 on each channel; otherwise it is refuted at this width and budget,
and the text says so.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import fmean
from typing import Any

from codec_runtime.evaluation.codec import rate_name
from codec_runtime.evaluation.references import seed_mean_difference
from codec_runtime.experiments.cells import experiment_cells
from codec_runtime.experiments.results import experiment_result, spread, summary
from codec_runtime.experiments.trial import (
    ITERATIVE_FINAL,
    Measurement,
    Trial,
    TrialSettings,
    data_hashes,
    run_trial,
)

RECIPES = ("anchor", "iterative", "simultaneous", "joint-single")
CHANNELS = ("awgn", "rayleigh_slow_eq")
COMPETITORS = ("iterative", "simultaneous")
COMPARED = (*COMPETITORS, ITERATIVE_FINAL, "joint-single")
DECODERS_NEEDED = 3


@dataclass(frozen=True)
class SchemeSettings:
    """What is trained and measured.

    Attributes:
        channels: one model is trained for each, as in the seed, and measured on the same one.
        upper_seeds: how many of the seeds the upper reference gets.
    """

    trial: TrialSettings = field(default_factory=TrialSettings)
    measurement: Measurement = field(default_factory=Measurement)
    recipes: tuple[str, ...] = RECIPES
    channels: tuple[str, ...] = CHANNELS
    seeds: tuple[int, ...] = (1, 2, 3)
    upper_seeds: int = 1


def scheme_trials(settings: SchemeSettings) -> dict[str, Trial]:
    """Cell name -> trial, the seeds outermost, so that an interrupted run has whole comparisons."""
    return {
        f"{recipe}-{channel}-seed{seed}": Trial(recipe, seed, channel, settings.trial, settings.measurement)
        for index, seed in enumerate(settings.seeds)
        for channel in settings.channels
        for recipe in settings.recipes
        if recipe != "joint-single" or index < settings.upper_seeds
    }


def run_schemes(settings: SchemeSettings, work: Path, *, command: str, jobs: int = 1) -> dict[str, Any]:
    """Train and measure what is missing below ``work``; the result for ``docs/results/schemes.json``.

    Raises:
        FileNotFoundError, ValueError: the pictures or the settings.
        codec_runtime.experiments.cells.CellError: a training failed; the others are kept.
    """
    hashes = data_hashes(settings.trial, settings.measurement)
    cells = experiment_cells(
        "schemes", settings, ("trial", "measurement"), hashes, scheme_trials(settings), run_trial, work,
        jobs=jobs,
    )
    return scheme_result(settings, cells, command=command, data_sha256=hashes)


def scheme_result(
    settings: SchemeSettings,
    cells: Sequence[Mapping[str, Any]],
    *,
    command: str,
    data_sha256: Mapping[str, str],
) -> dict[str, Any]:
    """Rows (mean and spread over seeds) and verdict from the cells' results (:func:`trial.run_trial`)."""
    measured: dict[tuple[str, str, str, float], dict[int, Mapping[str, Any]]] = {}
    for cell in cells:
        for row in cell["rows"]:
            key = (row["recipe"], cell["channel"], row["decoder"], row["snr_db"])
            measured.setdefault(key, {})[cell["seed"]] = row
    rows = []
    for (recipe, channel, decoder, snr), by_seed in measured.items():
        psnrs = [row["psnr_db"] for row in by_seed.values()]
        similarities = [row["ms_ssim"] for row in by_seed.values()]
        psnr_spread, ms_ssim_spread = spread(psnrs), spread(similarities)
        rows.append(
            {
                "recipe": recipe, "decoder": decoder, "tier": "medium", "channel": channel,
                "rate": rate_name(settings.measurement.prefixes[0]), "snr_db": snr,
                "psnr_db": round(fmean(psnrs), 4), "ms_ssim": round(fmean(similarities), 5),
                "psnr_seed_spread": None if psnr_spread is None else round(psnr_spread, 4),
                "ms_ssim_seed_spread": None if ms_ssim_spread is None else round(ms_ssim_spread, 5),
                "psnr_spread": round(fmean(row["psnr_spread"] for row in by_seed.values()), 4),
                "images": next(iter(by_seed.values()))["images"], "seeds": len(by_seed),
            }
        )
    verdict = {channel: _verdict(settings, measured, channel) for channel in settings.channels}
    return experiment_result(
        experiment="schemes", command=command, config=asdict(settings), data_sha256=data_sha256,
        seeds=settings.seeds, rows=rows, verdict=verdict,
        verdict_text=[line for channel in settings.channels for line in _told(channel, verdict[channel])],
        budget=[
            {key: cell[key] for key in ("recipe", "channel", "seed", "updates", "train_s", "test_s")}
            for cell in cells
        ],
    )


def _verdict(
    settings: SchemeSettings,
    measured: Mapping[tuple[str, str, str, float], Mapping[int, Mapping[str, Any]]],
    channel: str,
) -> dict[str, Any]:
    """Paired differences of ``anchor`` for each decoder; seeds that both recipes have."""
    decoders: dict[str, Any] = {}
    for decoder in settings.trial.decoders:
        against: dict[str, Any] = {}
        for other in COMPARED:
            entry = {
                metric: _paired(measured, channel, decoder, other, metric, digits)
                for metric, digits in (("psnr_db", 4), ("ms_ssim", 5))
            }
            if entry["psnr_db"] is None or entry["ms_ssim"] is None:
                continue
            seed_paper = {
                metric: _seed_difference(metric, channel, decoder, other) for metric in ("psnr_db", "ms_ssim")
            }
            against[other] = {**entry, "seed_paper": seed_paper}
        decoders[decoder] = {
            "against": against,
            "above_both": _above(against, "psnr_db"),
            "above_both_ms_ssim": _above(against, "ms_ssim"),
        }
    above = sum(entry["above_both"] for entry in decoders.values())
    return {
        "decoders": decoders,
        "decoders_above_both": above,
        "decoders_above_both_ms_ssim": sum(entry["above_both_ms_ssim"] for entry in decoders.values()),
        "decoders_total": len(decoders),
        "claim_holds": above >= min(DECODERS_NEEDED, len(decoders)),
        "complete": all(other in entry["against"] for entry in decoders.values() for other in COMPETITORS),
    }


def _above(against: Mapping[str, Any], metric: str) -> bool:
    return all(other in against and against[other][metric]["mean"] > 0.0 for other in COMPETITORS)


def _paired(
    measured: Mapping[tuple[str, str, str, float], Mapping[int, Mapping[str, Any]]],
    channel: str, decoder: str, other: str, metric: str, digits: int,
) -> dict[str, Any] | None:
    """Mean over SNR of anchor minus other, for every seed that both have; None when there is none."""
    differences: dict[int, list[float]] = {}
    for (recipe, of_channel, of_decoder, snr), by_seed in measured.items():
        if (recipe, of_channel, of_decoder) != ("anchor", channel, decoder):
            continue
        theirs = measured.get((other, channel, decoder, snr), {})
        for seed, row in by_seed.items():
            if seed in theirs:
                differences.setdefault(seed, []).append(row[metric] - theirs[seed][metric])
    if not differences:
        return None
    per_seed = [fmean(values) for values in differences.values()]
    return {**summary(per_seed, digits), "seeds_above": sum(value > 0.0 for value in per_seed)}


def _seed_difference(metric: str, channel: str, decoder: str, other: str) -> float | None:
    """The same difference in the seed paper's tables; None where it prints none."""
    named = "awgn" if channel.startswith("awgn") else "rayleigh"
    try:
        return round(seed_mean_difference(metric, named, decoder, other), 4)  # type: ignore[arg-type]
    except KeyError:
        return None


def _told(channel: str, verdict: Mapping[str, Any]) -> list[str]:
    """The verdict of one channel in words."""
    lines = []
    for decoder, entry in verdict["decoders"].items():
        parts = [
            f"{other} {_signed(of['psnr_db'], 'dB')} and {_signed(of['ms_ssim'], 'MS-SSIM')}"
            for other, of in entry["against"].items()
        ]
        lines.append(f"{channel}, {decoder}: anchor minus " + "; minus ".join(parts))
    above, total = verdict["decoders_above_both"], verdict["decoders_total"]
    if not verdict["complete"]:
        lines.append(f"{channel}: not every recipe was run, so there is no verdict")
        return lines
    outcome = "holds" if verdict["claim_holds"] else "does not hold"
    lines.append(
        f"{channel}: anchor is above iterative and simultaneous for {above} of {total} decoders in PSNR and "
        f"{verdict['decoders_above_both_ms_ssim']} of {total} in MS-SSIM, averaged over SNR and seeds: "
        f"the seed paper's claim {outcome} at this width and budget"
    )
    return lines


def _signed(entry: Mapping[str, Any], unit: str) -> str:
    digits = 2 if unit == "dB" else 4
    about = "" if entry["spread"] is None else f" ± {entry['spread']:.{digits}f}"
    return f"{entry['mean']:+.{digits}f}{about} {unit}"
