"""One training run of an experiment, and the measurement behind it.

All experiments train through :func:`codec_runtime.training.recipes.train` and measure with
:func:`codec_runtime.evaluation.codec.evaluate`; this module is what lies between: networks of a family
from a seed, pictures that a process loads once, recipes' networks measured while they are being trained.

*Iterative training is measured twice.* The seed paper's iterative results "reflect the optimal parameters
for each individual user, without considering the catastrophic forgetting problem": each user is measured
with the encoder as it is right after that user's own last turn. Rows of the recipe ``iterative`` are
those, which are the kinder ones; rows of ``iterative-final`` are what the one encoder that is left in the
end gives.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from codec_runtime.codecs.linear import PatchPca, fit_patch_pca
from codec_runtime.codecs.registry import FAMILIES, KINDS, build_decoder, build_encoder
from codec_runtime.evaluation.codec import QualityRow, evaluate
from codec_runtime.evaluation.command import load_pictures
from codec_runtime.training.conditions import SNR_RANGE_DB, ConditionConfig
from codec_runtime.training.config import TrainConfig
from codec_runtime.training.data import CropSampler, data_hash, list_images, load_image
from codec_runtime.training.events import TrainEvents
from codec_runtime.training.recipes import TrainResult, train

ITERATIVE_FINAL = "iterative-final"


@dataclass(frozen=True)
class TrialSettings:
    """How networks are made and trained; the same for every recipe that is compared.

    Attributes:
        images: folders of training pictures.
        family, width, latent_channels, tier: the networks; c = 6 with prefix 6 is R = 1/16.
        blocks: of the family's configuration; None: its default.
        decoders: users, in the order in which iterative training takes them.
        encoder_updates, decoder_updates: E and B.
        prefixes: lengths drawn in training.
        epoch_steps: steps of one user's turn in iterative training.
        final_fraction: 1 keeps the learning rate constant after the warm-up.
        ema_decay: 0, since the seed paper averages no weights; an average would also hide forgetting.
    """

    images: tuple[str, ...] = ()
    family: str = "anchor"
    width: int = 32
    blocks: int | None = None
    latent_channels: int = 6
    tier: str = "medium"
    decoders: tuple[str, ...] = KINDS
    encoder_updates: int = 1600
    decoder_updates: int = 400
    prefixes: tuple[int, ...] = (6,)
    snr_range_db: tuple[float, float] = SNR_RANGE_DB
    epoch_steps: int = 50
    crop: int = 64
    batch: int = 8
    learning_rate: float = 1e-3
    final_fraction: float = 0.025
    warmup_steps: int = 50
    loss: str = "mse"
    ema_decay: float = 0.0
    gradients_every: int = 0


@dataclass(frozen=True)
class Measurement:
    """What is measured: test folders, SNRs, prefixes, noise draws of each picture.

    Attributes:
        pictures: only the first ones; None: all.
    """

    images: tuple[str, ...] = ()
    snrs_db: tuple[float, ...] = (1.0, 4.0, 7.0, 10.0, 13.0)
    prefixes: tuple[int, ...] = (6,)
    noise_seeds: int = 1
    pictures: int | None = None


@dataclass(frozen=True)
class Trial:
    """One cell: recipe, seed and channel (of training and of measurement)."""

    recipe: str
    seed: int
    channel: str
    settings: TrialSettings
    measurement: Measurement


@dataclass(frozen=True)
class Networks:
    """Fresh networks, initialised from a seed."""

    encoder: nn.Module
    decoders: dict[str, nn.Module]


def build_networks(settings: TrialSettings, seed: int) -> Networks:
    """Networks of the family; those with a linear bypass start at the PCA of the training pictures.

    Raises:
        ValueError: no such family, kind, tier or size.
    """
    if settings.family not in FAMILIES:
        raise ValueError(f"unknown codec family {settings.family!r}; known are {', '.join(FAMILIES)}")
    sizes: dict[str, int | str] = {
        "width": settings.width, "latent_channels": settings.latent_channels
    }
    if settings.blocks is not None:
        sizes["blocks"] = settings.blocks
    config = FAMILIES[settings.family].config(**sizes)
    torch.manual_seed(seed)
    encoder = build_encoder(settings.family, config)
    decoders = {
        kind: build_decoder(settings.family, kind, config, settings.tier) for kind in settings.decoders
    }
    for network in (encoder, *decoders.values()):
        start = getattr(network, "start_from_pca", None)
        if start is not None:
            start(training_pca(settings.images, 4 * settings.latent_channels))
    return Networks(encoder, decoders)


def train_config(settings: TrialSettings, seed: int, channel: str) -> TrainConfig:
    """Settings of :func:`train`.

    Raises:
        ValueError: one is out of range.
    """
    return TrainConfig(
        seed=seed, crop=settings.crop, batch=settings.batch, learning_rate=settings.learning_rate,
        final_fraction=settings.final_fraction, warmup_steps=settings.warmup_steps, loss=settings.loss,
        ema_decay=settings.ema_decay, epoch_steps=settings.epoch_steps,
        gradients_every=settings.gradients_every,
        conditions=ConditionConfig(settings.snr_range_db, settings.prefixes, channel),
    )


def train_networks(trial: Trial, networks: Networks, events: TrainEvents | None = None) -> TrainResult:
    """Train ``networks`` in place by the trial's recipe.

    Raises:
        ValueError: unknown recipe or channel, budgets that do not suit the recipe.
    """
    settings = trial.settings
    sampler = CropSampler(training_pictures(settings.images), settings.crop, trial.seed)
    return train(
        trial.recipe, networks.encoder, networks.decoders, sampler,
        train_config(settings, trial.seed, trial.channel), encoder_updates=settings.encoder_updates,
        decoder_updates=settings.decoder_updates, events=events,
    )


class LastTurns(TrainEvents):
    """Measures each user right after its own last turn of iterative training."""

    def __init__(self, trial: Trial, networks: Networks) -> None:
        self._trial, self._networks = trial, networks
        self._epochs = iterative_epochs(trial.settings)
        self.rows: list[dict[str, Any]] = []
        self.seconds = 0.0

    def on_epoch(self, recipe: str, epoch: int, decoder_name: str) -> None:
        if epoch > self._epochs - len(self._networks.decoders):
            started = time.monotonic()
            decoder = {decoder_name: self._networks.decoders[decoder_name]}
            self.rows += measure(self._networks.encoder, decoder, self._trial)
            self.seconds += time.monotonic() - started


def iterative_epochs(settings: TrialSettings) -> int:
    """Turns that iterative training takes in all (the last round's may be shorter)."""
    return len(settings.decoders) * -(-settings.decoder_updates // settings.epoch_steps)


def run_trial(trial: Trial) -> dict[str, Any]:
    """Train and measure; a cell of an experiment.

    Returns:
        ``recipe, channel, seed, rows`` (each with its own ``recipe``, see the module docstring), ``updates``
        made of each network, ``train_s``, ``test_s``.
    """
    networks = build_networks(trial.settings, trial.seed)
    turns = LastTurns(trial, networks) if trial.recipe == "iterative" else None
    started = time.monotonic()
    result = train_networks(trial, networks, turns)
    trained = time.monotonic()
    final: list[dict[str, Any]] = []
    for encoder in dict.fromkeys(result.encoders.values()):
        users = {name: result.decoders[name] for name, own in result.encoders.items() if own is encoder}
        final += measure(encoder, users, trial)
    aside = 0.0 if turns is None else turns.seconds
    rows = [{"recipe": trial.recipe if turns is None else ITERATIVE_FINAL, **row} for row in final]
    rows += [] if turns is None else [{"recipe": trial.recipe, **row} for row in turns.rows]
    return {
        "recipe": trial.recipe, "channel": trial.channel, "seed": trial.seed, "rows": rows,
        "updates": [stage.updates for stage in result.stages],
        "train_s": round(trained - started - aside, 1),
        "test_s": round(time.monotonic() - trained + aside, 1),
    }


def measure(encoder: nn.Module, decoders: Mapping[str, nn.Module], trial: Trial) -> list[dict[str, Any]]:
    """Rows ``{decoder, prefix, snr_db, psnr_db, psnr_spread, ms_ssim, images}``, not rounded.

    The networks may be in the middle of their training: they are measured in evaluation mode and come back
    as they were.
    """
    wanted = trial.measurement
    rows = evaluate(
        encoder, decoders, test_pictures(wanted.images, wanted.pictures), channels=(trial.channel,),
        snrs_db=wanted.snrs_db, prefixes=wanted.prefixes, noise_seeds=wanted.noise_seeds,
    )
    return [_as_dict(row) for row in rows]


def _as_dict(row: QualityRow) -> dict[str, Any]:
    return {
        "decoder": row.decoder, "prefix": row.prefix, "snr_db": row.snr_db, "psnr_db": row.psnr_db,
        "psnr_spread": row.psnr_spread, "ms_ssim": row.ms_ssim, "images": row.images,
    }


@lru_cache(maxsize=2)
def training_pictures(folders: tuple[str, ...]) -> Sequence[Tensor]:
    """(3, H, W) uint8 pictures below the folders; a process loads them once."""
    return [load_image(path) for path in list_images([Path(folder) for folder in folders])]


@lru_cache(maxsize=2)
def test_pictures(folders: tuple[str, ...], count: int | None) -> Sequence[Tensor]:
    """Pictures large enough for MS-SSIM, the first ``count`` of them."""
    return load_pictures([Path(folder) for folder in folders])[:count]


@lru_cache(maxsize=2)
def training_pca(folders: tuple[str, ...], components: int) -> PatchPca:
    """Principal components of the training pictures' patches."""
    return fit_patch_pca([picture.float() / 255.0 for picture in training_pictures(folders)], components)


def data_hashes(settings: TrialSettings, measurement: Measurement) -> dict[str, str]:
    """``{training, test}``: sha256 over names and contents of the pictures.

    Raises:
        FileNotFoundError: a folder does not exist or holds no picture.
    """
    return {
        "training": data_hash(list_images([Path(folder) for folder in settings.images])),
        "test": data_hash(list_images([Path(folder) for folder in measurement.images])),
    }
