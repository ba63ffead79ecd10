"""Inputs and weights that depend on no library but numpy's PCG64 stream, which numpy keeps stable."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

LATENT_STRIDE = 4
_BLOCKS = (64, 16, 4, 1)
"""Sides of the patches a synthetic picture is a sum of; amplitudes grow with them, as in photographs."""


def uniform(seed: int, *shape: int) -> npt.NDArray[np.float64]:
    """Uniform values in [0, 1) with 53 bits, straight from the bit generator."""
    raw = np.random.PCG64(seed).random_raw(math.prod(shape))
    return (raw >> np.uint64(11)).reshape(shape).astype(np.float64) * 2.0**-53


def picture(seed: int, batch: int, height: int, width: int) -> npt.NDArray[np.uint8]:
    """Synthetic pictures (batch, 3, height, width): patches of falling side and contrast."""
    total = np.zeros((batch, 3, height, width))
    for index, side in enumerate(_BLOCKS):
        rows, columns = -(-height // side), -(-width // side)
        patches = uniform(seed + index, batch, 3, rows, columns).repeat(side, axis=2).repeat(side, axis=3)
        total += patches[:, :, :height, :width] * 0.5**index
    total *= 255.0 / sum(0.5**index for index in range(len(_BLOCKS)))
    return total.astype(np.uint8)


def received_symbols(
    seed: int, batch: int, channels: int, rows: int, columns: int
) -> npt.NDArray[np.float32]:
    """Uniform values of unit complex power, (batch, channels, rows, columns)."""
    centred = uniform(seed, batch, channels, rows, columns) * 2.0 - 1.0
    return (centred * math.sqrt(1.5)).astype(np.float32)  # variance 1/3 -> 1/2


def noise(seed: int, snr_db: float, shape: tuple[int, ...]) -> npt.NDArray[np.float32]:
    """Uniform noise of the variance that ``snr_db`` per complex symbol means, as float32."""
    deviation = math.sqrt(0.5 * 10.0 ** (-snr_db / 10.0))
    return ((uniform(seed, *shape) * 2.0 - 1.0) * math.sqrt(3.0) * deviation).astype(np.float32)


@torch.no_grad()
def fill_weights(module: nn.Module, seed: int) -> None:
    """Overwrite every parameter and buffer with values that keep activations of order one.

    Nothing depends on how the module initialises itself; layers that start at zero do not stay there.
    """
    state: dict[str, Any] = module.state_dict()
    for index, name in enumerate(sorted(state)):
        tensor = state[name]
        if not tensor.is_floating_point():
            continue
        spread = uniform(1_000_003 * seed + index, *tensor.shape)
        tensor.copy_(torch.from_numpy(_weights(name.rsplit(".", 1)[-1], tensor.ndim, spread)))


def _weights(kind: str, dimensions: int, spread: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Values of a tensor called ``kind`` from uniform ``spread`` of its shape."""
    if kind == "beta":  # square root of GDN's offset
        return 0.8 + 0.4 * spread
    if kind == "gamma":  # square root of GDN's weights: their row sums stay about 0.3
        return spread / math.sqrt(spread.shape[-1])
    if kind == "running_var":
        return 0.5 + spread
    centred = 2.0 * spread - 1.0
    if dimensions >= 2:  # uniform of variance 1/3 over the smaller fan of a kernel, transposed or not
        fan = min(spread.shape[:2]) * math.prod(spread.shape[2:])
        return centred * math.sqrt(3.0 / fan) * 0.7
    return 0.1 * centred if kind in ("bias", "running_mean") else 0.25 + 0.1 * centred
