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


_MANDATORY = {
    _IE_RIC_REQUEST_ID: "RICrequestID",
    _IE_RAN_FUNCTION_ID: "RANfunctionID",
    _IE_RIC_ACTION_ID: "RICactionID",
    _IE_RIC_INDICATION_TYPE: "RICindicationType",
    _IE_RIC_INDICATION_HEADER: "RICindicationHeader",
    _IE_RIC_INDICATION_MESSAGE: "RICindicationMessage",
}


def _read_ies(body: AperReader) -> dict[int, tuple[bytes, int]]:
    """Content and offset in the PDU of each IE of a ProtocolIE-Container, by id; of equals the last."""
    data, base = body.data, body.base
    contents: dict[int, tuple[bytes, int]] = {}
    for _ in range(body.uint(2)):
        start = (body.pos >> 3) + 4
        # Id of two octets, criticality, length: short ones without the reader.
        size = data[start - 1] if start <= len(data) else 0x80
        if size < 0x80 and start + size <= len(data):
            identifier = data[start - 4] << 8 | data[start - 3]
            contents[identifier] = data[start : start + size], base + start
            body.pos = (start + size) << 3
            continue
        identifier = body.uint(2)
        body.bits(2)
        inner = body.open(body.field)
        contents[identifier] = inner.data, inner.base
    return contents


def _uint(content: tuple[bytes, int], octets: int, field: str) -> int:
    data, base = content
    return int.from_bytes(data) if len(data) == octets else AperReader(data, field, base).uint(octets)


def _octets(content: tuple[bytes, int], field: str) -> bytes:
    data, base = content
    return AperReader(data, field, base).octet_string()


def decode_ric_indication(pdu: bytes) -> RicIndication:
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
    body = reader.open("RICindication.protocolIEs")
    body.bits(1)  # Extension additions would come after the IEs; nothing in them is read.
    ies = _read_ies(body)
    if not ies.keys() >= _MANDATORY.keys():
        missing = ", ".join(name for identifier, name in _MANDATORY.items() if identifier not in ies)
        raise body.error(f"mandatory IE missing: {missing}")
    data, base = ies[_IE_RIC_REQUEST_ID]
    request = AperReader(data, "RICrequestID", base)
    request.bits(1)
    requestor_and_instance = request.uint(4)
    ran_function_id = _uint(ies[_IE_RAN_FUNCTION_ID], 2, "RANfunctionID")
    if ran_function_id > 4095:
        raise E2DecodeError(
            f"{ran_function_id}: 0..4095 are legal", ies[_IE_RAN_FUNCTION_ID][1], "RANfunctionID"
        )
    data, base = ies[_IE_RIC_INDICATION_TYPE]
    kind = AperReader(data, "RICindicationType", base)
    if kind.bits(1):
        raise kind.error("an extension value: report (0) and insert (1) are known")
    sequence_number = ies.get(_IE_RIC_INDICATION_SN)
    call_process_id = ies.get(_IE_RIC_CALL_PROCESS_ID)
    return RicIndication(
        requestor_and_instance >> 16,
        requestor_and_instance & 0xFFFF,
        ran_function_id,
        _uint(ies[_IE_RIC_ACTION_ID], 1, "RICactionID"),
        kind.bits(1),
        _octets(ies[_IE_RIC_INDICATION_HEADER], "RICindicationHeader"),
        _octets(ies[_IE_RIC_INDICATION_MESSAGE], "RICindicationMessage"),
        None if sequence_number is None else _uint(sequence_number, 2, "RICindicationSN"),
        None if call_process_id is None else _octets(call_process_id, "RICcallProcessID"),
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
