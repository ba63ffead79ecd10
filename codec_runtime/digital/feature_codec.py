"""Features of one picture <-> a stream, under a hard cap on its bytes.

    features --order--> integers --range coder--> chunks            the usual form
    features --clip---> integers of b bits -----> chunks            where that would exceed the cap

What the usual form will cost is the sum of the tables' integers, known before a byte is written. Over the cap
two forms remain: as many leading channels as fit, entropy-coded, or all channels at the largest fixed length
that fits (of 8 to 2 bits; at 2, again as many channels as fit), whose size no content can change. The one
with the smaller squared error in units of the point's steps is sent; but where the whole exceeds the cap by
more than a quarter, as content does that was made to cost bits, always the fixed length, without a run of the
range coder. Each case is counted, and the work is bounded: a look-up pass, a fixed-length pass, at most one
run of the coder.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from codec_runtime.digital.bitstream import (
    CHUNK_BYTES,
    HEADER_BYTES,
    MAX_VALUES,
    Header,
    pack,
    parse,
)
from codec_runtime.digital.errors import CapError, FieldError, PayloadError, WrongModelError
from codec_runtime.digital.quantisation import BITS
from codec_runtime.digital.range_coder import decode_symbols, encode_symbols
from codec_runtime.digital.tables import CodingTables, Floats, Integers

CODER_SLACK_BYTES = 8
"""A chunk's coded bytes exceed its ideal ones by less: two words of the range coder."""
FAR_OVER = 1.25
"""Content whose entropy-coded size is more than this many caps is sent at a fixed length at once."""


@dataclass
class StreamCounts:
    """Streams made by one codec, for metrics.

    Attributes:
        entropy_coded, fixed_length: by form; over_cap: would have exceeded the cap;
        shortened: with fewer channels than the point has.
    """

    entropy_coded: int = 0
    fixed_length: int = 0
    over_cap: int = 0
    shortened: int = 0


@dataclass(frozen=True)
class Encoded:
    """A stream and how it came about.

    Attributes:
        entropy_bits: ideal size of the whole point entropy-coded, without container; what the cap is held to.
        fixed_bits: 0 where entropy-coded.
        channels: sent.
    """

    data: bytes
    point: int
    entropy_bits: float
    fixed_bits: int
    channels: int


@dataclass(frozen=True)
class Decoded:
    """Features (C, H, W), those that did not arrive at the tables' fill; ``channels`` arrived."""

    features: Floats
    header: Header
    channels: int


class FeatureCodec:
    """Both ends of the features of one cut.

    Args:
        tables: shared by both ends.
        cut: 8 bytes that name cut or codec; streams of others are refused.
        model: 8 bytes that name the weights, where streams of other weights with the same tables are to be
            refused, too; the tables' digest if None.
        chunks: parts of a stream; each costs about 12 bytes.
        max_values: of a stream; bounds time and memory of one call.
    """

    def __init__(
        self,
        tables: CodingTables,
        cut: bytes,
        *,
        model: bytes | None = None,
        chunks: int = 4,
        max_values: int = MAX_VALUES,
    ) -> None:
        self.model = tables.digest if model is None else model
        if len(cut) != 8 or len(self.model) != 8 or chunks < 1:
            raise ValueError("want eight bytes each of cut and model, and at least one chunk")
        self.tables = tables
        self.cut = cut
        self.counts = StreamCounts()
        self._chunks = chunks
        self._max_values = max_values

    def overhead_bytes(self, channels: int) -> int:
        """Container bytes of a stream, and what the coder may add."""
        return HEADER_BYTES + min(self._chunks, channels) * (CHUNK_BYTES + CODER_SLACK_BYTES)

    def channel_bits(self, features: Floats, point: int) -> NDArray[np.float64]:
        """(sent,) ideal bits of each channel, in the point's order. features: (C, H, W)."""
        return self._costs(self._symbols(features, point), point)

    def encode(
        self, features: Floats, point: int, *, cap_bytes: int | None = None, picture: tuple[int, int] = (0, 0)
    ) -> Encoded:
        """A stream of at most ``cap_bytes``.

        Args:
            features: (C, H, W) float32, finite.

        Raises:
            CapError: not even one channel at the smallest fixed length fits.
            ValueError: wrong shape, not finite, too many values, or no such point.
        """
        symbols = self._symbols(features, point)
        bits = self._costs(symbols, point)
        channels = len(bits)
        whole = float(bits.sum())
        if cap_bytes is None or math.ceil(whole / 8) + self.overhead_bytes(channels) <= cap_bytes:
            data = self._entropy_coded(symbols, point, channels, features.shape, picture)
            return self._told(Encoded(data, point, whole, 0, channels))
        self.counts.over_cap += 1
        fitting = self._fitting(bits, cap_bytes)
        length, kept = self._fixed_form(features.shape, point, cap_bytes)
        indices = self.fixed_indices(features, point, length)[:kept]
        slightly = whole / 8 <= FAR_OVER * cap_bytes
        if slightly and fitting and (
            self._entropy_error(features, symbols, point, fitting)
            <= self._fixed_error(features, indices, point, length)
        ):
            data = self._entropy_coded(symbols, point, fitting, features.shape, picture)
            return self._told(Encoded(data, point, whole, 0, fitting))
        data = self._fixed_coded(indices, point, length, features.shape, picture)
        return self._told(Encoded(data, point, whole, length, kept))

    def decode(self, data: bytes, *, partial: bool = False) -> Decoded:
        """Features of a stream.

        Args:
            partial: a lost or altered tail only lowers the quality.

        Raises:
            BitstreamError: its subclass and message say what is wrong.
        """
        stream = parse(data, partial=partial, max_values=self._max_values)
        header = stream.header
        self._check(header)
        tables = self.tables
        features = np.broadcast_to(
            tables.fill[header.point][:, None, None], (tables.channels, header.height, header.width)
        ).copy()
        count = header.height * header.width
        for chunk, payload in enumerate(stream.payloads):
            chosen = tables.order[header.point, list(header.channels_of(chunk))]
            if header.fixed_bits:
                expected = header.fixed_payload(chunk)
                if len(payload) != expected:
                    raise PayloadError(f"chunk {chunk}: {len(payload)} bytes, fixed length needs {expected}")
                values = self._fixed_values(payload, header, chosen, count)
            else:
                found = decode_symbols(payload, count, self._frequencies(header.point, chosen))
                place = found + tables.lowest[header.point, chosen][:, None]
                values = place.astype(np.float32) * tables.step[header.point, chosen][:, None]
            features[chosen] = values.reshape(len(chosen), header.height, header.width)
        return Decoded(features, header, stream.channels)

    def _told(self, encoded: Encoded) -> Encoded:
        self.counts.fixed_length += encoded.fixed_bits > 0
        self.counts.entropy_coded += encoded.fixed_bits == 0
        self.counts.shortened += encoded.channels < int(self.tables.sent[encoded.point])
        return encoded

    def _symbols(self, features: Floats, point: int) -> Integers:
        """(sent, H W) places in the tables, in the point's order."""
        tables = self.tables
        if not 0 <= point < tables.points:
            raise ValueError(f"no operating point {point}; there are {tables.points}")
        if features.ndim != 3 or features.shape[0] != tables.channels:
            raise ValueError(f"features of shape {features.shape}; want ({tables.channels}, H, W)")
        if features.size > self._max_values or not features.size:
            raise ValueError(f"{features.size} values; 1 to {self._max_values} fit a stream")
        if not np.isfinite(features).all():
            raise ValueError("features are not finite")
        chosen = tables.order[point, : tables.sent[point]]
        flat = features[chosen].reshape(len(chosen), -1)
        lowest = tables.lowest[point, chosen][:, None]
        widths = tables.widths[point, chosen][:, None]
        whole = np.rint(flat / tables.step[point, chosen][:, None])
        places: Integers = np.clip(whole - lowest, 0, widths - 1).astype(np.int32)
        return places

    def _costs(self, symbols: Integers, point: int) -> NDArray[np.float64]:
        chosen = self.tables.order[point, : len(symbols)]
        costs = np.take_along_axis(self.tables.costs[point, chosen], symbols.astype(np.int64), axis=1)
        total: NDArray[np.float64] = costs.sum(axis=1, dtype=np.float64)
        return total

    def _fitting(self, bits: NDArray[np.float64], cap_bytes: int) -> int:
        """Leading channels that fit, entropy-coded; 0 where not even one does."""
        needed = np.ceil(np.cumsum(bits) / 8) + [self.overhead_bytes(n + 1) for n in range(len(bits))]
        return int((needed <= cap_bytes).sum())

    def _fixed_form(self, shape: tuple[int, ...], point: int, cap_bytes: int) -> tuple[int, int]:
        """(bits, channels) of the fixed-length form under the cap."""
        channels, count = int(self.tables.sent[point]), shape[1] * shape[2]
        for length in reversed(BITS):
            if self._fixed_bytes(channels, count, length) <= cap_bytes:
                return length, channels
        least = BITS[0]
        for kept in range(channels - 1, 0, -1):
            if self._fixed_bytes(kept, count, least) <= cap_bytes:
                return least, kept
        smallest = self._fixed_bytes(1, count, least)
        raise CapError(f"cap of {cap_bytes} bytes: one channel at {least} bits needs {smallest}")

    def _fixed_bytes(self, channels: int, count: int, length: int) -> int:
        chunks = min(self._chunks, channels)
        return HEADER_BYTES + chunks * (CHUNK_BYTES + 1) + (channels * count * length + 7) // 8

    def fixed_indices(self, features: Floats, point: int, length: int) -> NDArray[np.uint8]:
        """(sent, H W) integers of ``length`` bits, in the point's order."""
        low, step, chosen = self._fixed_scale(point, length)
        flat = features[chosen].reshape(len(chosen), -1)
        indices: NDArray[np.uint8] = np.clip(np.rint((flat - low) / step), 0, 2**length - 1).astype(np.uint8)
        return indices

    def fixed_features(
        self, indices: Floats, point: int, length: int, size: tuple[int, ...]
    ) -> Floats:
        """Features (C, H, W) that such integers, or expected ones, stand for; the rest at the fill."""
        low, step, chosen = self._fixed_scale(point, length)
        shape = (self.tables.channels, *size)
        features = np.broadcast_to(self.tables.fill[point][:, None, None], shape).copy()
        features[chosen] = (indices * step + low).reshape(len(chosen), *size)
        return features

    def _fixed_scale(self, point: int, length: int) -> tuple[Floats, Floats, Integers]:
        tables = self.tables
        chosen = tables.order[point, : tables.sent[point]]
        low = tables.clip_low[point, chosen][:, None]
        step = (tables.clip_high[point, chosen][:, None] - low) / np.float32(2**length - 1)
        return low, step, chosen

    def _entropy_error(self, features: Floats, symbols: Integers, point: int, kept: int) -> float:
        """Squared error in steps with the first ``kept`` channels."""
        tables = self.tables
        chosen = tables.order[point, : len(symbols)]
        step = tables.step[point, chosen][:, None]
        shown = (symbols + tables.lowest[point, chosen][:, None]) * step
        shown[kept:] = tables.fill[point, chosen[kept:]][:, None]
        flat = features[chosen].reshape(len(chosen), -1)
        return float((((flat - shown) / step).astype(np.float64) ** 2).sum())

    def _fixed_error(
        self, features: Floats, indices: NDArray[np.uint8], point: int, length: int
    ) -> float:
        low, width, chosen = self._fixed_scale(point, length)
        kept = len(indices)
        shown = np.broadcast_to(
            self.tables.fill[point, chosen][:, None], (len(chosen), indices.shape[1])
        ).copy()
        shown[:kept] = indices * width[:kept] + low[:kept]
        step = self.tables.step[point, chosen][:, None]
        flat = features[chosen].reshape(len(chosen), -1)
        return float((((flat - shown) / step).astype(np.float64) ** 2).sum())

    def _header(
        self, point: int, channels: int, shape: tuple[int, ...], picture: tuple[int, int], length: int = 0
    ) -> Header:
        return Header(
            point=point, model=self.model, cut=self.cut, channels=channels, height=shape[1],
            width=shape[2], chunks=min(self._chunks, channels), fixed_bits=length, picture=picture,
        )

    def _entropy_coded(
        self, symbols: Integers, point: int, channels: int, shape: tuple[int, ...], picture: tuple[int, int]
    ) -> bytes:
        header = self._header(point, channels, shape, picture)
        payloads = []
        for chunk in range(header.chunks):
            places = header.channels_of(chunk)
            chosen = self.tables.order[point, list(places)]
            runs = [symbols[place] for place in places]
            payloads.append(encode_symbols(runs, self._frequencies(point, chosen)))
        return pack(header, payloads)

    def _fixed_coded(
        self, indices: NDArray[np.uint8], point: int, length: int, shape: tuple[int, ...],
        picture: tuple[int, int],
    ) -> bytes:
        header = self._header(point, len(indices), shape, picture, length)
        payloads = []
        for chunk in range(header.chunks):
            values = indices[list(header.channels_of(chunk))].reshape(-1, 1)
            payloads.append(np.packbits(np.unpackbits(values, axis=1)[:, 8 - length :]).tobytes())
        return pack(header, payloads)

    def _fixed_values(self, payload: bytes, header: Header, chosen: Integers, count: int) -> Floats:
        length = header.fixed_bits
        bits = np.unpackbits(np.frombuffer(payload, np.uint8), count=len(chosen) * count * length)
        weights = (1 << np.arange(length - 1, -1, -1)).astype(np.float32)
        indices = bits.reshape(len(chosen), count, length) @ weights
        low = self.tables.clip_low[header.point, chosen][:, None]
        high = self.tables.clip_high[header.point, chosen][:, None]
        values: Floats = (indices * ((high - low) / np.float32(2**length - 1)) + low).astype(np.float32)
        return values

    def _frequencies(self, point: int, chosen: Integers) -> list[Integers]:
        tables = self.tables
        return [tables.frequencies[point, c, : tables.widths[point, c]] for c in chosen]

    def _check(self, header: Header) -> None:
        if header.model != self.model:
            raise WrongModelError(f"made with tables or weights {header.model.hex()}, not {self.model.hex()}")
        if header.cut != self.cut:
            raise WrongModelError(f"of cut {header.cut.hex()}, not {self.cut.hex()}")
        if header.point >= self.tables.points or header.channels > self.tables.sent[header.point]:
            raise FieldError(f"point {header.point} with {header.channels} channels is not in the tables")
        if self.tables.channels * header.height * header.width > self._max_values:
            raise FieldError(
                f"{self.tables.channels} x {header.height} x {header.width} values; "
                f"at most {self._max_values} are taken"
            )
