"""Gradients that would throw a network back: clipped, and left out where they are out of all proportion.

Clipping alone does not help with Muon, whose step does not depend on the gradient's size: one batch on which
the networks blow up then costs as much as hundreds of good ones bring.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

PROPORTION = 8.0
"""A gradient of more than this times the average norm is left out."""

_MEMORY = 0.99
_FIRST_UPDATES = 50
"""The average norm falls quickly at first; nothing is left out before it has settled."""


class GradientGuard:
    """Clips the gradients of one network, and zeroes those that are not finite or out of proportion.

    All of it stays on the device: nothing waits for the numbers.

    Args:
        parameters: the network's.
        clip_norm: largest norm of the whole gradient.
    """

    def __init__(self, parameters: Sequence[nn.Parameter], clip_norm: float) -> None:
        self._parameters, self._clip_norm = parameters, clip_norm
        device = parameters[0].device
        # average norm, updates seen, updates left out
        self._state = torch.zeros(3, dtype=torch.float64, device=device)

    @property
    def left_out(self) -> int:
        """Updates made without their gradient."""
        return int(self._state[2].item())

    @torch.no_grad()
    def apply(self) -> None:
        """Clip, or zero, the gradients in place."""
        norm = nn.utils.clip_grad_norm_(self._parameters, self._clip_norm).to(torch.float64)
        average, seen, left_out = self._state.unbind()
        limit = torch.where(seen >= _FIRST_UPDATES, PROPORTION * average, torch.inf)
        good = torch.isfinite(norm) & (norm <= limit)
        for parameter in self._parameters:
            if parameter.grad is not None:
                parameter.grad = torch.where(good, parameter.grad, 0.0)
        counted = torch.where(torch.isfinite(norm), norm.clamp_max(limit), average)
        first = (seen == 0) & torch.isfinite(norm)
        average = torch.where(first, counted, _MEMORY * average + (1.0 - _MEMORY) * counted)
        self._state = torch.stack((average, seen + 1, left_out + (~good)))

    def tensors(self) -> Tensor:
        """State for a checkpoint: (3,) float64."""
        return self._state

    def load(self, state: Tensor) -> None:
        """Take up what :meth:`tensors` gave."""
        self._state = state.to(self._state.device, torch.float64)
