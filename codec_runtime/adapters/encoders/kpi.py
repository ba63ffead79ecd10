"""A third modality: windows of radio measurements. All it takes is one class with ``tokens``."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence

import torch

from codec_runtime.adapters.tokens import TokenError, Tokens

KPIS = {"rsrp_dbm": (-140.0, -44.0), "rsrq_db": (-20.0, -3.0), "sinr_db": (-20.0, 40.0), "cqi": (0.0, 15.0)}
"""Measurements in the order of an input's columns, and the range that is mapped to -1..1."""


class KpiEncoder:
    """Slices of a multivariate series as tokens: each slice's cosine transform (DCT-II, orthonormal).

    It has no weights: the transform separates a slice's level from its trend and its fading, and the
    adapter's projection does the rest.

    Args:
        slice_length: samples of a token.
        max_tokens: slices of a window; longer windows are cut.
    """

    name = "kpi"
    modality = "series"

    def __init__(self, slice_length: int = 8, max_tokens: int = 16) -> None:
        self.features = slice_length * len(KPIS)
        self.max_tokens = max_tokens
        self.sha256 = hashlib.sha256(repr((slice_length, max_tokens, KPIS)).encode()).hexdigest()
        self._length = slice_length
        time = torch.arange(slice_length) + 0.5
        basis = torch.cos(math.pi / slice_length * time[None] * torch.arange(slice_length)[:, None])
        self._basis = basis / basis.norm(dim=1, keepdim=True)

    def tokens(self, inputs: Sequence[object]) -> Tokens:
        """Tokens of windows, each (samples, 4) floats with the columns of :data:`KPIS`, all equally long.

        Raises:
            TokenError: other columns, or a window shorter than a slice; a missing measurement (NaN).
        """
        windows = torch.stack([torch.as_tensor(window, dtype=torch.float32) for window in inputs])
        count = min(windows.shape[1] // self._length, self.max_tokens) if windows.dim() == 3 else 0
        if not count or windows.shape[2] != len(KPIS):
            raise TokenError(
                f"windows {tuple(windows.shape[1:])}: ({self._length} or more samples, {len(KPIS)}) is needed"
            )
        low, high = (torch.tensor(ends) for ends in zip(*KPIS.values(), strict=True))
        scaled = (2 * (windows - low) / (high - low) - 1)[:, : count * self._length]
        slices = scaled.reshape(len(scaled), count, self._length, len(KPIS)).transpose(2, 3)
        values = (slices @ self._basis.t()).flatten(2)
        return Tokens(values, torch.ones(values.shape[:2], dtype=torch.bool), self.modality, self.name)
