"""CRC-32C (Castagnoli), as in RFC 3720, appendix B.4: reflected polynomial 0x82F63B78.

Rows of a stream are taken together: a checksum is linear, so each column of a block is folded with its own
table, which NumPy does for all bytes at once.
"""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import NDArray

_POLYNOMIAL = 0x82F63B78
_BLOCK = 256


@cache
def _tables() -> NDArray[np.uint32]:
    """(block, 256): what a byte adds to the register, by its distance from the block's end."""
    first = np.arange(256, dtype=np.uint32)
    for _ in range(8):
        first = np.where(first & 1, (first >> 1) ^ np.uint32(_POLYNOMIAL), first >> 1)
    tables = np.empty((_BLOCK, 256), np.uint32)
    tables[0] = first
    for distance in range(1, _BLOCK):
        before = tables[distance - 1]
        tables[distance] = (before >> 8) ^ first[before & 0xFF]
    return tables


def crc32c(data: bytes, value: int = 0) -> int:
    """Checksum of ``data``; ``value`` is that of what went before it."""
    tables = _tables()
    register = value ^ 0xFFFFFFFF
    for start in range(0, len(data), _BLOCK):
        block = np.frombuffer(data, np.uint8, min(_BLOCK, len(data) - start), start).copy()
        head = min(4, len(block))
        block[:head] ^= np.frombuffer(register.to_bytes(4, "little"), np.uint8)[:head]
        distances = np.arange(len(block) - 1, -1, -1)
        register = int(np.bitwise_xor.reduce(tables[distances, block])) ^ (register >> (8 * head))
    return register ^ 0xFFFFFFFF
