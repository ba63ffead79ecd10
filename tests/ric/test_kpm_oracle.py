"""The hand-written KPM decoder against codecs generated from the syntax: what they encode, it decodes.

Two codecs, for each has its weaknesses: asn1tools pads the mantissa of a REAL, which is legal but not
canonical; pycrate 0.8 aligns behind an empty string, and misaligns extension additions now and then. What it
gets wrong is left to asn1tools.
"""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from kpm_strategies import (
    Fields,
    amf_ue_id,
    condition_text,
    expected_rows,
    finite,
    matching_messages,
    measurement_reports,
    optional,
    records,
    ue_ids,
    uint32,
)

from xapp.benchmarks.kpm_reference import (
    HEADER,
    MESSAGE,
    asn1tools_kpm,
    asn1tools_notation,
    plain_type,
    plain_ue_id,
    plain_value,
    pycrate_kpm,
    unlabelled_reports,
)
from xapp.ric.kpm import (
    MeasurementList,
    UeId,
    Value,
    decode_kpm_indication,
    encode_indication_header,
    encode_indication_message,
)
from xapp.ric.kpm.header import decode_kpm_header
from xapp.ric.kpm.versions import KpmVersion, kpm_layout

pytest.importorskip("pycrate_asn1c", reason="pycrate is the reference for KPM")

STAMP = encode_indication_header(1_700_000_000.5)
EXAMPLES = 15
OTHER_LAYOUTS = [
    pytest.param(version, marks=pytest.mark.slow) for version in ("2.01", "2.02", "2.03", "flexric")
]


ADDITIONS = {"ssbIndex", "nonGoB-BFmode-Index", "mIMO-mode-Index", "cellGlobalID", "beamID"} | {
    *("globalNG-RANNode-ID", "matchingUEidPerGP")
}


def has_additions(value: Any) -> bool:
    if isinstance(value, dict):
        return not ADDITIONS.isdisjoint(value) or any(map(has_additions, value.values()))
    return isinstance(value, list | tuple) and any(map(has_additions, value))


def encodings(message_format: int, content: Fields, version: KpmVersion = "3.00") -> list[bytes]:
    value = {"indicationMessage-formats": (f"indicationMessage-Format{message_format}", content)}
    encoded = [bytes(asn1tools_kpm(version).encode(MESSAGE, asn1tools_notation(value)))]
    return encoded if has_additions(content) else [*encoded, pycrate_kpm(version).encode(MESSAGE, value)]


def ue_of(value: tuple[str, Fields]) -> UeId:
    return UeId(*plain_ue_id(value))


@settings(max_examples=EXAMPLES)
@given(measurement_reports())
def test_cell_messages_of_generic_codecs_decode_to_the_same_values(report: Fields) -> None:
    for message in encodings(1, report):
        decoded = decode_kpm_indication(STAMP, message)
        assert [*decoded.cell_earlier, decoded.cell] == expected_rows(report)
        assert decoded.cell_incomplete == ("incompleteFlag" in report["measData"][-1])
        assert decoded.granularity_ms == report.get("granulPeriod")
        assert (decoded.users, decoded.message_format) == ([], 1)


@pytest.mark.parametrize("version", ["3.00", *OTHER_LAYOUTS])
@settings(max_examples=EXAMPLES)
@given(
    st.lists(
        st.fixed_dictionaries({"ueID": ue_ids, "measReport": measurement_reports()}), min_size=1, max_size=3
    )
)
def test_user_messages_of_generic_codecs_decode_to_the_same_values(
    version: KpmVersion, items: list[Fields]
) -> None:
    for message in encodings(3, {"ueMeasReportList": items}, version):
        decoded = decode_kpm_indication(STAMP, message, version=version)
        assert decoded.message_format == 3
        assert [report.ue for report in decoded.users] == [ue_of(item["ueID"]) for item in items]
        for report, item in zip(decoded.users, items, strict=True):
            assert [*report.earlier, report.values] == expected_rows(item["measReport"])
            assert report.incomplete == ("incompleteFlag" in item["measReport"]["measData"][-1])


@settings(max_examples=EXAMPLES)
@given(st.lists(ue_ids, min_size=2, max_size=5), measurement_reports(), st.data())
def test_users_that_repeat_one_list_decode_to_the_same_values(
    ues: list[Any], base: Fields, data: st.DataObject
) -> None:
    width = len(base["measData"][0]["measRecord"])
    reports = []
    for _ in ues:
        record = data.draw(st.lists(records, min_size=width, max_size=width))
        reports.append({**base, "measData": [{"measRecord": record}]})
    items = [{"ueID": ue, "measReport": report} for ue, report in zip(ues, reports, strict=True)]
    for message in encodings(3, {"ueMeasReportList": items}):
        decoded = decode_kpm_indication(STAMP, message)
        assert [report.ue for report in decoded.users] == list(map(ue_of, ues))
        assert [report.values for report in decoded.users] == [expected_rows(report)[0] for report in reports]
        assert decoded.granularity_ms == base.get("granulPeriod")


def users_in(item: Fields, period: int) -> list[UeId]:
    """Matching users of a MeasurementCondUEidItem in a granularity period."""
    if "matchingUEidPerGP" not in item:
        return [ue_of(user["ueID"]) for user in item["matchingUEidList"]]
    choice, users = item["matchingUEidPerGP"][period]["matchedPerGP"]
    return [ue_of(user["ueID"]) for user in users] if choice == "oneOrMoreUEmatched" else []


@pytest.mark.parametrize("version", ["3.00", *OTHER_LAYOUTS])
@settings(max_examples=EXAMPLES)
@given(st.data())
def test_matching_users_of_generic_codecs_decode_to_the_same_values(
    version: KpmVersion, draw: st.DataObject
) -> None:
    content = draw.draw(matching_messages(version))
    items, data = content["measCondUEidList"], content["measData"]
    periods = range(len(data))
    assume(all(any(users_in(item, period) for item in items) for period in periods))
    for message in encodings(2, content, version):
        decoded = decode_kpm_indication(STAMP, message, version=version)
        assert decoded.message_format == 2
        assert [item.name for item in decoded.matched] == [plain_type(item["measType"]) for item in items]
        for got, item in zip(decoded.matched, items, strict=True):
            assert list(got.conditions) == list(map(condition_text, item["matchingCond"]))
            for period in periods:
                users = got.users if got.users_by_period is None else got.users_by_period[period]
                assert list(users) == users_in(item, period)
        assert decoded.records == [list(map(plain_value, record["measRecord"])) for record in data]
        last = {ue for item in items for ue in users_in(item, len(data) - 1)}
        assert {report.ue for report in decoded.users if report.values} == last


lab_values: st.SearchStrategy[Value] = st.none() | uint32 | finite


@settings(max_examples=EXAMPLES)
@given(st.lists(st.tuples(amf_ue_id, st.tuples(lab_values, lab_values, lab_values)), min_size=1, max_size=5))
def test_messages_of_the_lab_decode_to_the_same_values_in_every_codec(
    reports: list[tuple[int, tuple[Value, ...]]],
) -> None:
    names = ("SINR", "measID:7", "DRB.UEThpDl")
    message = encode_indication_message(reports, MeasurementList(names), granularity_ms=100)
    expected = [(ue, dict(zip(names, values, strict=True))) for ue, values in reports]
    value = pycrate_kpm().decode(MESSAGE, message)
    assert unlabelled_reports(value) == expected
    assert pycrate_kpm().encode(MESSAGE, value) == message
    assert unlabelled_reports(asn1tools_kpm().decode(MESSAGE, message)) == expected
    decoded = decode_kpm_indication(STAMP, message)
    assert [(report.ue.value, report.values) for report in decoded.users] == expected


@pytest.mark.parametrize("version", ["3.00", pytest.param("2.03", marks=pytest.mark.slow)])
@settings(max_examples=EXAMPLES)
@given(
    optional(
        {},
        fileFormatversion=st.text("ab 1.", max_size=15),
        senderName=st.text("ab 1.", max_size=400),
        senderType=st.text("ab 1.", max_size=8),
        vendorName=st.text("ab 1.", max_size=32),
    ),
    st.integers(1 << 63, (1 << 64) - 1),
)
def test_headers_of_generic_codecs_decode_to_the_same_values(
    version: KpmVersion, texts: Fields, ticks: int
) -> None:
    octets = kpm_layout(version).timestamp_octets
    content = {"colletStartTime": ticks.to_bytes(8, "big")[:octets], **texts}
    value = {"indicationHeader-formats": ("indicationHeader-Format1", content)}
    encoded = bytes(asn1tools_kpm(version).encode(HEADER, value))
    if all(texts.values()):
        assert pycrate_kpm(version).encode(HEADER, value) == encoded
    header = decode_kpm_header(encoded, octets)
    assert header.timestamp_bytes == content["colletStartTime"]
    names = ("fileFormatversion", "senderName", "senderType", "vendorName")
    got = (header.file_format_version, header.sender_name, header.sender_type, header.vendor_name)
    assert got == tuple(texts.get(name, "") for name in names)
