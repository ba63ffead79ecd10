"""Gaussian draws that depend on the generator alone, whichever device the symbols are on."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def standard_normal(
    shape: Sequence[int], device: torch.device, generator: torch.Generator | None = None
) -> Tensor:
    """N(0, 1), float32, of ``shape`` on ``device``.

    Drawn on the generator's own device and then moved: a seeded CPU generator gives the same noise to a CPU
    and a GPU run.
    """
    source = device if generator is None else generator.device
    return torch.randn(tuple(shape), generator=generator, device=source).to(device)


def circular_normal(
    shape: Sequence[int], device: torch.device, generator: torch.Generator | None = None
) -> Tensor:
    """CN(0, 1), complex64: real and imaginary part are independent and have variance 1/2 each."""
    parts = standard_normal((*shape, 2), device, generator)
    return torch.view_as_complex(parts * 0.5**0.5)
