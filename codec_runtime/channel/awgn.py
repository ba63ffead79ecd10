"""Additive white Gaussian noise on real-valued latents (I and Q handled as pairs of real values).

Noise variance is per *complex* symbol: sigma^2 = 10^(-SNR/10) at unit symbol power, so each real value
gets sigma^2 / 2.
"""

from __future__ import annotations

import torch
from torch import Tensor

from codec_runtime.channel.gaussian import standard_normal
from codec_runtime.channel.received import Received
from codec_runtime.channel.symbols import prefix_mask


def noise_variance(snr_db: Tensor) -> Tensor:
    """Complex noise variance at unit symbol power; any shape, dB in, linear out."""
    return torch.pow(10.0, -snr_db / 10.0)


def awgn(
    sent: Tensor, snr_db: Tensor, prefix: Tensor, generator: torch.Generator | None = None
) -> Tensor:
    """y = x + n on the channels sent.

    Args:
        sent: (B, C, h, w) of unit complex power per image (:func:`normalise_power`).
        snr_db: (B,) SNR per complex symbol in dB.
        prefix: (B,) channels sent; those beyond stay zero.
    """
    std = (noise_variance(snr_db) / 2.0).sqrt()[:, None, None, None]
    noise = standard_normal(sent.shape, sent.device, generator)
    return sent + noise * std * prefix_mask(prefix, sent.shape[1])


def awgn_channel(
    sent: Tensor, snr_db: Tensor, prefix: Tensor, generator: torch.Generator | None = None
) -> Received:
    """Mode ``awgn``: :func:`awgn`, the SNR known exactly (Bourtsoulatze et al., "Deep joint source-channel
    coding for wireless image transmission", TCCN 2019)."""
    return Received(awgn(sent, snr_db, prefix, generator), snr_db)
