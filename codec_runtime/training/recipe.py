"""The training loop of the compact codec: one encoder for every rate and SNR, then decoders alone.

Stage 1 (*anchor*): encoder and attention decoder together. Stage 2: the encoder is frozen and another
decoder is trained against it, so that every decoder reads the same latents.

Each sample of a batch draws its own SNR, prefix length and channel: AWGN, or slow Rayleigh fading with
perfect channel knowledge at the receiver, where the encoder knows the mean SNR and the decoder the
effective one.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from codec_runtime.channel.awgn import awgn
from codec_runtime.channel.rayleigh import rayleigh_gain
from codec_runtime.training.data import CropSampler

SNR_RANGE_DB = (-4.0, 20.0)
EFFECTIVE_SNR_RANGE_DB = (-12.0, 25.0)
FADING_SHARE = 0.35
PREFIXES = (2, 3, 4, 4, 5, 6, 6, 6, 8, 8, 10, 12, 14, 16, 16)
"""Prefix lengths drawn in training; the shorter ones and R = 1/16 (k = 6) more often."""


@dataclass(frozen=True)
class TrainConfig:
    """Optimisation settings; stored with every checkpoint."""

    seed: int = 1
    crop: int = 128
    batch: int = 12
    learning_rate: float = 8e-4
    final_learning_rate: float = 2e-5
    warmup_steps: int = 100
    ema_decay: float = 0.998
    clip_norm: float = 1.0
    minutes: float | None = None
    steps: int | None = None


@dataclass(frozen=True)
class Progress:
    step: int
    fraction: float
    psnr_db: float
    learning_rate: float
    elapsed_s: float


def draw_conditions(batch: int, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """(transmit SNR dB, receive SNR dB, prefix), each (batch,), as the module docstring says."""
    low, high = SNR_RANGE_DB
    snr = torch.rand(batch, generator=generator) * (high - low) + low
    fading = torch.rand(batch, generator=generator) < FADING_SHARE
    faded = snr + 10.0 * torch.log10(rayleigh_gain(batch, generator).clamp_min(1e-4))
    effective = torch.where(fading, faded, snr).clamp(*EFFECTIVE_SNR_RANGE_DB)
    choice = torch.randint(len(PREFIXES), (batch,), generator=generator)
    return snr, effective, torch.tensor(PREFIXES)[choice]


def distortion_db(restored: Tensor, images: Tensor) -> Tensor:
    """Mean of 10 log10 MSE: minimising it maximises the mean PSNR, in which every image counts alike."""
    mse = (restored - images).square().mean(dim=(1, 2, 3))
    return 10.0 * torch.log10(mse + 1e-6).mean()


class Ema:
    """Exponential moving average of parameters; what is saved and served."""

    def __init__(self, module: nn.Module, decay: float) -> None:
        self._decay = decay
        self.state = {name: value.detach().clone() for name, value in module.state_dict().items()}

    @torch.no_grad()
    def update(self, module: nn.Module, step: int) -> None:
        decay = min(self._decay, (1.0 + step) / (10.0 + step))
        for name, value in module.state_dict().items():
            self.state[name].lerp_(value, 1.0 - decay)


def fit(
    encoder: nn.Module,
    decoder: nn.Module,
    sampler: CropSampler,
    config: TrainConfig,
    *,
    train_encoder: bool,
    on_step: Callable[[Progress], None] | None = None,
) -> Iterator[tuple[dict[str, Tensor], dict[str, Tensor]]]:
    """Train; yields (encoder state, decoder state), both EMA, about every minute and at the end.

    The budget is ``config.steps`` or ``config.minutes``, whichever ends first; the learning rate follows
    a cosine over that budget.

    Raises:
        ValueError: neither budget is given.
        FloatingPointError: the loss is not finite.
    """
    if config.steps is None and config.minutes is None:
        raise ValueError("give a budget: steps or minutes")
    generator = torch.Generator().manual_seed(config.seed)
    encoder.requires_grad_(train_encoder)
    trained = [p for m in (encoder, decoder) for p in m.parameters() if p.requires_grad]
    optimiser = torch.optim.Adam(trained, lr=config.learning_rate)
    encoder_ema, decoder_ema = Ema(encoder, config.ema_decay), Ema(decoder, config.ema_decay)
    started = last_yield = time.monotonic()
    step, smoothed = 0, None
    while True:
        elapsed = time.monotonic() - started
        fraction = max(
            step / config.steps if config.steps else 0.0,
            elapsed / (60.0 * config.minutes) if config.minutes else 0.0,
        )
        if fraction >= 1.0:
            break
        rate = _learning_rate(config, step, fraction)
        for group in optimiser.param_groups:
            group["lr"] = rate
        images = sampler.batch(config.batch)
        snr, effective, prefix = draw_conditions(config.batch, generator)
        with torch.set_grad_enabled(train_encoder):
            sent = encoder(images, snr, prefix)
        loss = distortion_db(decoder(awgn(sent, effective, prefix, generator), effective, prefix), images)
        if not torch.isfinite(loss):
            raise FloatingPointError(f"loss is {loss.item()} at step {step}")
        optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(trained, config.clip_norm)
        optimiser.step()
        step += 1
        if train_encoder:
            encoder_ema.update(encoder, step)
        decoder_ema.update(decoder, step)
        smoothed = -loss.item() if smoothed is None else 0.98 * smoothed - 0.02 * loss.item()
        if on_step is not None:
            on_step(Progress(step, fraction, smoothed, rate, elapsed))
        if time.monotonic() - last_yield > 60.0:
            last_yield = time.monotonic()
            yield encoder_ema.state, decoder_ema.state
    yield encoder_ema.state, decoder_ema.state


def _learning_rate(config: TrainConfig, step: int, fraction: float) -> float:
    warm = min(1.0, (step + 1) / max(1, config.warmup_steps))
    cosine = 0.5 * (1.0 + math.cos(math.pi * fraction))
    span = config.learning_rate - config.final_learning_rate
    return warm * (config.final_learning_rate + span * cosine)
