"""One model for every rate against a model for each: what serving all rates with one encoder costs.

Two references:

- ``scratch``: the multi-rate model and a single-rate one for each rate start alike (the fast family at
  the PCA) and make the same number of steps. The single-rate models spend all of theirs on one rate.
- from weights: the multi-rate model is a published one, and each single-rate model is it, trained on at
  its one rate for some steps. This is the stronger reference: it has all that the one model has learnt.

The single-rate models see the same SNR range, channel and pictures. The multi-rate model is also checked
for what its users rely on: PSNR never falls with a longer prefix or a better SNR.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from statistics import fmean
from typing import Any

from codec_runtime.bundle.store import find_bundles
from codec_runtime.contract.bundle import MANIFEST_FILE
from codec_runtime.evaluation.codec import rate_name
from codec_runtime.evaluation.command import load_codec
from codec_runtime.experiments.cells import experiment_cells
from codec_runtime.experiments.results import experiment_result, spread
from codec_runtime.experiments.trial import (
    Measurement,
    Networks,
    Trial,
    TrialSettings,
    build_networks,
    data_hashes,
    measure,
    train_networks,
)
from codec_runtime.training.conditions import PREFIXES

RECIPE = "joint-single"
MULTI = "multi"
ALLOWED_LOSS_DB = 0.3
RATE_PREFIXES = (2, 4, 6, 8, 16)
MONOTONE_TOLERANCE_DB = 0.01
"""A fall below this is noise of the measurement (one noise draw a picture)."""

FAST = TrialSettings(
    family="fast", width=64, blocks=4, latent_channels=16, decoders=("attention",), encoder_updates=2000,
    decoder_updates=2000, prefixes=PREFIXES, crop=128, learning_rate=8e-4, loss="log-mse", ema_decay=0.998,
)


@dataclass(frozen=True)
class RateSettings:
    """What is trained and measured.

    Attributes:
        trial: one decoder; E = B = the steps of a model. ``prefixes`` are those of the multi-rate model.
        weights: bundle root that the models start from; None: from scratch. Then the networks' sizes in
            ``trial`` are those of the bundles, whatever it says, and the multi-rate model is not trained on.
    """

    trial: TrialSettings = FAST
    measurement: Measurement = field(default_factory=lambda: Measurement(prefixes=RATE_PREFIXES))
    channel: str = "awgn"
    seeds: tuple[int, ...] = (1,)
    weights: str | None = None


@dataclass(frozen=True)
class RateTrial:
    """One cell: the multi-rate model (``prefix`` None) or that of one prefix."""

    trial: Trial
    prefix: int | None
    weights: str | None


def run_rate_trial(cell: RateTrial) -> dict[str, Any]:
    """Train (unless it is the published model itself) and measure; a cell's result."""
    trial, settings = cell.trial, cell.trial.settings
    if cell.weights is None:
        networks = build_networks(settings, trial.seed)
    else:
        encoder, decoders = load_codec(Path(cell.weights), ",".join(settings.decoders))
        networks = Networks(encoder, decoders)
    encoder = networks.encoder
    if cell.weights is None or cell.prefix is not None:
        result = train_networks(trial, networks)
        encoder = result.encoders[settings.decoders[0]]
    rows = measure(encoder, networks.decoders, trial)
    return {"seed": trial.seed, "prefix": cell.prefix, "rows": rows}


def rate_trials(settings: RateSettings) -> dict[str, RateTrial]:
    """Cell name -> trial: the multi-rate model and one for each measured prefix, for every seed."""
    cells: dict[str, RateTrial] = {}
    for seed in settings.seeds:
        trial = Trial(RECIPE, seed, settings.channel, settings.trial, settings.measurement)
        cells[f"{MULTI}-seed{seed}"] = RateTrial(trial, None, settings.weights)
        for prefix in settings.measurement.prefixes:
            single = replace(
                trial, settings=replace(settings.trial, prefixes=(prefix,)),
                measurement=replace(settings.measurement, prefixes=(prefix,)),
            )
            cells[f"prefix{prefix}-seed{seed}"] = RateTrial(single, prefix, settings.weights)
    return cells


def run_rates(settings: RateSettings, work: Path, *, command: str, jobs: int = 1) -> dict[str, Any]:
    """Train and measure what is missing below ``work``; the result for ``docs/results/rates.json``.

    Raises:
        FileNotFoundError, ValueError: the pictures, the weights or the settings.
        codec_runtime.experiments.cells.CellError: a training failed; the others are kept.
    """
    if len(settings.trial.decoders) != 1:
        raise ValueError(f"one decoder is compared, not {len(settings.trial.decoders)}")
    longest = max(settings.measurement.prefixes)
    if settings.weights is None and longest > settings.trial.latent_channels:
        raise ValueError(
            f"prefix {longest} is longer than the {settings.trial.latent_channels} latent channels"
        )
    hashes = data_hashes(settings.trial, settings.measurement)
    if settings.weights is not None:
        hashes["weights"] = _weights_hash(Path(settings.weights))
    cells = experiment_cells(
        "rates", settings, ("trial", "measurement", "channel"), hashes, rate_trials(settings), run_rate_trial,
        work, jobs=jobs,
    )
    return rate_result(settings, cells, command=command, data_sha256=hashes)


def rate_result(
    settings: RateSettings,
    cells: Sequence[Mapping[str, Any]],
    *,
    command: str,
    data_sha256: Mapping[str, str],
) -> dict[str, Any]:
    """Rows (mean over seeds) with both models and their paired difference, and the monotonicity checks."""
    multi: dict[tuple[int, float], dict[int, Mapping[str, Any]]] = {}
    single: dict[tuple[int, float], dict[int, Mapping[str, Any]]] = {}
    for cell in cells:
        for row in cell["rows"]:
            side = multi if cell["prefix"] is None else single
            side.setdefault((row["prefix"], row["snr_db"]), {})[cell["seed"]] = row
    rows = []
    for (prefix, snr), of_multi in multi.items():
        of_single = single[prefix, snr]
        seeds = sorted(of_multi.keys() & of_single.keys())
        differences = [of_multi[seed]["psnr_db"] - of_single[seed]["psnr_db"] for seed in seeds]
        deviation = spread(differences)
        rows.append(
            {
                "decoder": settings.trial.decoders[0], "channel": settings.channel,
                "rate": rate_name(prefix), "prefix": prefix, "snr_db": snr,
                "multi_psnr_db": _mean(of_multi, seeds, "psnr_db", 4),
                "single_psnr_db": _mean(of_single, seeds, "psnr_db", 4),
                "difference_db": round(fmean(differences), 4),
                "difference_spread": None if deviation is None else round(deviation, 4),
                "multi_ms_ssim": _mean(of_multi, seeds, "ms_ssim", 5),
                "single_ms_ssim": _mean(of_single, seeds, "ms_ssim", 5),
                "images": of_multi[seeds[0]]["images"], "seeds": len(seeds),
            }
        )
    checks = monotonicity({cell: fmean(r["psnr_db"] for r in by.values()) for cell, by in multi.items()})
    worst = min(rows, key=lambda row: float(row["difference_db"]))
    verdict = {
        "worst_difference_db": worst["difference_db"], "worst_rate": worst["rate"],
        "worst_snr_db": worst["snr_db"],
        "mean_difference_db": round(fmean(row["difference_db"] for row in rows), 4),
        "within_allowed": worst["difference_db"] >= -ALLOWED_LOSS_DB, "monotone": checks,
    }
    return experiment_result(
        experiment="rates", command=command, config=asdict(settings), data_sha256=data_sha256,
        seeds=settings.seeds, rows=rows, verdict=verdict, verdict_text=_told(verdict),
    )


def monotonicity(psnr: Mapping[tuple[int, float], float]) -> dict[str, Any]:
    """Where PSNR falls from one prefix or SNR to the next longer or better one by more than the tolerance.

    Args:
        psnr: (prefix, SNR in dB) -> PSNR in dB.

    Returns:
        ``{prefix, snr}``: lists of ``{from, to, at, change_db}``; empty lists: monotone.
    """
    prefixes = sorted({prefix for prefix, _ in psnr})
    snrs = sorted({snr for _, snr in psnr})
    steps = [
        *(("prefix", a, b, snr, psnr[b, snr] - psnr[a, snr]) for snr in snrs for a, b in pairwise(prefixes)),
        *(("snr", a, b, k, psnr[k, b] - psnr[k, a]) for k in prefixes for a, b in pairwise(snrs)),
    ]
    falls: dict[str, list[dict[str, float]]] = {"prefix": [], "snr": []}
    for along, start, end, at, change in steps:
        if change < -MONOTONE_TOLERANCE_DB:
            falls[along].append({"from": start, "to": end, "at": at, "change_db": round(change, 4)})
    return falls


def _mean(by_seed: Mapping[int, Mapping[str, Any]], seeds: Sequence[int], key: str, digits: int) -> float:
    return round(fmean(by_seed[seed][key] for seed in seeds), digits)


def _told(verdict: Mapping[str, Any]) -> list[str]:
    outcome = "within" if verdict["within_allowed"] else "not within"
    falls = verdict["monotone"]
    count = len(falls["prefix"]) + len(falls["snr"])
    return [
        f"one model minus a model for each rate: {verdict['mean_difference_db']:+.2f} dB on average, "
        f"{verdict['worst_difference_db']:+.2f} dB at worst (R = {verdict['worst_rate']}, "
        f"{verdict['worst_snr_db']:g} dB): {outcome} {ALLOWED_LOSS_DB:g} dB everywhere",
        "PSNR of the one model never falls with a longer prefix or a better SNR" if count == 0
        else f"PSNR of the one model falls in {count} steps to a longer prefix or a better SNR",
    ]


def _weights_hash(root: Path) -> str:
    """sha256 over the manifests below ``root``, which hold their weights' hashes.

    Raises:
        FileNotFoundError: there are none.
    """
    found = sorted(directory / MANIFEST_FILE for directory in find_bundles(root))
    if not found:
        raise FileNotFoundError(f"no bundle below {root}")
    return hashlib.sha256(b"".join(path.read_bytes() for path in found)).hexdigest()
