"""KPM against golden bytes of a generic ASN.1 compiler, real captures, and hostile input."""

from __future__ import annotations

import contextlib
import json
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

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
from xapp.ric.kpm.decode import decode_kpm_header

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


def test_format_2_is_refused_by_name() -> None:
    with pytest.raises(E2DecodeError, match="format 2"):
        decode_kpm_indication(HEADER, bytes.fromhex("28001a0001000100"))


@given(st.integers(0, 6), st.data())
def test_truncated_messages_raise_only_decode_errors(index: int, data: st.DataObject) -> None:
    message = bytes.fromhex(VECTORS["messages"][index]["message"])
    cut = data.draw(st.integers(0, len(message) - 1))
    with contextlib.suppress(E2DecodeError):
        decode_kpm_indication(HEADER, message[:cut])


@given(
    st.integers(0, 6), st.lists(st.tuples(st.integers(0, 600), st.integers(0, 255)), min_size=1, max_size=8)
)
def test_mutated_messages_raise_only_decode_errors(index: int, changes: list[tuple[int, int]]) -> None:
    message = bytearray.fromhex(VECTORS["messages"][index]["message"])
    for offset, value in changes:
        message[offset % len(message)] = value
    with contextlib.suppress(E2DecodeError):
        decode_kpm_indication(HEADER, bytes(message))


@given(st.binary(max_size=60), st.binary(max_size=200))
def test_garbage_raises_only_decode_errors(header: bytes, message: bytes) -> None:
    with contextlib.suppress(E2DecodeError):
        decode_kpm_indication(HEADER, message)
    with contextlib.suppress(E2DecodeError):
        decode_kpm_header(header)


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
