"""Message format 2 of KPM (report style 3): which users met the condition of each measurement.

Its layout differs between versions (:mod:`~xapp.ric.kpm.versions`), and nothing in the bytes tells which one
a node writes: it is chosen by configuration.
"""

from __future__ import annotations

from collections.abc import Callable

from xapp.ric.aper import AperReader
from xapp.ric.kpm.labels import read_label
from xapp.ric.kpm.measurements import read_measurement_type
from xapp.ric.kpm.model import MatchedMeasurement, UeId
from xapp.ric.kpm.ueid import read_ue_id
from xapp.ric.kpm.versions import KpmLayout

_MAX_CONDITIONS = 32768
_MAX_USERS = 65535


_TEST_TYPES = (
    *("gBR", "aMBR", "isStat", "isCatM", "rSRP", "rSRQ"),
    *("ul-rSRP", "cQI", "fiveQI", "qCI", "sNSSAI"),
)
_ROOT_TEST_TYPES = 6
_TEST_EXPRESSIONS = ("equal", "greaterthan", "lessthan", "contains", "present")


def _test_type(reader: AperReader, layout: KpmLayout) -> str:
    reader.field = "testType"
    known = len(_TEST_TYPES) if layout.markers_moved else _ROOT_TEST_TYPES
    if reader.bits(1):
        index = reader.small_index() + known
        reader.octet_string()
        return _TEST_TYPES[index] if index < len(_TEST_TYPES) else f"testType#{index}"
    index = reader.bits(4 if layout.markers_moved else 3)
    if index >= known:
        raise reader.error(f"alternative {index}: 0..{known - 1} are known")
    reader.extensible_enum(0)
    return _TEST_TYPES[index]


def _bit_string(reader: AperReader) -> str:
    reader.align()
    count = reader.length()
    reader.align()
    return f"{reader.bits(count):0{count}b}" if count else ""


def _flag(reader: AperReader) -> str:
    return "true" if reader.bits(1) else "false"


def _integer(reader: AperReader) -> str:
    return str(reader.unbounded_int())


_TEST_VALUES: tuple[Callable[[AperReader], str], ...] = (
    _integer,  # valueInt
    _integer,  # valueEnum
    _flag,
    _bit_string,
    lambda reader: reader.octet_string().hex(),
    lambda reader: reader.octet_string().decode("ascii", "replace"),
    lambda reader: repr(reader.real()),
)
_ROOT_TEST_VALUES = 6


def _test_value(reader: AperReader, layout: KpmLayout) -> str:
    reader.field = "testValue"
    known = len(_TEST_VALUES) if layout.markers_moved else _ROOT_TEST_VALUES
    if reader.bits(1):
        index = reader.small_index() + known
        content = reader.open("testValue")
        return _TEST_VALUES[index](content) if index < len(_TEST_VALUES) else f"testValue#{index}"
    index = reader.bits(3)
    if index >= known:
        raise reader.error(f"alternative {index}: 0..{known - 1} are known")
    return _TEST_VALUES[index](reader)


def read_test_condition(reader: AperReader, layout: KpmLayout) -> str:
    """Text of a TestCondInfo: type, expression, value, the latter two where present."""
    reader.field = "testCondInfo"
    extended = reader.bits(1)
    options = reader.bits(2) if not layout.test_mandatory else 3
    words = [_test_type(reader, layout)]
    if options & 2:
        reader.field = "testExpr"
        index = reader.extensible_enum(3)
        if index is not None and index >= len(_TEST_EXPRESSIONS):
            raise reader.error(f"{index}: 0..{len(_TEST_EXPRESSIONS) - 1} are known")
        words.append("?" if index is None else _TEST_EXPRESSIONS[index])
    if options & 1:
        words.append(_test_value(reader, layout))
    if extended:
        reader.skip_extensions()
    return " ".join(words)


def _read_condition(reader: AperReader, layout: KpmLayout, labels: list[str]) -> str:
    """Text of one MatchingCondItem; a label is also appended to ``labels``."""
    reader.field = "matchingCond"
    extended, alternative_follows = 0, 0
    if not layout.matching_cond_choice:
        extended, alternative_follows = reader.bits(1), reader.bits(1)
    if reader.bits(1):
        text = f"matchingCond#{reader.small_index() + 2}"
        reader.octet_string()
    elif reader.bits(1):
        text = read_test_condition(reader, layout)
    else:
        text = read_label(reader)
        labels.append(text)
    if alternative_follows:
        reader.field = "logicalOR"
        reader.extensible_enum(0)
        text += " or"
    if extended:
        reader.skip_extensions()
    return text


def _read_users(reader: AperReader, field: str) -> tuple[UeId, ...]:
    """MatchingUEidList and MatchingUEidList-PerGP, which are laid out alike."""
    reader.field = field
    count = reader.uint(2) + 1
    if count > _MAX_USERS:
        raise reader.error(f"{count} users: 1..{_MAX_USERS} are legal")
    users = []
    for _ in range(count):
        extended = reader.bits(1)
        users.append(read_ue_id(reader))
        if extended:
            reader.skip_extensions()
    return tuple(users)


def _read_users_by_period(reader: AperReader) -> tuple[tuple[UeId, ...], ...]:
    periods: list[tuple[UeId, ...]] = []
    reader.field = "matchingUEidPerGP"
    for _ in range(reader.uint(2) + 1):
        reader.field = "matchingUEidPerGP"
        extended = reader.bits(1)
        if reader.bits(1):
            raise reader.error("an unknown alternative: noUEmatched and oneOrMoreUEmatched are known")
        if reader.bits(1):
            periods.append(_read_users(reader, "matchingUEidPerGP"))
        else:
            reader.extensible_enum(0)
            periods.append(())
        if extended:
            reader.skip_extensions()
    return tuple(periods)


def _read_matched(reader: AperReader, layout: KpmLayout) -> MatchedMeasurement:
    reader.field = "measCondUEidList"
    extended = reader.bits(1)
    options = reader.bits(2) if layout.markers_moved else reader.bits(1) << 1
    name = read_measurement_type(reader)
    reader.field = "matchingCond"
    count = reader.uint(2) + 1
    if count > _MAX_CONDITIONS:
        raise reader.error(f"{count} conditions: 1..{_MAX_CONDITIONS} are legal")
    labels: list[str] = []
    conditions = tuple(_read_condition(reader, layout, labels) for _ in range(count))
    users = _read_users(reader, "matchingUEidList") if options & 2 else ()
    by_period = _read_users_by_period(reader) if options & 1 else None
    if extended:
        additions = reader.extensions()
        if 0 in additions and not layout.markers_moved:
            by_period = _read_users_by_period(additions[0])
    return MatchedMeasurement(name, conditions, tuple(labels), users, by_period)


def read_matched_list(reader: AperReader, layout: KpmLayout) -> tuple[MatchedMeasurement, ...]:
    """A MeasurementCondUEidList.

    Raises:
        E2DecodeError: malformed under this layout.
    """
    reader.field = "measCondUEidList"
    return tuple(_read_matched(reader, layout) for _ in range(reader.uint(2) + 1))
