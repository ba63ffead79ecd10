"""KPM against golden bytes of a generic ASN.1 compiler, real captures, and hostile input."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xapp.ric.aper import AperWriter
from xapp.ric.kpm import (
    E2DecodeError,
    E2EncodeError,
    KpmIndication,
    MeasurementList,
    Value,
    decode_kpm_indication,
    encode_action_definition,
    encode_event_trigger,
    encode_indication_header,
    encode_indication_message,
)
from xapp.ric.kpm.header import decode_kpm_header
from xapp.ric.kpm.versions import KPM_VERSIONS, KpmVersion

VECTORS = json.loads((Path(__file__).parent / "kpm_vectors.json").read_text())
REPOSITORY = Path(__file__).parents[2]
SAMPLES = (
    Path(os.environ.get("SEMCOM_DATA", REPOSITORY.parent / "shared" / "data")) / "e2" / "real_samples.json"
)
HEADER = encode_indication_header(1_700_000_000.5)
NAMES = ("SINR", "CQI", "RSRP", "DRB.UEThpDl", "RRU.PrbTotDl")

values: st.SearchStrategy[Value] = (
    st.none() | st.integers(0, 2**32 - 1) | st.floats(allow_nan=False, allow_infinity=False)
)


def summary(indication: KpmIndication) -> dict[str, Any]:
    """In the form of the vectors: optional keys only where they say something."""
    users = []
    for report in indication.users:
        entry: dict[str, Any] = {"user": report.ue.user, "values": report.values}
        if report.incomplete:
            entry["incomplete"] = True
        if report.earlier:
            entry["earlier"] = report.earlier
        if report.ue.ran_ue_id:
            entry["ran_ue_id"] = report.ue.ran_ue_id.hex()
        users.append(entry)
    result: dict[str, Any] = {"granularity_ms": indication.granularity_ms, "users": users}
    if indication.cell:
        result["cell"] = indication.cell
    return result


@pytest.mark.parametrize("vector", VECTORS["messages"], ids=lambda vector: vector["name"])
def test_messages_of_the_reference_decode(vector: dict[str, Any]) -> None:
    message = bytes.fromhex(vector["message"])
    for _ in range(2):  # the second time with the measurement list known
        assert summary(decode_kpm_indication(HEADER, message)) == vector["expected"]


@pytest.mark.parametrize("vector", VECTORS["matching"], ids=lambda vector: vector["name"])
def test_matching_users_of_the_reference_decode(vector: dict[str, Any]) -> None:
    decoded = decode_kpm_indication(HEADER, bytes.fromhex(vector["message"]), version=vector["version"])
    expected = dict(vector["expected"])
    assert [list(item.conditions) for item in decoded.matched] == expected.pop("conditions")
    assert summary(decoded) == expected


def matching(labels: int, values: int) -> bytes:
    """Format 2 with one measurement of ``labels`` conditions, one user and one record."""
    writer = AperWriter().bits(0b001, 3).bits(0, 2).uint(0, 2).bits(0, 2).octets(bytes((values,)))
    for value in range(values):
        writer.bits(0, 3).sized_uint(value, 2, 4)
    writer.uint(0, 2).bits(0b01, 2).bits(0, 3).bits(0, 8).octets(b"A").uint(labels - 1, 2)
    for _ in range(labels):
        writer.bits(0, 4).bits(0, 1).bits(1 << 8, 21).bits(0, 1)  # a label "sUM"
    writer.uint(0, 2).bits(0, 11).sized_uint(9, 3, 5).bits(0, 1).octets(bytes.fromhex("00f110010040"))
    return writer.sized_uint(99, 2, 4).done()


def test_values_under_several_labels_are_kept_without_an_owner() -> None:
    decoded = decode_kpm_indication(HEADER, matching(labels=2, values=2))
    assert decoded.users == []
    assert decoded.records == [[0, 1]]
    assert decoded.matched[0].labels == ("sUM", "sUM")
    one_each = decode_kpm_indication(HEADER, matching(labels=2, values=1))
    assert [report.values for report in one_each.users] == [{"A": 0}]


def test_values_that_are_not_one_a_matching_user_are_an_error() -> None:
    with pytest.raises(E2DecodeError, match="3 values for 1 matched users") as caught:
        decode_kpm_indication(HEADER, matching(labels=2, values=3))
    assert caught.value.field == "measRecord"


@pytest.mark.parametrize("vector", VECTORS["headers"], ids=lambda vector: vector["name"])
def test_headers_of_the_reference_decode_with_either_time_stamp(vector: dict[str, Any]) -> None:
    header = decode_kpm_header(bytes.fromhex(vector["header"]))
    for name, expected in vector["expected"].items():
        assert getattr(header, name) == expected, name


def test_encoded_message_is_the_reference_vector() -> None:
    reports: list[tuple[int, tuple[Value, ...]]] = [
        (5, (12.5, 11, -90.25, 70000, 0)),
        (2**40 - 1, (-3.0, 255, 0.0, 2**32 - 1, 256)),
    ]
    encoded = encode_indication_message(reports, MeasurementList(NAMES), granularity_ms=100)
    assert encoded.hex() == VECTORS["messages"][0]["message"]


@pytest.mark.parametrize("vector", VECTORS["event_triggers"], ids=lambda vector: str(vector["period_ms"]))
def test_event_triggers_are_as_the_reference_writes_them(vector: dict[str, Any]) -> None:
    assert encode_event_trigger(vector["period_ms"]).hex() == vector["hex"]


@pytest.mark.parametrize(
    "vector", VECTORS["action_definitions"], ids=lambda vector: f"style {vector['style']}"
)
def test_action_definitions_are_as_the_reference_writes_them(vector: dict[str, Any]) -> None:
    encoded = encode_action_definition(["SINR", "measID:5"], 100, style=vector["style"], ues=vector["ues"])
    assert encoded.hex() == vector["hex"]


@given(
    st.lists(st.tuples(st.integers(0, 2**40 - 1), st.tuples(values, values, values)), min_size=1, max_size=6)
)
def test_user_reports_survive(reports: list[tuple[int, tuple[Value, ...]]]) -> None:
    names = MeasurementList(["A", "measID:7", "B" * 150])
    decoded = decode_kpm_indication(HEADER, encode_indication_message(reports, names, granularity_ms=10))
    assert decoded.timestamp == pytest.approx(1_700_000_000.5)
    assert decoded.granularity_ms == 10
    assert [(report.ue.value, tuple(report.values.values())) for report in decoded.users] == reports
    assert all(tuple(report.values) == names.names for report in decoded.users)


def test_message_longer_than_a_fragment_survives() -> None:
    reports = [(number, (number / 8, None)) for number in range(2000)]
    message = encode_indication_message(reports, MeasurementList(["A", "B"]), granularity_ms=10)
    assert len(message) > 65536
    decoded = decode_kpm_indication(HEADER, message)
    assert [report.values["A"] for report in decoded.users] == [number / 8 for number in range(2000)]


def test_names_of_the_subscription_fill_in_for_a_missing_list() -> None:
    vector = next(v for v in VECTORS["messages"] if v["name"] == "no measurement list")
    decoded = decode_kpm_indication(HEADER, bytes.fromhex(vector["message"]), measurements=("CQI", "SINR"))
    assert decoded.users[0].values == {"CQI": 1, "SINR": 2.5}


def test_lists_that_differ_only_in_their_last_label_are_told_apart() -> None:
    first = encode_indication_message([(1, (1, 2))], MeasurementList(["A", "B"]), granularity_ms=10)
    second = encode_indication_message([(1, (1, 2))], MeasurementList(["A", "C"]), granularity_ms=10)
    for message, last in ((first, "B"), (second, "C"), (first, "B")):
        assert list(decode_kpm_indication(HEADER, message).users[0].values) == ["A", last]


@pytest.mark.parametrize(
    ("message", "version", "cause"),
    [
        ("600105", "3.00", "extension alternative 5"),
        ("4080", "3.00", "extension alternative 1"),  # format 255 of v7.00
        ("30", "flexric", "alternative 3"),
    ],
)
def test_message_format_that_is_not_known_is_named(message: str, version: KpmVersion, cause: str) -> None:
    with pytest.raises(E2DecodeError, match=cause) as caught:
        decode_kpm_indication(HEADER, bytes.fromhex(message), version=version)
    assert caught.value.field == "indicationMessage"


def test_dialect_of_flexric_is_chosen_and_not_guessed() -> None:
    standard = encode_indication_message([(1, (1, 2))], MeasurementList(["A", "B"]), granularity_ms=10)
    # Format 3 as alternative 2 of three in the root: 2 bits of index, and no open type around it.
    flexric = b"\x20" + standard[4:]
    decoded = decode_kpm_indication(HEADER, flexric, version="flexric")
    assert decoded.users == decode_kpm_indication(HEADER, standard).users
    for message, version in ((flexric, "3.00"), (standard, "flexric")):
        with pytest.raises(E2DecodeError):
            decode_kpm_indication(HEADER, message, version=version)


def test_error_within_a_user_report_counts_bytes_of_the_whole_message() -> None:
    message = encode_indication_message(
        [(1, (1, 2)), (2, (3, 4))], MeasurementList(["A", "B"]), granularity_ms=1
    )
    broken = message.replace(bytes.fromhex("02000300040001"), bytes.fromhex("02000361040001"))
    assert broken != message
    with pytest.raises(E2DecodeError) as caught:
        decode_kpm_indication(HEADER, broken)
    assert caught.value.field == "measRecord"
    assert broken[caught.value.offset] == 0x61


def test_integer_of_thousands_of_octets_is_refused_and_not_computed() -> None:
    # fiveQI outside its range: extension bit, then an INTEGER of 5000 octets.
    writer = AperWriter().bits(0, 3).bits(0b010, 3).bits(0, 2).uint(0, 2).bits(0, 2).octets(b"\x01")
    writer.bits(0b010, 3).uint(0, 2).bits(0, 12).octets(b"A\x01").bits(0, 2).bits(1 << 17, 21).bits(1, 1)
    message = writer.octets(bytes.fromhex("9388") + b"\x7f" * 5000).done()
    with pytest.raises(E2DecodeError, match="5000 octets") as caught:
        decode_kpm_indication(HEADER, message)
    assert caught.value.field.endswith("measLabel.fiveQI")


def test_header_that_can_be_read_either_way_is_read_as_the_version_has_it() -> None:
    # 4 bytes of time, file format version "111", empty sender name; or 8 bytes of time, both texts empty.
    data = bytes.fromhex("1880000000" + "18313131" + "000000")
    narrow, wide = decode_kpm_header(data, 4), decode_kpm_header(data, 8)
    assert (len(narrow.timestamp_bytes), len(wide.timestamp_bytes)) == (4, 8)


@pytest.mark.parametrize(
    ("reports", "cause"),
    [
        ([], "users"),
        ([(1, (1,))], "values"),
        ([(1 << 40, (1, 2))], "AMF"),
        ([(1, (-1, 2))], "integer"),
        ([(1, (None, 1 << 32))], "fit"),
    ],
)
def test_what_has_no_encoding_is_refused(reports: list[tuple[int, tuple[Value, ...]]], cause: str) -> None:
    with pytest.raises(E2EncodeError, match=cause):
        encode_indication_message(reports, MeasurementList(["A", "B"]), granularity_ms=10)


@pytest.mark.skipif(not SAMPLES.exists(), reason=f"no captures at {SAMPLES}")
@pytest.mark.parametrize("capture", ["viavi_testfile1", "viavi_testfile2"])
def test_captured_header_of_a_ran_tester(capture: str) -> None:
    samples = {sample["name"]: sample for sample in json.loads(SAMPLES.read_text())}
    sample = samples[f"{capture}_E2SM-KPM-IndicationHeader"]
    header = decode_kpm_header(bytes.fromhex(sample["hex"]))
    expected = sample["expected"]["indicationHeader-formats"][1]
    assert header.timestamp_bytes.hex() == expected["colletStartTime"]["hex"]
    assert (header.sender_name, header.sender_type) == (expected["senderName"], expected["senderType"])
    assert header.vendor_name == expected["vendorName"]
    assert 1.6e9 < header.timestamp < 1.8e9


@pytest.mark.skipif(not SAMPLES.exists(), reason=f"no captures at {SAMPLES}")
def test_captured_cell_message_of_a_ran_tester() -> None:
    samples = {sample["name"]: sample for sample in json.loads(SAMPLES.read_text())}
    header = bytes.fromhex(samples["viavi_testfile1_E2SM-KPM-IndicationHeader"]["hex"])
    message = bytes.fromhex(samples["viavi_testfile1_E2SM-KPM-IndicationMessage"]["hex"])
    decoded = decode_kpm_indication(header, message)
    assert decoded.granularity_ms == 10000
    assert decoded.cell == {f"#{index}": 0 for index in range(20)}


@pytest.mark.skipif(not SAMPLES.exists(), reason=f"no captures at {SAMPLES}")
def test_captured_message_of_another_layout_gives_a_clean_error() -> None:
    samples = {sample["name"]: sample for sample in json.loads(SAMPLES.read_text())}
    header = bytes.fromhex(samples["viavi_testfile2_E2SM-KPM-IndicationHeader"]["hex"])
    message = bytes.fromhex(samples["viavi_testfile2_E2SM-KPM-IndicationMessage"]["hex"])
    for version in KPM_VERSIONS:
        with pytest.raises(E2DecodeError) as caught:
            decode_kpm_indication(header, message, version=version)
        assert 0 < caught.value.offset <= len(message)
        assert caught.value.field
