"""5G NR modulation and coding schemes with the SNR each needs, as measured (``mcs_thresholds.json``).

The schemes are those of TS 38.214 table 5.1.3.1-1 (QPSK to 64-QAM) from index 3 on: indices 0 to 2 have code
rates below 1/5, which repeat bits and only serve SNRs below -4 dB. Thresholds and block error rates over
AWGN are measured with sionna's 5G LDPC code by :mod:`codec_runtime.evaluation.mcs_measure`
(``semcom eval mcs``).
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import msgspec

THRESHOLDS_FILE = Path(__file__).with_name("mcs_thresholds.json")
CRC_BITS = 24
"""Bits of each code block's checksum (TS 38.212, 5.2.2), by which the receiver knows that a block is lost."""


class Mcs(msgspec.Struct, frozen=True, kw_only=True):
    """One scheme and its measured waterfall.

    Attributes:
        index: I_MCS of the table.
        bits_per_symbol: Q_m; code_rate: R, as in the table.
        information_bits, codeword_bits: size of the code block measured.
        threshold_db: lowest SNR per complex symbol of the grid at which the block error rate met the target.
        snr_db: SNRs measured, ascending; error_rate: block error rate at each.
        blocks: code blocks sent at each.
    """

    index: int
    bits_per_symbol: int
    code_rate: float
    information_bits: int
    codeword_bits: int
    threshold_db: float
    snr_db: tuple[float, ...]
    error_rate: tuple[float, ...]
    blocks: tuple[int, ...]

    @property
    def efficiency(self) -> float:
        """Information bits per complex symbol."""
        return self.bits_per_symbol * self.information_bits / self.codeword_bits

    def code_blocks(self, symbols: float) -> int:
        """Code blocks that carry ``symbols`` complex symbols (at least one)."""
        return max(1, math.ceil(symbols * self.bits_per_symbol / self.codeword_bits))

    def payload_bits(self, symbols: float) -> float:
        """Bits left for a picture when ``symbols`` complex symbols are sent: all minus the checksums."""
        return symbols * self.efficiency - CRC_BITS * self.code_blocks(symbols)

    def block_error_rate(self, snr_db: float) -> float:
        """Block error rate, 0..1: none from the threshold on, all below the lowest SNR measured.

        Between measured SNRs log10 of the rate is interpolated, a rate of no error in n blocks taken as 1/n.
        Errors above the threshold are left out, in this scheme's favour (a retransmission would mend them).
        """
        if snr_db >= self.threshold_db:
            return 0.0
        if snr_db < self.snr_db[0]:
            return 1.0
        right = bisect_left(self.snr_db, snr_db)
        logs = [
            math.log10(max(rate, 1.0 / sent))
            for rate, sent in zip(self.error_rate, self.blocks, strict=True)
        ]
        if self.snr_db[right] == snr_db:
            return float(10.0 ** logs[right])
        step = (snr_db - self.snr_db[right - 1]) / (self.snr_db[right] - self.snr_db[right - 1])
        return float(10.0 ** (logs[right - 1] + step * (logs[right] - logs[right - 1])))

    def loss_probability(self, snr_db: float, symbols: float) -> float:
        """Probability that a picture of ``symbols`` symbols is lost: that any of its code blocks is."""
        return float(1.0 - (1.0 - self.block_error_rate(snr_db)) ** self.code_blocks(symbols))


class McsMeasurement(msgspec.Struct, frozen=True, kw_only=True):
    """``mcs_thresholds.json``: how the schemes were measured, and the schemes."""

    command: str
    config: dict[str, int | float | str]
    schemes: tuple[Mcs, ...]

    def as_json(self) -> str:
        return msgspec.json.format(msgspec.json.encode(self), indent=1).decode()

    def as_text(self) -> str:
        """A line for each scheme."""
        lines = [f"{'MCS':>3}{'bits':>6}{'rate':>8}{'bit/symbol':>12}{'needs dB':>10}"]
        lines += [
            f"{s.index:>3}{s.bits_per_symbol:>6}{s.code_rate:>8.3f}{s.efficiency:>12.3f}{s.threshold_db:>10.2f}"
            for s in self.schemes
        ]
        return "\n".join(lines)


@cache
def measured_schemes(path: Path = THRESHOLDS_FILE) -> tuple[Mcs, ...]:
    """Schemes with their thresholds, by index.

    Raises:
        FileNotFoundError, msgspec.ValidationError: the file is missing or is not a measurement.
    """
    return msgspec.json.decode(path.read_bytes(), type=McsMeasurement).schemes


def link_adapted(schemes: Sequence[Mcs], snr_db: float) -> Mcs | None:
    """The scheme of most bits per symbol whose threshold is at or below ``snr_db``; None where none is."""
    able = [scheme for scheme in schemes if scheme.threshold_db <= snr_db]
    return max(able, key=lambda scheme: scheme.efficiency, default=None)
