"""Uniform quantisers with a learned clip range for each channel, 8 to 2 bits.

    index = round((clip(x, low, high) - low) / step),  step = (high - low) / (2^bits - 1)

Three stand-ins for the rounding while training: the straight-through estimator (Bengio et al., 2013),
additive uniform noise (Balle et al., ICLR 2017), and a soft staircase. Clip ranges learn through all of
them, as in PACT (Choi et al., 2018). In evaluation mode the rounding is plain and the same every time.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

BITS = range(2, 9)
Rounding = Literal["straight-through", "noise", "soft"]
_SOFT_SHARPNESS = 6.0


def round_straight_through(x: Tensor) -> Tensor:
    """Rounded values; the gradient is that of x."""
    return x + (torch.round(x) - x).detach()


def round_soft(x: Tensor, sharpness: float = _SOFT_SHARPNESS) -> Tensor:
    """A smooth staircase: exact at integers and half-way between, slope above 0 everywhere."""
    base = torch.floor(x)
    inside = x - base - 0.5
    return base + 0.5 + 0.5 * torch.tanh(sharpness * inside) / torch.tanh(x.new_tensor(0.5 * sharpness))


class ChannelQuantiser(nn.Module):
    """Quantises (B, C, ...) with a clip range for each of C channels.

    Attributes:
        low: (C,) lower end of the range.
        log_width: (C,) natural logarithm of high - low, so that a range never turns round.
    """

    def __init__(self, channels: int, rounding: Rounding = "straight-through") -> None:
        super().__init__()
        self.rounding: Rounding = rounding
        self.low = nn.Parameter(torch.full((channels,), -1.0))
        self.log_width = nn.Parameter(torch.full((channels,), 2.0).log())

    @torch.no_grad()
    def fit(self, x: Tensor, bits: int = 4, candidates: int = 24) -> None:
        """Set each range to that of least squared error at ``bits`` among shrunk versions of [min, max]."""
        values = x.transpose(0, 1).flatten(1)
        low, high = values.amin(1), values.amax(1)
        centre, half = (low + high) / 2, ((high - low) / 2).clamp_min(1e-6)
        best = torch.full_like(low, float("inf"))
        for part in torch.linspace(0.15, 1.0, candidates):
            step = 2 * half * part / (2**bits - 1)
            floor = centre - half * part
            index = ((values - floor[:, None]) / step[:, None]).round().clamp(0, 2**bits - 1)
            error = (index * step[:, None] + floor[:, None] - values).square().mean(1)
            better = error < best
            best = torch.where(better, error, best)
            self.low.copy_(torch.where(better, floor, self.low))
            self.log_width.copy_(torch.where(better, (2 * half * part).log(), self.log_width))

    def forward(self, x: Tensor, bits: int) -> Tensor:
        """Quantised values; differentiable in training mode."""
        low, step = self._spread(x.dim(), bits)
        position = ((x - low) / step).clamp(0, 2**bits - 1)
        if not self.training:
            position = torch.round(position)
        elif self.rounding == "straight-through":
            position = round_straight_through(position)
        elif self.rounding == "noise":
            position = position + torch.rand_like(position) - 0.5
        else:
            position = round_soft(position)
        return position * step + low

    def indices(self, x: Tensor, bits: int) -> Tensor:
        """(B, C, ...) -> integers 0..2^bits - 1 (int32)."""
        low, step = self._spread(x.dim(), bits)
        return torch.round((x - low) / step).clamp(0, 2**bits - 1).int()

    def values(self, indices: Tensor, bits: int) -> Tensor:
        """What :meth:`indices` stand for."""
        low, step = self._spread(indices.dim(), bits)
        return indices.float() * step + low

    def _spread(self, dimensions: int, bits: int) -> tuple[Tensor, Tensor]:
        if bits not in BITS:
            raise ValueError(f"{bits} bits; want {BITS[0]} to {BITS[-1]}")
        shape = (1, -1, *(1,) * (dimensions - 2))
        return self.low.view(shape), (self.log_width.exp() / (2**bits - 1)).view(shape)
