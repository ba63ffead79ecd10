"""Real latents as complex baseband symbols of unit mean power.

A latent of k channels at a quarter of the resolution has L = k * H/4 * W/4 real values and is sent as
L/2 complex symbols. With n = 3 * H * W source values the bandwidth ratio is R = (L/2) / n = k / 96.
I and Q of a symbol always come from the same image: first half of the values is I, second half is Q.
"""

from __future__ import annotations

from collections.abc import Sequence

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


def symbol_counts(prefix: Tensor, height: int, width: int) -> Tensor:
    """(B,) complex symbols that each image of a batch sends: prefix * h * w / 2.

    Raises:
        ValueError: an odd number of values; cannot happen when h or w is even, as it is for pictures padded
            to multiples of 8.
    """
    if height * width % 2 and bool((prefix % 2).any()):
        raise ValueError(
            f"an even number of real values is needed to form symbols, got {height} x {width} values in each "
            "of an odd number of channels"
        )
    return prefix * (height * width) // 2


def symbol_mask(prefix: Tensor, shape: Sequence[int]) -> Tensor:
    """(B, S) bool, true on the symbols that are sent; S = C * h * w // 2 for ``shape`` (B, C, h, w)."""
    _, channels, height, width = shape
    index = torch.arange(channels * height * width // 2, device=prefix.device)
    return index[None, :] < symbol_counts(prefix, height, width)[:, None]


def to_symbols(values: Tensor, prefix: Tensor) -> Tensor:
    """The batched :func:`to_complex`, each image over its own prefix.

    Args:
        values: (B, C, h, w) real; what lies beyond the prefix is ignored.
        prefix: (B,) channels sent.

    Returns:
        (B, S) complex, S = C * h * w // 2: symbol j of image b pairs values j and j + prefix[b] * h * w / 2
        of that image; zero from ``symbol_counts`` on.
    """
    sent = symbol_mask(prefix, values.shape)
    flat = values.flatten(1)
    if flat.dtype not in (torch.float32, torch.float64):
        flat = flat.float()  # there are no complex numbers of 16-bit floats
    index = torch.arange(sent.shape[1], device=values.device)
    counts = symbol_counts(prefix, values.shape[2], values.shape[3])
    partner = (index[None, :] + counts[:, None]).clamp_max(flat.shape[1] - 1)
    in_phase = flat[:, : sent.shape[1]].masked_fill(~sent, 0.0)
    quadrature = flat.gather(1, partner).masked_fill(~sent, 0.0)
    return torch.complex(in_phase, quadrature)


def from_symbols(symbols: Tensor, prefix: Tensor, shape: Sequence[int]) -> Tensor:
    """Inverse of :func:`to_symbols`: (B, S) complex -> (B, C, h, w) real, zero beyond the prefix."""
    batch, channels, height, width = shape
    count = symbols.shape[1]
    counts = symbol_counts(prefix, height, width)[:, None]
    position = torch.arange(channels * height * width, device=symbols.device)[None, :]
    # One gather out of (I, Q, 0): position p is I of symbol p, then Q of symbol p - counts, then nothing.
    source = torch.where(position < counts, position, position - counts + count)
    source = source.masked_fill(position >= 2 * counts, 2 * count)
    parts = torch.cat((symbols.real, symbols.imag, symbols.real.new_zeros(batch, 1)), dim=1)
    return parts.gather(1, source).view(batch, channels, height, width)
