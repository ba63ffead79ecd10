"""Which channels matter: mean |gradient x activation| of a loss with respect to the features.

The first-order estimate of how the loss changes when a channel is taken away (Molchanov et al., "Pruning
convolutional neural networks for resource efficient inference", ICLR 2017), here taken per value before the
mean, so that gains and losses at different places do not cancel.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch import Tensor


def channel_importance(batches: Iterable[Tensor], loss: Callable[[Tensor], Tensor]) -> Tensor:
    """(C,) importance, of features (B, C, H, W).

    Args:
        loss: features -> scalar, differentiable.
    """
    total: Tensor | None = None
    for features in batches:
        given = features.detach().requires_grad_()
        (gradient,) = torch.autograd.grad(loss(given), given)
        found = (gradient * given.detach()).abs().sum(dim=(0, 2, 3))
        total = found if total is None else total + found
    if total is None:
        raise ValueError("no features to rank channels by")
    return total


def importance_order(importance: Tensor) -> Tensor:
    """(C,) channels, most important first; ties by channel."""
    return torch.argsort(importance, descending=True, stable=True)
