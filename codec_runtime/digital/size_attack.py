"""An attack on the size: projected gradient ascent on the bits that a picture's stream is estimated to need.

The attacker knows everything: networks, tables, operating point. The tables' costs are interpolated between
integers, so that they have a slope. The picture stays within ``radius`` of the original (8-bit steps, largest
difference), as in Madry et al., ICLR 2018.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from codec_runtime.digital.tables import CodingTables


def estimated_bits(features: Tensor, tables: CodingTables, point: int) -> Tensor:
    """Bits of features (C, H, W) at a point, differentiable: costs interpolated, clipped at the ends."""
    chosen = tables.order[point, : tables.sent[point]]
    flat = features[torch.from_numpy(chosen.astype(np.int64))].flatten(1)
    step = torch.from_numpy(tables.step[point, chosen])[:, None]
    lowest = torch.from_numpy(tables.lowest[point, chosen])[:, None]
    last = torch.from_numpy(tables.widths[point, chosen])[:, None] - 1
    costs = torch.from_numpy(np.nan_to_num(tables.costs[point, chosen], posinf=0.0))
    position = (flat / step - lowest).clamp_min(0.0).minimum(last.float())
    below = position.detach().floor().long().minimum(last - 1)
    part = position - below
    return (costs.gather(1, below) * (1 - part) + costs.gather(1, below + 1) * part).sum()


def inflate(
    picture: Tensor,
    analyse: Callable[[Tensor], Tensor],
    tables: CodingTables,
    point: int,
    *,
    radius: float = 8.0,
    steps: int = 20,
    on_step: Callable[[float], None] = lambda _: None,
) -> Tensor:
    """A picture (3, H, W) uint8 near the given one that costs more bits.

    Args:
        analyse: (3, H, W) float in [0, 1] -> features (C, H', W'), differentiable.
        on_step: receives the estimated bits before each step.
    """
    original = picture.float() / 255.0
    bound, stride = radius / 255.0, 2.5 * radius / 255.0 / steps
    crafted = original.clone()
    best, most = original, -1.0
    for step in range(steps + 1):
        crafted = crafted.detach().requires_grad_(step < steps)
        bits = estimated_bits(analyse(crafted), tables, point)
        on_step(float(bits.detach()))
        if float(bits.detach()) > most:
            best, most = crafted.detach(), float(bits.detach())
        if step == steps:
            break
        (gradient,) = torch.autograd.grad(bits, crafted)
        moved = crafted.detach() + stride * gradient.sign()
        crafted = (original + (moved - original).clamp(-bound, bound)).clamp(0.0, 1.0)
    return (best * 255.0).round().to(torch.uint8)
