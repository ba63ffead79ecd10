"""RIC Control request, acknowledge and failure against a generic ASN.1 implementation and real messages."""

from __future__ import annotations

import contextlib
import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xapp.ric.e2ap_control import (
    CAUSES,
    Cause,
    E2DecodeError,
    E2EncodeError,
    RicControlAcknowledge,
    RicControlFailure,
    RicControlRequest,
    decode_control_answer,
    decode_control_request,
    encode_control_acknowledge,
    encode_control_failure,
    encode_control_request,
)

E2AP = pytest.importorskip("pycrate_asn1dir.E2AP", reason="pycrate is the reference for E2AP")

SRSRAN_REQUEST = (
    "00040076000005001d00050003fd00000005000200030016001110000000000000f1100000000102000005001700464500000100"
    "006000004000030002440000000460000040000100062a00053030313031000744000100082a00013100092a000130000a288001"
    "05000b28800119000c288001640015000140"
)
"""srsRAN Project, tests/unittests/asn1/asn1_e2ap_test.cpp."""
SRSRAN_FAILURE = "40040017000003001d00050003fd00000005000200030001400156"
"""The same file."""

ids = st.integers(0, 65535)
functions = st.integers(0, 4095)
octets = st.binary(max_size=300)
optional_octets = st.none() | st.binary(max_size=200)
causes = st.sampled_from(
    [Cause(group, value) for group, (root, additions) in CAUSES.items() for value in root + additions]
)
requests = st.builds(
    RicControlRequest,
    requestor_id=ids,
    instance_id=ids,
    ran_function_id=functions,
    header=octets,
    message=octets,
    call_process_id=optional_octets,
    acknowledge=st.sampled_from([True, False, None]),
)
acknowledges = st.builds(
    RicControlAcknowledge,
    requestor_id=ids,
    instance_id=ids,
    ran_function_id=functions,
    outcome=optional_octets,
    call_process_id=optional_octets,
)
failures = st.builds(
    RicControlFailure,
    requestor_id=ids,
    instance_id=ids,
    ran_function_id=functions,
    cause=causes,
    outcome=optional_octets,
    call_process_id=optional_octets,
)


def reference_value(message: RicControlRequest | RicControlAcknowledge | RicControlFailure) -> Any:
    """The message in the reference's value notation."""
    ies: list[tuple[int, str, Any]] = [
        (29, "RICrequestID", {"ricRequestorID": message.requestor_id, "ricInstanceID": message.instance_id}),
        (5, "RANfunctionID", message.ran_function_id),
        (20, "RICcallProcessID", message.call_process_id),
    ]
    if isinstance(message, RicControlRequest):
        choice, name = "initiatingMessage", "RICcontrolRequest"
        acknowledge = {True: "ack", False: "noAck", None: None}[message.acknowledge]
        ies.append((22, "RICcontrolHeader", message.header))
        ies.append((23, "RICcontrolMessage", message.message))
        ies.append((21, "RICcontrolAckRequest", acknowledge))
    elif isinstance(message, RicControlFailure):
        choice, name = "unsuccessfulOutcome", "RICcontrolFailure"
        ies.append((1, "Cause", (message.cause.group, message.cause.value)))
        ies.append((32, "RICcontrolOutcome", message.outcome))
    else:
        choice, name = "successfulOutcome", "RICcontrolAcknowledge"
        ies.append((32, "RICcontrolOutcome", message.outcome))
    fields = [
        {"id": number, "criticality": "ignore" if number == 1 else "reject", "value": (kind, value)}
        for number, kind, value in ies
        if value is not None
    ]
    return (
        choice,
        {"procedureCode": 4, "criticality": "reject", "value": (name, {"protocolIEs": fields})},
    )


def assert_same_as_the_reference(message: Any, encoded: bytes) -> None:
    pdu = E2AP.E2AP_PDU_Descriptions.E2AP_PDU
    pdu.set_val(reference_value(message))
    assert encoded == bytes(pdu.to_aper())
    pdu.from_aper(encoded)
    assert pdu.get_val() == reference_value(message)


@settings(deadline=None, max_examples=40)
@given(requests)
def test_a_request_is_as_the_reference_writes_it(request_: RicControlRequest) -> None:
    encoded = encode_control_request(request_)
    assert_same_as_the_reference(request_, encoded)
    assert decode_control_request(encoded) == request_


@settings(deadline=None, max_examples=40)
@given(acknowledges)
def test_an_acknowledge_is_as_the_reference_writes_it(answer: RicControlAcknowledge) -> None:
    encoded = encode_control_acknowledge(answer)
    assert_same_as_the_reference(answer, encoded)
    assert decode_control_answer(encoded) == answer


@settings(deadline=None, max_examples=60)
@given(failures)
def test_a_failure_is_as_the_reference_writes_it(answer: RicControlFailure) -> None:
    encoded = encode_control_failure(answer)
    assert_same_as_the_reference(answer, encoded)
    assert decode_control_answer(encoded) == answer


def test_the_request_of_a_real_test_suite_is_read_and_written() -> None:
    raw = bytes.fromhex(SRSRAN_REQUEST)
    request = decode_control_request(raw)
    assert (request.requestor_id, request.instance_id, request.ran_function_id) == (1021, 0, 3)
    assert request.header.hex() == "000000000000f1100000000102000005"
    assert len(request.message) == 69
    assert request.call_process_id is None
    assert request.acknowledge is True
    assert encode_control_request(request) == raw


def test_the_failure_of_a_real_test_suite_is_read_and_written() -> None:
    raw = bytes.fromhex(SRSRAN_FAILURE)
    answer = decode_control_answer(raw)
    assert answer == RicControlFailure(1021, 0, 3, Cause("misc", "unspecified"))
    assert encode_control_failure(answer) == raw


def test_causes_newer_than_the_table_are_kept_apart() -> None:
    raw = bytes.fromhex(SRSRAN_FAILURE)
    # group misc, extension bit, then the normally small number 9.
    newer_value = raw[:-2] + bytes((2, 0b0_101_1_0_00, 0b1001_0000))
    newer_value = newer_value[:3] + bytes((raw[3] + 1,)) + newer_value[4:]
    answer = decode_control_answer(newer_value)
    assert isinstance(answer, RicControlFailure)
    assert str(answer.cause) == "misc:extension-9"
    newer_group = raw[:-1] + bytes((0b1_0_000010,))
    answer = decode_control_answer(newer_group)
    assert isinstance(answer, RicControlFailure)
    assert answer.cause == Cause("extension", "2")


@pytest.mark.parametrize("byte", [0x60, 0x70, 0x16])
def test_causes_that_do_not_exist_are_refused(byte: int) -> None:
    with pytest.raises(E2DecodeError, match=r"Cause.*are known"):
        decode_control_answer(bytes.fromhex(SRSRAN_FAILURE)[:-1] + bytes((byte,)))


@pytest.mark.parametrize(
    ("raw", "cause"),
    [
        (SRSRAN_FAILURE, "unsuccessfulOutcome: initiatingMessage is expected"),
        ("000540", "procedure 5"),
        ("00040018 000004 001d000100 000500020003 0016000100 0017000100", r"RICrequestID.*bytes wanted"),
        ("00040003000000", "mandatory IE missing: RICrequestID, RANfunctionID, RICcontrolHeader"),
        ("", "bits wanted"),
    ],
)
def test_other_pdus_are_refused_with_the_reason(raw: str, cause: str) -> None:
    with pytest.raises(E2DecodeError, match=cause):
        decode_control_request(bytes.fromhex(raw))


def test_a_failure_without_a_cause_is_refused() -> None:
    whole = encode_control_acknowledge(RicControlAcknowledge(1, 2, 3))
    with pytest.raises(E2DecodeError, match="mandatory IE missing: Cause"):
        decode_control_answer(bytes((0x40,)) + whole[1:])


def test_a_status_of_version_1_in_an_acknowledge_is_skipped() -> None:
    body = bytes.fromhex("00 0003" + "0018 00 01 00" + "0005 00 02 0003" + "001d 00 05 00 0001 0007")
    assert decode_control_answer(bytes((0x20, 4, 0, len(body))) + body) == RicControlAcknowledge(1, 7, 3)


def test_three_thousand_mutated_pdus_raise_only_decode_errors() -> None:
    rng = random.Random(4)
    seeds = [
        bytes.fromhex(SRSRAN_REQUEST),
        bytes.fromhex(SRSRAN_FAILURE),
        encode_control_acknowledge(RicControlAcknowledge(1, 2, 3, b"outcome", b"call")),
    ]
    offsets = []
    for number in range(3000):
        raw = bytearray(seeds[number % 3])
        for _ in range(rng.randint(1, 4)):
            raw[rng.randrange(len(raw))] = rng.randrange(256)
        del raw[rng.randrange(len(raw) // 2, len(raw) + 1) :]
        for decode in (decode_control_request, decode_control_answer):
            try:
                decode(bytes(raw))
            except E2DecodeError as error:
                offsets.append(error.offset)
    assert len(offsets) > 2500  # the decoder of the other direction refuses almost every one
    assert 0 <= min(offsets) <= max(offsets) < 200


@given(st.binary(max_size=200))
def test_garbage_raises_only_decode_errors(raw: bytes) -> None:
    for decode in (decode_control_request, decode_control_answer):
        with contextlib.suppress(E2DecodeError):
            decode(raw)


@pytest.mark.parametrize("field", [{"requestor_id": 65536}, {"instance_id": -1}, {"ran_function_id": 4096}])
def test_values_out_of_range_are_not_encoded(field: dict[str, int]) -> None:
    values: dict[str, Any] = {"requestor_id": 1, "instance_id": 1, "ran_function_id": 3}
    with pytest.raises(E2EncodeError, match=next(iter(field))):
        encode_control_request(RicControlRequest(**(values | field), header=b"", message=b""))


def test_an_unknown_cause_is_not_encoded() -> None:
    with pytest.raises(E2EncodeError, match="misc:bad-weather"):
        encode_control_failure(RicControlFailure(1, 1, 3, Cause("misc", "bad-weather")))
