"""Exponential moving average of a network's weights (Polyak averaging): what is saved and served."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Ema:
    """Average of parameters and floating-point buffers; integer buffers (batch counters) are copied.

    Args:
        decay: weight of the past; less in the first updates, min(decay, (1 + n) / (10 + n)), so that the
            random start is forgotten. 0: no averaging.
    """

    def __init__(self, module: nn.Module, decay: float) -> None:
        self._decay = decay
        self.state = {name: value.detach().clone() for name, value in module.state_dict().items()}

    @torch.no_grad()
    def update(self, module: nn.Module, updates: int) -> None:
        """Take in the weights after ``updates`` optimiser steps (from 1)."""
        decay = min(self._decay, (1.0 + updates) / (10.0 + updates))
        for name, value in module.state_dict().items():
            if value.is_floating_point() and decay > 0.0:
                self.state[name].lerp_(value, 1.0 - decay)
            else:
                self.state[name].copy_(value)

    def load(self, state: dict[str, Tensor]) -> None:
        """Take up a saved average."""
        for name, value in self.state.items():
            value.copy_(state[name])
