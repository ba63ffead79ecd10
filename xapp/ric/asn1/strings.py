"""OCTET STRING, BIT STRING, PrintableString, and the SIZE that also SEQUENCE OF has (X.691 clauses 11.9, 16,
17, 30)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

from xapp.ric.aper import AperWriter, E2EncodeError, length_determinant, open_octets
from xapp.ric.asn1.core import Asn1Type, Reader, read_range, write_range, wrong

_64K = 65536


class Bits(NamedTuple):
    """Value of a BIT STRING.

    Attributes:
        value: its bits as an unsigned number, the first bit most significant.
        size: number of bits.
    """

    value: int
    size: int


@dataclass(frozen=True, slots=True)
class Size:
    """SIZE constraint: number of octets, bits, characters or items.

    Attributes:
        lower: 0 or more. upper: None without limit. extensible: sizes outside may follow in the extension.
    """

    lower: int = 0
    upper: int | None = None
    extensible: bool = False

    def read(self, reader: Reader) -> int | None:
        """The count before the content; None where a general length determinant is still to be read."""
        if (self.extensible and reader.bits(1)) or self.upper is None or self.upper >= _64K:
            return None
        return self.lower if self.lower == self.upper else read_range(reader, self.lower, self.upper)

    def write(self, writer: AperWriter, count: int, what: str) -> bool:
        """Append the count; False where the general length determinant is to be written with the content.

        Raises:
            E2EncodeError: the count is outside.
        """
        inside = self.lower <= count and (self.upper is None or count <= self.upper)
        if self.extensible and count >= self.lower:
            writer.bits(0 if inside else 1, 1)
        elif not inside:
            upper = "MAX" if self.upper is None else self.upper
            raise E2EncodeError(f"{what} of {count}: {self.lower}..{upper} are legal")
        if not inside or self.upper is None or self.upper >= _64K:
            return False
        if self.lower != self.upper:
            write_range(writer, count, self.lower, self.upper)
        return True

    def fixed(self, count: int) -> bool:
        """No count is written for ``count``."""
        return self.lower == self.upper == count

    def check(self, reader: Reader, count: int) -> None:
        """Refuse a count from a general length determinant that the constraint forbids.

        A size below an extensible constraint is refused too: published extensions only ever raise the upper
        bound, and such a value is empty where something must be (a VIAVI tester's measurement names).

        Raises:
            E2DecodeError: it does.
        """
        if count < self.lower or (not self.extensible and self.upper is not None and count > self.upper):
            upper = "MAX" if self.extensible or self.upper is None else self.upper
            raise reader.error(f"size {count}: {self.lower}..{upper} are legal")


ANY_SIZE = Size()
"""No constraint."""


def _read_octets(reader: Reader, size: Size, unaligned_up_to: int) -> bytes:
    count = size.read(reader)
    if count is None:
        raw = reader.octet_string()
        size.check(reader, len(raw))
        return raw
    if size.fixed(count) and count <= unaligned_up_to:
        return reader.bits(count * 8).to_bytes(count, "big")
    return reader.octets(count) if count else b""


def _write_octets(writer: AperWriter, size: Size, raw: bytes, what: str, unaligned_up_to: int) -> None:
    if not size.write(writer, len(raw), what):
        writer.octets(open_octets(raw))
    elif size.fixed(len(raw)) and len(raw) <= unaligned_up_to:
        writer.bits(int.from_bytes(raw, "big"), len(raw) * 8)
    elif raw:
        writer.octets(raw)


@dataclass(frozen=True, slots=True)
class OctetString(Asn1Type):
    """OCTET STRING; a fixed one of up to two octets is not aligned."""

    size: Size = ANY_SIZE

    def read(self, reader: Reader) -> bytes:
        return _read_octets(reader, self.size, 2)

    def write(self, writer: AperWriter, value: Any) -> None:
        if not isinstance(value, (bytes, bytearray)):
            raise wrong("OCTET STRING", value)
        _write_octets(writer, self.size, bytes(value), "OCTET STRING", 2)


@dataclass(frozen=True, slots=True)
class PrintableString(Asn1Type):
    """PrintableString, 8 bits a character in the aligned variant; a fixed one of up to two is not aligned.

    Any ASCII character is accepted and written: real nodes send some outside the type's alphabet (``_``).
    """

    size: Size = ANY_SIZE

    def read(self, reader: Reader) -> str:
        raw = _read_octets(reader, self.size, 2)
        try:
            return raw.decode("ascii")
        except UnicodeDecodeError as error:
            raise reader.error(f"PrintableString with byte 0x{raw[error.start]:02x}") from error

    def write(self, writer: AperWriter, value: Any) -> None:
        if not isinstance(value, str):
            raise wrong("PrintableString", value)
        try:
            raw = value.encode("ascii")
        except UnicodeEncodeError as error:
            raise E2EncodeError(f"PrintableString {value!r:.60}: ASCII is legal") from error
        _write_octets(writer, self.size, raw, "PrintableString", 2)


@dataclass(frozen=True, slots=True)
class BitString(Asn1Type):
    """BIT STRING; a fixed one of up to 16 bits is not aligned. Fragments (16384 bits) are refused."""

    size: Size = ANY_SIZE

    def read(self, reader: Reader) -> Bits:
        count = self.size.read(reader)
        if count is None:
            count = reader.length()
            self.size.check(reader, count)
        if count and not (count <= 16 and self.size.fixed(count)):
            reader.align()
        return Bits(reader.bits(count) if count else 0, count)

    def write(self, writer: AperWriter, value: Any) -> None:
        if not (isinstance(value, tuple) and [type(part) for part in value] == [int, int]):
            raise wrong("BIT STRING as (value, size)", value)
        number, count = value
        if not 0 <= number < 1 << max(count, 0):
            raise E2EncodeError(f"BIT STRING of {count} bits cannot hold {number}")
        if not self.size.write(writer, count, "BIT STRING"):
            writer.octets(length_determinant(count))
        if count:
            if not (count <= 16 and self.size.fixed(count)):
                writer.align()
            writer.bits(number, count)
