"""Aligned PER primitives, checked against Python's own floats and hand-made encodings."""

from __future__ import annotations

import contextlib
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xapp.ric.aper import AperReader, AperWriter, E2DecodeError, decode_real, encode_real, open_octets


@given(st.floats(allow_nan=False))
def test_reals_survive(value: float) -> None:
    decoded = decode_real(encode_real(value))
    assert decoded == value
    assert math.copysign(1, decoded) == math.copysign(1, value)


def test_not_a_number_survives() -> None:
    assert math.isnan(decode_real(encode_real(math.nan)))


@pytest.mark.parametrize(
    ("raw", "value"),
    [
        ("", 0.0),
        ("80fd05", 0.625),  # 5 * 2**-3
        ("c0fd05", -0.625),
        ("9402 03".replace(" ", ""), 3 * 8**2 * 2.0),  # base 8, scale factor 1
        ("a00203", 3 * 16.0**2),
        ("8302fffe03", 0.75),  # exponent with its own length octet
        ("03312e352d45", None),
        ("033135303045302d33", None),
        ("0331352e452d31", 1.5),  # decimal NR3
        ("0131", 1.0),
        ("40", math.inf),
    ],
)
def test_forms_of_real(raw: str, value: float | None) -> None:
    if value is None:
        with pytest.raises(ValueError, match=r"float|number"):
            decode_real(bytes.fromhex(raw))
    else:
        assert decode_real(bytes.fromhex(raw)) == value


@pytest.mark.parametrize("raw", ["80", "8000", "b00001", "83", "8300", "44", "4000", "0f31", "01315f30"])
def test_malformed_reals_are_refused(raw: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        decode_real(bytes.fromhex(raw))


@given(st.binary(max_size=20))
def test_any_bytes_are_a_real_or_an_error(raw: bytes) -> None:
    reader = AperReader(bytes([len(raw)]) + raw, "value")
    with contextlib.suppress(E2DecodeError):
        assert isinstance(reader.real(), float)


@pytest.mark.parametrize("size", [0, 1, 127, 128, 16383, 16384, 16385, 65536, 81920, 200_000])
def test_octets_of_any_size_survive_with_fragments(size: int) -> None:
    content = bytes(index & 0xFF for index in range(size))
    reader = AperReader(open_octets(content))
    assert reader.octet_string() == content
    assert reader.pos == reader.end


@given(
    st.lists(
        st.integers(1, 40).flatmap(lambda n: st.tuples(st.just(n), st.integers(0, (1 << n) - 1))), max_size=20
    )
)
def test_bit_fields_survive_unaligned(fields: list[tuple[int, int]]) -> None:
    writer = AperWriter()
    for count, value in fields:
        writer.bits(value, count)
    reader = AperReader(writer.done())
    assert [reader.bits(count) for count, _ in fields] == [value for _, value in fields]


@given(st.integers(-(1 << 60), 1 << 60))
def test_unconstrained_integers_survive(value: int) -> None:
    assert AperReader(AperWriter().unbounded_int(value).done()).unbounded_int() == value


def test_error_names_offset_and_field() -> None:
    reader = AperReader(b"\x01\x02", "granulPeriod")
    reader.bits(8)
    with pytest.raises(E2DecodeError, match=r"granulPeriod at byte 1: 4 bytes wanted, 1 left") as caught:
        reader.octets(4)
    assert (caught.value.offset, caught.value.field) == (1, "granulPeriod")
