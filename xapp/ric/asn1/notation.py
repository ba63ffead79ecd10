"""The notation schemas are written in: one function a keyword of ASN.1; ``...`` is the extension marker."""

from __future__ import annotations

from collections.abc import Callable
from types import EllipsisType
from typing import Any, TypeVar

from xapp.ric.asn1.composite import Choice, Deferred, Field, Sequence, SequenceOf
from xapp.ric.asn1.core import Asn1Type
from xapp.ric.asn1.scalars import Boolean, Enumerated, Integer, Null, Real
from xapp.ric.asn1.strings import BitString, OctetString, PrintableString, Size

BOOLEAN = Boolean()
NULL = Null()
REAL = Real()
INTEGER = Integer()

Member = TypeVar("Member")


def _split(members: tuple[Member | EllipsisType, ...]) -> tuple[tuple[Member, ...], tuple[Member, ...], bool]:
    """Members before the marker, behind it, and whether there is one."""
    if members.count(...) > 1:
        raise TypeError("one extension marker at most: a second one (an end marker) is not used in E2")
    known = tuple(member for member in members if not isinstance(member, EllipsisType))
    if ... not in members:
        return known, (), False
    at = members.index(...)
    return known[:at], known[at:], True


def integer(lower: int | None = None, upper: int | None = None, *marker: EllipsisType) -> Integer:
    """INTEGER (lower..upper): ``integer(0, 255)``, ``integer(1, 16, ...)``; None for MIN or MAX."""
    return Integer(lower, upper, bool(marker))


def enumerated(*identifiers: str | EllipsisType) -> Enumerated:
    """ENUMERATED: ``enumerated("start", "end", ...)``."""
    return Enumerated(*_split(identifiers))


def _size(lower: int | None, upper: int | None, marker: tuple[EllipsisType, ...]) -> Size:
    if lower is None:
        return Size()
    return Size(lower, lower if upper is None else upper, bool(marker))


def octet_string(lower: int | None = None, upper: int | None = None, *marker: EllipsisType) -> OctetString:
    """OCTET STRING: ``octet_string()``, ``octet_string(3)`` for SIZE (3), ``octet_string(1, 8, ...)``."""
    return OctetString(_size(lower, upper, marker))


def bit_string(lower: int | None = None, upper: int | None = None, *marker: EllipsisType) -> BitString:
    """BIT STRING: ``bit_string(36)``, ``bit_string(22, 32)``."""
    return BitString(_size(lower, upper, marker))


def printable_string(
    lower: int | None = None, upper: int | None = None, *marker: EllipsisType
) -> PrintableString:
    """PrintableString: ``printable_string(1, 150, ...)``."""
    return PrintableString(_size(lower, upper, marker))


def field(name: str, kind: Asn1Type) -> Field:
    """A component that is always there, or an alternative."""
    return Field(name, kind)


def optional(name: str, kind: Asn1Type, default: Any = None) -> Field:
    """An OPTIONAL component, or one with a DEFAULT."""
    return Field(name, kind, True, default)


def sequence(name: str, *components: Field | EllipsisType) -> Sequence:
    """SEQUENCE."""
    return Sequence(name, *_split(components))


def sequence_of(
    item: Asn1Type, lower: int = 0, upper: int | None = None, *marker: EllipsisType
) -> SequenceOf:
    """SEQUENCE (SIZE (lower..upper)) OF item."""
    return SequenceOf(item, Size(lower, upper, bool(marker)))


def choice(name: str, *alternatives: Field | EllipsisType) -> Choice:
    """CHOICE, under automatic tags."""
    return Choice(name, *_split(alternatives))


def deferred(resolve: Callable[[], Asn1Type]) -> Deferred:
    """A type defined further down: ``deferred(lambda: VALUE_TYPE)``."""
    return Deferred(resolve)
