"""Networks in evaluation mode for a while, whatever they are being trained for."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn


@contextmanager
def evaluation_mode(*modules: nn.Module) -> Iterator[None]:
    """Batch normalisation by its running averages inside the block; then every layer as it was before."""
    before = [(layer, layer.training) for module in modules for layer in module.modules()]
    for module in modules:
        module.eval()
    try:
        yield
    finally:
        for layer, training in before:
            layer.training = training
