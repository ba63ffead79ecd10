"""Integers <-> bytes by range coding (Martin, 1979), with constriction's coder and integer frequency tables.

The tables' integers are handed over as exact binary fractions, n / 2^16 in float32, whose sums are exact in
any order: both ends get the same intervals on every machine.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import constriction
import numpy as np
from numpy.typing import NDArray

from codec_runtime.digital.errors import PayloadError
from codec_runtime.digital.tables import TOTAL, Integers

_stream = constriction.stream
_WORD = np.dtype("<u4")


def encode_symbols(symbols: Sequence[Integers], frequencies: Sequence[Integers]) -> bytes:
    """Range-code one run of symbols for each table.

    Args:
        symbols: arrays (n,) int32 of places in the table, 0..width - 1.
        frequencies: arrays (width,) above 0 that sum to 2^16, width >= 2.
    """
    coder = _stream.queue.RangeEncoder()
    for run, table in zip(symbols, frequencies, strict=True):
        coder.encode(np.ascontiguousarray(run, dtype=np.int32), _model(table))
    words: NDArray[np.uint32] = coder.get_compressed()
    return words.astype(_WORD).tobytes()


def decode_symbols(data: bytes, count: int, frequencies: Sequence[Integers]) -> NDArray[np.int32]:
    """(tables, count) symbols.

    Raises:
        PayloadError: the bytes are no stream of that many symbols.
    """
    if len(data) % _WORD.itemsize:
        raise PayloadError(f"{len(data)} bytes: want whole words of {_WORD.itemsize}")
    decoder = _stream.queue.RangeDecoder(np.frombuffer(data, _WORD).astype(np.uint32))
    decoded = np.empty((len(frequencies), count), np.int32)
    try:
        for row, table in enumerate(frequencies):
            decoded[row] = decoder.decode(_model(table), count)
    except (AssertionError, ValueError) as error:
        raise PayloadError(f"not a range-coded stream of these tables: {error}") from error
    if not decoder.maybe_exhausted():
        raise PayloadError("bytes are left behind the last symbol")
    return decoded


def _model(frequencies: Integers) -> Any:
    return _stream.model.Categorical(frequencies.astype(np.float32) / np.float32(TOTAL), perfect=False)
