"""RANfunction-Description: what real nodes offer."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xapp.ric.aper import E2DecodeError, E2EncodeError
from xapp.ric.kpm.function import (
    EventTriggerStyle,
    KpmRanFunction,
    OfferedMeasurement,
    ReportStyle,
    decode_ran_function,
    encode_ran_function,
)
from xapp.ric.kpm.versions import KPM_VERSIONS

# Of an srsRAN CU-CP: five report styles of one measurement each.
SRSRAN = bytes.fromhex(
    "60304f52414e2d4532534d2d4b504d000018312e332e362e312e342e312e35333134382e312e322e322e3205004b504d204d6f6e"
    "69746f720001010700506572696f646963205265706f7274010110010109004532204e6f6465204d6561737572656d656e740101"
    "000002604452422e5064637052656f726444656c6179556c0101010100010211004532204e6f6465204d6561737572656d656e74"
    "20666f7220612073696e676c652055450102000002604452422e5064637052656f726444656c6179556c01010101000103160043"
    "6f6e646974696f6e2d62617365642c2055452d6c6576656c204532204e6f6465204d6561737572656d656e740103000002604452"
    "422e5064637052656f726444656c6179556c010101020001041580436f6d6d6f6e20436f6e646974696f6e2d62617365642c2055"
    "452d6c6576656c204d6561737572656d656e740104000002604452422e5064637052656f726444656c6179556c01010103000105"
    "11804532204e6f6465204d6561737572656d656e7420666f72206d756c7469706c65205545730105000002604452422e50646370"
    "52656f726444656c6179556c01010103"
)
# Of srsRAN 4G's gNB: an event trigger and no report style.
SRSRAN_4G = bytes.fromhex(
    "40304f52414e2d4532534d2d4b504d000018312e332e362e312e342e312e35333134382e312e322e322e3205004b504d204d6f6e"
    "69746f720001010700506572696f646963207265706f72740101"
)

names = st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=30)
formats = st.integers(1, 5)
offered = st.builds(OfferedMeasurement, names, st.none() | st.integers(1, 65536))
styles = st.builds(
    ReportStyle,
    formats,
    names,
    formats,
    st.lists(offered, min_size=1, max_size=4).map(tuple),
    formats,
    formats,
)
functions = st.builds(
    KpmRanFunction,
    short_name=names,
    oid=names,
    description=names,
    instance=st.none() | st.integers(-5, 300),
    event_trigger_styles=st.lists(st.builds(EventTriggerStyle, formats, names, formats), max_size=2).map(
        tuple
    ),
    report_styles=st.lists(styles, max_size=3).map(tuple),
    version=st.sampled_from(KPM_VERSIONS),
)


def test_an_srsran_node_offers_five_styles() -> None:
    function = decode_ran_function(SRSRAN)
    assert function.is_kpm
    assert (function.short_name, function.description) == ("ORAN-E2SM-KPM", "KPM Monitor")
    assert function.oid == "1.3.6.1.4.1.53148.1.2.2.2"
    assert function.instance is None
    assert function.event_trigger_styles == (EventTriggerStyle(1, "Periodic Report", 1),)
    assert [(s.style, s.action_format, s.message_format) for s in function.report_styles] == [
        (1, 1, 1),
        (2, 2, 1),
        (3, 3, 2),
        (4, 4, 3),
        (5, 5, 3),
    ]
    fourth = function.style(4)
    assert fourth is not None
    assert fourth.names == ("DRB.PdcpReordDelayUl",)
    assert function.style(6) is None


def test_a_node_without_report_styles_is_read() -> None:
    function = decode_ran_function(SRSRAN_4G)
    assert function.report_styles == ()
    assert function.event_trigger_styles[0].name == "Periodic report"


def test_what_an_srsran_node_sent_is_written_back_the_same() -> None:
    assert encode_ran_function(decode_ran_function(SRSRAN)) == SRSRAN


def test_bytes_behind_the_description_are_ignored() -> None:
    assert decode_ran_function(SRSRAN + bytes(100)) == decode_ran_function(SRSRAN)


def test_the_version_is_given_proven_or_assumed() -> None:
    assumed = decode_ran_function(SRSRAN)
    assert (assumed.version, assumed.version_source) == ("2.03", "assumed")
    given_one = decode_ran_function(SRSRAN, "flexric")
    assert (given_one.version, given_one.version_source) == ("flexric", "given")
    third = decode_ran_function(SRSRAN.replace(b"53148.1.2.2.2", b"53148.1.3.2.2"))
    assert (third.version, third.version_source) == ("3.00", "oid")


def test_another_service_model_is_told_apart() -> None:
    other = KpmRanFunction("ORAN-E2SM-RC", "1.3.6.1.4.1.53148.1.1.2.3", "RAN control")
    assert not decode_ran_function(encode_ran_function(other)).is_kpm


@settings(max_examples=30)
@given(functions)
def test_descriptions_survive(function: KpmRanFunction) -> None:
    assert decode_ran_function(encode_ran_function(function), function.version) == function


def test_a_description_without_a_name_is_refused() -> None:
    with pytest.raises(E2EncodeError, match="ShortName"):
        encode_ran_function(KpmRanFunction("", "1.2", "x"))


@given(st.integers(0, len(SRSRAN) - 1), st.integers(0, 255), st.integers(0, len(SRSRAN)))
def test_broken_descriptions_raise_only_decode_errors(offset: int, value: int, cut: int) -> None:
    octets = bytearray(SRSRAN)
    octets[offset] = value
    with contextlib.suppress(E2DecodeError):
        decode_ran_function(bytes(octets[:cut]))
