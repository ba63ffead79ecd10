"""Catastrophic forgetting: the seed's Fig. 5, and the anchor scheme beside it.

In iterative training the encoder serves one user for an epoch, then the next: attention -> conv -> resnet
-> vgg, and again. A user is *targeted* right after its own epoch; then its decoder rests while the
encoder is trained with one, two and three other users, in the order of the rotation, and it is measured
again after each. Rounds before the measured one make the networks as ready as those of the seed; the
learning rate is constant after the warm-up, since a rate that fades away would hide the forgetting of the
last rounds.

The anchor scheme trains the same number of updates. Each user's decoder is measured after its own
training and again after that of each later user: the encoder is frozen, so nothing can change, which the
measurement shows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from statistics import fmean
from typing import Any

from codec_runtime.codecs.registry import KINDS
from codec_runtime.evaluation.codec import rate_name
from codec_runtime.evaluation.references import SEED_FIGURE_5_ATTENTION_13_DB
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
from codec_runtime.training.events import StageRecord, TrainEvents

RECIPES = ("iterative", "anchor")


@dataclass(frozen=True)
class ForgettingSettings:
    """What is trained and measured.

    Attributes:
        trial: its budgets are set from ``rounds`` and ``trial.epoch_steps``.
        rounds: turns of each user up to and with the one in which it is targeted.
    """

    trial: TrialSettings = field(
        default_factory=lambda: TrialSettings(epoch_steps=100, final_fraction=1.0)
    )
    measurement: Measurement = field(default_factory=Measurement)
    recipes: tuple[str, ...] = RECIPES
    channel: str = "awgn"
    rounds: int = 4
    seeds: tuple[int, ...] = (1, 2, 3)

    def budgeted(self) -> TrialSettings:
        """``trial`` with budgets for a round more than ``rounds``: the last user has to be forgotten too."""
        decoder_updates = (self.rounds + 1) * self.trial.epoch_steps
        return replace(
            self.trial, decoder_updates=decoder_updates,
            encoder_updates=decoder_updates * len(self.trial.decoders),
        )


class Rotation(TrainEvents):
    """Measures every user after its targeted epoch and after each of the other users' epochs behind it."""

    def __init__(self, trial: Trial, networks: Networks, rounds: int) -> None:
        self._trial, self._networks = trial, networks
        self._users = list(networks.decoders)
        self._first = len(self._users) * (rounds - 1) + 1
        self.rows: list[dict[str, Any]] = []

    def on_epoch(self, recipe: str, epoch: int, decoder_name: str) -> None:
        since = {
            user: epoch - (self._first + place)
            for place, user in enumerate(self._users)
            if 0 <= epoch - (self._first + place) < len(self._users)
        }
        if since:
            self.rows += _measured(self._trial, self._networks, self._users, since)


class Adaptations(TrainEvents):
    """Measures, after each user's training against the frozen encoder, it and every user before it."""

    def __init__(self, trial: Trial, networks: Networks) -> None:
        self._trial, self._networks = trial, networks
        self._done: list[str] = []
        self.rows: list[dict[str, Any]] = []

    def on_stage_end(self, record: StageRecord) -> None:
        if record.decoder not in self._networks.decoders:
            return  # the anchor's own stage
        self._done.append(record.decoder)
        since = {user: len(self._done) - 1 - place for place, user in enumerate(self._done)}
        self.rows += _measured(self._trial, self._networks, self._done, since)


def _measured(
    trial: Trial, networks: Networks, order: Sequence[str], since: Mapping[str, int]
) -> list[dict[str, Any]]:
    """Rows of the users in ``since`` (user -> other users trained since its turn)."""
    rows = measure(networks.encoder, {user: networks.decoders[user] for user in since}, trial)
    for row in rows:
        place, others = order.index(row["decoder"]), since[row["decoder"]]
        row |= {
            "recipe": trial.recipe, "others": others,
            "trained_since": [order[(place + 1 + step) % len(order)] for step in range(others)],
        }
    return rows


@dataclass(frozen=True)
class ForgettingTrial:
    """One cell: a trial and the round in which users are targeted."""

    trial: Trial
    rounds: int


def run_forgetting_trial(cell: ForgettingTrial) -> dict[str, Any]:
    """Train and measure on the way; a cell's result ``{recipe, seed, rows}``."""
    trial = cell.trial
    networks = build_networks(trial.settings, trial.seed)
    events: Rotation | Adaptations = (
        Adaptations(trial, networks) if trial.recipe == "anchor" else Rotation(trial, networks, cell.rounds)
    )
    train_networks(trial, networks, events)
    return {"recipe": trial.recipe, "seed": trial.seed, "rows": events.rows}


def run_forgetting(
    settings: ForgettingSettings, work: Path, *, command: str, jobs: int = 1
) -> dict[str, Any]:
    """Train and measure what is missing below ``work``; the result for ``docs/results/forgetting.json``.

    Raises:
        FileNotFoundError, ValueError: the pictures or the settings.
        codec_runtime.experiments.cells.CellError: a training failed; the others are kept.
    """
    hashes = data_hashes(settings.trial, settings.measurement)
    trials = {
        f"{recipe}-seed{seed}": ForgettingTrial(
            Trial(recipe, seed, settings.channel, settings.budgeted(), settings.measurement), settings.rounds
        )
        for seed in settings.seeds
        for recipe in settings.recipes
    }
    cells = experiment_cells(
        "forgetting", settings, ("trial", "measurement", "rounds", "channel"), hashes, trials,
        run_forgetting_trial, work, jobs=jobs,
    )
    return forgetting_result(settings, cells, command=command, data_sha256=hashes)


def forgetting_result(
    settings: ForgettingSettings,
    cells: Sequence[Mapping[str, Any]],
    *,
    command: str,
    data_sha256: Mapping[str, str],
) -> dict[str, Any]:
    """Rows (mean over seeds) and the quality lost, averaged over SNR, from the cells' results."""
    points: dict[tuple[str, str, int, float], list[Mapping[str, Any]]] = {}
    losses: dict[tuple[str, str, int], dict[str, list[float]]] = {}
    for cell in cells:
        targeted = {(r["decoder"], r["snr_db"]): r for r in cell["rows"] if r["others"] == 0}
        differences: dict[tuple[str, str, int], list[tuple[float, float]]] = {}
        for row in cell["rows"]:
            points.setdefault((row["recipe"], row["decoder"], row["others"], row["snr_db"]), []).append(row)
            if row["others"] > 0:
                before = targeted[row["decoder"], row["snr_db"]]
                differences.setdefault((row["recipe"], row["decoder"], row["others"]), []).append(
                    (before["psnr_db"] - row["psnr_db"], before["ms_ssim"] - row["ms_ssim"])
                )
        for key, values in differences.items():
            lost = losses.setdefault(key, {"psnr_db": [], "ms_ssim": []})
            lost["psnr_db"].append(fmean(psnr for psnr, _ in values))
            lost["ms_ssim"].append(fmean(similar for _, similar in values))
    rows = [
        {
            "recipe": recipe, "decoder": decoder, "tier": "medium", "channel": settings.channel,
            "rate": rate_name(settings.measurement.prefixes[0]), "others": others,
            "trained_since": of_seeds[0]["trained_since"], "snr_db": snr,
            "psnr_db": round(fmean(row["psnr_db"] for row in of_seeds), 4),
            "ms_ssim": round(fmean(row["ms_ssim"] for row in of_seeds), 5),
            "psnr_spread": round(fmean(row["psnr_spread"] for row in of_seeds), 4),
            "images": of_seeds[0]["images"], "seeds": len(of_seeds),
        }
        for (recipe, decoder, others, snr), of_seeds in points.items()
    ]
    table = [
        {
            "recipe": recipe, "decoder": decoder, "others": others,
            "psnr_loss_db": round(fmean(lost["psnr_db"]), 4), "psnr_loss_spread": spread(lost["psnr_db"]),
            "ms_ssim_loss": round(fmean(lost["ms_ssim"]), 5), "ms_ssim_loss_spread": spread(lost["ms_ssim"]),
            "psnr_loss_per_seed": [round(value, 4) for value in lost["psnr_db"]],
        }
        for (recipe, decoder, others), lost in losses.items()
    ]
    return experiment_result(
        experiment="forgetting", command=command, config=asdict(settings), data_sha256=data_sha256,
        seeds=settings.seeds, rows=rows, losses=table, verdict_text=_told(table, settings.trial.decoders),
        seed_paper={"attention decoder, AWGN, 13 dB, PSNR dB": SEED_FIGURE_5_ATTENTION_13_DB},
    )


def _told(table: Sequence[Mapping[str, Any]], users: Sequence[str] = KINDS) -> list[str]:
    """What was lost by whom, in words."""
    lines = []
    for user in users:
        found = sorted(
            (row for row in table if row["recipe"] == "iterative" and row["decoder"] == user),
            key=lambda row: int(row["others"]),
        )
        if found:
            told = ", ".join(f"{row['psnr_loss_db']:+.2f} dB after {row['others']}" for row in found)
            lines.append(f"{user} loses {told} other users (PSNR averaged over SNR; negative: it gained)")
    frozen = [abs(row["psnr_loss_db"]) for row in table if row["recipe"] == "anchor"]
    if frozen:
        lines.append(f"with the anchor scheme the largest change of any user is {max(frozen):.4f} dB")
    return lines
