"""Adapter updates under label errors: the scheme, ablations, baselines, bounds (the seed's Figs. 3 and 4).

A cell is one update: method, label errors, non-IID mix, seed. Every method has the same users, wrong labels,
starting adapter (its own architecture, trained by the base station), rounds, batch, learning rate and weight
decay. What counts is the last round; beside it stands the round where the users' held-out pairs score best
(early stopping), whose labels are as wrong as the others.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import lru_cache
from pathlib import Path
from statistics import fmean
from typing import Any

from codec_runtime.adapters.adapter import AdapterConfig
from codec_runtime.adapters.losses import LossConfig
from codec_runtime.adapters.methods import load_method
from codec_runtime.adapters.methods.running import MethodRun, run_method
from codec_runtime.adapters.tracking import LabelRule
from codec_runtime.adapters.training import TrainingConfig
from codec_runtime.experiments.adapter_users import (
    CaptionedTokens,
    UserSettings,
    captioned,
    error_shares,
    update_problem,
)
from codec_runtime.experiments.cells import experiment_cells
from codec_runtime.experiments.results import experiment_result, summary

NAME = "adapter-noise"
MAIN = ("ours", "fedavg", "fedgnn", "no_graph", "no_confidence", "no_rescoring", "central", "local")
OTHER_UPDATES = ("no_common", "fedgnn_common", "split_learning", "transfer")
BASELINES = ("fedavg", "fedgnn")
LOSS_ALLOWED = 0.1
TRAINING = TrainingConfig(batch=64, weight_decay=0.01, loss=LossConfig(negatives="soft"))
"""Of every method."""
_DEPENDS_ON = (
    "users", "adapter", "training", "rounds", "epochs", "source_epochs", "threshold", "patience", "repair",
)


@dataclass(frozen=True)
class AdapterNoiseSettings:
    """What is run.

    Attributes:
        images: one folder with captions.txt and images/.
        methods: at every level of ``errors``, with the mix ``alpha``.
        errors: per cent, or ``mixed`` (:func:`adapter_users.error_shares`), for ours and the federated
            baselines alone.
        other_methods: at ``other_errors`` only.
        mixes: further Dirichlet alphas, for ours and the federated baselines at ``mix_errors``.
        rounds, epochs: of the update; source_epochs: of the base station before it.
        threshold, patience: of the label rule: confidence below which a label is doubted, and rounds in a row
            of disagreement after which it is given up.
        repair: certainty from which a doubted label is learned with another partner.
    """

    images: tuple[str, ...]
    users: UserSettings = field(default_factory=UserSettings)
    adapter: AdapterConfig = field(default_factory=lambda: AdapterConfig(message_rank=16))
    training: TrainingConfig = field(default_factory=lambda: TRAINING)
    methods: tuple[str, ...] = MAIN
    errors: tuple[str, ...] = ("0", "20", "40", "60", "mixed")
    other_methods: tuple[str, ...] = OTHER_UPDATES
    other_errors: tuple[str, ...] = ("0", "60")
    alpha: float = 0.5
    mixes: tuple[float, ...] = (0.1, math.inf)
    mix_errors: str = "40"
    rounds: int = 8
    epochs: int = 2
    source_epochs: int = 4
    threshold: float = 0.5
    patience: int = 3
    repair: float = 0.7
    seeds: tuple[int, ...] = (1, 2, 3)


@dataclass(frozen=True)
class UpdateCell:
    """One update."""

    settings: AdapterNoiseSettings
    method: str
    errors: str
    alpha: float
    seed: int

    @property
    def name(self) -> str:
        """Of its file."""
        return f"{self.method}-errors{self.errors}-alpha{self.alpha:g}-seed{self.seed}"


def cells_of(settings: AdapterNoiseSettings) -> list[UpdateCell]:
    """All cells, seeds outermost: a first seed of everything comes before any second.

    Raises:
        KeyError: an unknown method.
    """
    compared = [method for method in ("ours", *BASELINES) if method in settings.methods]
    points = [
        (m, e, settings.alpha)
        for e in settings.errors for m in (compared if e == "mixed" else settings.methods)
    ]
    points += [(m, e, settings.alpha) for e in settings.other_errors for m in settings.other_methods]
    points += [(m, settings.mix_errors, alpha) for alpha in settings.mixes for m in compared]
    for method, _, _ in points:
        load_method(method)
    return [UpdateCell(settings, *point, seed) for seed in settings.seeds for point in dict.fromkeys(points)]


@lru_cache(maxsize=1)
def tokens_of(folder: str, users: UserSettings) -> CaptionedTokens:
    """Tokens of the data through all encoders of the users; kept for the cells of one process."""
    return captioned(Path(folder), *users.all_encoders(), pieces=users.pieces)


def run_cell(cell: UpdateCell) -> dict[str, Any]:
    """Make the update; a cell's result."""
    settings = cell.settings
    problem = update_problem(
        tokens_of(settings.images[0], settings.users), settings.users, alpha=cell.alpha, errors=cell.errors,
        seed=cell.seed, training=settings.training, config=settings.adapter, epochs=settings.epochs,
        source_epochs=settings.source_epochs,
        rule=LabelRule(
            threshold=settings.threshold, rounds=settings.patience, repair=settings.repair
        ),
    )
    run = run_method(load_method(cell.method), problem, settings.rounds)
    return {
        "method": cell.method, "errors": cell.errors, "alpha": _alpha(cell.alpha), "seed": cell.seed,
        **_scores(run, error_shares(cell.errors, len(problem.users))),
    }


def _scores(run: MethodRun, shares: Sequence[float]) -> dict[str, Any]:
    last = run.curve[-1]
    told = last.as_dict()
    groups: dict[str, list[float]] = {}
    for share, name in zip(shares, sorted(last.users, key=_number), strict=True):
        groups.setdefault(f"{100 * share:g}", []).append(told["users"][name])
    return {
        "rsum": told["rsum"], "worst": told["worst"], "worst_user": told["worst_user"],
        "users": told["users"], "groups": {name: fmean(values) for name, values in groups.items()},
        "stopped_at": run.chosen.round, "stopped_rsum": run.chosen.as_dict()["rsum"],
        "start_rsum": run.curve[0].as_dict()["rsum"],
        "curve": [
            {key: scores.as_dict()[key] for key in ("round", "rsum", "worst", "held_out")}
            for scores in run.curve
        ],
        "bytes_up": run.bytes_up, "bytes_down": run.bytes_down, "labels": run.labels,
    }


def run_adapter_noise(
    settings: AdapterNoiseSettings, work: Path, *, command: str, jobs: int = 1
) -> dict[str, Any]:
    """Run what is missing below ``work``; the result for ``docs/results/adapter_noise.json``.

    Raises:
        ValueError, KeyError, EncoderUnavailableError: data, encoders or settings.
        codec_runtime.experiments.cells.CellError: an update failed; the others are kept.
    """
    cells = cells_of(settings)
    # Encoders run here and once, not in every process at a time.
    hashes = tokens_of(settings.images[0], settings.users).sha256
    found = experiment_cells(
        NAME, settings, _DEPENDS_ON, hashes,
        {cell.name: cell for cell in cells}, run_cell, work, jobs=jobs,
    )
    return adapter_noise_result(settings, found, command=command, data_sha256=hashes)


def adapter_noise_result(
    settings: AdapterNoiseSettings, cells: Sequence[Mapping[str, Any]], *, command: str,
    data_sha256: Mapping[str, str],
) -> dict[str, Any]:
    """Means and spreads over the seeds, and what they show.

    ``rsum`` has the levels of ``errors`` with the mix ``alpha``: level -> method -> mean, spread, seeds.
    """
    points: dict[tuple[str, str, str], list[Mapping[str, Any]]] = {}
    for cell in cells:
        points.setdefault((cell["method"], cell["errors"], cell["alpha"]), []).append(cell)
    rows = [
        {"method": method, "errors": errors, "alpha": alpha, **_row(of_seeds)}
        for (method, errors, alpha), of_seeds in points.items()
    ]
    rsum, stopped = (_levels(rows, _alpha(settings.alpha), key) for key in ("rsum", "stopped_rsum"))
    verdict = verdict_of(rsum)
    # JSON has no infinity.
    mixes = {"alpha": _alpha(settings.alpha), "mixes": [_alpha(alpha) for alpha in settings.mixes]}
    return experiment_result(
        experiment=NAME, command=command, config=asdict(settings) | mixes,
        data_sha256=data_sha256, seeds=settings.seeds, rows=rows, rsum=rsum, verdict=verdict,
        rsum_early_stopping=stopped, verdict_early_stopping=verdict_of(stopped),
        verdict_text=told(rsum, verdict),
    )


def _levels(rows: Sequence[Mapping[str, Any]], alpha: str, key: str) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}
    for row in rows:
        if row["alpha"] == alpha:
            of = row[key]
            entry = {"mean": of["mean"], "spread": of["spread"], "seeds": of["per_seed"]}
            found.setdefault(row["errors"], {})[row["method"]] = entry
    return found


def _row(cells: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    first = cells[0]
    return {
        **{key: summary([cell[key] for cell in cells], 2)
           for key in ("rsum", "worst", "stopped_rsum", "start_rsum", "stopped_at")},
        "groups": {name: summary([cell["groups"][name] for cell in cells], 2) for name in first["groups"]},
        "labels": {name: round(fmean(cell["labels"][name] for cell in cells), 4) for name in first["labels"]},
        "bytes_up": round(fmean(cell["bytes_up"] for cell in cells)),
        "bytes_down": round(fmean(cell["bytes_down"] for cell in cells)),
        "curve": [
            {"round": steps[0]["round"],
             **{key: round(fmean(step[key] for step in steps), 2) for key in ("rsum", "worst", "held_out")}}
            for steps in zip(*(cell["curve"] for cell in cells), strict=True)
        ],
    }


def verdict_of(rsum: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Margins of ours over the federated baselines, and its loss at 60 % errors.

    A margin counts (``above``) if it is larger than the larger of the two spreads over seeds; with one seed
    there is no spread and nothing counts.
    """
    margins: dict[str, dict[str, Any]] = {}
    for level, methods in rsum.items():
        for other in BASELINES:
            if "ours" in methods and other in methods:
                pair = (methods["ours"], methods[other])
                margin = pair[0]["mean"] - pair[1]["mean"]
                spreads = [entry["spread"] for entry in pair]
                limit = None if None in spreads else max(spreads)
                margins.setdefault(level, {})[other] = {
                    "margin": round(margin, 2), "spread": limit,
                    "above": limit is not None and margin > limit,
                }
    clean, severe = (rsum.get(level, {}).get("ours") for level in ("0", "60"))
    lost = None if clean is None or severe is None else 1 - severe["mean"] / clean["mean"]
    return {
        "above_baselines": margins,
        "above_everywhere": bool(margins) and all(
            entry["above"] for of in margins.values() for entry in of.values()
        ),
        "lost_at_60": None if lost is None else round(lost, 4),
        "within_10_per_cent": None if lost is None else lost <= LOSS_ALLOWED,
    }


def told(rsum: Mapping[str, Mapping[str, Any]], verdict: Mapping[str, Any]) -> list[str]:
    """The verdict in words."""
    lines = []
    for level, of in verdict["above_baselines"].items():
        for other, entry in of.items():
            spread = "one seed, no spread" if entry["spread"] is None else f"spread {entry['spread']:.1f}"
            word = "above" if entry["above"] else "NOT above"
            lines.append(
                f"label errors {_level(level)}: ours is {word} {other} by more than the seeds' spread: "
                f"{rsum[level]['ours']['mean']:.1f} against {rsum[level][other]['mean']:.1f} ({spread})"
            )
    if verdict["lost_at_60"] is not None:
        word = "within" if verdict["within_10_per_cent"] else "NOT within"
        lines.append(
            f"at 60 % errors ours is {word} 10 % of its clean result: it loses "
            f"{100 * verdict['lost_at_60']:.1f} %"
        )
    return lines


def _level(level: str) -> str:
    return level if level == "mixed" else f"{level} %"


def _number(name: str) -> int:
    return int(name.removeprefix("u"))


def _alpha(alpha: float) -> str:
    return "iid" if math.isinf(alpha) else f"{alpha:g}"
