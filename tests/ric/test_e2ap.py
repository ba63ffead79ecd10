"""RIC Indication against a generic ASN.1 implementation, both directions."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xapp.ric.e2ap import (
    E2DecodeError,
    E2EncodeError,
    RicIndication,
    decode_ric_indication,
    encode_ric_indication,
)

E2AP = pytest.importorskip("pycrate_asn1dir.E2AP", reason="pycrate is the reference for E2AP")

SMALL = RicIndication(123, 7, 2, 1, 0, b"head", b"message", 9, b"call")

indications = st.builds(
    RicIndication,
    requestor_id=st.integers(0, 65535),
    instance_id=st.integers(0, 65535),
    ran_function_id=st.integers(0, 4095),
    action_id=st.integers(0, 255),
    indication_type=st.integers(0, 1),
    header=st.binary(max_size=300),
    message=st.binary(max_size=300),
    sequence_number=st.none() | st.integers(0, 65535),
    call_process_id=st.none() | st.binary(max_size=200),
)


def reference_value(indication: RicIndication) -> tuple[str, dict[str, Any]]:
    """The indication in the reference's value notation."""
    request = {"ricRequestorID": indication.requestor_id, "ricInstanceID": indication.instance_id}
    kind = ("report", "insert")[indication.indication_type]
    ies: list[tuple[int, str, object]] = [
        (29, "RICrequestID", request),
        (5, "RANfunctionID", indication.ran_function_id),
        (15, "RICactionID", indication.action_id),
        (27, "RICindicationSN", indication.sequence_number),
        (28, "RICindicationType", kind),
        (25, "RICindicationHeader", indication.header),
        (26, "RICindicationMessage", indication.message),
        (20, "RICcallProcessID", indication.call_process_id),
    ]
    fields = [
        {"id": number, "criticality": "reject", "value": (name, value)}
        for number, name, value in ies
        if value is not None
    ]
    body = {"protocolIEs": fields}
    return (
        "initiatingMessage",
        {"procedureCode": 5, "criticality": "ignore", "value": ("RICindication", body)},
    )


def reference_encode(indication: RicIndication) -> bytes:
    pdu = E2AP.E2AP_PDU_Descriptions.E2AP_PDU
    pdu.set_val(reference_value(indication))
    return bytes(pdu.to_aper())


@settings(deadline=None, max_examples=60)
@given(indications)
def test_same_bytes_and_same_value_as_the_reference(indication: RicIndication) -> None:
    encoded = encode_ric_indication(indication)
    assert encoded == reference_encode(indication)
    assert decode_ric_indication(encoded) == indication
    pdu = E2AP.E2AP_PDU_Descriptions.E2AP_PDU
    pdu.from_aper(encoded)
    assert pdu.get_val() == reference_value(indication)


@pytest.mark.parametrize("size", [127, 128, 16383, 16384, 40_000, 70_000])
def test_long_messages_and_fragments_are_as_the_reference_writes_them(size: int) -> None:
    indication = RicIndication(1, 2, 3, 4, 0, b"h", bytes(size))
    encoded = reference_encode(indication)
    assert encode_ric_indication(indication) == encoded
    assert decode_ric_indication(encoded) == indication


def test_unknown_ies_and_any_order_are_accepted() -> None:
    ies = [
        "ffff 40 03 010203",  # unknown, ignore
        "001a 00 02 01bb",
        "0019 00 02 01aa",
        "001c 00 01 40",
        "000f 00 01 05",
        "0005 00 02 0002",
        "001d 00 05 00 0001 0007",
    ]
    body = "00 0007" + "".join(ies)
    raw = bytes.fromhex(body)
    decoded = decode_ric_indication(bytes([0, 5, 0x40, len(raw)]) + raw)
    assert decoded == RicIndication(1, 7, 2, 5, 1, b"\xaa", b"\xbb")


def test_missing_ie_is_named() -> None:
    raw = bytes.fromhex("00 0001" + "000f 00 01 05")
    with pytest.raises(E2DecodeError, match="RICindicationMessage") as caught:
        decode_ric_indication(bytes([0, 5, 0x40, len(raw)]) + raw)
    assert "RICactionID," not in str(caught.value)


@pytest.mark.parametrize(
    ("raw", "cause"), [("2005", "initiatingMessage"), ("000840", "procedure 8"), ("", "bits")]
)
def test_other_pdus_are_refused_with_the_reason(raw: str, cause: str) -> None:
    with pytest.raises(E2DecodeError, match=cause):
        decode_ric_indication(bytes.fromhex(raw))


@given(indications, st.data())
def test_truncated_pdus_raise_only_decode_errors(indication: RicIndication, data: st.DataObject) -> None:
    encoded = encode_ric_indication(indication)
    cut = data.draw(st.integers(0, len(encoded) - 1))
    with pytest.raises(E2DecodeError):
        decode_ric_indication(encoded[:cut])


@given(st.lists(st.tuples(st.integers(0, 200), st.integers(0, 255)), min_size=1, max_size=8))
def test_mutated_pdus_raise_only_decode_errors(changes: list[tuple[int, int]]) -> None:
    encoded = bytearray(encode_ric_indication(SMALL))
    for offset, value in changes:
        encoded[offset % len(encoded)] = value
    with contextlib.suppress(E2DecodeError):
        decode_ric_indication(bytes(encoded))


@given(st.binary(max_size=200))
def test_garbage_raises_only_decode_errors(raw: bytes) -> None:
    with contextlib.suppress(E2DecodeError):
        decode_ric_indication(raw)


@pytest.mark.parametrize(
    "field",
    [{"ran_function_id": 4096}, {"action_id": 256}, {"instance_id": -1}, {"indication_type": 2}],
)
def test_values_out_of_range_are_not_encoded(field: dict[str, int]) -> None:
    values: dict[str, Any] = {
        "requestor_id": 1,
        "instance_id": 1,
        "ran_function_id": 1,
        "action_id": 1,
        "indication_type": 0,
        "header": b"",
        "message": b"",
    }
    with pytest.raises(E2EncodeError):
        encode_ric_indication(RicIndication(**(values | field)))
