"""E2AP-PDU as a tree, by pycrate's E2AP (the v2 modules, OID ...53148.1.2.1.0): what newer versions add comes
as octets under ``_unk_...`` names."""

from __future__ import annotations

from typing import Any

from xapp.ric.aper import E2DecodeError
from xapp.ric.asn1 import Bits

E2AP_PDU = "E2AP-PDU"
_OUTCOMES = (0x00, 0x20, 0x40)
_CRITICALITIES = (0x00, 0x40, 0x80)


def looks_like_e2ap(data: bytes) -> bool:
    """The first octets are an E2AP envelope's, and its length is that of ``data``."""
    if len(data) < 4 or data[0] not in _OUTCOMES or data[2] not in _CRITICALITIES:
        return False
    if data[3] < 0x80:
        return data[3] == len(data) - 4
    if data[3] < 0xC0:
        return len(data) > 4 and ((data[3] & 0x3F) << 8 | data[4]) == len(data) - 5
    return len(data) >= 16384


def _plain(value: Any) -> Any:
    """pycrate's value in the notation of :mod:`xapp.ric.asn1`."""
    match value:
        case dict():
            return {name: _plain(part) for name, part in value.items()}
        case list():
            return [_plain(part) for part in value]
        case (str() as name, part):
            return name, _plain(part)
        case (int() as number, int() as size):
            return Bits(number, size)
    return value


def decode_e2ap(data: bytes) -> Any:
    """The E2AP-PDU in ``data``, octet strings of service models as bytes.

    Raises:
        E2DecodeError: malformed; the offset is where pycrate stopped reading, within the innermost open type.
    """
    from pycrate_asn1dir import E2AP  # noqa: PLC0415 - half a second

    pdu = E2AP.E2AP_PDU_Descriptions.E2AP_PDU
    char = E2AP.Charpy(data)
    offsets = E2AP.ASN1CodecPER._off
    levels = len(offsets)
    try:
        pdu.from_aper(char)
        value = _plain(pdu.get_val())
    except RecursionError as error:
        raise E2DecodeError("nested too deeply", 0, E2AP_PDU) from error
    except Exception as error:
        # pycrate documents no exceptions: its own, assertions, index errors of lists and of bytes.
        offset = min(char._cur >> 3, len(data))
        raise E2DecodeError(f"no E2AP-PDU: {error or type(error).__name__}", offset, E2AP_PDU) from error
    finally:
        # An error leaves pycrate's stack of offsets as it was.
        del offsets[levels:]
    left = char.len_byte()
    if left:
        raise E2DecodeError(f"{left} bytes are left over behind the PDU", len(data) - left, E2AP_PDU)
    return value
