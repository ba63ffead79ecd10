"""What a training tells while it runs: to progress bars, TensorBoard, experiments."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from tqdm import tqdm


@dataclass(frozen=True)
class Progress:
    """State of a stage after some steps.

    Attributes:
        stage: its name.
        decoders: decoders trained in these steps.
        step: steps made in the stage.
        fraction: share of the budget spent, 0..1.
        loss: mean over the steps since the last report, and over decoders.
        psnr_db: likewise, of the training crops.
    """

    stage: str
    decoders: tuple[str, ...]
    step: int
    fraction: float
    loss: float
    psnr_db: float
    learning_rate: float
    elapsed_s: float


@dataclass(frozen=True)
class StageRecord:
    """A stage that is done: what provenance keeps.

    Attributes:
        updates: optimiser steps of each network that the stage trained.
        left_out: how many of them were made without their gradient, which was out of proportion.
    """

    stage: str
    decoder: str
    steps: int
    elapsed_s: float
    psnr_db: float
    updates: dict[str, int]
    left_out: dict[str, int] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


class TrainEvents:
    """Listens to a training; the methods do nothing. Override those of interest."""

    def on_stage(self, stage: str) -> None:
        """A stage begins or is resumed."""

    def on_step(self, progress: Progress) -> None:
        """About every ten steps and after the last one of a stage."""

    def on_epoch(self, recipe: str, epoch: int, decoder_name: str) -> None:
        """An epoch (``epoch_steps`` steps; iterative: one decoder's turn) is over; counted from 1 in a stage.

        The networks hold their live weights (not the averages) and are in training mode. ``decoder_name``
        joins the names by ``+`` where several are trained together.
        """

    def on_gradients(self, step: int, cosines: Mapping[tuple[str, str], float]) -> None:
        """Cosine between each two users' encoder gradients, before step ``step`` (Theorem 1)."""

    def on_stage_end(self, record: StageRecord) -> None:
        """A stage is done; the networks it trained hold the result."""


class AllEvents(TrainEvents):
    """Tells several listeners."""

    def __init__(self, *listeners: TrainEvents) -> None:
        self._listeners = listeners

    def on_stage(self, stage: str) -> None:
        for listener in self._listeners:
            listener.on_stage(stage)

    def on_step(self, progress: Progress) -> None:
        for listener in self._listeners:
            listener.on_step(progress)

    def on_epoch(self, recipe: str, epoch: int, decoder_name: str) -> None:
        for listener in self._listeners:
            listener.on_epoch(recipe, epoch, decoder_name)

    def on_gradients(self, step: int, cosines: Mapping[tuple[str, str], float]) -> None:
        for listener in self._listeners:
            listener.on_gradients(step, cosines)

    def on_stage_end(self, record: StageRecord) -> None:
        for listener in self._listeners:
            listener.on_stage_end(record)


class ProgressBar(TrainEvents):
    """A bar a stage on stderr, in per cent of the budget."""

    def __init__(self) -> None:
        self._bar: tqdm | None = None

    def on_stage(self, stage: str) -> None:
        self._bar = tqdm(total=100, desc=stage, unit="%")

    def on_step(self, progress: Progress) -> None:
        if self._bar is not None:
            self._bar.n = round(100 * min(progress.fraction, 1.0), 1)
            self._bar.set_postfix_str(f"step {progress.step} PSNR {progress.psnr_db:.2f} dB")

    def on_stage_end(self, record: StageRecord) -> None:
        self.close()

    def close(self) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None


class TensorBoard(TrainEvents):
    """Curves: ``STAGE/loss``, ``STAGE/psnr_db``, ``STAGE/learning_rate``, ``gradient_cosine/A-B``.

    A resumed stage goes on in the same curves. Close it at the end.

    Raises:
        ImportError: tensorboard is not installed (it comes with the ``lab`` extra).
    """

    def __init__(self, folder: Path) -> None:
        from torch.utils.tensorboard import SummaryWriter  # noqa: PLC0415  (optional, and seconds to import)

        self._writer = SummaryWriter(str(folder))

    def on_step(self, progress: Progress) -> None:
        for name in ("loss", "psnr_db", "learning_rate"):
            self._scalar(f"{progress.stage}/{name}", getattr(progress, name), progress.step)

    def on_gradients(self, step: int, cosines: Mapping[tuple[str, str], float]) -> None:
        for (first, second), value in cosines.items():
            self._scalar(f"gradient_cosine/{first}-{second}", value, step)

    def _scalar(self, tag: str, value: float, step: int) -> None:
        self._writer.add_scalar(tag, value, step)

    def close(self) -> None:
        self._writer.close()
