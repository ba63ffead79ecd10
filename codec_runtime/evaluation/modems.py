"""How many bits a digital transmission carries, and how often it fails: capacity, or 5G LDPC with QAM.

A sender picks one :class:`Transmission` knowing the mean SNR only. Over AWGN that is the SNR. Over slow
fading with one h ~ CN(0, 1) per picture the gain |h|^2 is exponential, so a transmission that needs the SNR
t is in outage with probability 1 - exp(-t / SNR) (Ozarow, Shamai and Wyner, "Information theoretic
considerations for cellular mobile radio", IEEE Trans. Veh. Technol. 1994).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from codec_runtime.evaluation.mcs import link_adapted, measured_schemes

MODEMS = ("capacity", "ldpc")
DIGITAL_CHANNELS = ("awgn", "rayleigh_slow_eq")
"""Channels over which separate coding is evaluated here."""

WORST_OUTAGE = 0.6
"""Over fading, what fails more often is not considered: a lost picture costs more than quality could give."""


def _never(_: float) -> float:
    return 0.0


@dataclass(frozen=True)
class Transmission:
    """What becomes of a picture sent in so many complex symbols.

    Attributes:
        payload_bits: symbols -> bits carried.
        loss_probability: symbols -> probability that the picture is lost.
    """

    payload_bits: Callable[[float], float]
    loss_probability: Callable[[float], float] = _never


def capacity_bits(symbols: float, *, snr_db: float) -> float:
    """Bits that ideal coding carries in ``symbols`` complex symbols over AWGN: log2(1 + SNR) each."""
    return symbols * math.log2(1.0 + 10.0 ** (snr_db / 10.0))


def outage_probability(needed_db: float, mean_snr_db: float) -> float:
    """P(SNR |h|^2 < needed) for h ~ CN(0, 1)."""
    return -math.expm1(-(10.0 ** ((needed_db - mean_snr_db) / 10.0)))


def transmissions(modem: str, channel: str, snr_db: float) -> list[Transmission]:
    """What the sender may choose from at a mean SNR; empty where the modem has no scheme that robust.

    - ``capacity``: over AWGN error-free at log2(1 + SNR); over fading at log2(1 + d) for any d on a grid of
      1 dB, in outage where the channel is below d.
    - ``ldpc``: over AWGN the link-adapted scheme (of those whose threshold is met, the fastest), error-free;
      over fading any scheme, in outage where the channel is below its threshold.

    Raises:
        ValueError: unknown modem, or a channel that is not of :data:`DIGITAL_CHANNELS`.
    """
    if modem not in MODEMS:
        raise ValueError(f"unknown modem {modem!r}; known are {', '.join(MODEMS)}")
    _check_channel(channel)
    if channel == "awgn" and modem == "capacity":
        return [Transmission(partial(capacity_bits, snr_db=snr_db))]
    if channel == "awgn":
        scheme = link_adapted(measured_schemes(), snr_db)
        return [] if scheme is None else [Transmission(scheme.payload_bits)]
    if modem == "capacity":
        grid = range(math.floor(snr_db) - 25, math.ceil(snr_db) + 1)
        return _with_outage([(d, partial(capacity_bits, snr_db=d)) for d in grid], snr_db)
    return _with_outage([(s.threshold_db, s.payload_bits) for s in measured_schemes()], snr_db)


def fixed_transmission(design_snr_db: float, channel: str, snr_db: float) -> list[Transmission]:
    """The LDPC scheme for ``design_snr_db`` sent at ``snr_db`` whatever that is: the cliff of digital links.

    Below the scheme's threshold pictures are lost with the measured block error rate (AWGN) or in outage.
    """
    _check_channel(channel)
    scheme = link_adapted(measured_schemes(), design_snr_db)
    if scheme is None:
        return []
    if channel == "awgn":
        return [Transmission(scheme.payload_bits, partial(scheme.loss_probability, snr_db))]
    return [_in_outage(scheme.threshold_db, scheme.payload_bits, snr_db)]


def _with_outage(
    formats: Sequence[tuple[float, Callable[[float], float]]], snr_db: float
) -> list[Transmission]:
    """(SNR needed, payload) -> the transmissions that fail at most so often as :data:`WORST_OUTAGE`."""
    return [
        _in_outage(needed, payload, snr_db)
        for needed, payload in formats
        if outage_probability(needed, snr_db) <= WORST_OUTAGE
    ]


def _in_outage(needed_db: float, payload: Callable[[float], float], snr_db: float) -> Transmission:
    outage = outage_probability(needed_db, snr_db)
    return Transmission(payload, lambda _: outage)


def _check_channel(channel: str) -> None:
    if channel not in DIGITAL_CHANNELS:
        raise ValueError(f"separate coding is evaluated over {', '.join(DIGITAL_CHANNELS)}, not {channel!r}")
