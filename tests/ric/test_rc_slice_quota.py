"""The slice-level PRB quota against messages of a real base station's test suite, and hostile bytes."""

from __future__ import annotations

import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xapp.ric.aper import E2DecodeError, E2EncodeError
from xapp.ric.kpm.model import UeId
from xapp.ric.rc import (
    NO_SD,
    NotAQuota,
    PrbQuota,
    QuotaGroup,
    SliceId,
    decode_header,
    decode_message,
    decode_outcome,
    encode_header,
    encode_message,
    encode_outcome,
    parse_quota_header,
    parse_quota_message,
    quota_groups,
    quota_header,
    quota_message,
)
from xapp.ric.rc.codec import MAX_NESTING

# srsRAN Project, tests/unittests: e2/e2_ric_control_procedure_test.cpp and asn1/asn1_e2sm_test.cpp.
SRSRAN_HEADER = "0100000102000005"
SRSRAN_MESSAGE = (
    "0000010000600000400000000144000300024400000004600000400000000544000100062a000321f354000744000100082a0001"
    "1600092a0003000021000a2880010a000b2880011e000c28800164"
)
SRSRAN_GNB_HEADER = "000000000000f1100000000102000005"
SRSRAN_OLD_MESSAGE = (
    "00000100006000004000030002440000000460000040000100062a00053030313031000744000100082a00013100092a00013000"
    "0a28800105000b28800119000c28800164"
)
SRSRAN_HANDOVER_HEADER = "004000070000f11000000000010103000000"
SRSRAN_HANDOVER_MESSAGE = "00000100004400000001440000000244000000032a00090000f1100000019b10"

PLMN = bytes.fromhex("00f110")

slices = st.builds(SliceId, st.binary(min_size=3, max_size=3), st.integers(0, 255), st.integers(0, NO_SD))
ratios = st.tuples(*[st.integers(0, 100)] * 3)
quotas = ratios.map(lambda three: PrbQuota(min(three[:2]), max(three[:2]), three[2]))
groups = st.builds(QuotaGroup, st.lists(slices, min_size=1, max_size=3).map(tuple), quotas)


def test_a_quota_is_written_as_srsran_reads_it() -> None:
    slice_id = SliceId(bytes.fromhex("21f354"), 22, 33)
    expected = {slice_id: PrbQuota(minimum=10, maximum=30, dedicated=100)}
    assert quota_message(quota_groups(expected)).hex() == SRSRAN_MESSAGE
    assert parse_quota_message(bytes.fromhex(SRSRAN_MESSAGE)) == quota_groups(expected)


def test_a_header_about_a_user_of_a_du_is_written_as_srsran_reads_it() -> None:
    assert quota_header(UeId("gnb-du", 0)).hex() == SRSRAN_HEADER
    assert parse_quota_header(bytes.fromhex(SRSRAN_HEADER)) == ("gNB-DU-UEID", {"gNB-CU-UE-F1AP-ID": 0})


def test_a_header_about_a_user_of_a_gnb_carries_its_guami() -> None:
    assert quota_header(UeId("gnb", 0), PLMN + bytes(3)).hex() == SRSRAN_GNB_HEADER
    kind, ue = parse_quota_header(quota_header(UeId("gnb", 2**40 - 1, b"ran-ueid"), PLMN + b"\x80\x40\x41"))
    assert kind == "gNB-UEID"
    assert ue["amf-UE-NGAP-ID"] == 2**40 - 1
    assert ue["ran-UEID"] == b"ran-ueid"
    assert [ue["guami"][name][0] for name in ("aMFRegionID", "aMFSetID", "aMFPointer")] == [128, 257, 1]


@pytest.mark.parametrize("raw", [SRSRAN_HEADER, SRSRAN_GNB_HEADER, SRSRAN_HANDOVER_HEADER])
def test_real_headers_are_read_and_written(raw: str) -> None:
    assert encode_header(decode_header(bytes.fromhex(raw))).hex() == raw


@pytest.mark.parametrize("raw", [SRSRAN_MESSAGE, SRSRAN_OLD_MESSAGE, SRSRAN_HANDOVER_MESSAGE])
def test_real_messages_are_read_and_written(raw: str) -> None:
    assert encode_message(decode_message(bytes.fromhex(raw))).hex() == raw


@settings(deadline=None, max_examples=30)
@given(st.lists(groups, min_size=1, max_size=4))
def test_groups_come_back_from_their_message(wanted: list[QuotaGroup]) -> None:
    assert parse_quota_message(quota_message(wanted)) == wanted


def test_a_slice_without_a_differentiator_is_written_with_the_reserved_one() -> None:
    raw = quota_message(quota_groups({SliceId(PLMN, 1): PrbQuota(1, 2, 0)}))
    assert bytes.fromhex("03ffffff") in raw
    assert str(SliceId(PLMN, 1)) == "00f110/1"
    assert str(SliceId(PLMN, 1, 0xA)) == "00f110/1-00000a"


def test_messages_about_something_else_are_refused_with_the_reason() -> None:
    with pytest.raises(NotAQuota, match="style 3, action 1"):
        parse_quota_header(bytes.fromhex(SRSRAN_HANDOVER_HEADER))
    with pytest.raises(NotAQuota, match="RAN parameter 11, 12, 13 is missing"):
        parse_quota_message(bytes.fromhex(SRSRAN_HANDOVER_MESSAGE))
    with pytest.raises(NotAQuota, match="no RRM policy ratio group"):
        parse_quota_message(bytes.fromhex(SRSRAN_OLD_MESSAGE))
    header = {"ric-controlHeader-formats": ("controlHeader-Format2", {})}
    with pytest.raises(NotAQuota, match="controlHeader-Format1 is expected"):
        parse_quota_header(encode_header(header))


def altered(change: Any) -> bytes:
    """The real message with its one ratio group changed in place by ``change(items)``."""
    value = decode_message(bytes.fromhex(SRSRAN_MESSAGE))
    ratio_list = value["ric-controlMessage-formats"][1]["ranP-List"][0]["ranParameter-valueType"][1]
    entry = ratio_list["ranParameter-List"]["list-of-ranParameter"][0]["sequence-of-ranParameters"][0]
    change(entry["ranParameter-valueType"][1]["ranParameter-Structure"]["sequence-of-ranParameters"])
    return encode_message(value)


def element(kind: str, value: Any) -> tuple[str, dict[str, Any]]:
    return ("ranP-Choice-ElementFalse", {"ranParameter-value": (kind, value)})


@pytest.mark.parametrize(
    ("change", "cause"),
    [
        (lambda items: items.pop(3), "RAN parameter 13 is missing"),
        (lambda items: items.pop(0), "without a member"),
        (lambda items: items[1].update({"ranParameter-valueType": element("valueInt", 31)}), "is above"),
        (lambda items: items[1].update({"ranParameter-valueType": element("valueInt", 101)}), "0..100"),
        (
            lambda items: items[1].update({"ranParameter-valueType": element("valueReal", 1.0)}),
            "11 is valueReal",
        ),
        (
            lambda items: items[1].update({"ranParameter-valueType": ("ranP-Choice-ElementFalse", {})}),
            "empty",
        ),
    ],
)
def test_incomplete_and_impossible_quotas_are_refused_with_the_reason(change: Any, cause: str) -> None:
    with pytest.raises(NotAQuota, match=cause):
        parse_quota_message(altered(change))


@pytest.mark.parametrize("values", [{"minimum": 31, "maximum": 30}, {"dedicated": -1}, {"maximum": 101}])
def test_impossible_quotas_do_not_exist(values: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="ratio"):
        PrbQuota(**values)


@pytest.mark.parametrize("values", [(b"12", 1, 0), (PLMN, 256, 0), (PLMN, 1, 1 << 24)])
def test_impossible_slices_do_not_exist(values: tuple[bytes, int, int]) -> None:
    with pytest.raises(ValueError, match="expected"):
        SliceId(*values)


def test_what_has_no_encoding_is_refused() -> None:
    with pytest.raises(E2EncodeError, match="1 at least"):
        quota_message([])
    with pytest.raises(E2EncodeError, match="without a member"):
        quota_message([QuotaGroup((), PrbQuota())])
    with pytest.raises(E2EncodeError, match="en-gnb"):
        quota_header(UeId("en-gnb", 1))
    with pytest.raises(E2EncodeError, match="gNB-CU-UE-F1AP-ID"):
        quota_header(UeId("gnb-du", 1 << 32))


def test_outcomes_of_all_formats_come_back() -> None:
    item = {"ranParameter-ID": 11, "ranParameter-value": ("valueInt", -5)}
    typed = {"ranParameter-ID": 2**33, "ranParameter-valueType": element("valuePrintableString", "kept")}
    action = {"ric-ControlAction-ID": 6, "ranP-List": [item]}
    style = {"indicated-Control-Style-Type": 2, "ric-ControlOutcome-List": [action]}
    for outcome in (
        ("controlOutcome-Format1", {"ranP-List": [item]}),
        ("controlOutcome-Format2", {"ric-ControlStyle-List": [style]}),
        ("controlOutcome-Format3", {"ranP-List": [typed]}),
    ):
        value = {"ric-controlOutcome-formats": outcome}
        assert decode_outcome(encode_outcome(value)) == value


def test_nesting_is_bounded() -> None:
    inner: tuple[str, dict[str, Any]] = element("valueBoolean", True)
    for _ in range(MAX_NESTING):
        item = {"ranParameter-ID": 1, "ranParameter-valueType": inner}
        inner = ("ranP-Choice-Structure", {"ranParameter-Structure": {"sequence-of-ranParameters": [item]}})
    message = {"ranP-List": [{"ranParameter-ID": 1, "ranParameter-valueType": inner}]}
    raw = encode_message({"ric-controlMessage-formats": ("controlMessage-Format1", message)})
    with pytest.raises(E2DecodeError, match="nested deeper"):
        decode_message(raw)


def test_two_thousand_mutated_messages_raise_only_decode_errors() -> None:
    rng = random.Random(2)
    outcome = (
        "controlOutcome-Format1",
        {"ranP-List": [{"ranParameter-ID": 11, "ranParameter-value": ("valueInt", 5)}]},
    )
    seeds = [
        (decode_header, bytes.fromhex(SRSRAN_GNB_HEADER)),
        (decode_message, bytes.fromhex(SRSRAN_MESSAGE)),
        (decode_message, bytes.fromhex(SRSRAN_HANDOVER_MESSAGE)),
        (decode_outcome, encode_outcome({"ric-controlOutcome-formats": outcome})),
    ]
    offsets = []
    for number in range(2000):
        decode, seed = seeds[number % len(seeds)]
        raw = bytearray(seed)
        for _ in range(rng.randint(1, 4)):
            raw[rng.randrange(len(raw))] = rng.randrange(256)
        del raw[rng.randrange(len(raw) // 2, len(raw) + 1) :]
        try:
            decode(bytes(raw))
        except E2DecodeError as error:
            offsets.append(error.offset)
    assert len(offsets) > 500
    assert 0 <= min(offsets) <= max(offsets) < 100


@given(st.binary(max_size=120))
def test_garbage_is_no_quota(raw: bytes) -> None:
    for parse in (parse_quota_header, parse_quota_message):
        with pytest.raises((E2DecodeError, NotAQuota)):
            parse(raw)
