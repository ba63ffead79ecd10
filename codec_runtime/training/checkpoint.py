"""An unfinished training on disk: one safetensors file, settings and counters as JSON in its header.

One file, replaced atomically: tensors and counters always belong together. Random draws are functions of seed
and step (:func:`codec_runtime.training.seeds.derived_seed`); of generators only torch's global one (dropout)
has state to keep.
"""

from __future__ import annotations

import json
import signal
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save as save_safetensors
from torch import Tensor

from codec_runtime.bundle.files import write_atomic

CHECKPOINT_FILE = "unfinished.safetensors"


class TrainingInterrupted(Exception):
    """SIGINT or SIGTERM; the checkpoint is written and the same training goes on from it."""


class DifferentTrainingError(ValueError):
    """The checkpoint belongs to a training of other settings; the message names them."""


@dataclass(frozen=True)
class Snapshot:
    """Tensors by name, and JSON values."""

    tensors: dict[str, Tensor]
    record: dict[str, Any]


class Checkpoint:
    """The checkpoint of one training.

    Args:
        path: its file; the folder exists.
        identity: settings that must be equal for a training to go on from it (JSON values).
        every_minutes: time between two writings.
    """

    def __init__(self, path: Path, identity: Mapping[str, Any], every_minutes: float = 5.0) -> None:
        self.path = path
        self._identity: dict[str, Any] = json.loads(json.dumps(identity))
        self._interval_s = 60.0 * every_minutes
        self._last = time.monotonic()

    @property
    def exists(self) -> bool:
        return self.path.exists()

    def due(self) -> bool:
        """Whether the interval since the last writing is over."""
        return time.monotonic() - self._last >= self._interval_s

    def save(self, snapshot: Snapshot) -> None:
        """Replace the file."""
        tensors = {name: value.detach().cpu().contiguous() for name, value in snapshot.tensors.items()}
        header = {"identity": json.dumps(self._identity), "record": json.dumps(snapshot.record)}
        write_atomic(self.path, save_safetensors(tensors, header))
        self._last = time.monotonic()

    def load(self) -> Snapshot | None:
        """What was saved; None where nothing is.

        Raises:
            DifferentTrainingError: it was saved by a training of other settings.
            ValueError: the file is not a checkpoint.
        """
        if not self.exists:
            return None
        try:
            with safe_open(self.path, "pt") as file:
                header = file.metadata() or {}
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  (not a mapping)
            identity, record = json.loads(header["identity"]), json.loads(header["record"])
        except (SafetensorError, KeyError, json.JSONDecodeError) as error:
            raise ValueError(f"{self.path} is not a training checkpoint: {error}") from error
        if changed := differences(identity, self._identity):
            raise DifferentTrainingError(
                f"{self.path} is a training of other settings: {'; '.join(changed)}. "
                "Give its settings to go on, or choose another folder"
            )
        return Snapshot(tensors, record)

    def clear(self) -> None:
        """Remove the file: the training is done."""
        self.path.unlink(missing_ok=True)


def differences(saved: Any, wanted: Any, name: str = "") -> list[str]:
    """Where two JSON values differ, one ``name is X there, Y here`` each."""
    if isinstance(saved, dict) and isinstance(wanted, dict):
        keys = list(dict.fromkeys((*saved, *wanted)))
        return [
            line
            for key in keys
            for line in differences(saved.get(key), wanted.get(key), f"{name}.{key}" if name else key)
        ]
    return [] if saved == wanted else [f"{name} is {json.dumps(saved)} there, {json.dumps(wanted)} here"]


class StopFlag:
    """Whether the process was asked to end."""

    requested = False


@contextmanager
def stop_on_signal(wanted: bool = True) -> Iterator[StopFlag]:
    """Note SIGINT and SIGTERM instead of dying of them; the second one acts as ever.

    Signals reach the main thread only; elsewhere, or if it is not wanted, the flag stays down.
    """
    flag = StopFlag()
    if not wanted or threading.current_thread() is not threading.main_thread():
        yield flag
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    def note(number: int, frame: FrameType | None) -> None:
        flag.requested = True
        restore()

    for number in before:
        signal.signal(number, note)
    try:
        yield flag
    finally:
        restore()
