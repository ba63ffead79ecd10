"""KPM indication header and message to values: the hot path of the xApp.

Written by hand for the message formats a RAN sends periodically (1: cell, 3: users), because generic
decoders cost about 0.5 ms per user. v2.03 and v3.00 to v5.00 differ here only in the size of the time stamp,
found by length; extension additions are skipped. Format 2 (users that meet a condition, report style 3) is
refused.
"""

from __future__ import annotations

from collections.abc import Sequence

from xapp.ric.aper import AperReader, E2DecodeError, decode_real
from xapp.ric.kpm.measurements import MeasurementListCache
from xapp.ric.kpm.model import KpmHeader, KpmIndication, UeId, UeReport, Value
from xapp.ric.kpm.ueid import read_ue_id

_NTP_UNIX_OFFSET_S = 2_208_988_800
_NTP_ERA_S = 1 << 32

_lists = MeasurementListCache()


def ntp_to_unix(stamp: bytes) -> float:
    """Unix seconds of a 4- or 8-byte NTP time stamp; a clear top bit means the era from 2036 (RFC 4330)."""
    seconds = int.from_bytes(stamp[:4], "big")
    if not stamp[0] & 0x80:
        seconds += _NTP_ERA_S
    fraction = int.from_bytes(stamp[4:8], "big") / _NTP_ERA_S
    return seconds - _NTP_UNIX_OFFSET_S + fraction


def _read_header(data: bytes, stamp_bytes: int) -> tuple[KpmHeader, int]:
    """Header read with a time stamp of the given size, and the number of bytes it took."""
    reader = AperReader(data, "indicationHeader")
    outer_extended = reader.bits(1)
    if reader.bits(1):
        raise reader.error("an unknown header format: format 1 is known")
    extended, options = reader.bits(1), reader.bits(4)
    reader.field = "colletStartTime"
    stamp = reader.octets(stamp_bytes)
    texts = ["", "", "", ""]
    sizes = (("fileFormatversion", 8, 4), ("senderName", 4, 9), ("senderType", 2, 4), ("vendorName", 1, 6))
    for index, (name, mask, bits) in enumerate(sizes):
        if options & mask:
            reader.field = name
            texts[index] = reader.printable_string(0, bits)
    if extended:
        reader.skip_extensions()
    if outer_extended:
        reader.skip_extensions()
    return KpmHeader(ntp_to_unix(stamp), stamp, *texts), (reader.pos + 7) >> 3


def decode_kpm_header(data: bytes) -> KpmHeader:
    """Indication header format 1; its time stamp of 8 bytes (from v3.00) or 4 (before) is told by length.

    Raises:
        E2DecodeError: neither fits.
    """
    try:
        header, used = _read_header(data, 8)
        if used == len(data):
            return header
    except E2DecodeError:
        pass
    header, used = _read_header(data, 4)
    if used != len(data):
        raise E2DecodeError(
            f"{len(data)} bytes hold no header with a time stamp of 4 or 8 bytes", used, "indicationHeader"
        )
    return header


def _read_value(reader: AperReader) -> Value:
    """One MeasurementRecordItem, at any bit position."""
    if reader.bits(1):
        reader.small_index()
        reader.octet_string()
        return None
    choice = reader.bits(2)
    if choice == 0:
        return reader.sized_uint(2)
    if choice == 1:
        return reader.real()
    if choice == 2:
        return None
    raise reader.error("value alternative 3: integer, real and noValue are known")


def _read_record(reader: AperReader) -> list[Value]:
    """Values of one granularity period (MeasurementRecord)."""
    reader.field = "measRecord"
    count = reader.length()
    if not count:
        raise reader.error("no values: at least one is required")
    data = reader.data
    last = len(data) - 1
    pos = reader.pos
    values: list[Value] = []
    for _ in range(count):
        byte = pos >> 3
        if byte < last:
            # Extension bit, 2 bits of choice, 2 bits of integer length, wherever they start.
            head = (((data[byte] << 8) | data[byte + 1]) >> (11 - (pos & 7))) & 0x1F
            if head < 4:
                start = (pos + 12) >> 3
                stop = start + head + 1
                if stop <= last + 1:
                    values.append(int.from_bytes(data[start:stop], "big"))
                    pos = stop << 3
                    continue
            elif head < 8:
                start = ((pos + 10) >> 3) + 1
                stop = start + data[start - 1] if start <= last else last + 2
                if stop <= last + 1:
                    try:
                        values.append(decode_real(data[start:stop]))
                    except (ValueError, OverflowError) as error:
                        reader.pos = pos
                        raise reader.error(f"REAL {data[start:stop].hex()}: {error}") from error
                    pos = stop << 3
                    continue
            elif head < 12:
                values.append(None)
                pos += 3
                continue
        reader.pos = pos
        values.append(_read_value(reader))
        pos = reader.pos
    reader.pos = pos
    return values


def _read_measurements(
    reader: AperReader, fallback: Sequence[str]
) -> tuple[list[dict[str, Value]], bool, int | None]:
    """Message format 1: values by period (oldest first), newest is incomplete, granularity in ms."""
    reader.field = "measData"
    head = reader.bits(3)
    records: list[list[Value]] = []
    incomplete = False
    for _ in range(reader.uint(2) + 1):
        item = reader.bits(2)
        records.append(_read_record(reader))
        incomplete = bool(item & 1)
        if incomplete:
            reader.extensible_enum(0)
        if item & 2:
            reader.skip_extensions()
    columns: Sequence[str] | None = _lists.read(reader) if head & 2 else None
    granularity: int | None = None
    if head & 1:
        reader.field = "granulPeriod"
        granularity = reader.sized_uint(2) + 1
    if head & 4:
        reader.skip_extensions()
    rows = []
    for values in records:
        names = columns
        if names is None:
            names = (
                fallback if len(fallback) == len(values) else [f"#{index}" for index in range(len(values))]
            )
        if len(names) != len(values):
            reader.field = "measRecord"
            raise reader.error(f"{len(values)} values for {len(names)} measurements")
        rows.append(dict(zip(names, values)))  # noqa: B905 - lengths are equal, checked above
    return rows, incomplete, granularity


def _read_plain_gnb_ue(reader: AperReader) -> UeId | None:
    """The commonest start of a UEMeasurementReportItem: gNB-UEID without optional parts, from a byte
    boundary.

    Returns None, and reads nothing, when the next bits are anything else.
    """
    data, start = reader.data, reader.pos >> 3
    # 16 bits: no extension, alternative 0, no extension, no options, then 3 bits of length and 2 of padding.
    if reader.pos & 7 or len(data) < start + 10 or data[start] or data[start + 1] & 0xE0:
        return None
    stop = start + 3 + (data[start + 1] >> 2)
    if stop + 7 > len(data) or data[stop] & 0x80:
        return None
    reader.pos = (stop + 7) << 3
    return UeId("gnb", int.from_bytes(data[start + 2 : stop], "big"))


def _read_users(reader: AperReader, fallback: Sequence[str]) -> tuple[list[UeReport], int | None]:
    """Message format 3: reports of users, and the granularity period of the last one."""
    reader.field = "ueMeasReportList"
    extended = reader.bits(1)
    users = []
    granularity: int | None = None
    for _ in range(reader.uint(2) + 1):
        item_extended = 0
        ue = _read_plain_gnb_ue(reader)
        if ue is None:
            item_extended = reader.bits(1)
            ue = read_ue_id(reader)
        rows, incomplete, granularity = _read_measurements(reader, fallback)
        if item_extended:
            reader.skip_extensions()
        users.append(UeReport(ue, rows[-1], incomplete, rows[:-1]))
    if extended:
        reader.skip_extensions()
    return users, granularity


def decode_kpm_indication(
    header: bytes, message: bytes, *, measurements: Sequence[str] = ()
) -> KpmIndication:
    """Decode the two octet strings of a KPM RIC Indication.

    Args:
        header, message: RIC indication header and message.
        measurements: names to use when the message leaves the list out (a node may, when the subscription's
            action definition gave it); without them, or when their number differs, keys are ``#0``, ``#1``,
            ...

    Raises:
        E2DecodeError: malformed, or message format 2.
    """
    decoded = decode_kpm_header(header)
    reader = AperReader(message, "indicationMessage")
    reader.bits(1)  # Extension additions would follow the choice; nothing in them is read.
    if reader.bits(1):
        index = reader.small_index()
        if index:
            raise reader.error(f"message format {index + 3}: formats 1 and 3 are decoded")
        users, granularity = _read_users(AperReader(reader.octet_string(), "ueMeasReportList"), measurements)
        return KpmIndication(decoded.timestamp, users, decoded, granularity_ms=granularity)
    if reader.bits(1):
        raise reader.error("message format 2: formats 1 and 3 are decoded")
    rows, _incomplete, granularity = _read_measurements(reader, measurements)
    return KpmIndication(decoded.timestamp, [], decoded, rows[-1], granularity)
