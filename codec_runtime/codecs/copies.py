"""Copies of modules that share tensors: a few milliseconds, where building or copying one takes twenty."""

from __future__ import annotations

import copy
from collections.abc import Mapping

from torch import Tensor, nn


def frozen_copy(module: nn.Module, state: Mapping[str, Tensor] | None = None) -> nn.Module:
    """A module of its own, hooks included, around the same tensors or around those of ``state``: in
    evaluation mode, without gradients.

    Args:
        state: tensors by their names in ``module.state_dict()``, of the shapes and dtypes there.
    """
    return _copied(module, state or {}, "", {})


def _copied(
    module: nn.Module, state: Mapping[str, Tensor], prefix: str, known: dict[nn.Module, nn.Module]
) -> nn.Module:
    if module not in known:
        copied = known[module] = copy.copy(module)
        copied.training = False
        for name, value in vars(copied).items():
            if isinstance(value, dict) and "_hooks" in name:
                vars(copied)[name] = type(value)(value)
        copied._parameters = {
            name: None if old is None else nn.Parameter(
                state.get(prefix + name, old.detach()), requires_grad=False
            )
            for name, old in module._parameters.items()
        }
        copied._buffers = {
            name: None if old is None else state.get(prefix + name, old)
            for name, old in module._buffers.items()
        }
        copied._modules = {
            name: None if child is None else _copied(child, state, f"{prefix}{name}.", known)
            for name, child in module._modules.items()
        }
    return known[module]
