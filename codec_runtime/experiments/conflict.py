"""Gradient conflict (the seed's Theorem 1): cosines between the encoder gradients of users who share it.

To first order an encoder step along the sum of the users' gradients changes user i's loss by -rate *
sum_j <g_i, g_j>. A negative cosine between two users means that a step for one is a step against the
other. Measured every few updates of ``simultaneous`` and ``iterative`` training on the batch that is
about to be trained on, all users receiving the same symbols.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import fmean
from typing import Any

from codec_runtime.experiments.cells import experiment_cells
from codec_runtime.experiments.results import experiment_result
from codec_runtime.experiments.trial import (
    Measurement,
    Trial,
    TrialSettings,
    build_networks,
    data_hashes,
    train_networks,
)

PHASES = ("first third", "middle third", "last third")


@dataclass(frozen=True)
class ConflictSettings:
    """What is trained; ``trial.gradients_every`` sets how often the cosines are taken."""

    trial: TrialSettings = field(default_factory=lambda: TrialSettings(gradients_every=20))
    recipes: tuple[str, ...] = ("simultaneous", "iterative")
    channel: str = "awgn"
    seeds: tuple[int, ...] = (1, 2, 3)


def run_conflict_trial(trial: Trial) -> dict[str, Any]:
    """Train; a cell's result ``{recipe, seed, rows}`` with rows ``{step, pair, cosine}``."""
    result = train_networks(trial, build_networks(trial.settings, trial.seed))
    rows = [
        {"step": step, "pair": "-".join(pair), "cosine": cosine}
        for step, cosines in result.gradients
        for pair, cosine in cosines.items()
    ]
    return {"recipe": trial.recipe, "seed": trial.seed, "rows": rows}


def run_conflict(settings: ConflictSettings, work: Path, *, command: str, jobs: int = 1) -> dict[str, Any]:
    """Train what is missing below ``work``; the result for ``docs/results/conflict.json``.

    Raises:
        FileNotFoundError, ValueError: the pictures or the settings.
        codec_runtime.experiments.cells.CellError: a training failed; the others are kept.
    """
    if settings.trial.gradients_every < 1:
        raise ValueError("gradients_every is 0: no cosine would be measured")
    nothing = Measurement(images=settings.trial.images)
    hashes = {"training": data_hashes(settings.trial, nothing)["training"]}
    trials = {
        f"{recipe}-seed{seed}": Trial(recipe, seed, settings.channel, settings.trial, nothing)
        for seed in settings.seeds
        for recipe in settings.recipes
    }
    cells = experiment_cells(
        "conflict", settings, ("trial", "channel"), hashes, trials, run_conflict_trial, work, jobs=jobs
    )
    return conflict_result(settings, cells, command=command, data_sha256=hashes)


def conflict_result(
    settings: ConflictSettings,
    cells: Sequence[Mapping[str, Any]],
    *,
    command: str,
    data_sha256: Mapping[str, str],
) -> dict[str, Any]:
    """Rows (mean over seeds of each step) and, by pair, the mean of each third and the share below zero."""
    values: dict[tuple[str, str, int], list[float]] = {}
    for cell in cells:
        for row in cell["rows"]:
            values.setdefault((cell["recipe"], row["pair"], row["step"]), []).append(row["cosine"])
    rows = [
        {"recipe": recipe, "pair": pair, "step": step, "cosine": round(fmean(of_seeds), 5),
         "lowest": round(min(of_seeds), 5), "seeds": len(of_seeds)}
        for (recipe, pair, step), of_seeds in values.items()
    ]
    pairs = [
        _of_pair(recipe, pair, {s: v for (r, p, s), v in values.items() if (r, p) == (recipe, pair)})
        for recipe, pair in dict.fromkeys((recipe, pair) for recipe, pair, _ in values)
    ]
    return experiment_result(
        experiment="conflict", command=command, config=asdict(settings), data_sha256=data_sha256,
        seeds=settings.seeds, rows=rows, pairs=pairs, verdict_text=_told(pairs),
    )


def _of_pair(recipe: str, pair: str, by_step: Mapping[int, Sequence[float]]) -> dict[str, Any]:
    steps = sorted(by_step)
    everything = [value for step in steps for value in by_step[step]]
    thirds = {}
    for index, phase in enumerate(PHASES):
        chosen = steps[index * len(steps) // 3 : (index + 1) * len(steps) // 3]
        found = [value for step in chosen for value in by_step[step]]
        thirds[phase] = round(fmean(found), 4) if found else None
    return {
        "recipe": recipe, "pair": pair, "mean_cosine": round(fmean(everything), 4), **thirds,
        "share_negative": round(sum(value < 0.0 for value in everything) / len(everything), 4),
        "measurements": len(everything),
    }


def _told(pairs: Sequence[Mapping[str, Any]]) -> list[str]:
    lines = []
    for recipe in dict.fromkeys(pair["recipe"] for pair in pairs):
        of_recipe = [pair for pair in pairs if pair["recipe"] == recipe]
        worst = min(of_recipe, key=lambda pair: float(pair["mean_cosine"]))
        count = sum(pair["measurements"] for pair in of_recipe)
        negative = sum(pair["share_negative"] * pair["measurements"] for pair in of_recipe)
        lines.append(
            f"{recipe}: {100 * negative / count:.1f}% of {count} cosines are negative; the pair that agrees "
            f"least is {worst['pair']} with a mean of {worst['mean_cosine']:+.3f}"
        )
    return lines
