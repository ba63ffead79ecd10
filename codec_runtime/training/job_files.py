"""What a site training job's process and the runtime share: file names and progress lines."""

from __future__ import annotations

import sys

import msgspec

JOB_FILE = "job.msgpack"
"""The :class:`codec_runtime.contract.updates.TrainingJob`."""

PICTURES_FILE = "pictures.safetensors"
"""(3, H, W) uint8 pictures named ``<index>.<user>``."""


PAIRS_FILE = "pairs.safetensors"
"""Users' labelled samples (:mod:`codec_runtime.training.pair_files`)."""

UPDATE_FILE = "update.msgpack"
"""What an alignment job answers: :class:`codec_runtime.contract.alignment.AlignmentUpdate`."""


class Progress(msgspec.Struct, frozen=True, kw_only=True):
    """One JSON line on the job's stdout; the last one has a held-out gain or ``error``.

    Attributes:
        progress: 0..1.
        heldout_gain_db: candidate minus parent, PSNR on held-out pictures.
        heldout_gain_rsum: of an adapter, RSUM (0..600) on held-out pairs.
    """

    progress: float = 0.0
    step: int = 0
    heldout_gain_db: float | None = None
    heldout_gain_rsum: float | None = None
    error: str = ""
    detail: str = ""

    @property
    def done(self) -> bool:
        """Whether the job ended well."""
        return self.heldout_gain_db is not None or self.heldout_gain_rsum is not None


def emit(progress: Progress) -> None:
    """Write one line to stdout."""
    sys.stdout.write(msgspec.json.encode(progress).decode() + "\n")
    sys.stdout.flush()
