"""Coding tables: integer frequencies derived from a trained model once, and shipped as they are.

Floating-point cumulatives differ in their last bits between machines, and one differing bit makes a range
decoder lose its place. So the encoder and the decoder of a stream read the same *integers*, whose sha256 the
stream names. They are stored as float tensors in a bundle of kind ``entropy-model``, which integers up to
2^16 survive exactly.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from codec_runtime.digital.entropy_model import OperatingPoints
from codec_runtime.digital.quantisation import ChannelQuantiser

TOTAL = 1 << 16
"""Sum of a channel's frequencies; a symbol costs at most 16 bits."""
REACH = 127
"""Largest magnitude of an integer that a table holds; values beyond are clipped to the table's ends."""
_TAIL = 2.0**-13

Floats = NDArray[np.float32]
Integers = NDArray[np.int32]


@dataclass(frozen=True)
class CodingTables:
    """Everything two ends must share to turn P operating points of C channels into bytes.

    Attributes:
        frequencies: (P, C, K) integers; those of a channel sum to 2^16, padded with zeros behind.
        lowest: (P, C) integer that the first frequency is of.
        step: (P, C) width of a quantisation step.
        fill: (P, C) what the decoder puts where a channel did not arrive.
        order: (P, C) channels, most important first.
        sent: (P,) channels of the point, taken from the front of its order.
        clip_low, clip_high: (P, C) learned range of the fixed-length form.
        condition: (P, D) what the networks around need to know of a point, e.g. prefix and SNR; may be empty.
    """

    frequencies: Integers
    lowest: Integers
    step: Floats
    fill: Floats
    order: Integers
    sent: Integers
    clip_low: Floats
    clip_high: Floats
    condition: Floats

    def __post_init__(self) -> None:
        points, channels, symbols = self.frequencies.shape
        if symbols < 2 or (self.frequencies < 0).any() or (self.frequencies.sum(2) != TOTAL).any():
            raise ValueError(f"frequencies: want two symbols or more, none negative, that sum to {TOTAL}")
        if ((self.frequencies > 0).sum(2) != self.widths).any() or (self.widths < 2).any():
            raise ValueError("frequencies: a gap between two symbols, or a channel with one alone")
        for name in ("lowest", "step", "fill", "order", "clip_low", "clip_high"):
            if getattr(self, name).shape != (points, channels):
                raise ValueError(f"{name}: shape {getattr(self, name).shape}, want {(points, channels)}")
        if self.sent.shape != (points,) or self.condition.shape[:1] != (points,) or self.condition.ndim != 2:
            raise ValueError(f"sent, condition: want {points} rows")
        if (np.sort(self.order, 1) != np.arange(channels)).any():
            raise ValueError("order: not a permutation of the channels")
        if ((self.sent < 1) | (self.sent > channels)).any() or not (self.step > 0).all():
            raise ValueError(f"want 1 to {channels} channels sent and steps above 0")
        if not (self.clip_high > self.clip_low).all():
            raise ValueError("want clip_high above clip_low")

    @property
    def points(self) -> int:
        return int(self.frequencies.shape[0])

    @property
    def channels(self) -> int:
        return int(self.frequencies.shape[1])

    @cached_property
    def widths(self) -> Integers:
        """(P, C) symbols of each channel."""
        reversed_ = self.frequencies[:, :, ::-1] > 0
        found: Integers = (self.frequencies.shape[2] - reversed_.argmax(2)).astype(np.int32)
        return found

    @cached_property
    def costs(self) -> Floats:
        """(P, C, K) bits of each symbol; infinite where there is none."""
        with np.errstate(divide="ignore"):
            bits: Floats = (np.log2(TOTAL) - np.log2(self.frequencies.astype(np.float64))).astype(np.float32)
        return bits

    @cached_property
    def digest(self) -> bytes:
        """Eight bytes that name the tables in a stream."""
        whole = hashlib.sha256()
        for name, value in sorted(self.state().items()):
            whole.update(name.encode() + str(tuple(value.shape)).encode() + value.numpy().tobytes())
        return whole.digest()[:8]

    def state(self) -> dict[str, Tensor]:
        """float32 tensors for a bundle."""
        return {
            name: torch.from_numpy(np.ascontiguousarray(getattr(self, name), dtype=np.float32))
            for name in self.__dataclass_fields__
        }

    @classmethod
    def from_state(cls, state: Mapping[str, Tensor]) -> CodingTables:
        """Tables of a bundle's tensors; others beside them are ignored.

        Raises:
            ValueError: one is missing, is not of integers where it must be, or they contradict each other.
        """
        given: dict[str, NDArray[np.generic]] = {}
        for name in cls.__dataclass_fields__:
            if name not in state:
                raise ValueError(f"entropy model without tensor {name}")
            values = state[name].float().numpy()
            if name in ("frequencies", "lowest", "order", "sent"):
                if (values != np.round(values)).any():
                    raise ValueError(f"tensor {name}: want integers")
                given[name] = values.astype(np.int32)
            else:
                given[name] = values
        return cls(**given)  # type: ignore[arg-type]


def integer_frequencies(masses: NDArray[np.float64]) -> Integers:
    """Probabilities (n,) -> integers of at least 1 that sum to 2^16, n in 2..2^16.

    Largest remainders get what rounding down leaves, ties to the first: the same on every machine.
    """
    shares = np.maximum(masses, 0.0)
    shares = shares / shares.sum() * (TOTAL - len(shares))
    whole = np.floor(shares)
    left = int(TOTAL - len(shares) - whole.sum())
    first = np.argsort(-(shares - whole), kind="stable")[:left]
    whole[first] += 1
    frequencies: Integers = (whole + 1).astype(np.int32)
    return frequencies


def derive_tables(
    model: OperatingPoints,
    quantiser: list[ChannelQuantiser],
    *,
    order: Integers,
    sent: Integers,
    fill: Floats,
    condition: Floats | None = None,
) -> CodingTables:
    """Tables of a trained model. What lies beyond 2^-13 of a channel's mass on each side is clipped.

    Args:
        quantiser: the fixed-length form of each point.
        order, sent, fill, condition: see :class:`CodingTables`.
    """
    points, channels = model.log_step.shape
    rows = [_supported(model.masses(point, REACH).numpy()) for point in range(points)]
    widest = max(len(frequencies) for row in rows for _, frequencies in row)
    frequencies = np.zeros((points, channels, widest), np.int32)
    lowest = np.zeros((points, channels), np.int32)
    for point, row in enumerate(rows):
        for channel, (low, found) in enumerate(row):
            frequencies[point, channel, : len(found)] = found
            lowest[point, channel] = low
    low_ends = np.stack([q.low.detach().numpy() for q in quantiser])
    return CodingTables(
        frequencies=frequencies, lowest=lowest, step=model.log_step.detach().exp().numpy().copy(),
        fill=fill, order=order, sent=sent, clip_low=low_ends.copy(),
        clip_high=low_ends + np.stack([q.log_width.detach().exp().numpy() for q in quantiser]),
        condition=np.zeros((points, 0), np.float32) if condition is None else condition,
    )


def _supported(masses: NDArray[np.float64]) -> list[tuple[int, Integers]]:
    """(lowest integer, frequencies) of each channel; tails are folded into the ends."""
    found = []
    for row in masses:
        total = np.cumsum(row)
        first = int(np.searchsorted(total, _TAIL * total[-1]))
        last = int(np.searchsorted(total, (1 - _TAIL) * total[-1]))
        first, last = min(first, len(row) - 2), min(max(last, first + 1), len(row) - 1)
        first = min(first, last - 1)
        kept = row[first : last + 1].copy()
        kept[0] += row[:first].sum()
        kept[-1] += row[last + 1 :].sum()
        found.append((first - REACH, integer_frequencies(kept)))
    return found
