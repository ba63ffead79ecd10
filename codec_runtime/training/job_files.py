"""What a site training job's process and the runtime share: file names and progress lines."""

from __future__ import annotations

import msgspec

JOB_FILE = "job.msgpack"
"""The :class:`codec_runtime.contract.updates.TrainingJob`."""

PICTURES_FILE = "pictures.safetensors"
"""(3, H, W) uint8 pictures named ``<index>.<user>``."""


class Progress(msgspec.Struct, frozen=True, kw_only=True):
    """One JSON line on the job's stdout; the last one has ``heldout_gain_db`` or ``error``.

    Attributes:
        progress: 0..1.
        heldout_gain_db: candidate minus parent, PSNR on held-out pictures.
    """

    progress: float = 0.0
    step: int = 0
    heldout_gain_db: float | None = None
    error: str = ""
    detail: str = ""
