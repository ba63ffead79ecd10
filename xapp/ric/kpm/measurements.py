"""The measurement list of a KPM message: which measurement, under which label, each value belongs to.

Every user of an indication repeats the same list, and every indication repeats it again. So a parsed list is
kept with its bits, and :class:`MeasurementListCache` recognises it by comparing bits instead of parsing.
That is sound because aligned PER read from a byte boundary is a prefix code: equal bits parse equally.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from xapp.ric.aper import AperReader, AperWriter, E2EncodeError, length_determinant
from xapp.ric.kpm.labels import LABEL_BITS, read_label

MEASUREMENT_ID_PREFIX = "measID:"
MAX_NAME = 150
_MAX_LISTS = 16


def _read_label_item(reader: AperReader) -> str:
    """Text of one LabelInfoItem, empty for "no label"."""
    extended = reader.bits(1)
    text = read_label(reader)
    if extended:
        reader.skip_extensions()
    return text


def read_measurement_type(reader: AperReader) -> str:
    """Name of a MeasurementType choice: the name itself, or ``measID:<n>``.

    Names of more than 150 characters, which the size's extension marker would allow, are refused: no version
    has them, and each of thousands of labels would repeat one.
    """
    reader.field = "measType"
    if reader.bits(1):
        raise reader.error("an unknown alternative: measName and measID are known")
    if reader.bits(1):
        reader.field = "measID"
        return f"{MEASUREMENT_ID_PREFIX}{reader.extensible_uint(1, 16)}"
    reader.field = "measName"
    name = reader.printable_string(1, 8)
    if not 1 <= len(name) <= MAX_NAME:
        raise reader.error(f"{len(name)} characters: 1..{MAX_NAME} are legal")
    return name


def _read_item(reader: AperReader) -> list[str]:
    """Columns of one MeasurementInfoItem: one for each label."""
    extended = reader.bits(1)
    name = read_measurement_type(reader)
    reader.field = f"labelInfoList of {name}"
    count = reader.length()
    if not count:
        raise reader.error("no labels: at least one is required")
    labels = [_read_label_item(reader) for _ in range(count)]
    if extended:
        reader.skip_extensions()
    return [f"{name}[{label}]" if label else name for label in labels]


def read_measurement_list(reader: AperReader) -> tuple[str, ...]:
    """Columns of a MeasurementInfoList, in the order of the values."""
    reader.field = "measInfoList"
    columns: list[str] = []
    for _ in range(reader.uint(2) + 1):
        columns += _read_item(reader)
    return tuple(columns)


@dataclass(slots=True)
class _KnownList:
    whole: bytes
    tail_bits: int
    tail: int
    columns: tuple[str, ...]


@dataclass(slots=True)
class MeasurementListCache:
    """Reads measurement lists, parsing only those not seen lately; bounded, most recently used first."""

    _known: list[_KnownList] = field(default_factory=list)

    def read(self, reader: AperReader) -> tuple[str, ...]:
        """Same as :func:`read_measurement_list`."""
        reader.align()
        data = reader.data
        start = reader.pos >> 3
        for position, known in enumerate(self._known):
            if not data.startswith(known.whole, start):
                continue
            stop = start + len(known.whole)
            shift = 8 - known.tail_bits
            if known.tail_bits and (stop >= len(data) or data[stop] >> shift != known.tail):
                continue
            reader.pos = (stop << 3) + known.tail_bits
            if position:
                self._known.insert(0, self._known.pop(position))
            return known.columns
        columns = read_measurement_list(reader)
        stop, tail_bits = reader.pos >> 3, reader.pos & 7
        tail = data[stop] >> (8 - tail_bits) if tail_bits else 0
        self._known.insert(0, _KnownList(data[start:stop], tail_bits, tail, columns))
        del self._known[_MAX_LISTS:]
        return columns


def measurement_number(name: str) -> int | None:
    """``measID`` of ``measID:5``, None for a name.

    Raises:
        E2EncodeError: not a number of 1..65536.
    """
    if not name.startswith(MEASUREMENT_ID_PREFIX):
        return None
    try:
        number = int(name.removeprefix(MEASUREMENT_ID_PREFIX))
    except ValueError as error:
        raise E2EncodeError(f"{name!r}: {MEASUREMENT_ID_PREFIX}<number> is expected") from error
    if not 1 <= number <= 65536:
        raise E2EncodeError(f"{name!r}: 1..65536 are legal")
    return number


def _encode_item(name: str) -> bytes:
    writer = AperWriter()
    number = measurement_number(name)
    if number is not None:
        writer.bits(0, 1).bits(1, 2).bits(0, 1).uint(number - 1, 2)
    else:
        raw = name.encode("ascii", "replace")
        if not 1 <= len(raw) <= MAX_NAME or not name.isascii():
            raise E2EncodeError(f"measurement name {name!r}: 1..{MAX_NAME} ASCII characters are legal")
        writer.bits(0, 4).bits(len(raw) - 1, 8).octets(raw)
    # One label, "no label": no extensions, the first of 21 optional fields, its only value.
    return writer.octets(length_determinant(1)).bits(1 << LABEL_BITS, 24).done()


class MeasurementList:
    """A list of measurements without labels, encoded once.

    Args:
        names: measurement names (``DRB.UEThpDl``) or numbers (``measID:5``).

    Attributes:
        names: as given.
        encoded: MeasurementInfoList, starting and ending at a byte boundary.

    Raises:
        E2EncodeError: no name, too many, or one that cannot be encoded.
    """

    __slots__ = ("encoded", "names")

    def __init__(self, names: Sequence[str]) -> None:
        if not 1 <= len(names) <= 65535:
            raise E2EncodeError(f"{len(names)} measurements: 1..65535 are legal")
        self.names = tuple(names)
        self.encoded = (len(names) - 1).to_bytes(2, "big") + b"".join(map(_encode_item, names))
