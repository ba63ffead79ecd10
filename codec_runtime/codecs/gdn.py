"""Generalised divisive normalisation (Balle, Laparra, Simoncelli, ICLR 2016, eq. 1, simplified).

GDN:   y_i = x_i / (beta_i + sum_j gamma_ij |x_j|)        inverse (IGDN): y_i = x_i * (beta_i + ...)

The exponent-one form of Johnston et al. (CVPR 2019, "GDN1") is used: it needs no square root, is as
good for image transforms, and is the cheaper one on a CPU.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class _LowerBound(torch.autograd.Function):
    """max(x, bound) whose gradient still lets x grow back above the bound."""

    @staticmethod
    def forward(ctx, x: Tensor, bound: float) -> Tensor:  # type: ignore[no-untyped-def]
        ctx.save_for_backward(x)
        ctx.bound = bound
        return x.clamp_min(bound)

    @staticmethod
    def backward(ctx, grad: Tensor):  # type: ignore[no-untyped-def]
        (x,) = ctx.saved_tensors
        passes = (x >= ctx.bound) | (grad < 0)
        return grad * passes, None


def _lower_bound(x: Tensor, bound: float) -> Tensor:
    bounded: Tensor = _LowerBound.apply(x, bound)  # type: ignore[no-untyped-call]
    return bounded


class GDN(nn.Module):
    """Divisive normalisation across channels at each position.

    Args:
        channels: number of channels C.
        inverse: multiply (IGDN, decoder side) in place of dividing (encoder side).
        gamma_init: initial diagonal of gamma.

    Shape: (B, C, H, W) -> (B, C, H, W), float.

    beta and gamma are stored as square roots (reparametrisation), bounded below by ``_BETA_MIN`` and 0,
    so that they stay non-negative under any optimiser. The pedestal keeps the square's slope away from zero,
    so that a gamma of 0 can grow (Balle et al., ICLR 2017, section 6.1).
    """

    _PEDESTAL = 2.0**-18
    _BETA_MIN = 1e-3

    def __init__(self, channels: int, *, inverse: bool = False, gamma_init: float = 0.1) -> None:
        super().__init__()
        self.inverse = inverse
        self.beta = nn.Parameter(torch.sqrt(torch.ones(channels) + self._PEDESTAL))
        gamma = gamma_init * torch.eye(channels) + self._PEDESTAL
        self.gamma = nn.Parameter(torch.sqrt(gamma))

    def coefficients(self) -> tuple[Tensor, Tensor]:
        """(C,) beta >= ``_BETA_MIN`` and (C, C) gamma >= 0, as the normalisation uses them."""
        beta_bound = (self._BETA_MIN + self._PEDESTAL) ** 0.5
        beta = _lower_bound(self.beta, beta_bound) ** 2 - self._PEDESTAL
        gamma = _lower_bound(self.gamma, self._PEDESTAL**0.5) ** 2 - self._PEDESTAL
        return beta, gamma

    def forward(self, x: Tensor) -> Tensor:
        beta, gamma = self.coefficients()
        norm = F.conv2d(x.abs(), gamma[:, :, None, None], beta)
        return x * norm if self.inverse else x / norm
