"""Which part of a target a PUT into the inbox carries: ``Content-Range: bytes FIRST-LAST/TOTAL`` (RFC 9110).

Every answer to such a PUT, accepted or not, tells in ``Upload-Offset`` how many bytes of the file the site
has, from its start and without a gap: where the next chunk begins.
"""

from __future__ import annotations

from typing import Final

import msgspec

CONTENT_RANGE: Final = "Content-Range"
UPLOAD_OFFSET: Final = "Upload-Offset"

_MAX_DIGITS: Final = 15


class ContentRangeError(ValueError):
    """A ``Content-Range`` header is not that of a chunk."""


class ByteRange(msgspec.Struct, frozen=True):
    """Bytes ``first`` to ``last``, both included, of a file of ``total``; 0 <= first <= last < total."""

    first: int
    last: int
    total: int

    @property
    def size(self) -> int:
        """Bytes of the chunk, at least 1."""
        return self.last - self.first + 1

    @property
    def header(self) -> str:
        """The header's value."""
        return f"bytes {self.first}-{self.last}/{self.total}"


def parse_range(header: str) -> ByteRange:
    """The range that a ``Content-Range`` header states.

    Raises:
        ContentRangeError: not of that form, or empty, or beyond the total.
    """
    unit, _, said = header.partition(" ")
    span, _, total = said.partition("/")
    first, _, last = span.partition("-")
    numbers = (first, last, total)
    if unit != "bytes" or not all(n.isascii() and n.isdigit() and len(n) <= _MAX_DIGITS for n in numbers):
        raise ContentRangeError(f"Content-Range {header[:60]!r}: bytes FIRST-LAST/TOTAL is needed")
    found = ByteRange(*(int(number) for number in numbers))
    if not found.first <= found.last < found.total:
        raise ContentRangeError(f"Content-Range {header!r}: FIRST <= LAST < TOTAL is needed")
    return found
