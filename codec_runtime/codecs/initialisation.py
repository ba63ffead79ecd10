"""How convolutions start in stacks without normalisation, where PyTorch's default lets the signal die."""

from __future__ import annotations

from typing import TypeVar

import torch
from torch import nn

PRELU_SLOPE = 0.25
"""PyTorch's initial slope of a PReLU."""

PRELU_GAIN = (2.0 / (1.0 + PRELU_SLOPE**2)) ** 0.5
"""He et al., "Delving deep into rectifiers" (ICCV 2015), eq. 15: what a convolution makes up for."""

_Convolution = TypeVar("_Convolution", nn.Conv2d, nn.ConvTranspose2d)


@torch.no_grad()
def keep_variance(layer: _Convolution, gain: float = 1.0) -> _Convolution:
    """Initialise ``layer``: white input of unit variance comes out with variance ``gain``^2; zero bias.

    PyTorch's own initialisers count the fan-in of a transposed convolution on the wrong side.
    """
    taps = float(layer.kernel_size[0] * layer.kernel_size[1])
    if isinstance(layer, nn.ConvTranspose2d):  # an output sees every stride-th tap in each direction
        taps /= layer.stride[0] * layer.stride[1]
    layer.weight.normal_(0.0, gain / (layer.in_channels * taps) ** 0.5)
    if layer.bias is not None:
        layer.bias.zero_()
    return layer
