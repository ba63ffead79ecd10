"""A learned constellation: M complex points of unit mean power, its bit labels, and soft demapping.

    bits (n, m) --points--> symbols --channel--> received --max-log or exact--> LLRs (n, m)

The points start as Gray-labelled QAM (4, 16, 64 or 256) or, for 8, 32 and 128, as a rectangle, and learn the
bit-wise mutual information at a channel state: GMI = m - sum_i E[log2(1 + exp(-(1 - 2 b_i) L_i))], which is
what bit-interleaved coding can carry (Cammerer et al., "Trainable communication systems: concepts and
prototype", IEEE Trans. Commun. 2020). Convention: L > 0 means a zero is likelier.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

ORDERS = (4, 8, 16, 32, 64, 128, 256)


def gray(index: int) -> int:
    return index ^ (index >> 1)


def start_points(order: int) -> Tensor:
    """(M,) complex: Gray-labelled rectangle of 2^ceil(m / 2) by 2^floor(m / 2) points, unit mean power."""
    if order not in ORDERS:
        raise ValueError(f"{order} points; want one of {', '.join(map(str, ORDERS))}")
    bits = round(math.log2(order))
    wide, high = 2 ** ((bits + 1) // 2), 2 ** (bits // 2)
    points = torch.empty(order, dtype=torch.complex64)
    for column in range(wide):
        for row in range(high):
            label = gray(column) * high + gray(row)
            points[label] = torch.tensor(complex(2 * column - wide + 1, 2 * row - high + 1))
    power: Tensor = points.abs().square().mean().sqrt()
    return points / power


class Constellation(nn.Module):
    """M points; label l holds the bits of l, most significant first."""

    labels: Tensor

    def __init__(self, order: int) -> None:
        super().__init__()
        start = start_points(order)
        self.order, self.bits = order, round(math.log2(order))
        self.raw = nn.Parameter(torch.view_as_real(start).clone())
        shifts = torch.arange(self.bits - 1, -1, -1)
        self.register_buffer("labels", (torch.arange(order)[:, None] >> shifts & 1).float())

    def points(self) -> Tensor:
        """(M,) complex of zero mean and unit mean power."""
        centred = self.raw - self.raw.mean(0)
        return torch.view_as_complex(
            (centred / centred.square().sum(1).mean().sqrt()).contiguous()
        )

    def modulate(self, bits: Tensor) -> Tensor:
        """(n, m) of 0 and 1 -> (n,) complex."""
        weights = 2 ** torch.arange(self.bits - 1, -1, -1, device=bits.device)
        return self.points()[(bits.long() * weights).sum(1)]

    def demap(self, received: Tensor, noise_variance: Tensor | float) -> Tensor:
        """(n,) complex -> (n, m) LLRs, exact; noise variance per complex symbol, after equalisation."""
        distance = (received[:, None] - self.points()[None, :]).abs().square()
        metric = -distance / torch.as_tensor(noise_variance).reshape(-1, 1)
        zero = self.labels.T == 0
        likely = [
            torch.logsumexp(metric[:, zero[bit]], 1) - torch.logsumexp(metric[:, ~zero[bit]], 1)
            for bit in range(self.bits)
        ]
        return torch.stack(likely, 1)

    def information(self, snr_db: float, symbols: int, generator: torch.Generator) -> Tensor:
        """GMI over AWGN, bits a symbol; a Monte-Carlo estimate, differentiable."""
        bits = torch.randint(2, (symbols, self.bits), generator=generator)
        variance = 10.0 ** (-snr_db / 10.0)
        noise = torch.complex(
            torch.randn(symbols, generator=generator), torch.randn(symbols, generator=generator)
        ) * math.sqrt(variance / 2)
        llr = self.demap(self.modulate(bits) + noise, variance)
        return self.bits - F.softplus(-(1 - 2 * bits) * llr).sum(1).mean() / math.log(2)


def train_constellation(order: int, snr_db: float, *, steps: int = 300, seed: int = 1) -> Constellation:
    """Learn the points for one SNR (dB) over AWGN, starting from QAM."""
    model = Constellation(order)
    optimiser = torch.optim.Adam(model.parameters(), lr=5e-3)
    generator = torch.Generator().manual_seed(seed)
    for step in range(steps):
        for group in optimiser.param_groups:
            group["lr"] = 5e-3 * (1 - 0.9 * step / steps)
        loss = -model.information(snr_db, 2000, generator)
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
    return model.eval().requires_grad_(False)


def chosen_order(snr_db: float, *, margin_bits: float = 1.0) -> int:
    """Points to use at a channel state: the smallest order that holds capacity plus a margin, 4 to 256."""
    wanted = math.log2(1 + 10 ** (snr_db / 10)) + margin_bits
    return next((order for order in ORDERS if math.log2(order) >= wanted), ORDERS[-1])
