"""The schema-driven aligned PER engine: known encodings, round trips, hostile bytes."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from schema_values import values_of

from xapp.ric.asn1 import (
    BOOLEAN,
    INTEGER,
    NULL,
    REAL,
    Asn1Type,
    Bits,
    E2DecodeError,
    E2EncodeError,
    bit_string,
    choice,
    decode,
    decode_prefix,
    deferred,
    encode,
    enumerated,
    field,
    integer,
    octet_string,
    optional,
    printable_string,
    sequence,
    sequence_of,
)

POINT = sequence("Point", field("x", integer(0, 255)), optional("y", integer(0, 7)), ...)
NEWER_POINT = sequence(
    "Point", field("x", integer(0, 255)), optional("y", integer(0, 7)), ..., optional("z", INTEGER)
)
SHAPE = choice("Shape", field("point", POINT), field("none", NULL), ...)
NEWER_SHAPE = choice("Shape", field("point", POINT), field("none", NULL), ..., field("name", octet_string()))
TREE = sequence("Tree", field("leaf", BOOLEAN), optional("next", deferred(lambda: TREE)))
EVERYTHING = sequence(
    "Everything",
    field("flag", BOOLEAN),
    optional("real", REAL),
    optional("bounded", integer(-3, 70000)),
    optional("half", integer(5)),
    optional("any", INTEGER),
    optional("wide", integer(0, 2**40 - 1, ...)),
    optional("kind", enumerated("a", "b", "c", ..., "d")),
    optional("bits", bit_string(3, 20)),
    optional("cell", bit_string(36)),
    optional("free", bit_string()),
    optional("plmn", octet_string(3)),
    optional("blob", octet_string(0, 300)),
    optional("text", printable_string(1, 5, ...)),
    optional("period", integer(1, 10), 4),
    field("shapes", sequence_of(NEWER_SHAPE, 1, 4)),
    ...,
    optional("points", sequence_of(NEWER_POINT)),
    optional("last", NULL),
)

# X.691 by hand, and as pycrate writes them.
KNOWN: list[tuple[Asn1Type, Any, str]] = [
    (integer(0, 7), 5, "a0"),
    (integer(0, 255), 5, "05"),
    (integer(1, 65536), 5, "0004"),
    (integer(0, 4294967295), 70000, "80011170"),
    (integer(0, 2**40 - 1), 5, "0005"),
    (integer(0, 63, ...), 64, "800140"),
    (integer(10), 300, "020122"),
    (INTEGER, -129, "02ff7f"),
    (BOOLEAN, True, "80"),
    (NULL, None, "00"),
    (REAL, 12.5, "0380ff19"),
    (enumerated("true", ...), "true", "00"),
    (enumerated("a", "b", "c"), "c", "80"),
    (enumerated("a", ..., "b"), "b", "80"),
    (octet_string(2), b"\x12\x34", "1234"),
    (octet_string(), b"\x12\x34", "021234"),
    (bit_string(10), Bits(1, 10), "0040"),
    (bit_string(22, 32), Bits(1, 22), "00000004"),
    (printable_string(1, 150, ...), "SINR", "018053494e52"),
    (sequence_of(BOOLEAN, 1, 3), [True, False, True], "a8"),
    (sequence_of(integer(0, 255), 1, 65535), [1, 2], "00010102"),
    (SHAPE, ("none", None), "40"),
    (NEWER_SHAPE, ("name", b"\xaa"), "800201aa"),
    (NEWER_POINT, {"x": 1, "z": 5}, "800101020105"),
]


@pytest.mark.parametrize(("kind", "value", "octets"), KNOWN, ids=lambda part: str(part)[:30])
def test_known_encodings(kind: Asn1Type, value: Any, octets: str) -> None:
    assert encode(kind, value).hex() == octets
    assert decode(kind, bytes.fromhex(octets)) == value


@settings(max_examples=60)
@given(values_of(EVERYTHING))
def test_values_survive(value: dict[str, Any]) -> None:
    assert decode(EVERYTHING, encode(EVERYTHING, value)) == {"period": 4, **value}


def test_additions_of_a_newer_version_are_skipped() -> None:
    newer = encode(sequence_of(NEWER_POINT, 1, 4), [{"x": 1, "z": -70000}, {"x": 2, "y": 3}])
    assert decode(sequence_of(POINT, 1, 4), newer) == [{"x": 1}, {"x": 2, "y": 3}]


def test_an_alternative_of_a_newer_version_keeps_its_octets() -> None:
    newer = encode(NEWER_SHAPE, ("name", b"\xaa"))
    value = decode(SHAPE, newer)
    assert value == ("extension-0", b"\x01\xaa")
    assert encode(SHAPE, value) == newer


def test_an_identifier_of_a_newer_version_has_a_name() -> None:
    newer = encode(enumerated("a", ..., "b", "c"), "c")
    assert decode(enumerated("a", ..., "b"), newer) == "extension-1"
    assert encode(enumerated("a", ..., "b"), "extension-1") == newer


def test_an_open_type_of_many_kibibytes_survives() -> None:
    kind = choice("C", field("a", NULL), ..., field("b", octet_string()))
    value = ("b", bytes(range(256)) * 300)
    assert decode(kind, encode(kind, value)) == value


def test_an_error_names_path_and_offset() -> None:
    kind = sequence(
        "Message", field("head", octet_string(3)), field("shapes", sequence_of(NEWER_SHAPE, 1, 4))
    )
    good = encode(kind, {"head": b"abc", "shapes": [("none", None), ("point", {"x": 9, "y": 1})]})
    with pytest.raises(E2DecodeError) as caught:
        decode(kind, good[:4])
    assert caught.value.field == "Message.shapes[1].point.x"
    assert caught.value.offset == 4


def test_an_error_inside_an_open_type_counts_from_the_start() -> None:
    kind = sequence("M", field("head", octet_string(3)), ..., field("tail", integer(0, 255)))
    good = encode(kind, {"head": b"abc", "tail": 7})
    broken = good.replace(b"\x01\x07", b"\x00")
    with pytest.raises(E2DecodeError) as caught:
        decode(kind, broken)
    assert (caught.value.field, caught.value.offset) == ("M.tail", len(broken))


def test_bytes_left_over_are_refused_unless_a_prefix_is_asked_for() -> None:
    encoded = encode(POINT, {"x": 1}) + b"\0\0"
    assert decode_prefix(POINT, encoded) == ({"x": 1}, 2)
    with pytest.raises(E2DecodeError, match="2 bytes are left over"):
        decode(POINT, encoded)


def test_a_count_beyond_the_bytes_is_refused_before_reading() -> None:
    with pytest.raises(E2DecodeError, match="65535 items"):
        decode(sequence_of(NULL, 1, 65535), b"\xff\xfe")


def test_recursion_is_bounded() -> None:
    with pytest.raises(E2DecodeError, match="nested deeper"):
        decode(TREE, b"\xff" * 100)


def test_a_size_below_an_extensible_constraint_is_refused() -> None:
    with pytest.raises(E2DecodeError, match="size 0"):
        decode(printable_string(1, 5, ...), b"\x80\x00")


@pytest.mark.parametrize(
    ("kind", "value", "cause"),
    [
        (integer(0, 7), 8, "0..7"),
        (integer(0, 7), "8", "INTEGER wanted"),
        (POINT, {"y": 1}, "x is missing"),
        (POINT, {"x": 1, "w": 1}, "no component w"),
        (POINT, {"x": 256}, "x: 256"),
        (SHAPE, ("circle", None), "point, none are known"),
        (enumerated("a", "b"), "z", "a, b are known"),
        (octet_string(2), b"abc", "2..2"),
        (bit_string(4), (16, 4), "cannot hold 16"),
        (sequence_of(BOOLEAN, 1, 2), [], "1..2"),
        (sequence_of(POINT, 1, 2), [{"x": 1}, {"x": -1}], r"\[1\]: x"),
        (printable_string(), "ä", "ASCII"),
    ],
)
def test_what_has_no_encoding_is_refused(kind: Asn1Type, value: Any, cause: str) -> None:
    with pytest.raises(E2EncodeError, match=cause):
        encode(kind, value)


@given(st.binary(max_size=80))
def test_garbage_raises_only_decode_errors(octets: bytes) -> None:
    with contextlib.suppress(E2DecodeError):
        decode(EVERYTHING, octets)


@settings(max_examples=40)
@given(values_of(EVERYTHING), st.data())
def test_truncation_raises_only_decode_errors(value: dict[str, Any], data: st.DataObject) -> None:
    encoded = encode(EVERYTHING, value)
    cut = encoded[: data.draw(st.integers(0, len(encoded) - 1))]
    with contextlib.suppress(E2DecodeError):
        decode(EVERYTHING, cut)
