"""Flat Rayleigh fading, h ~ CN(0, 1), with no or with perfect channel knowledge at the receiver.

Three textbook cases that papers mix up when they say "Rayleigh":

=========================  ==============  =====================================  =======================
mode                       h               the decoder gets                       SNR that it believes
=========================  ==============  =====================================  =======================
rayleigh_slow              one an image    h x + n                                mean SNR
rayleigh_slow_eq           one an image    x + n / h                              SNR * abs(h)^2
rayleigh_fast_magnitude    one a symbol    abs(h) x + n                           mean SNR
=========================  ==============  =====================================  =======================

Estimated h: :mod:`codec_runtime.channel.mmse`.
"""

from __future__ import annotations

import torch
from torch import Tensor

from codec_runtime.channel.awgn import awgn
from codec_runtime.channel.gaussian import circular_normal
from codec_runtime.channel.received import Received
from codec_runtime.channel.symbols import from_symbols, to_symbols

_CPU = torch.device("cpu")


def rayleigh_coefficient(
    shape: tuple[int, ...], generator: torch.Generator | None = None, device: torch.device = _CPU
) -> Tensor:
    """h ~ CN(0, 1) of any shape, complex: |h| is Rayleigh with mean square one, the phase uniform."""
    return circular_normal(shape, device, generator)


def rayleigh_gain(
    count: int, generator: torch.Generator | None = None, device: torch.device = _CPU
) -> Tensor:
    """(count,) power gains |h|^2 with h ~ CN(0, 1): exponential with mean one.

    Of the same h that :func:`rayleigh_coefficient` draws from the same generator state.
    """
    return rayleigh_coefficient((count,), generator, device).abs().square()


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


def rayleigh_slow_eq_channel(
    sent: Tensor, snr_db: Tensor, prefix: Tensor, generator: torch.Generator | None = None
) -> Received:
    """Mode ``rayleigh_slow_eq``: :func:`rayleigh_slow_equalised` with a fresh gain for each image."""
    gain = rayleigh_gain(len(sent), generator, sent.device)
    return Received(*rayleigh_slow_equalised(sent, snr_db, prefix, gain, generator))


def rayleigh_slow_channel(
    sent: Tensor, snr_db: Tensor, prefix: Tensor, generator: torch.Generator | None = None
) -> Received:
    """Mode ``rayleigh_slow``: y = h x + n, one h per image, nothing undone.

    The receiver knows the mean SNR only; neither gain nor phase of h (slow fading without channel
    estimation in Bourtsoulatze et al., TCCN 2019).
    """
    fading = rayleigh_coefficient((len(sent), 1), generator, sent.device)
    faded = from_symbols(fading * to_symbols(sent, prefix), prefix, sent.shape)
    return Received(awgn(faded, snr_db, prefix, generator), snr_db)


def rayleigh_fast_magnitude_channel(
    sent: Tensor, snr_db: Tensor, prefix: Tensor, generator: torch.Generator | None = None
) -> Received:
    """Mode ``rayleigh_fast_magnitude``: y = |h| x + n, h independent for each symbol.

    The phase is compensated, the magnitude is not divided out and not known to the decoder, which believes
    the mean SNR. Several published "Rayleigh" tables are of this kind. I and Q of a symbol share one |h|.
    """
    symbols = to_symbols(sent, prefix)
    magnitude = rayleigh_coefficient(tuple(symbols.shape), generator, sent.device).abs()
    faded = from_symbols(magnitude * symbols, prefix, sent.shape)
    return Received(awgn(faded, snr_db, prefix, generator), snr_db)
