"""The training loop: one stage of any recipe.

A stage trains decoders with or without their encoder. At each step a batch is encoded once, sent to each
decoder of that step over its own noise, and the sum of the losses goes backward. Every network has its own
optimiser, gradient guard, warm-up and weight average.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from codec_runtime.training.checkpoint import Snapshot
from codec_runtime.training.conditions import draw
from codec_runtime.training.config import Budget, TrainConfig
from codec_runtime.training.ema import Ema
from codec_runtime.training.events import Progress, StageRecord, TrainEvents
from codec_runtime.training.gradients import encoder_gradient_cosines
from codec_runtime.training.guard import GradientGuard
from codec_runtime.training.losses import loss_named
from codec_runtime.training.optimisers import ModuleOptimiser
from codec_runtime.training.ranks import Ranks
from codec_runtime.training.seeds import derived_seed

REPORT_EVERY = 10
"""Steps between reports, and between checks that the loss is finite: each waits for the device."""

OnGap = Callable[["StageRun"], None]


class BatchSource(Protocol):
    """Where crops come from: after ``restart(seed)`` the batches are a function of the seed."""

    def restart(self, seed: int) -> None: ...

    def batch(self, size: int) -> Tensor:
        """(size, 3, S, S) float in [0, 1]."""
        ...


@dataclass(frozen=True)
class Stage:
    """What a stage trains.

    Attributes:
        name: in logs, provenance and the seed of its draws.
        encoder: name of its encoder among the networks.
        decoders: names of its decoders.
        train_encoder: False freezes the encoder: evaluation mode, no gradient.
        turn_steps: steps in which one decoder alone is trained before the next one's turn (the last round is
            shorter where they do not divide the budget); None: all at each step.
        accumulate: steps whose mean gradient makes one update of a decoder.
        measures_conflict: whether the cosines between users' encoder gradients are measured.
        before: called when the stage begins (not when it is resumed), for warm starts.
    """

    name: str
    encoder: str
    decoders: tuple[str, ...]
    budget: Budget
    train_encoder: bool = True
    turn_steps: int | None = None
    accumulate: int = 1
    measures_conflict: bool = False
    before: Callable[[], None] | None = None

    @property
    def networks(self) -> tuple[str, ...]:
        """Names of the networks that are trained."""
        return (self.encoder, *self.decoders) if self.train_encoder else self.decoders

    def turn(self, step: int) -> tuple[tuple[str, ...], bool]:
        """(decoders trained at a step, whether an epoch of iterative training ends with it)."""
        if self.turn_steps is None:
            return self.decoders, False
        assert self.budget.steps is not None
        length, left = self.turn_steps, step
        whole = self.budget.steps // (length * len(self.decoders)) * length * len(self.decoders)
        if step >= whole:
            length, left = (self.budget.steps - whole) // len(self.decoders), step - whole
        ends = (left + 1) % length == 0
        return (self.decoders[left // length % len(self.decoders)],), ends


class StageRun:
    """One stage in progress.

    Args:
        recipe: its name, for events.
        networks: all networks of the training by name; those of the stage are trained in place.
        gradients: list to which (step, cosines) are added.

    Attributes:
        device: where the networks are.
        step: steps made.
    """

    def __init__(
        self, recipe: str, stage: Stage, networks: Mapping[str, nn.Module], batches: BatchSource,
        config: TrainConfig, *, events: TrainEvents, ranks: Ranks,
        gradients: list[tuple[int, dict[tuple[str, str], float]]],
    ) -> None:
        self._recipe, self._stage, self._config = recipe, stage, config
        self._batches, self._events, self._ranks, self._gradients = batches, events, ranks, gradients
        self._networks = {name: networks[name] for name in (stage.encoder, *stage.decoders)}
        self.device = next(self._networks[stage.encoder].parameters()).device
        self._loss = loss_named(config.loss)
        layout = torch.channels_last if config.channels_last else torch.contiguous_format
        for name, network in self._networks.items():
            network.train(name in stage.networks).requires_grad_(name in stage.networks)
            network.to(memory_format=layout)  # type: ignore[call-overload]
            ranks.spread(network.state_dict().values())
        self._run: dict[str, Callable[..., Tensor]] = {
            name: torch.compile(network) if config.compile else network
            for name, network in self._networks.items()
        }
        self._optimisers = {
            name: ModuleOptimiser(self._networks[name], config.optimiser, config.muon_scale)
            for name in stage.networks
        }
        self._guards = {
            name: GradientGuard(optimiser.parameters, config.clip_norm)
            for name, optimiser in self._optimisers.items()
        }
        self._averages = {name: Ema(self._networks[name], config.ema_decay) for name in stage.networks}
        self.step, self._epoch, self._elapsed_s, self._rate = 0, 0, 0.0, 0.0
        self._sums = torch.zeros(3, device=self.device)  # loss, PSNR, terms since the last report
        self._last = Progress(stage.name, stage.decoders, 0, 0.0, float("nan"), float("nan"), 0.0, 0.0)
        torch.manual_seed(self._seed("global"))

    @property
    def name(self) -> str:
        return self._stage.name

    def run(self, gap: OnGap) -> StageRecord:
        """Train until the budget is spent; ``gap`` is called after every step (checkpoints, interruption).

        The networks end up with their averaged weights, in evaluation mode.

        Raises:
            FloatingPointError: the loss is not finite.
        """
        stage, budget = self._stage, self._stage.budget
        started = time.monotonic() - self._elapsed_s
        while True:
            self._elapsed_s = time.monotonic() - started
            fraction, _ = self._ranks.agree(budget.spent(self.step, self._elapsed_s), False, self.device)
            if fraction >= 1.0:
                break
            active, turn_ends = stage.turn(self.step)
            self._train_step(active, fraction)
            self.step += 1
            self._elapsed_s = time.monotonic() - started
            if self.step % REPORT_EVERY == 0 or self.step == budget.steps:
                self._report(active, budget.spent(self.step, self._elapsed_s))
            if turn_ends or (stage.turn_steps is None and self.step % self._config.epoch_steps == 0):
                self._epoch += 1
                self._events.on_epoch(self._recipe, self._epoch, "+".join(active))
            gap(self)
        if self._sums[2] > 0:
            self._report(stage.decoders, 1.0)
        for name in stage.networks:
            self._ranks.spread(self._averages[name].state.values())
            self._networks[name].load_state_dict(self._averages[name].state)
        for network in self._networks.values():
            network.eval().requires_grad_(True)
        return StageRecord(
            stage.name, "+".join(stage.decoders), self.step, round(self._elapsed_s, 3),
            round(self._last.psnr_db, 4), {name: self._optimisers[name].updates for name in stage.networks},
            {name: guard.left_out for name, guard in self._guards.items()},
        )

    def _train_step(self, active: tuple[str, ...], fraction: float) -> None:
        stage, config = self._stage, self._config
        seed = self._seed(self.step)
        self._batches.restart(seed)
        images = self._batches.batch(config.batch).to(self.device, non_blocking=True)
        if config.channels_last:
            images = images.contiguous(memory_format=torch.channels_last)
        conditions = draw(config.conditions, config.batch, seed + 1, self.device)
        if stage.measures_conflict and config.gradients_every and self.step % config.gradients_every == 0:
            decoders = {name: self._networks[name] for name in stage.decoders}
            encoder = self._networks[stage.encoder]
            cosines = encoder_gradient_cosines(encoder, decoders, images, conditions, self._loss)
            self._gradients.append((self.step, cosines))
            self._events.on_gradients(self.step, cosines)
        with torch.set_grad_enabled(stage.train_encoder), self._autocast():
            sent = self._run[stage.encoder](images, conditions.snr_db, conditions.prefix)
        total = torch.zeros((), device=self.device)
        for user, name in enumerate(active):
            received = conditions.transmit(sent.float(), user)
            with self._autocast():
                restored = self._run[name](received.values, received.snr_db, conditions.prefix)
            restored = restored.float()
            loss = self._loss(restored, images)
            total = total + loss
            with torch.no_grad():
                error = (restored - images).square().mean(dim=(1, 2, 3)).clamp_min(1e-10)
                terms = torch.stack((loss, -10.0 * error.log10().mean(), torch.ones_like(loss)))
                self._sums += terms
        total.backward()  # type: ignore[no-untyped-call]
        if stage.train_encoder:
            self._update(stage.encoder, fraction)
        if (self.step + 1) % stage.accumulate == 0:
            for name in active:
                self._update(name, fraction)

    def _update(self, name: str, fraction: float) -> None:
        optimiser = self._optimisers[name]
        if name != self._stage.encoder and self._stage.accumulate > 1:
            for parameter in optimiser.parameters:
                if parameter.grad is not None:
                    parameter.grad /= self._stage.accumulate
        self._ranks.average_gradients(optimiser.parameters)
        self._guards[name].apply()
        self._rate = self._config.rate(optimiser.updates, fraction)
        optimiser.step(self._rate)
        self._averages[name].update(self._networks[name], optimiser.updates)

    def _autocast(self) -> torch.autocast:
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self._config.precision == "bf16")

    def _seed(self, step: int | str) -> int:
        return derived_seed(self._config.seed, self._stage.name, self._ranks.rank, step)

    def _report(self, active: tuple[str, ...], fraction: float) -> None:
        loss, psnr, terms = self._finite_sums()
        self._sums.zero_()
        self._last = Progress(
            self._stage.name, active, self.step, fraction, loss / terms, psnr / terms, self._rate,
            self._elapsed_s,
        )
        self._events.on_step(self._last)

    def _finite_sums(self) -> tuple[float, float, float]:
        loss, psnr, terms = self._sums.tolist()
        if not math.isfinite(loss):
            raise FloatingPointError(
                f"loss is {loss} at step {self.step} of {self._stage.name}; a lower learning rate may help"
            )
        return loss, psnr, terms

    def snapshot(self) -> Snapshot:
        """Everything that the stage needs to go on, bit for bit: averages, optimisers, gradients, counters.

        Raises:
            FloatingPointError: the loss is not finite; there is nothing to go on from.
        """
        self._finite_sums()
        tensors = {"rng": torch.get_rng_state(), "sums": self._sums}
        for name in self._stage.networks:
            tensors |= {f"average/{name}/{key}": value for key, value in self._averages[name].state.items()}
            tensors[f"guard/{name}"] = self._guards[name].tensors()
            optimiser = self._optimisers[name]
            tensors |= {f"optimiser/{name}/{key}": value for key, value in optimiser.tensors().items()}
            for index, parameter in enumerate(optimiser.parameters):
                if parameter.grad is not None:  # accumulated over a part of the steps of an update
                    tensors[f"gradient/{name}/{index}"] = parameter.grad
        return Snapshot(
            tensors,
            {
                "step": self.step, "epoch": self._epoch, "elapsed_s": self._elapsed_s,
                "psnr_db": self._last.psnr_db,
                "updates": {name: o.updates for name, o in self._optimisers.items()},
            },
        )

    def resume(self, snapshot: Snapshot) -> None:
        """Go on from a snapshot; the networks' weights are loaded by the caller."""
        record: dict[str, Any] = snapshot.record
        self.step, self._epoch, self._elapsed_s = record["step"], record["epoch"], record["elapsed_s"]
        self._last = replace(self._last, step=self.step, psnr_db=record["psnr_db"])
        self._sums.copy_(snapshot.tensors["sums"])
        for name, optimiser in self._optimisers.items():
            optimiser.updates = record["updates"][name]
            self._guards[name].load(snapshot.tensors[f"guard/{name}"])
            self._averages[name].load(_below(snapshot.tensors, f"average/{name}/"))
            optimiser.load_tensors(_below(snapshot.tensors, f"optimiser/{name}/"))
            for index, gradient in _below(snapshot.tensors, f"gradient/{name}/").items():
                parameter = optimiser.parameters[int(index)]
                parameter.grad = torch.empty_like(parameter).copy_(gradient)
        torch.set_rng_state(snapshot.tensors["rng"])


def _below(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """Tensors whose name starts with ``prefix``, without it."""
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
