"""What a codec network costs: multiply-accumulates, and time on one CPU thread."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from codec_runtime.codecs.cost import macs
from codec_runtime.codecs.padding import pad_to_multiple

REPEATS = 5


@dataclass(frozen=True)
class ComputeCost:
    """MACs per source pixel, and ms for one picture: the least of :data:`REPEATS` runs on one thread."""

    macs_per_pixel: float
    ms_per_image: float


def encoder_cost(encoder: nn.Module, height: int, width: int) -> ComputeCost:
    """Cost of encoding a (3, H, W) picture in eager fp32 PyTorch."""
    picture, _ = pad_to_multiple(torch.zeros(1, 3, height, width))
    return _cost(encoder, picture, height * width)


def decoder_cost(decoder: nn.Module, height: int, width: int) -> ComputeCost:
    """Cost of decoding a (3, H, W) picture in eager fp32 PyTorch; ``decoder.config`` has the channels."""
    padded, _ = pad_to_multiple(torch.zeros(1, 1, height, width))
    channels = int(getattr(decoder.config, "latent_channels"))  # noqa: B009 (an nn.Module attribute is Any)
    latent = torch.zeros(1, channels, padded.shape[2] // 4, padded.shape[3] // 4)
    return _cost(decoder, latent, height * width)


@contextmanager
def single_thread() -> Iterator[None]:
    """PyTorch on one thread inside the block."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


@torch.inference_mode()
def _cost(network: nn.Module, values: Tensor, pixels: int) -> ComputeCost:
    device = next(network.parameters()).device
    inputs = (values.to(device), torch.tensor([7.0], device=device), torch.tensor([6], device=device))
    count = macs(network, *inputs)
    times = []
    with single_thread():
        for _ in range(REPEATS):
            started = time.perf_counter()
            network(*inputs)
            times.append(time.perf_counter() - started)
    return ComputeCost(count / pixels, 1e3 * min(times))
