"""Symbols to send through a channel."""

import torch
from torch import Tensor

from codec_runtime.channel.symbols import normalise_power


def unit_power(prefixes: list[int], side: int, channels: int = 16, seed: int = 1) -> tuple[Tensor, Tensor]:
    """(sent (B, channels, side, side), prefix (B,)): Gaussian, unit complex power per image."""
    generator = torch.Generator().manual_seed(seed)
    prefix = torch.tensor(prefixes)
    latent = torch.randn(len(prefixes), channels, side, side, generator=generator)
    return normalise_power(latent, prefix), prefix


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)
