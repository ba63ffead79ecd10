"""BOOLEAN, NULL, INTEGER, ENUMERATED, REAL (X.691 clauses 12 to 15, 24)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from xapp.ric.aper import AperWriter, E2EncodeError, encode_real, length_determinant
from xapp.ric.asn1.core import Asn1Type, Reader, read_range, write_range, write_small, wrong

_MAX_INTEGER_OCTETS = 128

EXTENSION_PREFIX = "extension-"
"""Names an alternative or identifier that the schema does not know: ``extension-<index>``."""


def extension_index(name: Any) -> int | None:
    """Index in ``extension-<index>``; None for any other name."""
    if not isinstance(name, str) or not name.startswith(EXTENSION_PREFIX):
        return None
    digits = name.removeprefix(EXTENSION_PREFIX)
    return int(digits) if digits.isascii() and digits.isdigit() and len(digits) < 10 else None


@dataclass(frozen=True, slots=True)
class Boolean(Asn1Type):
    """BOOLEAN: one bit."""

    def read(self, reader: Reader) -> bool:
        return bool(reader.bits(1))

    def write(self, writer: AperWriter, value: Any) -> None:
        if not isinstance(value, bool):
            raise wrong("BOOLEAN", value)
        writer.bits(int(value), 1)


@dataclass(frozen=True, slots=True)
class Null(Asn1Type):
    """NULL: no bits; its value is None."""

    def read(self, reader: Reader) -> None:
        return None

    def write(self, writer: AperWriter, value: Any) -> None:
        if value is not None:
            raise wrong("NULL (None)", value)


@dataclass(frozen=True, slots=True)
class Integer(Asn1Type):
    """INTEGER with bounds, either of which may be absent (None), extensible or not.

    A value outside the root of an extensible type comes as an unconstrained one.
    """

    lower: int | None = None
    upper: int | None = None
    extensible: bool = False

    def read(self, reader: Reader) -> int:
        if (self.extensible and reader.bits(1)) or self.lower is None:
            return int.from_bytes(_integer_octets(reader), "big", signed=True)
        if self.upper is None:
            return self.lower + int.from_bytes(_integer_octets(reader), "big")
        return read_range(reader, self.lower, self.upper)

    def write(self, writer: AperWriter, value: Any) -> None:
        if not isinstance(value, int) or isinstance(value, bool):
            raise wrong("INTEGER", value)
        inside = (self.lower is None or value >= self.lower) and (self.upper is None or value <= self.upper)
        if self.extensible:
            writer.bits(0 if inside else 1, 1)
        elif not inside:
            lower = "MIN" if self.lower is None else self.lower
            upper = "MAX" if self.upper is None else self.upper
            raise E2EncodeError(f"{value}: {lower}..{upper} are legal")
        if not inside or self.lower is None:
            _write_octets(writer, _signed_octets(value))
        elif self.upper is None:
            offset = value - self.lower
            _write_octets(writer, offset.to_bytes(max((offset.bit_length() + 7) >> 3, 1), "big"))
        else:
            write_range(writer, value, self.lower, self.upper)


def _integer_octets(reader: Reader) -> bytes:
    raw = reader.octets(reader.length())
    if not 1 <= len(raw) <= _MAX_INTEGER_OCTETS:
        raise reader.error(f"INTEGER of {len(raw)} octets: 1..{_MAX_INTEGER_OCTETS} are plausible")
    return raw


def _signed_octets(value: int) -> bytes:
    octets = ((value if value >= 0 else ~value).bit_length() >> 3) + 1
    return value.to_bytes(octets, "big", signed=True)


def _write_octets(writer: AperWriter, raw: bytes) -> None:
    writer.octets(length_determinant(len(raw)) + raw)


@dataclass(frozen=True, slots=True)
class Enumerated(Asn1Type):
    """ENUMERATED: identifiers of the root, and of the extension if there is a marker.

    Attributes:
        root, additions: identifiers in order of their numbers.
        extensible: there is a marker; identifiers beyond ``additions`` are ``extension-<index>``.
    """

    root: tuple[str, ...]
    additions: tuple[str, ...] = ()
    extensible: bool = False

    def read(self, reader: Reader) -> str:
        if self.extensible and reader.bits(1):
            index = reader.small_index()
            return self.additions[index] if index < len(self.additions) else f"{EXTENSION_PREFIX}{index}"
        return self.root[read_range(reader, 0, len(self.root) - 1)]

    def write(self, writer: AperWriter, value: Any) -> None:
        if value in self.root:
            if self.extensible:
                writer.bits(0, 1)
            write_range(writer, self.root.index(value), 0, len(self.root) - 1)
            return
        index = self.additions.index(value) if value in self.additions else extension_index(value)
        if index is None or not self.extensible:
            raise E2EncodeError(f"ENUMERATED {value!r}: {', '.join(self.root + self.additions)} are known")
        writer.bits(1, 1)
        write_small(writer, index)


@dataclass(frozen=True, slots=True)
class Real(Asn1Type):
    """REAL: value in IEEE double precision."""

    def read(self, reader: Reader) -> float:
        return reader.real()

    def write(self, writer: AperWriter, value: Any) -> None:
        if not isinstance(value, (int, float)) or isinstance(value, bool):
            raise wrong("REAL", value)
        try:
            raw = encode_real(float(value))
        except OverflowError as error:
            raise E2EncodeError(f"REAL {value}: beyond double precision") from error
        _write_octets(writer, raw)
