"""What a codec network costs: parameters, and multiply-accumulates counted by running it once with hooks."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from codec_runtime.codecs.evaluation_mode import evaluation_mode
from codec_runtime.codecs.gdn import GDN


def parameter_count(module: nn.Module) -> int:
    """Trainable values; the running statistics of batch normalisation are none."""
    return sum(parameter.numel() for parameter in module.parameters())


def macs(module: nn.Module, *inputs: Tensor) -> int:
    """MACs of one forward pass: convolutions, transposed convolutions, linear layers and GDN.

    Element-wise work (PReLU, gates, batch normalisation, pooling) is not counted, as is usual. The module
    runs in evaluation mode, so that no running statistic changes.
    """
    total = 0

    def count(layer: nn.Module, _: Any, output: Tensor) -> None:
        nonlocal total
        if isinstance(layer, nn.Conv2d):
            kernel = layer.kernel_size[0] * layer.kernel_size[1]
            total += output.numel() * kernel * layer.in_channels // layer.groups
        elif isinstance(layer, nn.ConvTranspose2d):
            kernel = layer.kernel_size[0] * layer.kernel_size[1]
            positions = output.numel() // (layer.stride[0] * layer.stride[1])
            total += positions * kernel * layer.in_channels // layer.groups
        elif isinstance(layer, nn.Linear):
            total += output.numel() * layer.in_features
        elif isinstance(layer, GDN):
            total += output.numel() * output.shape[1]

    handles = [layer.register_forward_hook(count) for layer in module.modules()]
    try:
        with evaluation_mode(module), torch.inference_mode():
            module(*inputs)
    finally:
        for handle in handles:
            handle.remove()
    return total
