"""E2AP RIC Control: request, acknowledge and failure (O-RAN.WG3.E2AP clause 8.2.4).

The wire of E2AP v2 and later. Version 1 differs where a control message carries an enumeration: it has no
``e2Node`` cause, a third value of RICcontrolAckRequest, and a mandatory RICcontrolStatus in the acknowledge
(skipped here); nothing in the bytes tells the versions apart.

Unknown IEs, extension additions and any order of the IEs are accepted; the first of two IEs with the same id
counts.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from xapp.ric.aper import AperReader, AperWriter, E2DecodeError, E2EncodeError, open_octets

__all__ = [
    "CAUSES",
    "Cause",
    "E2DecodeError",
    "E2EncodeError",
    "RicControlAcknowledge",
    "RicControlFailure",
    "RicControlRequest",
    "decode_control_answer",
    "decode_control_request",
    "encode_control_acknowledge",
    "encode_control_failure",
    "encode_control_request",
]

_PROCEDURE_RIC_CONTROL: Final = 4
_IE_CAUSE: Final = 1
_IE_RAN_FUNCTION_ID: Final = 5
_IE_RIC_CALL_PROCESS_ID: Final = 20
_IE_RIC_CONTROL_ACK_REQUEST: Final = 21
_IE_RIC_CONTROL_HEADER: Final = 22
_IE_RIC_CONTROL_MESSAGE: Final = 23
_IE_RIC_REQUEST_ID: Final = 29
_IE_RIC_CONTROL_OUTCOME: Final = 32

_REJECT, _IGNORE = 0, 1
_PDU_CHOICES: Final = ("initiatingMessage", "successfulOutcome", "unsuccessfulOutcome")
_INITIATING, _SUCCESSFUL, _UNSUCCESSFUL = range(3)

_IE_NAMES: Final = {
    _IE_CAUSE: "Cause",
    _IE_RAN_FUNCTION_ID: "RANfunctionID",
    _IE_RIC_CONTROL_HEADER: "RICcontrolHeader",
    _IE_RIC_CONTROL_MESSAGE: "RICcontrolMessage",
    _IE_RIC_REQUEST_ID: "RICrequestID",
}

CAUSES: Final[dict[str, tuple[tuple[str, ...], tuple[str, ...]]]] = {
    "ricRequest": (
        (
            "ran-function-id-invalid",
            "action-not-supported",
            "excessive-actions",
            "duplicate-action",
            "duplicate-event-trigger",
            "function-resource-limit",
            "request-id-unknown",
            "inconsistent-action-subsequent-action-sequence",
            "control-message-invalid",
            "ric-call-process-id-invalid",
            "control-timer-expired",
            "control-failed-to-execute",
            "system-not-ready",
            "unspecified",
        ),
        (
            "ric-subscription-end-time-expired",
            "ric-subscription-end-time-invalid",
            "duplicate-ric-request-id",
            "eventTriggerNotSupported",
            "requested-information-unavailable",
            "invalid-information-request",
        ),
    ),
    "ricService": (("ran-function-not-supported", "excessive-functions", "ric-resource-limit"), ()),
    "e2Node": (("e2node-component-unknown",), ()),
    "transport": (("unspecified", "transport-resource-unavailable"), ()),
    "protocol": (
        (
            "transfer-syntax-error",
            "abstract-syntax-error-reject",
            "abstract-syntax-error-ignore-and-notify",
            "message-not-compatible-with-receiver-state",
            "semantic-error",
            "abstract-syntax-error-falsely-constructed-message",
            "unspecified",
        ),
        (),
    ),
    "misc": (("control-processing-overload", "hardware-failure", "om-intervention", "unspecified"), ()),
}
"""Cause, clause 9.2.1: group -> (values of the root, extension values of E2AP v3), in ASN.1 order."""

_GROUPS: Final = tuple(CAUSES)
_GROUP_BITS: Final = 3


@dataclass(frozen=True, slots=True)
class Cause:
    """Why an E2 node refused: a group and a value of :data:`CAUSES`.

    A newer group is ``extension`` with the alternative's index as value; a newer value is ``extension-<n>``,
    n counted from the end of the root.
    """

    group: str
    value: str

    def __str__(self) -> str:
        return f"{self.group}:{self.value}"


@dataclass(frozen=True, slots=True)
class RicControlRequest:
    """RIC Control Request, RIC to E2 node.

    Attributes:
        requestor_id, instance_id: RIC Request ID, 0..65535 each; the answer repeats both.
        ran_function_id: 0..4095.
        header, message: octet strings of the service model.
        call_process_id: of the insert indication that this answers; None for a request on the RIC's own
            initiative.
        acknowledge: True asks for an acknowledge, False for none, None leaves the IE out. Without True,
            srsRAN answers nothing at all, not even a failure.
    """

    requestor_id: int
    instance_id: int
    ran_function_id: int
    header: bytes
    message: bytes
    call_process_id: bytes | None = None
    acknowledge: bool | None = True


@dataclass(frozen=True, slots=True)
class RicControlAcknowledge:
    """RIC Control Acknowledge, E2 node to RIC; fields as in :class:`RicControlRequest`.

    Attributes:
        outcome: octet string of the service model, optional.
    """

    requestor_id: int
    instance_id: int
    ran_function_id: int
    outcome: bytes | None = None
    call_process_id: bytes | None = None


@dataclass(frozen=True, slots=True)
class RicControlFailure:
    """RIC Control Failure, E2 node to RIC; fields as in :class:`RicControlAcknowledge`."""

    requestor_id: int
    instance_id: int
    ran_function_id: int
    cause: Cause
    outcome: bytes | None = None
    call_process_id: bytes | None = None


def _read_ies(pdu: bytes, choices: tuple[int, ...]) -> tuple[int, AperReader, dict[int, bytes]]:
    """Choice of a RIC Control PDU, a reader to raise errors with, and its IEs by id."""
    reader = AperReader(pdu, "E2AP-PDU")
    choice = reader.bits(3)  # extension bit, 2 bits of index
    if choice not in choices:
        wanted = " or ".join(_PDU_CHOICES[number] for number in choices)
        found = _PDU_CHOICES[choice] if choice < len(_PDU_CHOICES) else f"choice {choice}"
        raise reader.error(f"{found}: {wanted} is expected")
    reader.field = "procedureCode"
    procedure = reader.uint(1)
    if procedure != _PROCEDURE_RIC_CONTROL:
        raise reader.error(f"procedure {procedure}: not RICcontrol ({_PROCEDURE_RIC_CONTROL})")
    reader.field = "criticality"
    reader.bits(2)
    reader.field = "RICcontrol"
    body = AperReader(reader.octet_string(), "RICcontrol.protocolIEs")
    body.bits(1)  # Extension additions would come after the IEs; nothing in them is read.
    ies: dict[int, bytes] = {}
    for _ in range(body.uint(2)):
        identifier = body.uint(2)
        body.bits(2)
        ies.setdefault(identifier, body.octet_string())
    return choice, body, ies


def _require(body: AperReader, ies: dict[int, bytes], *identifiers: int) -> None:
    missing = ", ".join(_IE_NAMES[number] for number in identifiers if number not in ies)
    if missing:
        raise body.error(f"mandatory IE missing: {missing}")


def _request_id(ies: dict[int, bytes]) -> tuple[int, int]:
    reader = AperReader(ies[_IE_RIC_REQUEST_ID], "RICrequestID")
    reader.bits(1)
    return reader.uint(2), reader.uint(2)


def _ran_function_id(ies: dict[int, bytes]) -> int:
    reader = AperReader(ies[_IE_RAN_FUNCTION_ID], "RANfunctionID")
    value = reader.uint(2)
    if value > 4095:
        raise reader.error(f"{value}: 0..4095 are legal")
    return value


def _octets(ies: dict[int, bytes], identifier: int, field: str) -> bytes | None:
    value = ies.get(identifier)
    return None if value is None else AperReader(value, field).octet_string()


def _acknowledge(ies: dict[int, bytes]) -> bool | None:
    value = ies.get(_IE_RIC_CONTROL_ACK_REQUEST)
    if value is None:
        return None
    reader = AperReader(value, "RICcontrolAckRequest")
    if reader.bits(1):
        raise reader.error("an extension value: noAck (0) and ack (1) are known")
    return reader.bits(1) == 1


def _cause(raw: bytes) -> Cause:
    reader = AperReader(raw, "Cause")
    if reader.bits(1):
        return Cause("extension", str(reader.small_index()))
    index = reader.bits(_GROUP_BITS)
    if index >= len(_GROUPS):
        raise reader.error(f"group {index}: 0..{len(_GROUPS) - 1} are known")
    group = _GROUPS[index]
    reader.field = f"Cause.{group}"
    root, additions = CAUSES[group]
    if reader.bits(1):
        number = reader.small_index()
        return Cause(group, additions[number] if number < len(additions) else f"extension-{number}")
    number = reader.bits((len(root) - 1).bit_length())
    if number >= len(root):
        raise reader.error(f"value {number}: 0..{len(root) - 1} are known")
    return Cause(group, root[number])


def decode_control_request(pdu: bytes) -> RicControlRequest:
    """The RIC Control Request in an E2AP-PDU.

    Raises:
        E2DecodeError: another procedure or direction, a mandatory IE is missing, or the bytes are malformed.
    """
    _, body, ies = _read_ies(pdu, (_INITIATING,))
    _require(
        body, ies, _IE_RIC_REQUEST_ID, _IE_RAN_FUNCTION_ID, _IE_RIC_CONTROL_HEADER, _IE_RIC_CONTROL_MESSAGE
    )
    requestor_id, instance_id = _request_id(ies)
    return RicControlRequest(
        requestor_id=requestor_id,
        instance_id=instance_id,
        ran_function_id=_ran_function_id(ies),
        header=_octets(ies, _IE_RIC_CONTROL_HEADER, "RICcontrolHeader") or b"",
        message=_octets(ies, _IE_RIC_CONTROL_MESSAGE, "RICcontrolMessage") or b"",
        call_process_id=_octets(ies, _IE_RIC_CALL_PROCESS_ID, "RICcallProcessID"),
        acknowledge=_acknowledge(ies),
    )


def decode_control_answer(pdu: bytes) -> RicControlAcknowledge | RicControlFailure:
    """The RIC Control Acknowledge or Failure in an E2AP-PDU.

    Raises:
        E2DecodeError: another procedure or direction, a mandatory IE is missing, or the bytes are malformed.
    """
    choice, body, ies = _read_ies(pdu, (_SUCCESSFUL, _UNSUCCESSFUL))
    _require(body, ies, _IE_RIC_REQUEST_ID, _IE_RAN_FUNCTION_ID)
    requestor_id, instance_id = _request_id(ies)
    ran_function_id = _ran_function_id(ies)
    outcome = _octets(ies, _IE_RIC_CONTROL_OUTCOME, "RICcontrolOutcome")
    call_process_id = _octets(ies, _IE_RIC_CALL_PROCESS_ID, "RICcallProcessID")
    if choice == _SUCCESSFUL:
        return RicControlAcknowledge(requestor_id, instance_id, ran_function_id, outcome, call_process_id)
    _require(body, ies, _IE_CAUSE)
    cause = _cause(ies[_IE_CAUSE])
    return RicControlFailure(requestor_id, instance_id, ran_function_id, cause, outcome, call_process_id)


def _unsigned(name: str, value: int, limit: int) -> int:
    if not 0 <= value <= limit:
        raise E2EncodeError(f"{name} is {value}: 0..{limit} are legal")
    return value


def _ie(identifier: int, value: bytes, criticality: int = _REJECT) -> bytes:
    return identifier.to_bytes(2, "big") + bytes((criticality << 6,)) + open_octets(value)


def _pdu(choice: int, ies: list[bytes]) -> bytes:
    body = b"\0" + len(ies).to_bytes(2, "big") + b"".join(ies)
    return bytes((choice << 5, _PROCEDURE_RIC_CONTROL, _REJECT << 6)) + open_octets(body)


def _common_ies(
    requestor_id: int, instance_id: int, ran_function_id: int, call_process_id: bytes | None
) -> list[bytes]:
    """RICrequestID, RANfunctionID and RICcallProcessID: every control message begins with them."""
    request = AperWriter().bits(0, 1)
    request.uint(_unsigned("requestor_id", requestor_id, 65535), 2)
    request.uint(_unsigned("instance_id", instance_id, 65535), 2)
    ies = [
        _ie(_IE_RIC_REQUEST_ID, request.done()),
        _ie(_IE_RAN_FUNCTION_ID, _unsigned("ran_function_id", ran_function_id, 4095).to_bytes(2, "big")),
    ]
    if call_process_id is not None:
        ies.append(_ie(_IE_RIC_CALL_PROCESS_ID, open_octets(call_process_id)))
    return ies


def _outcome_ie(outcome: bytes | None) -> list[bytes]:
    return [] if outcome is None else [_ie(_IE_RIC_CONTROL_OUTCOME, open_octets(outcome))]


def encode_control_request(request: RicControlRequest) -> bytes:
    """E2AP-PDU of ``request``, IEs in the order of the specification.

    Raises:
        E2EncodeError: a field is out of range.
    """
    ies = _common_ies(
        request.requestor_id, request.instance_id, request.ran_function_id, request.call_process_id
    )
    ies.append(_ie(_IE_RIC_CONTROL_HEADER, open_octets(request.header)))
    ies.append(_ie(_IE_RIC_CONTROL_MESSAGE, open_octets(request.message)))
    if request.acknowledge is not None:
        ies.append(_ie(_IE_RIC_CONTROL_ACK_REQUEST, bytes((request.acknowledge << 6,))))
    return _pdu(_INITIATING, ies)


def encode_control_acknowledge(answer: RicControlAcknowledge) -> bytes:
    """E2AP-PDU of ``answer``.

    Raises:
        E2EncodeError: a field is out of range.
    """
    ies = _common_ies(answer.requestor_id, answer.instance_id, answer.ran_function_id, answer.call_process_id)
    return _pdu(_SUCCESSFUL, ies + _outcome_ie(answer.outcome))


def encode_control_failure(answer: RicControlFailure) -> bytes:
    """E2AP-PDU of ``answer``.

    Raises:
        E2EncodeError: a field is out of range, or the cause is none of :data:`CAUSES`.
    """
    ies = _common_ies(answer.requestor_id, answer.instance_id, answer.ran_function_id, answer.call_process_id)
    ies.append(_ie(_IE_CAUSE, _encode_cause(answer.cause), _IGNORE))
    return _pdu(_UNSUCCESSFUL, ies + _outcome_ie(answer.outcome))


def _encode_cause(cause: Cause) -> bytes:
    root, additions = CAUSES.get(cause.group, ((), ()))
    writer = AperWriter()
    if cause.value in root:
        writer.bits(_GROUPS.index(cause.group), 1 + _GROUP_BITS)
        writer.bits(root.index(cause.value), 1 + (len(root) - 1).bit_length())
    elif cause.value in additions:
        writer.bits(_GROUPS.index(cause.group), 1 + _GROUP_BITS).bits(1, 1)
        writer.bits(additions.index(cause.value), 7)  # normally small number: 0, then 6 bits
    else:
        raise E2EncodeError(f"cause {cause} is unknown; groups: {', '.join(_GROUPS)}")
    return writer.done()
