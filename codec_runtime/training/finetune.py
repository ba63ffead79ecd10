"""Fine-tuning a trained decoder, encoder frozen, on few pictures within seconds of one core.

Conditions are drawn as in training (:mod:`codec_runtime.training.conditions`), the loss is the mean of
10 log10 MSE; a small batch, no warm-up to speak of and a cosine over the wall time.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from codec_runtime.channel.awgn import awgn
from codec_runtime.training.conditions import draw_conditions
from codec_runtime.training.data import CropSampler
from codec_runtime.training.losses import distortion_db

HELDOUT_EVERY = 4
_SIDE_MULTIPLE = 8
_SMALLEST_CROP = 32
_HELDOUT_SIDE = 128
_SAME_PICTURE = 0.02
"""Mean absolute difference of 8x8 thumbnails below which two pictures count as the same one."""


@dataclass(frozen=True)
class FinetuneConfig:
    """Optimisation settings.

    Attributes:
        trained_stages: number of last stages (with the tail and the bypass) that are trained; None for all.
    """

    seed: int = 1
    crop: int = 96
    batch: int = 4
    learning_rate: float = 5e-4
    warmup_steps: int = 5
    clip_norm: float = 1.0
    trained_stages: int | None = None


SHORT_BUDGET_S = 60.0


def config_for(budget_s: float) -> FinetuneConfig:
    """Settings that suit a budget.

    In seconds of one core few steps fit: training the last stage alone skips most of the backward pass, and
    twice as many steps on half the batch gain more (4 s of CPU on darkened, thermal-like and text
    pictures: +0.4, +1.6, +1.3 dB against -0.7, +1.3, +1.1 dB for the whole decoder). With a minute or more
    all of it is trained.
    """
    if budget_s < SHORT_BUDGET_S:
        return FinetuneConfig(batch=2, learning_rate=1e-3, trained_stages=1)
    return FinetuneConfig(batch=4, learning_rate=5e-4, trained_stages=None)


class Adam:
    """Adam (Kingma and Ba, ICLR 2015, algorithm 1) without weight decay.

    ``torch.optim`` imports torch's compiler at its first use: two seconds of a budget of ten.
    """

    def __init__(self, parameters: Sequence[nn.Parameter]) -> None:
        self._parameters = list(parameters)
        self._first = [torch.zeros_like(p) for p in self._parameters]
        self._second = [torch.zeros_like(p) for p in self._parameters]
        self._step = 0

    @torch.no_grad()
    def step(self, rate: float, beta1: float = 0.9, beta2: float = 0.999, epsilon: float = 1e-8) -> None:
        """Apply and clear the gradients."""
        self._step += 1
        scale1, scale2 = 1.0 - beta1**self._step, 1.0 - beta2**self._step
        for parameter, first, second in zip(self._parameters, self._first, self._second, strict=True):
            if parameter.grad is None:
                continue
            first.lerp_(parameter.grad, 1.0 - beta1)
            second.lerp_(parameter.grad.square(), 1.0 - beta2)
            parameter.addcdiv_(first, (second / scale2).sqrt_().add_(epsilon), value=-rate / scale1)
            parameter.grad = None


@dataclass(frozen=True)
class HeldoutCase:
    """One transmission of a held-out picture: what was received, its conditions, the original."""

    received: Tensor
    snr_db: Tensor
    prefix: Tensor
    picture: Tensor


def split_heldout(pictures: Sequence[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
    """(training, held-out) pictures, (3, H, W) uint8 each.

    The same picture sent again is on one side only: pictures are grouped by an 8x8 thumbnail and every fourth
    group is held out. With fewer than four groups each picture is cut: the left 70 % trains, the rest is
    held out.
    """
    groups = _groups(pictures)
    if len(groups) >= HELDOUT_EVERY:
        train: list[Tensor] = []
        heldout: list[Tensor] = []
        for index, group in enumerate(groups):
            side = heldout if index % HELDOUT_EVERY == HELDOUT_EVERY - 1 else train
            side.extend(group)
        return train, heldout
    cuts = [(picture, int(picture.shape[2] * 0.7)) for picture in pictures]
    return [p[:, :, :cut] for p, cut in cuts], [p[:, :, cut:] for p, cut in cuts]


def _groups(pictures: Sequence[Tensor]) -> list[list[Tensor]]:
    groups: list[tuple[Tensor, list[Tensor]]] = []
    for picture in pictures:
        thumbnail = F.adaptive_avg_pool2d(picture[None].float() / 255.0, 8)[0]
        for known, group in groups:
            if float((known - thumbnail).abs().mean()) < _SAME_PICTURE:
                group.append(picture)
                break
        else:
            groups.append((thumbnail, [picture]))
    return [group for _, group in groups]


def crop_side(pictures: Sequence[Tensor], wanted: int) -> int:
    """Largest multiple of 8 up to ``wanted`` that fits half of the pictures.

    Raises:
        ValueError: not even 32 does.
    """
    sides = sorted(min(picture.shape[1:]) for picture in pictures)
    side = min(wanted, sides[len(sides) // 2]) // _SIDE_MULTIPLE * _SIDE_MULTIPLE
    if side < _SMALLEST_CROP:
        raise ValueError(f"pictures are too small to train on: {side} pixels, {_SMALLEST_CROP} are needed")
    return side


@torch.no_grad()
def heldout_cases(
    encoder: nn.Module, pictures: Sequence[Tensor], *, seed: int, count: int, deadline: float
) -> list[HeldoutCase]:
    """Transmit ``count`` held-out pictures (in turn, centre crops) once, for every decoder to restore.

    Stops early at ``deadline`` (time.monotonic), but not before two cases.
    """
    generator = torch.Generator().manual_seed(seed)
    usable = [p for p in pictures if min(p.shape[1:]) >= _SMALLEST_CROP]
    cases: list[HeldoutCase] = []
    for index in range(count if usable else 0):
        if len(cases) >= 2 and time.monotonic() > deadline:
            break
        picture = _centre(usable[index * 7919 % len(usable)])[None]
        snr, effective, prefix = draw_conditions(1, generator)
        sent = encoder(picture.float() / 255.0, snr, prefix)
        cases.append(HeldoutCase(awgn(sent, effective, prefix, generator), effective, prefix, picture))
    return cases


def _centre(picture: Tensor) -> Tensor:
    height, width = (
        min(side, _HELDOUT_SIDE) // _SIDE_MULTIPLE * _SIDE_MULTIPLE for side in picture.shape[1:]
    )
    top, left = (picture.shape[1] - height) // 2, (picture.shape[2] - width) // 2
    return picture[:, top : top + height, left : left + width]


@torch.no_grad()
def heldout_psnr(decoder: nn.Module, cases: Sequence[HeldoutCase]) -> list[float]:
    """PSNR in dB of each case after 8-bit rounding; equal pictures count as 100 dB."""
    values: list[float] = []
    for case in cases:
        restored = decoder(case.received, case.snr_db, case.prefix)
        rounded = (restored.clamp(0.0, 1.0) * 255.0).round()
        mse = float((rounded - case.picture.float()).square().mean())
        values.append(10.0 * math.log10(255.0**2 / max(mse, 255.0**2 * 1e-10)))
    return values


def finetune(
    encoder: nn.Module,
    decoder: nn.Module,
    pictures: Sequence[Tensor],
    config: FinetuneConfig,
    *,
    deadline: float,
    on_progress: Callable[[float, int, float], None] | None = None,
) -> int:
    """Train ``decoder`` in place until ``deadline``; at least one step.

    Args:
        pictures: (3, H, W) uint8.
        deadline: time.monotonic() at which training ends.
        on_progress: called with (fraction of the time, step, training PSNR in dB).

    Returns:
        Number of steps.

    Raises:
        ValueError: the pictures are too small.
        FloatingPointError: the loss is not finite.
    """
    sampler = CropSampler(pictures, crop_side(pictures, config.crop), config.seed)
    generator = torch.Generator().manual_seed(config.seed)
    encoder.eval().requires_grad_(False)
    parameters = _select(decoder, config.trained_stages)
    optimiser = Adam(parameters)
    started = time.monotonic()
    step = 0
    while True:
        fraction = (time.monotonic() - started) / max(deadline - started, 1e-3)
        if step > 0 and fraction >= 1.0:
            return step
        warm = min(1.0, (step + 1) / config.warmup_steps)
        rate = config.learning_rate * warm * 0.5 * (1.0 + math.cos(math.pi * min(fraction, 1.0)))
        images = sampler.batch(config.batch)
        snr, effective, prefix = draw_conditions(config.batch, generator)
        with torch.no_grad():
            received = awgn(encoder(images, snr, prefix), effective, prefix, generator)
        loss = distortion_db(decoder(received, effective, prefix), images)
        if not torch.isfinite(loss):
            raise FloatingPointError(f"loss is {loss.item()} at step {step}")
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(parameters, config.clip_norm)
        optimiser.step(rate)
        step += 1
        if on_progress is not None:
            on_progress(min(fraction, 1.0), step, -loss.item())


def _select(decoder: nn.Module, trained_stages: int | None) -> list[nn.Parameter]:
    """Parameters to train: all, or those of the last stages and of everything that is not a stage."""
    decoder.eval().requires_grad_(True)  # eval: batch statistics of a few pictures would spoil frozen stages
    stages = getattr(decoder, "stages", None)
    if trained_stages is not None and isinstance(stages, nn.ModuleList):
        for stage in list(stages)[: max(0, len(stages) - trained_stages)]:
            stage.requires_grad_(False)
    return [parameter for parameter in decoder.parameters() if parameter.requires_grad]
