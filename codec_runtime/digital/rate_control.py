"""Rate control: bits allowed -> operating point, from what can be told of a picture before it is encoded.

Two numbers describe a picture: the logarithms of its mean gradient at full size and at a quarter of it. For
each operating point log2(bits a pixel) and PSNR are linear in them; coefficients come from least squares on
training pictures. The bits allowed are throughput x deadline, less what the bearer adds.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from codec_runtime.digital.tables import Floats

_FLOOR = 1 / 4
"""Least mean gradient, in 8-bit steps: a blank picture has none."""


@dataclass(frozen=True)
class Prediction:
    """Expected size of the stream and PSNR at an operating point."""

    point: int
    bytes: float
    psnr_db: float


@dataclass(frozen=True)
class RateModel:
    """Linear models of every operating point.

    Attributes:
        rate_bits, rate_psnr: (P, 3) coefficients of log2(bits a pixel) and of PSNR in dB.
        rate_error: (P, 2) root mean square error of both on the training pictures.
    """

    rate_bits: Floats
    rate_psnr: Floats
    rate_error: Floats

    @classmethod
    def fit(
        cls, described: NDArray[np.float64], bits: NDArray[np.float64], psnr_db: NDArray[np.float64]
    ) -> RateModel:
        """From training pictures: described (N, 3), bits a pixel and PSNR (N, P)."""
        rates, *_ = np.linalg.lstsq(described, np.log2(bits), rcond=None)
        qualities, *_ = np.linalg.lstsq(described, psnr_db, rcond=None)
        errors = [
            np.sqrt(((described @ rates - np.log2(bits)) ** 2).mean(0)),
            np.sqrt(((described @ qualities - psnr_db) ** 2).mean(0)),
        ]
        return cls(
            rates.T.astype(np.float32), qualities.T.astype(np.float32), np.stack(errors, 1).astype(np.float32)
        )

    @classmethod
    def from_state(cls, state: Mapping[str, Tensor]) -> RateModel:
        """From a bundle's tensors."""
        return cls(*(state[name].float().numpy() for name in ("rate_bits", "rate_psnr", "rate_error")))

    def state(self) -> dict[str, Tensor]:
        return {
            name: torch.from_numpy(np.ascontiguousarray(getattr(self, name)))
            for name in ("rate_bits", "rate_psnr", "rate_error")
        }

    def predictions(self, picture: Tensor) -> list[Prediction]:
        """Of every operating point, for a (3, H, W) uint8 picture."""
        described = describe(picture)
        pixels = picture.shape[1] * picture.shape[2]
        sizes = np.exp2(self.rate_bits @ described) * pixels / 8
        qualities = self.rate_psnr @ described
        return [
            Prediction(point, float(size), float(quality))
            for point, (size, quality) in enumerate(zip(sizes, qualities, strict=True))
        ]

    def ranked(self, picture: Tensor, allowed_bytes: float) -> list[int]:
        """Points to try: best expected quality first of those expected to fit; the smallest comes last.

        One standard error of the prediction is left as a margin, so that trying again stays the exception.
        """
        margins = np.exp2(self.rate_error[:, 0])
        predictions = self.predictions(picture)
        fitting = [p for p in predictions if p.bytes * margins[p.point] <= allowed_bytes]
        order = [p.point for p in sorted(fitting, key=lambda p: -p.psnr_db)]
        smallest = min(predictions, key=lambda p: p.bytes).point
        return order if smallest in order[:3] else [*order[:2], smallest]


def describe(picture: Tensor) -> NDArray[np.float64]:
    """(3, H, W) uint8 -> (1, log2 mean gradient, the same at a quarter of the size)."""
    grey = picture.float().mean(0)[None, None]
    small = F.avg_pool2d(grey, 4) if min(grey.shape[2:]) >= 8 else grey
    return np.array([1.0, _log_gradient(grey), _log_gradient(small)])


def _log_gradient(grey: Tensor) -> float:
    down = grey.diff(dim=2).abs().mean() if grey.shape[2] > 1 else grey.new_zeros(())
    across = grey.diff(dim=3).abs().mean() if grey.shape[3] > 1 else grey.new_zeros(())
    return math.log2(max(float(down + across), _FLOOR))


def allowed_bytes(throughput_bps: float, deadline_s: float, overhead: Sequence[int] = ()) -> int:
    """Bytes that arrive within a deadline; ``overhead``: bytes that the bearer adds, e.g. of each header."""
    if not (throughput_bps >= 0 and deadline_s >= 0):
        raise ValueError(f"throughput {throughput_bps} bit/s, deadline {deadline_s} s: want 0 or more")
    return max(0, int(throughput_bps * deadline_s / 8) - sum(overhead))
