"""Real latents as complex baseband symbols of unit mean power.

A latent of k channels at a quarter of the resolution has L = k * H/4 * W/4 real values and is sent as
L/2 complex symbols. With n = 3 * H * W source values the bandwidth ratio is R = (L/2) / n = k / 96.
I and Q of a symbol always come from the same image: first half of the values is I, second half is Q.
"""

from __future__ import annotations

import torch
from torch import Tensor

from codec_runtime.contract.directives import RATE_DENOMINATOR


def bandwidth_ratio(prefix: float) -> float:
    """Complex channel symbols per source value (pixel x colour) when ``prefix`` channels are sent."""
    return prefix / RATE_DENOMINATOR


def prefix_mask(prefix: Tensor, channels: int) -> Tensor:
    """(B,) prefix lengths -> (B, channels, 1, 1) mask of ones on the channels that are sent."""
    index = torch.arange(channels, device=prefix.device)
    return (index[None, :] < prefix[:, None]).float()[:, :, None, None]


def normalise_power(latent: Tensor, prefix: Tensor) -> Tensor:
    """Zero the channels that are not sent and scale to unit mean *complex* power per image.

    Args:
        latent: (B, C, h, w) real.
        prefix: (B,) number of channels sent, 1..C.

    Returns:
        (B, C, h, w): E[I^2 + Q^2] = 1 over the symbols sent, hence E[value^2] = 1/2; zero elsewhere.
    """
    sent = latent * prefix_mask(prefix, latent.shape[1])
    values = prefix * (latent.shape[2] * latent.shape[3])
    power = sent.square().sum(dim=(1, 2, 3)) / values
    return sent * torch.rsqrt(2.0 * power.clamp_min(1e-12))[:, None, None, None]


def to_complex(values: Tensor) -> Tensor:
    """(L,) real, L even -> (L/2,) complex: I = first half, Q = second half."""
    if values.numel() % 2:
        raise ValueError(f"an even number of real values is needed to form symbols, got {values.numel()}")
    in_phase, quadrature = values.flatten().chunk(2)
    return torch.complex(in_phase, quadrature)


def to_real(symbols: Tensor) -> Tensor:
    """(S,) complex -> (2S,) real; inverse of :func:`to_complex`."""
    return torch.cat((symbols.real, symbols.imag))
