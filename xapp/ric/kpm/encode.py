"""KPM definitions for a subscription, and indications as an E2 node would write them.

The indications of the lab's E2 node (header format 1, message format 3) are written by hand because it writes
them many times a second; anything else: :func:`xapp.ric.kpm.schema.encode_kpm_pdu`.
"""

from __future__ import annotations

from collections.abc import Sequence

from xapp.ric.aper import AperWriter, E2EncodeError, encode_real, length_determinant, open_octets
from xapp.ric.kpm.action_definition import DEFAULT_GUAMI, encode_action_definition
from xapp.ric.kpm.header import NTP_UNIX_OFFSET_S
from xapp.ric.kpm.measurements import MeasurementList
from xapp.ric.kpm.model import Value

__all__ = [
    "DEFAULT_GUAMI",
    "encode_action_definition",
    "encode_event_trigger",
    "encode_indication_header",
    "encode_indication_message",
]

_MAX_UINT32 = 0xFFFFFFFF


def _period(name: str, milliseconds: int) -> int:
    if not 1 <= milliseconds <= _MAX_UINT32:
        raise E2EncodeError(f"{name} of {milliseconds} ms: 1..{_MAX_UINT32} are legal")
    return milliseconds - 1


def encode_event_trigger(period_ms: int) -> bytes:
    """EventTriggerDefinition format 1: report every ``period_ms`` milliseconds."""
    return AperWriter().bits(0, 3).sized_uint(_period("reporting period", period_ms), 2, 4).done()


def encode_indication_header(timestamp: float, *, sender_name: str = "", stamp_bytes: int = 8) -> bytes:
    """Indication header format 1.

    Args:
        timestamp: Unix seconds.
        sender_name: at most 400 ASCII characters, left out when empty.
        stamp_bytes: 8 (v3.00 and newer) or 4 (before).
    """
    ticks = round((timestamp + NTP_UNIX_OFFSET_S) * (1 << 32)) & ((1 << 64) - 1)
    stamp = ticks.to_bytes(8, "big")[:stamp_bytes]
    if not sender_name:
        return b"\0" + stamp
    raw = sender_name.encode("ascii", "replace")
    if len(raw) > 400:
        raise E2EncodeError(f"sender name of {len(raw)} characters: at most 400 are legal")
    return AperWriter().bits(0b0000100, 7).octets(stamp).bits(0, 1).uint(len(raw), 2).octets(raw).done()


def _encode_value(value: Value, writer: AperWriter) -> None:
    if value is None:
        writer.bits(0b010, 3)
    elif isinstance(value, int):
        writer.bits(0, 3).sized_uint(value, 2, 4)
    else:
        raw = encode_real(value)
        writer.bits(0b001, 3).octets(length_determinant(len(raw)) + raw)


def _encode_record(values: Sequence[Value]) -> bytes:
    """MeasurementRecord from a byte boundary, padded to one (what follows it is aligned)."""
    if None not in values:
        # Every value ends at a byte boundary: no bit arithmetic.
        parts = [length_determinant(len(values))]
        for value in values:
            if isinstance(value, int):
                if not 0 <= value <= _MAX_UINT32:
                    raise E2EncodeError(f"integer value {value}: 0..{_MAX_UINT32} are legal, send a float")
                octets = max((value.bit_length() + 7) >> 3, 1)
                parts.append(bytes(((octets - 1) << 3,)) + value.to_bytes(octets, "big"))
            elif value is not None:
                raw = encode_real(value)
                parts.append(bytes((0x20, len(raw))) + raw)
        return b"".join(parts)
    writer = AperWriter().octets(length_determinant(len(values)))
    for value in values:
        _encode_value(value, writer)
    return writer.done()


def encode_indication_message(
    reports: Sequence[tuple[int, Sequence[Value]]],
    measurements: MeasurementList,
    *,
    granularity_ms: int,
    guami: bytes = DEFAULT_GUAMI,
) -> bytes:
    """Indication message format 3: one granularity period for each user.

    Args:
        reports: (AMF-UE-NGAP-ID, values in the order of ``measurements``); 1..65535 of them.
        measurements: encoded once and repeated for each user, as RANs do.
        guami: 6 octets, PLMN then AMF region, set, pointer.

    Raises:
        E2EncodeError: no user, a value out of range, or a wrong number of values.
    """
    if not 1 <= len(reports) <= 65535:
        raise E2EncodeError(f"{len(reports)} users: 1..65535 are legal")
    if len(guami) != 6:
        raise E2EncodeError(f"GUAMI of {len(guami)} octets: 6 are needed")
    period = AperWriter().sized_uint(_period("granularity period", granularity_ms), 2, 4).done()
    tail = measurements.encoded + period
    # GUAMI's extension bit; then format 1 with list and period present, one MeasurementDataItem.
    middle = b"\0" + guami + b"\x60\0\0\0"
    parts = [b"\0", (len(reports) - 1).to_bytes(2, "big")]
    for identifier, values in reports:
        if len(values) != len(measurements.names):
            raise E2EncodeError(
                f"{len(values)} values of user {identifier} for {len(measurements.names)} names"
            )
        octets = max((identifier.bit_length() + 7) >> 3, 1)
        if identifier < 0 or octets > 5:
            raise E2EncodeError(f"AMF-UE-NGAP-ID {identifier}: 0..{(1 << 40) - 1} are legal")
        parts += [
            # 11 zero bits (no extension, UEID alternative 0, no optional part), 3 bits of length.
            bytes((0, (octets - 1) << 2)),
            identifier.to_bytes(octets, "big"),
            middle,
            _encode_record(values),
            tail,
        ]
    # IndicationMessage: format 3 is extension alternative 0, in an open type.
    return b"\x40\0" + open_octets(b"".join(parts))
