"""What a codec network needs to serve: counted on one picture, so equal networks give equal numbers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from codec_runtime.codecs.cost import macs
from codec_runtime.codecs.evaluation_mode import evaluation_mode
from codec_runtime.contract.bundle import BundleKind

_HEIGHT, _WIDTH = 512, 768
"""The picture of the model cards."""
_LATENT_STRIDE = 4


@dataclass(frozen=True)
class Resources:
    """Needs per source pixel.

    Attributes:
        macs_per_pixel: multiply-accumulates.
        working_bytes_per_pixel: fp32 inputs and outputs of the layer with the largest; a lower bound of the
            working memory, since what skips a layer is kept besides.
    """

    macs_per_pixel: float
    working_bytes_per_pixel: float


def measure_resources(module: nn.Module, kind: BundleKind) -> Resources:
    """Run an encoder or decoder once on a (1, 3, 512, 768) picture's worth of zeros.

    Raises:
        ValueError: ``kind`` is neither.
    """
    if kind == "encoder":
        source = torch.zeros(1, 3, _HEIGHT, _WIDTH)
    elif kind == "decoder":
        channels = int(getattr(module.config, "latent_channels"))  # noqa: B009 (an nn.Module attribute is Any)
        source = torch.zeros(1, channels, _HEIGHT // _LATENT_STRIDE, _WIDTH // _LATENT_STRIDE)
    else:
        raise ValueError(f"kind {kind}: only encoders and decoders are measured")
    inputs = (source, torch.tensor([7.0]), torch.tensor([6]))
    pixels = _HEIGHT * _WIDTH
    largest = 0

    def note(_: nn.Module, given: tuple[Any, ...], output: Any) -> None:
        nonlocal largest
        tensors = [value for value in (*given, output) if isinstance(value, Tensor)]
        largest = max(largest, sum(value.numel() * value.element_size() for value in tensors))

    leaves = [layer for layer in module.modules() if not any(True for _ in layer.children())]
    handles = [layer.register_forward_hook(note) for layer in leaves]
    try:
        with evaluation_mode(module):
            count = macs(module, *inputs)
    finally:
        for handle in handles:
            handle.remove()
    return Resources(count / pixels, largest / pixels)
