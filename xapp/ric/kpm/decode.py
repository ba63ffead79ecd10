"""KPM indication header and message to values: the hot path of the xApp.

Written by hand because generic decoders cost most of a millisecond a user. What makes it quick, in this
order: the list of measurements is the same bytes for every user and every indication, so it is compared, not
parsed (:mod:`~xapp.ric.kpm.measurements`); within a message everything behind the values is compared as one;
user ids are known by their bytes (:mod:`~xapp.ric.kpm.ueid`); values that lie on byte boundaries, as all do
in records without a ``noValue``, are read without bit arithmetic. Bytes that fit no quick path take the
general one, which also words the errors.

v2.00 to v5.00 differ here in the size of the time stamp, found by length (:mod:`~xapp.ric.kpm.header`), and
in format 2 (:mod:`~xapp.ric.kpm.matching`). Extension additions are skipped.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from xapp.ric.aper import AperReader, decode_real
from xapp.ric.kpm.header import decode_kpm_header
from xapp.ric.kpm.matching import read_matched_list
from xapp.ric.kpm.measurements import MeasurementListCache
from xapp.ric.kpm.model import KpmHeader, KpmIndication, MatchedMeasurement, UeId, UeReport, Value
from xapp.ric.kpm.ueid import UeIdCache
from xapp.ric.kpm.versions import DEFAULT_KPM_VERSION, KpmLayout, KpmVersion, kpm_layout

_lists = MeasurementListCache()
_ue_ids = UeIdCache()


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


# 2**exponent for an exponent octet in two's complement.
_SCALE = tuple(2.0 ** (octet - 256 if octet & 0x80 else octet) for octet in range(256))
_MAX_PLAIN_REAL = 10
"""Longest REAL (octets) whose product of mantissa and scale cannot overflow a double."""


def _read_aligned_values(data: bytes, start: int, count: int) -> tuple[list[Value], int]:
    """Values from the byte ``start`` on while each begins at a byte boundary: integers and REALs.

    Returns:
        The values, and the byte after the last one; fewer than ``count`` when one of another shape comes up.
        The byte may be behind the end of ``data``: then the last values are not what they seem.
    """
    values: list[Value] = []
    position = start
    from_bytes, scale = int.from_bytes, _SCALE
    try:
        for _ in range(count):
            # No extension, 2 bits of choice, then an integer's 2 bits of length; padding is zero.
            head = data[position]
            if head == 0x20:
                first = position + 2
                size = data[position + 1]
                stop = first + size
                sign = data[first]
                if 2 < size <= _MAX_PLAIN_REAL and sign & 0xBF == 0x80:
                    # Base 2, no scale factor, an exponent of one octet, which is what encoders write.
                    value = from_bytes(data[first + 2 : stop]) * scale[data[first + 1]]
                    values.append(-value if sign & 0x40 else value)
                elif size < 0x80:
                    values.append(decode_real(data[first:stop]))
                else:
                    break
                position = stop
            elif head <= 0x18 and not head & 7:
                stop = position + 2 + (head >> 3)
                values.append(from_bytes(data[position + 1 : stop]))
                position = stop
            else:
                break
    except (IndexError, ValueError, OverflowError):
        pass  # The general path meets the same octets and names the field.
    return values, position


def _read_record(reader: AperReader) -> list[Value]:
    """Values of one granularity period (MeasurementRecord)."""
    reader.field = "measRecord"
    count = reader.length()
    if not count:
        raise reader.error("no values: at least one is required")
    return _read_values(reader, count)


def _read_values(reader: AperReader, count: int) -> list[Value]:
    """``count`` values from a byte boundary on."""
    reader.field = "measRecord"
    start = reader.pos >> 3
    values, position = _read_aligned_values(reader.data, start, count)
    if position > len(reader.data):
        values, position = [], start
    reader.pos = position << 3
    while len(values) < count:
        values.append(_read_value(reader))
    return values


# Format 1 with list and period, one MeasurementDataItem without flag or extension.
_ONE_PERIOD = b"\x60\0\0\0"


@dataclass(slots=True)
class _Frame:
    """What surrounds the values of a report: start and length of a record before, measurement list and
    granularity period behind, and the names that the list gave."""

    head: bytes
    tail: bytes
    columns: tuple[str, ...]


@dataclass(slots=True)
class _Measurements:
    """A decoded message format 1: rows by period (oldest first), newest is incomplete, granularity."""

    rows: list[dict[str, Value]]
    incomplete: bool
    granularity_ms: int | None
    frame: _Frame | None = None


def _read_data(reader: AperReader) -> tuple[list[list[Value]], bool]:
    """MeasurementData: values by period, and whether the newest is incomplete."""
    reader.field = "measData"
    records: list[list[Value]] = []
    incomplete = False
    for _ in range(reader.uint(2) + 1):
        item = reader.bits(2)
        records.append(_read_record(reader))
        incomplete = bool(item & 1)
        if incomplete:
            reader.field = "incompleteFlag"
            reader.extensible_enum(0)
        if item & 2:
            reader.field = "measData"
            reader.skip_extensions()
    return records, incomplete


def _read_granularity(reader: AperReader) -> int:
    reader.field = "granulPeriod"
    return reader.sized_uint(2) + 1


def _read_measurements(reader: AperReader, fallback: Sequence[str]) -> _Measurements:
    """Message format 1, whatever it holds."""
    reader.field = "measData"
    head = reader.bits(3)
    records, incomplete = _read_data(reader)
    tail_start = (reader.pos + 7) >> 3
    columns: Sequence[str] | None = _lists.read(reader) if head & 2 else None
    granularity = _read_granularity(reader) if head & 1 else None
    frame = None
    if isinstance(columns, tuple) and granularity is not None and not head & 4 and len(columns) < 0x80:
        repeated = _ONE_PERIOD + len(columns).to_bytes()
        frame = _Frame(repeated, reader.data[tail_start : reader.pos >> 3], columns)
    if head & 4:
        reader.field = "measReport"
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
    return _Measurements(rows, incomplete, granularity, frame)


def _read_repeated(reader: AperReader, frame: _Frame) -> dict[str, Value] | None:
    """Values of a report of one period in the same ``frame``, as those of one subscription are.

    Returns None, and reads nothing, when the next bits are anything else.
    """
    begin, data = reader.pos, reader.data
    if begin & 7 or not data.startswith(frame.head, begin >> 3):
        return None
    reader.pos = begin + 8 * len(frame.head)
    values = _read_values(reader, len(frame.columns))
    position = (reader.pos + 7) >> 3
    if not data.startswith(frame.tail, position):
        reader.pos = begin
        return None
    reader.pos = (position + len(frame.tail)) << 3
    return dict(zip(frame.columns, values))  # noqa: B905 - lengths are equal, checked above


def _read_users(reader: AperReader, fallback: Sequence[str]) -> tuple[list[UeReport], int | None]:
    """Message format 3: reports of users, and the granularity period of the last one."""
    reader.field = "ueMeasReportList"
    extended = reader.bits(1)
    users = []
    granularity: int | None = None
    frame: _Frame | None = None
    for _ in range(reader.uint(2) + 1):
        ue, item_extended = _ue_ids.read_item_start(reader)
        values = None if frame is None else _read_repeated(reader, frame)
        if values is None:
            report = _read_measurements(reader, fallback)
            frame, granularity = report.frame, report.granularity_ms
            rows = report.rows
            users.append(UeReport(ue, rows[-1], report.incomplete, rows[:-1]))
        else:
            users.append(UeReport(ue, values))
        if item_extended:
            reader.field = "ueMeasReportList"
            reader.skip_extensions()
    if extended:
        reader.field = "indicationMessage-Format3"
        reader.skip_extensions()
    return users, granularity


def _attribute(
    reader: AperReader, records: list[list[Value]], matched: Sequence[MatchedMeasurement]
) -> list[list[tuple[UeId, str]]] | None:
    """(user, key) of each value of each record, for one value a matched user and measurement in their order.

    Returns None where several labels of a measurement leave that open: their order among the users is not
    specified.

    Raises:
        E2DecodeError: neither reading fits the number of values.
    """
    reader.field = "matchingUEidPerGP"
    for item in matched:
        if item.users_by_period is not None and len(item.users_by_period) != len(records):
            raise reader.error(f"{len(item.users_by_period)} periods for {len(records)} measurement records")
    reader.field = "measRecord"
    keys: list[list[tuple[UeId, str]]] = []
    open_order = False
    for period, values in enumerate(records):
        owners = []
        with_labels = 0
        for item in matched:
            users = item.users if item.users_by_period is None else item.users_by_period[period]
            label = item.labels[0] if len(item.labels) == 1 else ""
            key = f"{item.name}[{label}]" if label else item.name
            owners += [(ue, key) for ue in users]
            with_labels += len(users) * max(len(item.labels), 1)
        if len(values) != len(owners):
            if len(values) != with_labels:
                raise reader.error(f"{len(values)} values for {len(owners)} matched users in all")
            open_order = True
        keys.append(owners)
    return None if open_order else keys


def _read_matching(reader: AperReader, layout: KpmLayout, header: KpmHeader) -> KpmIndication:
    """Message format 2."""
    reader.field = "indicationMessage-Format2"
    head = reader.bits(2)
    records, incomplete = _read_data(reader)
    matched = read_matched_list(reader, layout)
    granularity = _read_granularity(reader) if head & 1 else None
    if head & 2:
        reader.field = "indicationMessage-Format2"
        reader.skip_extensions()
    rows: dict[UeId, list[dict[str, Value]]] = {}
    for period, owners in enumerate(_attribute(reader, records, matched) or ()):
        for (ue, key), value in zip(owners, records[period], strict=True):
            periods = rows.setdefault(ue, [])
            while len(periods) <= period:
                periods.append({})
            periods[period][key] = value
    last = len(records) - 1
    users = [
        UeReport(ue, periods[last] if len(periods) > last else {}, incomplete, periods[:last])
        for ue, periods in rows.items()
    ]
    return KpmIndication(
        header.timestamp,
        users,
        header,
        granularity_ms=granularity,
        message_format=2,
        matched=matched,
        records=records,
    )


def _message_format(reader: AperReader, layout: KpmLayout) -> int:
    """Number of the format that follows; format 3 follows in an open type, unless in FlexRIC's dialect."""
    reader.bits(1)  # Extension additions would follow the choice; nothing in them is read.
    if reader.bits(1):
        index = reader.small_index()
        if index or layout.markers_moved:
            raise reader.error(f"extension alternative {index} of the message: formats 1 to 3 are decoded")
        return 3
    if not layout.markers_moved:
        return reader.bits(1) + 1
    index = reader.bits(2)
    if index > 2:
        raise reader.error(f"message alternative {index}: 0..2 are formats 1 to 3")
    return index + 1


def decode_kpm_indication(
    header: bytes,
    message: bytes,
    *,
    measurements: Sequence[str] = (),
    version: KpmVersion = DEFAULT_KPM_VERSION,
) -> KpmIndication:
    """Decode the two octet strings of a KPM RIC Indication.

    Args:
        header, message: RIC indication header and message.
        measurements: names to use when the message leaves the list out (a node may, when the subscription's
            action definition gave it); without them, or when their number differs, keys are ``#0``, ``#1``,
            ...
        version: what the node speaks; matters for format 2 up to v2.02, for ``flexric``, and for headers that
            can be read with either time stamp.

    Raises:
        E2DecodeError: malformed, or an unknown message format. Its offset counts in the octet string that
            ``field`` belongs to.
    """
    layout = kpm_layout(version)
    decoded = decode_kpm_header(header, layout.timestamp_octets)
    reader = AperReader(message, "indicationMessage")
    chosen = _message_format(reader, layout)
    if chosen == 3:
        content = reader if layout.markers_moved else reader.open("ueMeasReportList")
        users, granularity = _read_users(content, measurements)
        return KpmIndication(decoded.timestamp, users, decoded, granularity_ms=granularity, message_format=3)
    if chosen == 2:
        return _read_matching(reader, layout, decoded)
    report = _read_measurements(reader, measurements)
    return KpmIndication(
        decoded.timestamp,
        [],
        decoded,
        report.rows[-1],
        report.granularity_ms,
        cell_incomplete=report.incomplete,
        cell_earlier=report.rows[:-1],
    )
