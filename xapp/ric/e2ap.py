"""E2AP RIC Indication: the envelope around a service model's header and message (O-RAN.WG3.E2AP clause
9.2.1.4).

A hand-written aligned PER codec of this one procedure, because a generic one costs more than the whole
budget of a message. It skips what it does not know (extensions, other IEs) and refuses everything that is no
RIC Indication.
"""

from __future__ import annotations

from dataclasses import dataclass

from xapp.ric.aper import AperReader, AperWriter, E2DecodeError, E2EncodeError, open_octets

__all__ = [
    "E2DecodeError",
    "E2EncodeError",
    "RicIndication",
    "decode_ric_indication",
    "encode_ric_indication",
]

_PROCEDURE_RIC_INDICATION = 5
_IE_RAN_FUNCTION_ID = 5
_IE_RIC_ACTION_ID = 15
_IE_RIC_CALL_PROCESS_ID = 20
_IE_RIC_INDICATION_HEADER = 25
_IE_RIC_INDICATION_MESSAGE = 26
_IE_RIC_INDICATION_SN = 27
_IE_RIC_INDICATION_TYPE = 28
_IE_RIC_REQUEST_ID = 29

_REJECT, _IGNORE = 0, 1


@dataclass(frozen=True, slots=True)
class RicIndication:
    """One RIC Indication.

    Attributes:
        requestor_id, instance_id: RIC Request ID, 0..65535 each; ``instance_id`` names the subscription at
            the E2 node.
        ran_function_id: 0..4095.
        action_id: 0..255.
        indication_type: 0 report, 1 insert.
        header, message: octet strings of the service model.
        sequence_number: 0..65535, optional.
        call_process_id: optional octet string.
    """

    requestor_id: int
    instance_id: int
    ran_function_id: int
    action_id: int
    indication_type: int
    header: bytes
    message: bytes
    sequence_number: int | None = None
    call_process_id: bytes | None = None


def _whole(reader: AperReader, inner: bytes, field: str) -> AperReader:
    """A reader of an open type's content; its errors count bytes inside that content."""
    reader.field = field
    return AperReader(inner, field)


def decode_ric_indication(pdu: bytes) -> RicIndication:  # noqa: PLR0912, PLR0915 - one branch an IE is the table
    """The RIC Indication in an E2AP-PDU.

    Raises:
        E2DecodeError: another procedure, a mandatory IE is missing, or the bytes are malformed.
    """
    reader = AperReader(pdu, "E2AP-PDU")
    # CHOICE (extension bit, 2 bits of index): 0 is initiatingMessage.
    choice = reader.bits(3)
    if choice:
        raise reader.error(f"choice {choice}: not an initiatingMessage (0)")
    reader.field = "procedureCode"
    procedure = reader.uint(1)
    if procedure != _PROCEDURE_RIC_INDICATION:
        raise reader.error(f"procedure {procedure}: not RICindication ({_PROCEDURE_RIC_INDICATION})")
    reader.field = "criticality"
    reader.bits(2)
    reader.field = "RICindication"
    body = _whole(reader, reader.octet_string(), "RICindication.protocolIEs")
    body.bits(1)  # Extension additions would come after the IEs; nothing in them is read.
    request: tuple[int, int] | None = None
    ran_function_id: int | None = None
    action_id: int | None = None
    indication_type: int | None = None
    header: bytes | None = None
    message: bytes | None = None
    sequence_number: int | None = None
    call_process_id: bytes | None = None
    for _ in range(body.uint(2)):
        body.field = "RICindication.protocolIEs"
        identifier = body.uint(2)
        body.bits(2)
        value = body.octet_string()
        if identifier == _IE_RIC_INDICATION_MESSAGE:
            message = AperReader(value, "RICindicationMessage").octet_string()
        elif identifier == _IE_RIC_INDICATION_HEADER:
            header = AperReader(value, "RICindicationHeader").octet_string()
        elif identifier == _IE_RIC_REQUEST_ID:
            inner = AperReader(value, "RICrequestID")
            inner.bits(1)
            request = (inner.uint(2), inner.uint(2))
        elif identifier == _IE_RAN_FUNCTION_ID:
            inner = AperReader(value, "RANfunctionID")
            ran_function_id = inner.uint(2)
            if ran_function_id > 4095:
                raise inner.error(f"{ran_function_id}: 0..4095 are legal")
        elif identifier == _IE_RIC_ACTION_ID:
            action_id = AperReader(value, "RICactionID").uint(1)
        elif identifier == _IE_RIC_INDICATION_TYPE:
            inner = AperReader(value, "RICindicationType")
            if inner.bits(1):
                raise inner.error("an extension value: report (0) and insert (1) are known")
            indication_type = inner.bits(1)
        elif identifier == _IE_RIC_INDICATION_SN:
            sequence_number = AperReader(value, "RICindicationSN").uint(2)
        elif identifier == _IE_RIC_CALL_PROCESS_ID:
            call_process_id = AperReader(value, "RICcallProcessID").octet_string()
    if (
        request is None
        or ran_function_id is None
        or action_id is None
        or indication_type is None
        or header is None
        or message is None
    ):
        found = {
            "RICrequestID": request,
            "RANfunctionID": ran_function_id,
            "RICactionID": action_id,
            "RICindicationType": indication_type,
            "RICindicationHeader": header,
            "RICindicationMessage": message,
        }
        missing = ", ".join(name for name, content in found.items() if content is None)
        raise body.error(f"mandatory IE missing: {missing}")
    return RicIndication(
        requestor_id=request[0],
        instance_id=request[1],
        ran_function_id=ran_function_id,
        action_id=action_id,
        indication_type=indication_type,
        header=header,
        message=message,
        sequence_number=sequence_number,
        call_process_id=call_process_id,
    )


def _ie(identifier: int, criticality: int, value: bytes) -> bytes:
    return identifier.to_bytes(2, "big") + bytes((criticality << 6,)) + open_octets(value)


def _unsigned(name: str, value: int, limit: int, octets: int) -> bytes:
    if not 0 <= value <= limit:
        raise E2EncodeError(f"{name} is {value}: 0..{limit} are legal")
    return value.to_bytes(octets, "big")


def encode_ric_indication(indication: RicIndication) -> bytes:
    """E2AP-PDU of ``indication``, IEs in the order of the specification.

    Raises:
        E2EncodeError: a field is out of range.
    """
    request = AperWriter().bits(0, 1)
    request.uint(indication.requestor_id, 2).uint(indication.instance_id, 2)
    if indication.indication_type not in (0, 1):
        raise E2EncodeError(f"indication_type is {indication.indication_type}: report (0) or insert (1)")
    ies = [
        _ie(_IE_RIC_REQUEST_ID, _REJECT, request.done()),
        _ie(_IE_RAN_FUNCTION_ID, _REJECT, _unsigned("ran_function_id", indication.ran_function_id, 4095, 2)),
        _ie(_IE_RIC_ACTION_ID, _REJECT, _unsigned("action_id", indication.action_id, 255, 1)),
    ]
    if indication.sequence_number is not None:
        number = _unsigned("sequence_number", indication.sequence_number, 65535, 2)
        ies.append(_ie(_IE_RIC_INDICATION_SN, _REJECT, number))
    ies += [
        _ie(_IE_RIC_INDICATION_TYPE, _REJECT, bytes((indication.indication_type << 6,))),
        _ie(_IE_RIC_INDICATION_HEADER, _REJECT, open_octets(indication.header)),
        _ie(_IE_RIC_INDICATION_MESSAGE, _REJECT, open_octets(indication.message)),
    ]
    if indication.call_process_id is not None:
        ies.append(_ie(_IE_RIC_CALL_PROCESS_ID, _REJECT, open_octets(indication.call_process_id)))
    body = b"\0" + len(ies).to_bytes(2, "big") + b"".join(ies)
    # initiatingMessage, procedure code, criticality ignore.
    return bytes((0, _PROCEDURE_RIC_INDICATION, _IGNORE << 6)) + open_octets(body)
