"""Batch normalisation whose state is floating point throughout."""

from __future__ import annotations

from typing import Any

from torch import nn


class BatchNorm(nn.BatchNorm2d):
    """``nn.BatchNorm2d`` without its counter of batches.

    The counter is an integer that only an infinite averaging window (``momentum=None``) would use. Bundles
    store floating point, and weights are averaged (EMA), which an integer cannot be.
    """

    def __init__(self, channels: int) -> None:
        super().__init__(channels)
        self.num_batches_tracked = None

    def _load_from_state_dict(self, *args: Any) -> None:
        # The parent's own step adds the counter to a state without version, as safetensors holds it.
        nn.Module._load_from_state_dict(self, *args)
