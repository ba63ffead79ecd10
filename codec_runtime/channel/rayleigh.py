"""Rayleigh fading, h ~ CN(0, 1)."""

from __future__ import annotations

import torch
from torch import Tensor

from codec_runtime.channel.awgn import awgn


def rayleigh_gain(count: int, generator: torch.Generator | None = None) -> Tensor:
    """(count,) power gains |h|^2 with h ~ CN(0, 1): exponential with mean one."""
    parts = torch.randn(count, 2, generator=generator)
    return parts.square().sum(dim=1) / 2.0


def rayleigh_slow_equalised(
    sent: Tensor,
    snr_db: Tensor,
    prefix: Tensor,
    gain: Tensor,
    generator: torch.Generator | None = None,
) -> tuple[Tensor, Tensor]:
    """One h per image, perfect channel knowledge at the receiver, zero-forcing: y = x + n / h.

    Dividing circular noise by h keeps it circular with variance sigma^2 / |h|^2, so the channel is AWGN at
    the *effective* SNR ``snr_db + 10 log10 |h|^2``.

    Returns:
        (received, effective_snr_db), shapes (B, C, h, w) and (B,).
    """
    effective = snr_db + 10.0 * torch.log10(gain.clamp_min(1e-6))
    return awgn(sent, effective, prefix, generator), effective
