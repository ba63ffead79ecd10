"""What a transmission meets in training: SNR, prefix length and channel, drawn for each picture by itself."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor

from codec_runtime.channel.modes import CHANNELS, Channel, Received, channel
from codec_runtime.channel.rayleigh import rayleigh_gain

SNR_RANGE_DB = (-4.0, 20.0)
EFFECTIVE_SNR_RANGE_DB = (-12.0, 25.0)
FADING_SHARE = 0.2
PREFIXES = (2, 2, 3, 4, 4, 5, 6, 6, 6, 6, 6, 8, 8, 10, 12, 14, 16, 16)
"""Prefix lengths drawn in training; the shorter ones and R = 1/16 (k = 6) more often."""

MIXED = "mixed"
"""AWGN, and for a share of the pictures slow Rayleigh fading with perfect channel knowledge at the receiver:
the encoder knows the mean SNR, the decoder the effective one. Zero-forcing leaves circular noise, so this is
AWGN at the effective SNR; deep fades are bounded, since nothing is left to learn in them."""


_made = cache(channel)


@dataclass(frozen=True)
class ConditionConfig:
    """What is drawn.

    Attributes:
        snr_range_db: SNR per complex symbol in this range, its middle more often (:func:`_snr`).
        prefixes: prefix lengths, drawn uniformly; one named twice comes twice as often, a single one always.
        channel: ``mixed`` or a mode of :mod:`codec_runtime.channel.modes`.
    """

    snr_range_db: tuple[float, float] = SNR_RANGE_DB
    prefixes: tuple[int, ...] = PREFIXES
    channel: str = MIXED

    def __post_init__(self) -> None:
        low, high = self.snr_range_db
        if not low <= high:
            raise ValueError(f"SNR range {low:g}..{high:g} dB is empty")
        if not self.prefixes or min(self.prefixes) < 1:
            raise ValueError(f"prefixes must be positive and at least one, got {self.prefixes}")
        if self.channel != MIXED:
            try:
                channel(self.channel)
            except ValueError as error:
                known = ", ".join((MIXED, *CHANNELS))
                raise ValueError(f"unknown channel {self.channel!r}; training knows {known}") from error


@dataclass(frozen=True)
class Conditions:
    """One draw for a batch: transmitting again over the same conditions meets the same noise.

    Attributes:
        snr_db: (B,) mean SNR in dB, known to the encoder.
        prefix: (B,) channels sent.
        carried_snr_db: (B,) SNR at which the channel runs: ``snr_db``, or the effective one of ``mixed``.
        channel: the channel.
        seed: of fading and noise.
    """

    snr_db: Tensor
    prefix: Tensor
    carried_snr_db: Tensor
    channel: Channel
    seed: int

    def transmit(self, sent: Tensor, user: int = 0) -> Received:
        """Send (B, C, h, w) to a user; users of different number meet independent noise."""
        generator = torch.Generator(sent.device).manual_seed(self.seed + user)
        return self.channel(sent, self.carried_snr_db, self.prefix, generator)


def draw(config: ConditionConfig, batch: int, seed: int, device: torch.device | None = None) -> Conditions:
    """Conditions of ``batch`` pictures, a function of ``seed``; tensors on ``device``."""
    generator = torch.Generator().manual_seed(seed)
    snr = _snr(config.snr_range_db, batch, generator)
    mixed = config.channel == MIXED
    carried = _effective(snr, generator) if mixed else snr
    prefix = _prefixes(config.prefixes, batch, generator)
    return Conditions(
        snr.to(device), prefix.to(device), carried.to(device),
        _made("awgn" if mixed else config.channel), seed + 1,
    )


def draw_conditions(batch: int, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """(transmit SNR dB, receive SNR dB, prefix), each (batch,), of ``mixed`` in its default ranges."""
    snr = _snr(SNR_RANGE_DB, batch, generator)
    return snr, _effective(snr, generator), _prefixes(PREFIXES, batch, generator)


def _snr(limits: tuple[float, float], batch: int, generator: torch.Generator) -> Tensor:
    """Beta(2, 2) over the limits, as the median of three uniform draws.

    Half of all draws lie in the middle third, where most links are; the ends still come.
    """
    low, high = limits
    return torch.rand(3, batch, generator=generator).median(dim=0).values * (high - low) + low


def _effective(snr_db: Tensor, generator: torch.Generator) -> Tensor:
    """Effective SNR of :data:`MIXED`."""
    batch = snr_db.shape[0]
    fading = torch.rand(batch, generator=generator) < FADING_SHARE
    faded = snr_db + 10.0 * torch.log10(rayleigh_gain(batch, generator).clamp_min(1e-4))
    return torch.where(fading, faded, snr_db).clamp(*EFFECTIVE_SNR_RANGE_DB)


def _prefixes(lengths: tuple[int, ...], batch: int, generator: torch.Generator) -> Tensor:
    return torch.tensor(lengths)[torch.randint(len(lengths), (batch,), generator=generator)]
