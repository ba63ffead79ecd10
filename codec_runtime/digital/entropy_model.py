"""A learned prior of quantised values: what a range coder's tables are made from.

Factorised: every value of a channel has the same distribution, whatever its neighbours are. Its cumulative is
the non-parametric one of Balle et al. ("Variational image compression with a scale hyperprior", ICLR 2018,
appendix 6.1): a small network with non-negative weights and a sigmoid at its end,

    c(x) = sigmoid(f_K(...f_1(x))),   f_k(x) = g_k(softplus(H_k) x + b_k),   g_k(x) = x + tanh(a_k) tanh(x).

One model has several *operating points*: each has its own step of every channel, learned together with the
prior for R + beta D, and its own location and scale of what the prior sees, since the networks before it may
be conditioned on the point. An integer k at step s has the probability c((k + 1/2) s) - c((k - 1/2) s).
"""

from __future__ import annotations

import copy
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from codec_runtime.digital.quantisation import round_straight_through

_LEAST = 1e-9
"""Probabilities are not taken to be smaller: tables do not hold smaller ones either."""


class FactorisedPrior(nn.Module):
    """Cumulative distribution of each of C channels, non-decreasing in x.

    Args:
        widths: units of the hidden layers.
    """

    def __init__(self, channels: int, widths: tuple[int, ...] = (3, 3)) -> None:
        super().__init__()
        sizes = (1, *widths, 1)
        start = 10.0 ** (1 / (len(sizes) - 1))
        self.matrices = nn.ParameterList()
        self.biases = nn.ParameterList()
        self.factors = nn.ParameterList()
        for inputs, outputs in pairwise(sizes):
            level = torch.tensor(1.0 / start / outputs * 6.0).expm1().log()
            self.matrices.append(nn.Parameter(level.repeat(channels, outputs, inputs)))
            self.biases.append(nn.Parameter(torch.rand(channels, outputs, 1) - 0.5))
        for width in widths:
            self.factors.append(nn.Parameter(torch.zeros(channels, width, 1)))

    def logits(self, x: Tensor) -> Tensor:
        """(C, N) positions -> (C, N) logits of the cumulative."""
        hidden = x[:, None, :]
        for layer, (matrix, bias) in enumerate(zip(self.matrices, self.biases, strict=True)):
            hidden = F.softplus(matrix) @ hidden + bias
            if layer < len(self.factors):
                hidden = hidden + torch.tanh(self.factors[layer]) * torch.tanh(hidden)
        return hidden[:, 0, :]

    def probability(self, lower: Tensor, upper: Tensor) -> Tensor:
        """P(lower < x < upper), (C, N) each; taken on the side of the median where it is exact."""
        below, above = self.logits(lower), self.logits(upper)
        side = -torch.sign(below + above).detach()
        side = torch.where(side == 0, torch.ones_like(side), side)
        return (torch.sigmoid(side * above) - torch.sigmoid(side * below)).abs()


class OperatingPoints(nn.Module):
    """Quantisers and prior of P operating points over C channels.

    Attributes:
        log_step: (P, C) natural logarithm of each step.
        location, log_scale: (P, C) what the prior takes off a value, and divides it by.
    """

    def __init__(self, points: int, channels: int) -> None:
        super().__init__()
        self.prior = FactorisedPrior(channels)
        self.log_step = nn.Parameter(torch.zeros(points, channels))
        self.location = nn.Parameter(torch.zeros(points, channels))
        self.log_scale = nn.Parameter(torch.zeros(points, channels))

    @torch.no_grad()
    def start(self, point: int, samples: Tensor, step: float | Tensor) -> None:
        """Begin at the samples' mean and spread and at ``step``. samples: (B, C, H, W)."""
        values = samples.transpose(0, 1).flatten(1)
        self.location[point] = values.mean(1)
        self.log_scale[point] = values.std(1).clamp_min(1e-3).log()
        self.log_step[point] = torch.as_tensor(step, dtype=torch.float32).log()

    def forward(self, y: Tensor, point: int, sent: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """What the receiver would have, and what it costs.

        Args:
            y: (B, C, H, W).
            sent: (C,) bool: channels of the point; what is not sent is zero and costs nothing.

        Returns:
            (B, C, H, W) values: rounded with a straight-through gradient; (B,) estimated bits, from noise in
            place of rounding while training.
        """
        step = self.log_step[point].exp()[None, :, None, None]
        scaled = y / step
        rounded = round_straight_through(scaled)
        proxy = scaled + torch.rand_like(scaled) - 0.5 if self.training else rounded
        bits = self.bits(proxy, point)
        if sent is not None:
            shown = sent[None, :, None, None].to(y.dtype)
            rounded, bits = rounded * shown, bits * shown
        return rounded * step, bits.sum(dim=(1, 2, 3))

    def bits(self, scaled: Tensor, point: int) -> Tensor:
        """(B, C, H, W) values in steps -> bits of each."""
        batch, channels, height, width = scaled.shape
        flat = scaled.transpose(0, 1).reshape(channels, -1)
        probability = self._mass(flat, point).clamp_min(_LEAST)
        return -torch.log2(probability).view(channels, batch, height, width).transpose(0, 1)

    def _mass(self, scaled: Tensor, point: int) -> Tensor:
        """(C, N) positions in steps -> probability of the step-wide interval around each."""
        step, scale = self.log_step[point].exp(), self.log_scale[point].exp()
        step, scale, location = step[:, None], scale[:, None], self.location[point][:, None]
        return self.prior.probability(
            ((scaled - 0.5) * step - location) / scale, ((scaled + 0.5) * step - location) / scale
        )

    @torch.no_grad()
    def masses(self, point: int, reach: int) -> Tensor:
        """(C, 2 reach + 1) float64 probabilities of the integers -reach..reach."""
        wide = copy.deepcopy(self).double()
        grid = torch.arange(-reach, reach + 1, dtype=torch.float64).expand(self.log_step.shape[1], -1)
        return wide._mass(grid, point)
