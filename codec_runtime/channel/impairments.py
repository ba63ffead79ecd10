"""What goes wrong around a channel: wrong SNR estimate, burst erasure, a clipping power amplifier.

Each wraps any channel and is one itself. NaN symbols are not a channel: they are refused by
:func:`codec_runtime.channel.received.require_finite`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from codec_runtime.channel.received import Channel, Received
from codec_runtime.channel.symbols import from_symbols, symbol_counts, to_symbols


@dataclass(frozen=True)
class SnrOffset:
    """The receiver believes an SNR that is ``offset_db`` above the right one; the symbols are unchanged."""

    channel: Channel
    offset_db: float

    def __call__(
        self, sent: Tensor, snr_db: Tensor, prefix: Tensor, generator: torch.Generator | None = None
    ) -> Received:
        """As :class:`codec_runtime.channel.received.Channel`."""
        received = self.channel(sent, snr_db, prefix, generator)
        return replace(received, snr_db=received.snr_db + self.offset_db)


@dataclass(frozen=True)
class BurstErasure:
    """A contiguous run of received symbols is zero (puncturing by urgent traffic, an interferer blanked).

    The run is ``round(share * symbols)`` long and starts at a uniformly drawn place, its own for each image.
    The receiver does not know of it: it believes the SNR of the rest. The burst is drawn after the
    channel, so the surviving symbols are those that the same generator gives without it.
    """

    channel: Channel
    share: float = 0.1

    def __post_init__(self) -> None:
        if not 0.0 <= self.share <= 1.0:
            raise ValueError(f"the share erased must be in 0..1, got {self.share}")

    def __call__(
        self, sent: Tensor, snr_db: Tensor, prefix: Tensor, generator: torch.Generator | None = None
    ) -> Received:
        """As :class:`codec_runtime.channel.received.Channel`."""
        received = self.channel(sent, snr_db, prefix, generator)
        symbols = to_symbols(received.values, prefix)
        counts = symbol_counts(prefix, sent.shape[2], sent.shape[3])
        length = (self.share * counts).round()
        source = sent.device if generator is None else generator.device
        uniform = torch.rand(len(sent), generator=generator, device=source).to(sent.device)
        start = (uniform * (counts - length + 1)).floor()
        index = torch.arange(symbols.shape[1], device=sent.device)[None, :]
        erased = (index >= start[:, None]) & (index < (start + length)[:, None])
        values = from_symbols(symbols.masked_fill(erased, 0.0), prefix, sent.shape)
        return replace(received, values=values)


def soft_limiter(symbols: Tensor, ratio_db: float) -> Tensor:
    """Clip the envelope at A and keep the phase: x min(1, A / |x|), A = 10^(ratio_db / 20) at rms one.

    For circular Gaussian x of unit power the output power is 1 - exp(-A^2) (Ochiai and Imai, "Performance
    analysis of deliberately clipped OFDM signals", IEEE Trans. Commun. 2002).

    Args:
        symbols: complex, any shape, unit mean power.
        ratio_db: clipping ratio, envelope limit over rms value, dB.
    """
    limit = 10.0 ** (ratio_db / 20.0)
    limited: Tensor = symbols / (symbols.abs() / limit).clamp_min(1.0)
    return limited


@dataclass(frozen=True)
class ClippedAmplifier:
    """The transmitter's amplifier saturates: :func:`soft_limiter` on what is sent, then the channel.

    The noise stays that of unit power before the amplifier (no power is made up for), and the receiver
    believes the SNR without distortion.
    """

    channel: Channel
    ratio_db: float = 3.0

    def __call__(
        self, sent: Tensor, snr_db: Tensor, prefix: Tensor, generator: torch.Generator | None = None
    ) -> Received:
        """As :class:`codec_runtime.channel.received.Channel`."""
        limited = soft_limiter(to_symbols(sent, prefix), self.ratio_db)
        return self.channel(from_symbols(limited, prefix, sent.shape), snr_db, prefix, generator)
