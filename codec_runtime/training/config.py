"""What a training is: settings and budgets."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from codec_runtime.training.conditions import ConditionConfig
from codec_runtime.training.losses import loss_named
from codec_runtime.training.optimisers import OPTIMISERS

PRECISIONS = ("fp32", "bf16")


@dataclass(frozen=True)
class TrainConfig:
    """Optimisation settings, stored with the weights. The defaults are the seed paper's: Adam, 1e-4, MSE.

    Attributes:
        batch: crops a step (and process, under torchrun).
        optimiser: ``adam`` or ``muon`` (:mod:`codec_runtime.training.optimisers`).
        learning_rate: peak of the cosine, Adam's; ``muon_scale`` times as much for Muon.
        final_fraction: share of the peak at which the cosine ends.
        warmup_steps: linear warm-up over the first updates of each network.
        loss: ``mse``, ``log-mse`` (mean PSNR) or ``ms-ssim``.
        precision: ``bf16`` runs the networks under autocast; weights, channel and loss stay fp32.
        compile: through torch.compile.
        ema_decay: of the averaged weights, which are the result; 0: the last weights are.
        clip_norm: largest gradient norm of each network (:mod:`codec_runtime.training.guard`).
        epoch_steps: steps of a turn in iterative training.
        gradients_every: steps between two measurements of the gradient conflict; 0: none.

    Raises:
        ValueError: a setting is out of range; the message names it.
    """

    seed: int = 1
    crop: int = 128
    batch: int = 12
    optimiser: str = "adam"
    learning_rate: float = 1e-4
    muon_scale: float = 15.0
    final_fraction: float = 0.025
    warmup_steps: int = 100
    loss: str = "mse"
    precision: str = "fp32"
    channels_last: bool = False
    compile: bool = False
    ema_decay: float = 0.998
    clip_norm: float = 1.0
    epoch_steps: int = 100
    gradients_every: int = 0
    conditions: ConditionConfig = field(default_factory=ConditionConfig)

    def __post_init__(self) -> None:
        loss_named(self.loss)
        if self.optimiser not in OPTIMISERS:
            raise ValueError(f"unknown optimiser {self.optimiser!r}; known are {', '.join(OPTIMISERS)}")
        if self.precision not in PRECISIONS:
            raise ValueError(f"unknown precision {self.precision!r}; known are {', '.join(PRECISIONS)}")
        if not 0.0 <= self.ema_decay < 1.0:
            raise ValueError(f"ema_decay must be in [0, 1), got {self.ema_decay:g}")
        for name in ("crop", "batch", "learning_rate", "clip_norm", "epoch_steps"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} must be positive, got {getattr(self, name)}")

    def rate(self, updates: int, fraction: float) -> float:
        """Learning rate: cosine over the budget, with a warm-up over a network's own updates.

        Args:
            updates: updates that the network has made.
            fraction: share of the stage's budget that is spent, 0..1.
        """
        warm = min(1.0, (updates + 1) / max(1, self.warmup_steps))
        cosine = 0.5 * (1.0 + math.cos(math.pi * min(fraction, 1.0)))
        return self.learning_rate * warm * (self.final_fraction + (1.0 - self.final_fraction) * cosine)


@dataclass(frozen=True)
class Budget:
    """What a stage may spend: steps, or minutes of wall time, or whichever ends first."""

    steps: int | None = None
    minutes: float | None = None

    def __post_init__(self) -> None:
        if self.steps is None and self.minutes is None:
            raise ValueError("give a budget: steps or minutes")

    def spent(self, steps: int, elapsed_s: float) -> float:
        """Share of the budget spent; the stage ends at 1."""
        by_steps = 0.0 if self.steps is None else (steps / self.steps if self.steps > 0 else 1.0)
        by_time = 0.0
        if self.minutes is not None:
            by_time = elapsed_s / (60.0 * self.minutes) if self.minutes > 0 else 1.0
        return max(by_steps, by_time)
