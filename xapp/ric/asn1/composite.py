"""SEQUENCE, SEQUENCE OF, CHOICE and open types (X.691 clauses 19, 20, 23; 11.2)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from xapp.ric.aper import AperWriter, E2DecodeError, E2EncodeError, length_determinant, open_octets
from xapp.ric.asn1.core import (
    MAX_DEPTH,
    Asn1Type,
    Reader,
    encode,
    read_range,
    under,
    write_range,
    write_small,
    wrong,
)
from xapp.ric.asn1.scalars import EXTENSION_PREFIX, extension_index
from xapp.ric.asn1.strings import ANY_SIZE, Size

_MAX_ADDITIONS = 64


@dataclass(frozen=True, slots=True)
class Field:
    """A component of a SEQUENCE or an alternative of a CHOICE.

    Attributes:
        default: value of an absent component that has a DEFAULT; such a one is always in the decoded value.
        optional: OPTIONAL or DEFAULT.
    """

    name: str
    kind: Asn1Type
    optional: bool = False
    default: Any = None


def _enter(reader: Reader) -> None:
    reader.depth += 1
    if reader.depth > MAX_DEPTH:
        raise reader.error(f"values nested deeper than {MAX_DEPTH}")


def _read_open(reader: Reader, kind: Asn1Type) -> Any:
    """Value inside an open type; octets behind it are ignored (a newer type may have more)."""
    raw = reader.octet_string()
    # Too small by the length octets between fragments, if it came in any (16 KiB each).
    base = reader.base + (reader.pos >> 3) - len(raw)
    return kind.read(Reader(raw, reader.depth, reader.items, base))


@dataclass(frozen=True, slots=True)
class Sequence(Asn1Type):
    """SEQUENCE.

    Attributes:
        name: of the type, for errors.
        root: components before the marker.
        additions: those behind it, one open type each.
        extensible: there is a marker.
    """

    name: str
    root: tuple[Field, ...]
    additions: tuple[Field, ...] = ()
    extensible: bool = False

    def read(self, reader: Reader) -> dict[str, Any]:
        _enter(reader)
        value: dict[str, Any] = {}
        name = ""
        try:
            extended = self.extensible and reader.bits(1)
            present = [bool(reader.bits(1)) if part.optional else True for part in self.root]
            for part, there in zip(self.root, present, strict=True):
                if there:
                    name = part.name
                    value[name] = part.kind.read(reader)
                elif part.default is not None:
                    value[part.name] = part.default
            name = ""
            if extended:
                for index in _read_additions(reader):
                    if index < len(self.additions):
                        part = self.additions[index]
                        name = part.name
                        value[name] = _read_open(reader, part.kind)
                    else:
                        name = f"{EXTENSION_PREFIX}{index}"
                        reader.octet_string()
        except E2DecodeError as error:
            raise (under(name, error) if name else error) from None
        reader.depth -= 1
        return value

    def write(self, writer: AperWriter, value: Any) -> None:
        if not isinstance(value, dict):
            raise wrong(f"{self.name or 'SEQUENCE'} as dict", value)
        unknown = value.keys() - {part.name for part in self.root + self.additions}
        if unknown:
            raise E2EncodeError(f"{self.name} has no component {', '.join(sorted(map(str, unknown)))}")
        added = [part.name in value for part in self.additions]
        if self.extensible:
            writer.bits(int(any(added)), 1)
        present = []
        for part in self.root:
            there = part.name in value and not (part.default is not None and value[part.name] == part.default)
            if part.optional:
                writer.bits(int(there), 1)
            elif not there:
                raise E2EncodeError(f"{self.name}.{part.name} is missing")
            present.append(there)
        for part, there in zip(self.root, present, strict=True):
            if there:
                _write_named(part.name, part.kind, writer, value[part.name])
        if any(added):
            writer.bits(0, 1).bits(len(added) - 1, 6)
            for there in added:
                writer.bits(int(there), 1)
            for part, there in zip(self.additions, added, strict=True):
                if there:
                    writer.octets(open_octets(_encode_named(part, value[part.name])))


def _read_additions(reader: Reader) -> list[int]:
    """Indices of the extension additions that are present (clause 19.7-19.8)."""
    if reader.bits(1):
        raise reader.error(f"more than {_MAX_ADDITIONS} extension additions")
    count = reader.bits(6) + 1
    return [index for index in range(count) if reader.bits(1)]


def _write_named(name: str, kind: Asn1Type, writer: AperWriter, value: Any) -> None:
    try:
        kind.write(writer, value)
    except E2EncodeError as error:
        raise E2EncodeError(f"{name}: {error}") from error


def _encode_named(part: Field, value: Any) -> bytes:
    try:
        return encode(part.kind, value)
    except E2EncodeError as error:
        raise E2EncodeError(f"{part.name}: {error}") from error


@dataclass(frozen=True, slots=True)
class SequenceOf(Asn1Type):
    """SEQUENCE OF with a size; lists of 16384 or more behind a general length (fragments) are refused."""

    item: Asn1Type
    size: Size = ANY_SIZE

    def read(self, reader: Reader) -> list[Any]:
        _enter(reader)
        count = self.size.read(reader)
        if count is None:
            count = reader.length()
            self.size.check(reader, count)
        reader.take_items(count)
        values: list[Any] = []
        read = self.item.read
        try:
            for _ in range(count):
                values.append(read(reader))
        except E2DecodeError as error:
            raise under(f"[{len(values)}]", error) from None
        reader.depth -= 1
        return values

    def write(self, writer: AperWriter, value: Any) -> None:
        if not isinstance(value, (list, tuple)):
            raise wrong("SEQUENCE OF as list", value)
        if not self.size.write(writer, len(value), "list"):
            writer.octets(length_determinant(len(value)))
        for index, item in enumerate(value):
            _write_named(f"[{index}]", self.item, writer, item)


@dataclass(frozen=True, slots=True)
class Choice(Asn1Type):
    """CHOICE: alternatives in the order of their tags, which automatic tagging makes the textual one.

    Attributes:
        name: of the type, for errors.
        root, additions: alternatives before and behind the marker.
        extensible: there is a marker; alternatives beyond ``additions`` read as
            ``("extension-<n>", octets)``.
    """

    name: str
    root: tuple[Field, ...]
    additions: tuple[Field, ...] = ()
    extensible: bool = False

    def read(self, reader: Reader) -> tuple[str, Any]:
        _enter(reader)
        if self.extensible and reader.bits(1):
            index = reader.small_index()
            if index >= len(self.additions):
                reader.depth -= 1
                return f"{EXTENSION_PREFIX}{index}", reader.octet_string()
            part = self.additions[index]
            read = _read_open
        else:
            index = read_range(reader, 0, len(self.root) - 1)
            part = self.root[index]
            read = _read_plain
        try:
            value = read(reader, part.kind)
        except E2DecodeError as error:
            raise under(part.name, error) from None
        reader.depth -= 1
        return part.name, value

    def write(self, writer: AperWriter, value: Any) -> None:
        if not (isinstance(value, tuple) and len(value) == 2):
            raise wrong(f"{self.name or 'CHOICE'} as (name, value)", value)
        name, content = value
        for index, part in enumerate(self.root):
            if part.name == name:
                if self.extensible:
                    writer.bits(0, 1)
                write_range(writer, index, 0, len(self.root) - 1)
                _write_named(name, part.kind, writer, content)
                return
        for index, part in enumerate(self.additions):
            if part.name == name:
                writer.bits(1, 1)
                write_small(writer, index)
                writer.octets(open_octets(_encode_named(part, content)))
                return
        unknown = extension_index(name)
        if unknown is None or not self.extensible or not isinstance(content, bytes):
            names = ", ".join(part.name for part in self.root + self.additions)
            raise E2EncodeError(f"{self.name or 'CHOICE'} {name!r}: {names} are known")
        writer.bits(1, 1)
        write_small(writer, unknown)
        writer.octets(open_octets(content))


def _read_plain(reader: Reader, kind: Asn1Type) -> Any:
    return kind.read(reader)


@dataclass(frozen=True, slots=True)
class Deferred(Asn1Type):
    """A type that is defined later in its module: recursive types."""

    resolve: Callable[[], Asn1Type]

    def read(self, reader: Reader) -> Any:
        return self.resolve().read(reader)

    def write(self, writer: AperWriter, value: Any) -> None:
        self.resolve().write(writer, value)
