"""Hypothesis strategies for the values of an ASN.1 type: what a schema allows, small."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from xapp.ric.asn1 import (
    Asn1Type,
    BitString,
    Boolean,
    Choice,
    Deferred,
    Enumerated,
    Integer,
    Null,
    OctetString,
    PrintableString,
    Real,
    Sequence,
    SequenceOf,
    Size,
)
from xapp.ric.asn1.strings import Bits

_PRINTABLE = "ABCXYZabcxyz0189 '()+,-./:=?"
_UNBOUNDED = 2**40


def _sizes(size: Size, most: int) -> st.SearchStrategy[int]:
    upper = most if size.upper is None else size.upper
    root = st.integers(size.lower, max(min(upper, most), size.lower))
    outside = st.integers(upper + 1, upper + 3)
    return root | outside if size.extensible and upper < 500 else root


def _integers(kind: Integer) -> st.SearchStrategy[int]:
    lower = -_UNBOUNDED if kind.lower is None else kind.lower
    upper = max(lower, 0) + _UNBOUNDED if kind.upper is None else kind.upper
    edges = st.sampled_from(
        [lower, upper, (lower + upper) // 2, min(lower + 255, upper), min(lower + 256, upper)]
    )
    inside = st.integers(lower, upper) | edges
    return (
        inside | st.integers(upper + 1, upper + 300) | st.integers(-300, lower - 1)
        if kind.extensible
        else inside
    )


def values_of(kind: Asn1Type, depth: int = 0) -> st.SearchStrategy[Any]:  # noqa: PLR0911
    """Values of ``kind``; lists of up to 3 items (or the least legal), absent and present options."""
    match kind:
        case Boolean():
            return st.booleans()
        case Null():
            return st.none()
        case Integer():
            return _integers(kind)
        case Enumerated():
            return st.sampled_from(kind.root + kind.additions)
        case Real():
            return st.floats(allow_nan=False, allow_infinity=False) | st.integers(-200, 200).map(float)
        case OctetString():
            return _sizes(kind.size, 12).flatmap(lambda n: st.binary(min_size=n, max_size=n))
        case PrintableString():
            return _sizes(kind.size, 20).flatmap(lambda n: st.text(_PRINTABLE, min_size=n, max_size=n))
        case BitString():
            return _sizes(kind.size, 40).flatmap(
                lambda n: st.integers(0, (1 << n) - 1).map(lambda number: Bits(number, n))
            )
        case SequenceOf():
            item = values_of(kind.item, depth + 1)
            return _sizes(kind.size, max(3 if depth < 8 else 1, kind.size.lower)).flatmap(
                lambda n: st.lists(item, min_size=n, max_size=n)
            )
        case Sequence():
            parts = kind.root + kind.additions
            needed = {part.name: values_of(part.kind, depth + 1) for part in parts if not part.optional}
            options = {part.name: values_of(part.kind, depth + 1) for part in parts if part.optional}
            return st.fixed_dictionaries(needed, optional=options)
        case Choice():
            parts = kind.root + kind.additions
            return st.one_of(
                *(st.tuples(st.just(part.name), values_of(part.kind, depth + 1)) for part in parts)
            )
        case Deferred():
            return values_of(kind.resolve(), depth + 1)
    raise TypeError(f"no strategy for {type(kind).__name__}")
