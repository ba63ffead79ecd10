"""What every type shares: reading and writing from the top, limits, and the whole-number forms of X.691."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

from xapp.ric.aper import AperReader, AperWriter, E2DecodeError, E2EncodeError

MAX_DEPTH = 40
"""Nested values of one message; the deepest of KPM has about 15."""

MAX_LIST_ITEMS = 1 << 20
"""List items of one message, all lists together: what a hostile count may cost."""


class Reader(AperReader):
    """An :class:`~xapp.ric.aper.AperReader` that counts what a hostile message could multiply.

    Attributes:
        depth: nested values around the one being read.
        items: list items that may still be read; shared with the readers of open types.
    """

    __slots__ = ("depth", "items")

    def __init__(self, data: bytes, depth: int = 0, items: list[int] | None = None, base: int = 0) -> None:
        super().__init__(data, base=base)
        self.depth = depth
        self.items = items if items is not None else [MAX_LIST_ITEMS]

    def take_items(self, count: int) -> None:
        """Account for a list of ``count`` items; each takes a bit at least.

        Raises:
            E2DecodeError: more than the message can hold, or than is plausible.
        """
        self.items[0] -= count
        if count > self.end - self.pos or self.items[0] < 0:
            raise self.error(f"a list of {count} items, with {max(self.end - self.pos, 0)} bits left")


class Asn1Type(ABC):
    """A type: how its values are read and written at any bit position. Immutable."""

    @abstractmethod
    def read(self, reader: Reader) -> Any:
        """The value at the reader's position.

        Raises:
            E2DecodeError: no value of this type is there. ``field`` is the path below this type.
        """

    @abstractmethod
    def write(self, writer: AperWriter, value: Any) -> None:
        """Append ``value``.

        Raises:
            E2EncodeError: it is no value of this type.
        """


def under(name: str, error: E2DecodeError) -> E2DecodeError:
    """``error`` seen from one level up: path prefixed with ``name``."""
    if error.field and not error.field.startswith("["):
        name += "."
    return E2DecodeError(error.message, error.offset, name + error.field)


def decode_prefix(kind: Asn1Type, data: bytes, field: str = "") -> tuple[Any, int]:
    """Value of ``kind`` at the start of ``data``, and the bytes it took (one at least).

    Args:
        field: name of the value in errors; the type's own name if empty.

    Raises:
        E2DecodeError: malformed; ``offset`` counts in ``data``, also inside open types.
    """
    reader = Reader(data)
    name = field or str(getattr(kind, "name", "") or type(kind).__name__)
    try:
        value = kind.read(reader)
    except E2DecodeError as error:
        raise under(name, error) from None
    return value, max((reader.pos + 7) >> 3, 1)


def decode(kind: Asn1Type, data: bytes, field: str = "") -> Any:
    """Value of ``kind`` that ``data`` encodes, all of it.

    Raises:
        E2DecodeError: malformed, or bytes are left over.
    """
    value, used = decode_prefix(kind, data, field)
    if used < len(data):
        name = field or str(getattr(kind, "name", "") or type(kind).__name__)
        raise E2DecodeError(f"{len(data) - used} bytes are left over behind the value", used, name)
    return value


def encode(kind: Asn1Type, value: Any) -> bytes:
    """Encoding of ``value``, padded with zero bits to whole octets, one at least.

    Raises:
        E2EncodeError: ``value`` is no value of ``kind``; the message names the component.
    """
    writer = AperWriter()
    kind.write(writer, value)
    return writer.done()


def read_range(reader: Reader, lower: int, upper: int) -> int:
    """Constrained whole number (clause 11.5).

    Raises:
        E2DecodeError: it is above ``upper``, or the bytes end.
    """
    span = upper - lower
    if span < 255:
        value = reader.bits(span.bit_length()) if span else 0
    elif span < 65536:
        value = reader.uint(1 if span == 255 else 2)
    else:
        # Clause 11.5.7.4: octets in a length field that counts from 1 to what the largest value needs.
        most = (span.bit_length() + 7) >> 3
        octets = reader.bits((most - 1).bit_length()) + 1
        value = reader.uint(octets)
    if value > span:
        raise reader.error(f"{lower + value}: {lower}..{upper} are legal")
    return lower + value


def write_range(writer: AperWriter, value: int, lower: int, upper: int) -> None:
    """As :func:`read_range`; the caller has checked the bounds."""
    span = upper - lower
    offset = value - lower
    if span < 255:
        writer.bits(offset, span.bit_length())
    elif span < 65536:
        writer.uint(offset, 1 if span == 255 else 2)
    else:
        most = (span.bit_length() + 7) >> 3
        writer.sized_uint(offset, (most - 1).bit_length(), most)


def write_small(writer: AperWriter, value: int) -> None:
    """Normally small non-negative whole number (clause 11.6)."""
    if value < 64:
        writer.bits(value, 7)
        return
    octets = (value.bit_length() + 7) >> 3
    writer.bits(1, 1).octets(bytes((octets,)) + value.to_bytes(octets, "big"))


def wrong(kind: str, value: Any) -> E2EncodeError:
    """The error about a value of the wrong Python type."""
    return E2EncodeError(f"{kind} wanted, got {type(value).__name__} {value!r:.60}")
