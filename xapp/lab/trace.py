"""A measured drive test in place of the channel model.

CSV in the format of the UCC 5G dataset (Raca et al., "Beyond throughput, the next generation: a 5G dataset
with channel and context metrics", MMSys 2020): a header, then one row about every second with ``Timestamp``
(``2019.12.01_12.11.21``), ``Speed`` (km/h), ``RSRP`` (dBm), ``SNR`` (dB), ``CQI``, ``DL_bitrate`` (kbit/s)
and more. ``-`` means not measured.
"""

from __future__ import annotations

import csv
import io
import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import numpy as np

from xapp.lab.channel import SINR_RANGE_DB, Floats, LinkState, cqi_from_sinr

logger = logging.getLogger(__name__)

_TIME_FORMAT = "%Y.%m.%d_%H.%M.%S"
_MISSING = frozenset({"-", ""})
_LARGEST_BACKWARD_S = 5.0


class TraceError(ValueError):
    """The file is not a drive-test trace; the message names file, line and column."""


@dataclass(frozen=True)
class _Column:
    """Values outside ``low .. high`` are what the phone writes when it has no measurement, or nonsense.

    ``sentinel`` values are "not measured"; other values out of range are an error.
    """

    low: float
    high: float
    sentinel: float | None = None


# Ranges: RSRP of TS 38.133 table 10.1.6.1-1, CQI of TS 38.214; -200 dBm is what Android reports without a
# cell.
COLUMNS: Mapping[str, _Column] = {
    "SNR": _Column(-40.0, 60.0),
    "RSRP": _Column(-156.0, -31.0, sentinel=-200.0),
    "CQI": _Column(0.0, 15.0),
    "DL_bitrate": _Column(0.0, 1e8),
    "UL_bitrate": _Column(0.0, 1e8),
    "Speed": _Column(0.0, 1000.0),
}
REQUIRED = ("Timestamp", "SNR", "RSRP", "CQI")


@dataclass(frozen=True)
class Trace:
    """One drive test.

    Attributes:
        name: file name.
        seconds: (T,) since the first row, increasing.
        values: by column name, (T,) without gaps: a missing value is the last one measured.
    """

    name: str
    seconds: Floats
    values: Mapping[str, Floats]

    @property
    def duration_s(self) -> float:
        """Time covered, seconds; above 0."""
        return float(self.seconds[-1])

    def at(self, column: str, time_s: float) -> float:
        """Linear interpolation; the trace is played forwards, then backwards, so that it never jumps."""
        return float(np.interp(_mirrored(time_s, self.duration_s), self.seconds, self.values[column]))


def _mirrored(time_s: float, duration_s: float) -> float:
    phase = time_s % (2.0 * duration_s)
    return phase if phase <= duration_s else 2.0 * duration_s - phase


def parse_trace(text: str, name: str = "trace") -> Trace:
    """Read one CSV.

    Raises:
        TraceError: column missing, value not a number or out of range, time unreadable or jumping
        backwards, a column
            without any measurement, fewer than two points in time.
    """
    reader = csv.reader(io.StringIO(text))
    try:
        rows = list(reader)
    except csv.Error as error:
        raise TraceError(f"{name}, line {reader.line_num}: not CSV: {error}") from error
    if not rows:
        raise TraceError(f"{name}: empty file; a header line with {', '.join(REQUIRED)} is needed")
    header = [cell.strip() for cell in rows[0]]
    absent = [column for column in REQUIRED if column not in header]
    if absent:
        found = ", ".join(header)[:200]
        raise TraceError(f"{name}, line 1: column {', '.join(absent)} is missing; found {found}")
    time_index = header.index("Timestamp")
    indices = {column: header.index(column) for column in COLUMNS if column in header}

    # Several rows may carry the same second: the last one counts.
    points: dict[float, dict[str, float]] = {}
    carried: dict[str, float] = {}
    start, last = 0.0, -math.inf
    for line, row in enumerate(rows[1:], start=2):
        if not row:
            continue
        if len(row) < len(header):
            raise TraceError(f"{name}, line {line}: {len(row)} columns, the header has {len(header)}")
        time = _time(row[time_index], name, line)
        if not points:
            start = time
        elif time < last - _LARGEST_BACKWARD_S:
            raise TraceError(
                f"{name}, line {line}, column Timestamp: {row[time_index]!r} goes back {last - time:.0f} s"
            )
        # The phone's clock is corrected by a second now and then: time stands still until it has caught up.
        last = max(time, last)
        for column, index in indices.items():
            value = _value(row[index], column, name, line)
            if value is not None:
                carried[column] = value
        points[last - start] = dict(carried)
    return _complete(points, tuple(indices), name)


def _time(text: str, name: str, line: int) -> float:
    try:
        return datetime.strptime(text.strip(), _TIME_FORMAT).timestamp()
    except ValueError as error:
        raise TraceError(
            f"{name}, line {line}, column Timestamp: {text!r} is not a time like 2019.12.01_12.11.21"
        ) from error


def _value(text: str, column: str, name: str, line: int) -> float | None:
    text = text.strip()
    if text in _MISSING:
        return None
    try:
        value = float(text)
    except ValueError as error:
        raise TraceError(
            f"{name}, line {line}, column {column}: {text!r} is neither a number nor '-'"
        ) from error
    limits = COLUMNS[column]
    if value == limits.sentinel:
        return None
    if not limits.low <= value <= limits.high:
        raise TraceError(
            f"{name}, line {line}, column {column}: {text} is outside {limits.low:g} .. {limits.high:g}"
        )
    return value


def _complete(points: Mapping[float, Mapping[str, float]], columns: Sequence[str], name: str) -> Trace:
    if len(points) < 2:
        raise TraceError(f"{name}: {len(points)} points in time; at least two are needed")
    values: dict[str, Floats] = {}
    for column in columns:
        measured = np.array([point.get(column, math.nan) for point in points.values()], dtype=np.float64)
        known = np.flatnonzero(~np.isnan(measured))
        if len(known) == 0:
            if column in REQUIRED:
                raise TraceError(f"{name}, column {column}: no measurement in the whole file")
            continue
        # Rows before the first measurement have nothing to carry forward: they take the first one.
        measured[: known[0]] = measured[known[0]]
        values[column] = measured
    return Trace(name, np.array(list(points), dtype=np.float64), values)


def load_traces(path: Path) -> list[Trace]:
    """Read a CSV file, or every ``*.csv`` of a folder in name order.

    Of a folder, files that are no traces (or in which the phone measured no SNR) are left out and named in
    the log.

    Raises:
        TraceError: nothing there, unreadable, or not a trace; for a folder: no trace at all.
    """
    files = sorted(path.glob("*.csv")) if path.is_dir() else [path]
    if not files:
        raise TraceError(f"{path}: no *.csv file in this folder")
    traces = []
    for file in files:
        try:
            text = file.read_text(encoding="utf-8", errors="replace")
        except OSError as error:
            raise TraceError(f"{file}: cannot be read: {error}") from error
        try:
            traces.append(parse_trace(text, file.name))
        except TraceError as error:
            if len(files) == 1:
                raise
            logger.warning("trace left out", extra={"error": str(error)})
    if not traces:
        raise TraceError(f"{path}: none of the {len(files)} CSV files is a trace")
    return traces


class TraceChannel:
    """Every user follows a trace from an offset of its own.

    Args:
        traces: user ``i`` follows trace ``i mod len(traces)``.
        users: N.
        seed: of the offsets.
    """

    def __init__(self, traces: Sequence[Trace], users: int, seed: int) -> None:
        if not traces:
            raise ValueError("no trace")
        random = np.random.default_rng([seed, 601])
        self._traces = [traces[i % len(traces)] for i in range(users)]
        self._offsets = np.array([random.uniform(0.0, 2.0 * trace.duration_s) for trace in self._traces])
        self._elapsed = 0.0

    def step(self, seconds: float, attenuation_db: Floats) -> LinkState:
        """The state ``seconds`` later; attenuation lowers SNR, RSRP, and the CQI to what the lower SNR
        supports."""
        self._elapsed += seconds
        measured = np.clip(self._column("SNR", 0.0), *SINR_RANGE_DB)
        sinr = np.clip(measured - attenuation_db, *SINR_RANGE_DB)
        cqi = np.rint(self._column("CQI", 0.0)).astype(np.int64)
        lost = cqi_from_sinr(measured) - cqi_from_sinr(sinr)
        return LinkState(
            sinr_db=sinr,
            cqi=np.clip(cqi - lost, 0, 15),
            rsrp_dbm=np.clip(self._column("RSRP", -110.0) - attenuation_db, -156.0, -31.0),
            throughput_kbps=np.rint(self._column("DL_bitrate", 0.0)).astype(np.int64),
            los=np.ones(len(self._traces), dtype=np.bool_),
        )

    def _column(self, column: str, default: float) -> Floats:
        return np.array(
            [
                trace.at(column, offset + self._elapsed) if column in trace.values else default
                for trace, offset in zip(self._traces, self._offsets, strict=True)
            ]
        )
