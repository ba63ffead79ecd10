"""Training a bottleneck by knowledge distillation: the unsplit network is the teacher, no labels are needed.

    1. ``features``  weighted squared error of the features + beta R: cheap, the tail is not run.
    2. ``distil``    KL(teacher || split network) + beta R through the frozen tail.
    3. ``tune``      the same, the tail's weights learn too (batch norms keep their statistics).

Each step draws one operating point; now and then a fixed length of 8 to 2 bits instead, so that clip ranges
are learned from the task. Draws are functions of seed and step: a training that was cut off goes on from its
checkpoint as if nothing had happened.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor, fx
from torch.nn import functional as F

from codec_runtime.digital.quantisation import BITS
from codec_runtime.split.bottleneck import Bottleneck, BottleneckConfig
from codec_runtime.split.bottleneck_data import Views
from codec_runtime.training.checkpoint import CHECKPOINT_FILE, Checkpoint, Snapshot, StopFlag
from codec_runtime.training.seeds import derived_seed

STAGES = ("features", "distil", "tune")
_FIXED_SHARE = 0.15
"""Share of the steps that train the fixed-length form."""


@dataclass(frozen=True)
class BottleneckTraining:
    """Settings of one training.

    Attributes:
        steps: of each stage, in the order of :data:`STAGES`.
        batch: pictures a step; what the network was traced for.
        rate: beta of the finest and of the coarsest operating point, KL in nats a kilobyte; those between
            follow geometrically.
        learning: Adam's step of the bottleneck; of the tail a twentieth of it.
    """

    steps: tuple[int, int, int] = (1500, 600, 200)
    batch: int = 24
    rate: tuple[float, float] = (0.03, 1.0)
    learning: float = 1e-3
    seed: int = 1

    def beta(self, point: int, points: int) -> float:
        first, last = self.rate
        return float(first * (last / first) ** (point / max(points - 1, 1)))


@dataclass(frozen=True)
class StepReport:
    """Progress: running means since the last report."""

    stage: str
    step: int
    total: int
    distortion: float
    kilobytes: float


def divergence(logits: Tensor, teacher: Tensor) -> Tensor:
    """(B,) KL(teacher || logits) in nats."""
    target = F.log_softmax(teacher, 1)
    return (target.exp() * (target - F.log_softmax(logits, 1))).sum(1)


def feature_weights(tail: fx.GraphModule, views: Views, batch: int, batches: int = 8) -> Tensor:
    """(C,) mean squared gradient of the largest logit by channel, normalised to mean 1."""
    total: Tensor | None = None
    for start in range(0, batches * batch, batch):
        features = views.features[start : start + batch].float().requires_grad_()
        if len(features) < batch:
            break
        (logits,) = tail(features)
        (gradient,) = torch.autograd.grad(logits.max(1).values.sum(), features)
        found = gradient.square().mean(dim=(0, 2, 3))
        total = found if total is None else total + found
    if total is None:
        raise ValueError(f"{len(views.features)} views are fewer than a batch of {batch}")
    return total / total.mean()


def train_bottleneck(
    config: BottleneckConfig,
    training: BottleneckTraining,
    views: Views,
    tail: fx.GraphModule,
    run: Path,
    *,
    stop: StopFlag,
    report: Callable[[StepReport], None],
    identity: Mapping[str, Any],
) -> Bottleneck:
    """Train or go on training; at the end of a stage ``run/<stage>.safetensors`` holds the bottleneck, and
    after ``tune`` ``run/tail.safetensors`` the tail.

    Args:
        identity: what else must be equal for a training to go on, e.g. the data's hash and the cut.

    Returns:
        The bottleneck as it stands, also if ``stop`` was requested.
    """
    run.mkdir(parents=True, exist_ok=True)
    settings = {"config": config.as_dict(), "training": asdict(training), **identity}
    checkpoint = Checkpoint(run / CHECKPOINT_FILE, settings, every_minutes=1.0)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(training.seed)
        bottleneck = Bottleneck(config)
    weights = feature_weights(tail, views, training.batch)
    bottleneck.start_from_pca(views.features[:256].float(), weights)
    known = checkpoint.load()
    step = 0
    optimiser = _optimiser(bottleneck, tail, training)
    if known is not None:
        step = int(known.record["step"])
        _restore(known.tensors, bottleneck, tail, optimiser)
    total = sum(training.steps)
    ends = np.cumsum(training.steps)
    sums: list[tuple[float, float]] = []
    last_report = time.monotonic()
    bottleneck.train()
    while step < total and not stop.requested:
        stage = int(np.searchsorted(ends, step, side="right"))
        begin = ends[stage] - training.steps[stage]
        _set_rates(optimiser, training, stage, (step - begin) / training.steps[stage])
        sums.append(_step(bottleneck, tail, views, weights, training, optimiser, stage, step))
        step += 1
        if step in ends:
            save_file(bottleneck.state_dict(), run / f"{STAGES[stage]}.safetensors")
        if checkpoint.due() or step == total:
            checkpoint.save(_snapshot(step, bottleneck, tail, optimiser))
        if time.monotonic() - last_report > 20 or step in ends:
            means = np.mean(sums, axis=0)
            report(StepReport(STAGES[stage], step, total, float(means[0]), float(means[1])))
            sums, last_report = [], time.monotonic()
    checkpoint.save(_snapshot(step, bottleneck, tail, optimiser))
    if step >= total and training.steps[2]:
        save_file({k: v.contiguous() for k, v in tail.state_dict().items()}, run / "tail.safetensors")
    return bottleneck.eval()


def _step(
    bottleneck: Bottleneck, tail: fx.GraphModule, views: Views, weights: Tensor,
    training: BottleneckTraining, optimiser: torch.optim.Optimizer, stage: int, step: int,
) -> tuple[float, float]:
    """One step; (distortion, kilobytes)."""
    random = np.random.default_rng(derived_seed(training.seed, "bottleneck", step))
    chosen = torch.from_numpy(random.integers(len(views.features), size=training.batch))
    features, teacher = views.features[chosen].float(), views.logits[chosen].float()
    point = int(random.integers(bottleneck.config.points))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derived_seed(training.seed, "noise", step))
        if random.random() < _FIXED_SHARE:
            restored = bottleneck.fixed_length(features, int(random.choice(BITS)), point)
            kilobytes = features.new_zeros(())
        else:
            restored, bits = bottleneck(features, point)
            kilobytes = bits.mean() / 8e3
    if stage == 0:
        error = (restored - features).square().mean(dim=(0, 2, 3))
        spread = features.var(dim=(0, 2, 3)).clamp_min(1e-6)
        distortion = (error * weights).sum() / (spread * weights).sum()
    else:
        (logits,) = tail(restored)
        distortion = divergence(logits, teacher).mean()
    loss = distortion + training.beta(point, bottleneck.config.points) * kilobytes
    optimiser.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]
    torch.nn.utils.clip_grad_norm_(bottleneck.parameters(), 5.0)
    optimiser.step()
    return float(distortion.detach()), float(kilobytes.detach())


def _optimiser(
    bottleneck: Bottleneck, tail: fx.GraphModule, training: BottleneckTraining
) -> torch.optim.Adam:
    prior = [*bottleneck.points.parameters(), *bottleneck.fixed.parameters()]
    prior += [bottleneck.gain, bottleneck.strength]
    bases = [*bottleneck.reduce.parameters(), *bottleneck.expand.parameters()]
    known = {id(parameter) for parameter in (*prior, *bases)}
    rest = [parameter for parameter in bottleneck.parameters() if id(parameter) not in known]
    for parameter in tail.parameters():
        parameter.requires_grad_(training.steps[2] > 0)
    groups: list[dict[str, Any]] = [
        {"params": rest, "factor": 1.0}, {"params": prior, "factor": 3.0},
        {"params": bases, "factor": 0.1}, {"params": list(tail.parameters()), "factor": 0.05},
    ]
    return torch.optim.Adam(groups, lr=training.learning)


def _set_rates(
    optimiser: torch.optim.Optimizer, training: BottleneckTraining, stage: int, part: float
) -> None:
    """Each stage starts at the full rate and ends at a twentieth. The prior is faster, the tail slow; so are
    the linear maps, which begin as principal components: at the full rate their noise alone costs more than
    the finest points' quantisation does."""
    rate = training.learning * (0.05 + 0.95 * 0.5 * (1.0 + float(np.cos(np.pi * part))))
    for group in optimiser.param_groups:
        group["lr"] = rate * group["factor"]
    tuned = stage == 2
    for parameter in optimiser.param_groups[-1]["params"]:
        if parameter.requires_grad != tuned:
            parameter.requires_grad_(tuned)
            parameter.grad = None


def _snapshot(
    step: int, bottleneck: Bottleneck, tail: fx.GraphModule, optimiser: torch.optim.Optimizer
) -> Snapshot:
    tensors = {f"bottleneck.{name}": value for name, value in bottleneck.state_dict().items()}
    tensors |= {f"tail.{name}": value for name, value in tail.state_dict().items()}
    for index, values in optimiser.state_dict()["state"].items():
        tensors |= {f"optimiser.{index}.{name}": torch.as_tensor(value) for name, value in values.items()}
    return Snapshot(tensors, {"step": step})


def _restore(
    tensors: Mapping[str, Tensor], bottleneck: Bottleneck, tail: fx.GraphModule,
    optimiser: torch.optim.Optimizer,
) -> None:
    def part(prefix: str) -> dict[str, Tensor]:
        return {name[len(prefix) :]: value for name, value in tensors.items() if name.startswith(prefix)}

    bottleneck.load_state_dict(part("bottleneck."))
    tail.load_state_dict(part("tail."))
    state: dict[int, dict[str, Tensor]] = {}
    for name, value in part("optimiser.").items():
        index, key = name.split(".", 1)
        state.setdefault(int(index), {})[key] = value
    optimiser.load_state_dict({**optimiser.state_dict(), "state": state})
