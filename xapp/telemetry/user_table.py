"""The user table: one row a user, one numpy array a column (:mod:`xapp.telemetry.columns`).

Reported metrics are claims. Some base stations report another user's SINR under this user's name, or a
constant; so each value is range-checked, an impossible one is counted and not used, and a user's
``distrust`` says how often that happened lately. What SINR, CQI, RSRP and throughput together say about the
channel, and how far each is believed, is settled in :mod:`xapp.telemetry.snr_sources`.

Times are seconds of one monotonic clock, given by the caller: the table does no I/O.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

import numpy as np

from codec_runtime.contract.telemetry import CapabilityReport, QualityReport
from xapp.telemetry.classifying import fold_classifier
from xapp.telemetry.columns import COLUMNS, LEFT_BEHIND, BoolArray, FloatArray, IntArray
from xapp.telemetry.holdings import HeldSets, read_holdings
from xapp.telemetry.snr_sources import SnrSources

RANGES: Final[dict[str, tuple[float, float]]] = {
    "SINR": (-30.0, 60.0),
    "CQI": (0.0, 15.0),
    "RSRP": (-160.0, -20.0),
    "DRB.UEThpDl": (0.0, 1e9),
    "RRU.PrbTotDl": (0.0, 100.0),
}
"""Plausible range of each KPM measurement used: dB, index (TS 38.214 5.2.2.1), dBm, kbit/s, percent."""

_PLAIN: Final = {
    "SINR": "sinr_db",
    "CQI": "cqi",
    "RSRP": "rsrp_dbm",
    "DRB.UEThpDl": "throughput_kbps",
    "RRU.PrbTotDl": "prb_percent",
}

UNKNOWN_GROUP: Final = "unknown"

MOST_SLICES: Final = 1024
"""A PLMN has far fewer; the ids come from outside."""

MOST_GROUPS: Final = 1024
MOST_CAPABILITY_SETS: Final = 4096
"""Devices name groups and capabilities: a faulty or hostile one must not fill the memory with new ones."""

LEVEL_SHIFT_DB: Final = 6.0
"""A larger change of PSNR between two transmissions is another picture, not an effect of rate or channel."""


class Labels:
    """Strings as small integers, so that a column can hold them.

    Args:
        most: names that are kept; further ones are -1, like none.
    """

    def __init__(self, most: int = 1 << 31) -> None:
        self.names: list[str] = []
        self._most = most
        self._index: dict[str, int] = {}

    def index(self, name: str) -> int:
        """Index of ``name``; a new one gets the next."""
        found = self._index.get(name)
        if found is None:
            if len(self.names) >= self._most:
                return -1
            found = self._index[name] = len(self.names)
            self.names.append(name)
        return found

    def name(self, index: int, default: str = "") -> str:
        """Name of an index, ``default`` for -1."""
        return self.names[index] if index >= 0 else default


class UserTable:
    """User id -> row; columns are attributes (views of the used rows), e.g. ``table.snr_db``: float64 [N].

    Args:
        capacity: rows allocated at first; doubles when full.
        snr_time_constant_s: of the SINR average and its variance.
        quality_memory: quality reports that offset and fading statistics look back over.
        max_users: more users than this are refused (counted under ``table-full``).
        on_finding: called with a kind (``same_value`` or ``same_value_withdrawn``) and a line that names the
            E2 node and the metric.

    Attributes:
        out_of_range: implausible values by measurement.
        departures: users that were served by a site and then heard at a node of another, by the site left.
        sources: trust in the sources of the SINR.
        held: what devices hold, by the index in column ``held_set``.
    """

    def __init__(
        self,
        capacity: int = 64,
        *,
        snr_time_constant_s: float = 0.5,
        quality_memory: float = 12.0,
        max_users: int = 100_000,
        on_finding: Callable[[str, str], None] | None = None,
    ) -> None:
        self.users: list[str] = []
        self.e2_nodes, self.groups, self.slices = Labels(), Labels(MOST_GROUPS), Labels()
        self.device_classes, self.decoders, self.classifiers = Labels(), Labels(), Labels(MOST_GROUPS)
        self.capability_sets: list[tuple[str, ...]] = []
        self._capability_index: dict[tuple[str, ...], int] = {}
        self.held = HeldSets()
        self.out_of_range: Counter[str] = Counter()
        self.departures: Counter[int] = Counter()
        self._rows: dict[str, int] = {}
        self._tau = snr_time_constant_s
        self._memory = quality_memory
        self._max_users = max_users
        self._columns: dict[str, Any] = {
            name: np.full(capacity, default, dtype) for name, (dtype, default) in COLUMNS.items()
        }
        self.sources = SnrSources(self._columns, self.e2_nodes.names, self.out_of_range, on_finding)

    def __len__(self) -> int:
        return len(self.users)

    def __getattr__(self, name: str) -> Any:
        if name in COLUMNS:
            return self._columns[name][: len(self.users)]
        raise AttributeError(name)

    def row(self, user: str) -> int | None:
        """Row of a user, None for an unknown one."""
        return self._rows.get(user)

    def ensure(self, user: str) -> int:
        """Row of a user, added if new; -1 when the table is full."""
        row = self._rows.get(user)
        if row is not None:
            return row
        if len(self.users) >= self._max_users:
            self.out_of_range["table-full"] += 1
            return -1
        row = len(self.users)
        if row == len(self._columns["snr_db"]):
            for name, (dtype, default) in COLUMNS.items():
                grown = np.full(2 * row, default, dtype)
                grown[:row] = self._columns[name]
                self._columns[name] = grown
        self.users.append(user)
        self._rows[user] = row
        return row

    def fold_indication(
        self,
        e2_node: str,
        users: Iterable[str],
        measurements: Mapping[str, Any],
        now_s: float,
        site: int = 0,
    ) -> IntArray:
        """Fold one indication of one E2 node.

        Args:
            e2_node: its id (RMR meid).
            users: N user ids.
            measurements: KPM measurement name -> N values (None or NaN where a user has none); names that
                are not in :data:`RANGES` are ignored.
            now_s: receive time, s.
            site: index of the site that serves the node, -1 for none. A user is served where it was heard
                last; nothing is decided for it yet at a site that it comes to.

        Returns:
            int64 [N], the rows; users that did not fit in a full table are left out.
        """
        rows = np.fromiter((self.ensure(user) for user in users), np.int64)
        fits = rows >= 0
        everything = bool(fits.all())
        if not everything:
            rows = rows[fits]
        if not len(rows):
            return rows
        columns = self._columns
        node = self.e2_nodes.index(e2_node)
        columns["e2_node"][rows] = node
        self._hand_over(rows, site)
        columns["heard_s"][rows] = now_s
        columns["reports"][rows] += 1
        bad: BoolArray | None = None
        plausible: dict[str, FloatArray] = {}
        gaps: set[str] = set()
        for name, raw in measurements.items():
            if name not in RANGES:
                continue
            values = np.asarray(raw, np.float64)
            if not everything:
                values = values[fits]
            low, high = RANGES[name]
            good = (values >= low) & (values <= high)
            if not good.all():
                gaps.add(name)
                wrong = ~good & ~np.isnan(values)
                if wrong.any():
                    self.out_of_range[name] += int(wrong.sum())
                    bad = wrong if bad is None else bad | wrong
                    self.sources.implausible(name, rows[wrong])
                values = np.where(good, values, np.nan)
                columns[_PLAIN[name]][rows[good]] = values[good]
            else:
                columns[_PLAIN[name]][rows] = values
            plausible[name] = values
        columns["distrust"][rows] *= 0.9
        if bad is not None:
            columns["distrust"][rows[bad]] += 0.1
        snr = self.sources.fold(node, rows, plausible, gaps, now_s)
        heard = ~np.isnan(snr)
        if heard.all():
            self._fold_snr(rows, snr, now_s)
        elif heard.any():
            self._fold_snr(rows[heard], snr[heard], now_s)
        return rows

    def set_slice(self, users: Iterable[str], slice_id: str) -> None:
        """Users of a slice: S-NSSAI in hexadecimal, SST then SD if there is one (``01``, ``01000003``)."""
        if len(self.slices.names) >= MOST_SLICES and slice_id not in self.slices.names:
            self.out_of_range["slices-full"] += 1
            return
        index = self.slices.index(slice_id)
        for user in users:
            row = self._rows.get(user)
            if row is not None:
                self._columns["slice"][row] = index

    def use_proxy(self, e2_node: str, carrier_hz: float) -> None:
        """Estimate the SINR of this node's users from throughput per resource block where it reports no SINR.

        Args:
            carrier_hz: bandwidth of all downlink resource blocks times the downlink's share of the time;
                0 ends it.
        """
        self.sources.carriers[self.e2_nodes.index(e2_node)] = carrier_hz

    def same_value_nodes(self) -> dict[tuple[str, str], int]:
        """(E2 node, metric) -> users, where one value is reported for all users."""
        return {
            (self.e2_nodes.name(node), metric): users
            for (node, metric), users in self.sources.detector.found().items()
        }

    def _hand_over(self, rows: IntArray, site: int) -> None:
        """These users are at ``site`` now; those who were at another leave behind what belongs to it."""
        before = self._columns["site"][rows]
        moved = before != site
        if not moved.any():
            return
        self._columns["site"][rows] = site
        left = moved & (before >= 0)
        for name in LEFT_BEHIND:
            self._columns[name][rows[left]] = COLUMNS[name][1]
        self.departures.update(before[left].tolist())

    def _fold_snr(self, rows: IntArray, values: FloatArray, now_s: float) -> None:
        """Irregularly sampled exponential moving average: gain 1 - exp(-dt / tau)."""
        columns = self._columns
        old = columns["snr_db"][rows]
        first = np.isnan(old)
        dt = np.clip(now_s - columns["snr_heard_s"][rows], 1e-3, 1e3)
        gain = np.where(first, 1.0, -np.expm1(-dt / self._tau))
        difference = np.where(first, 0.0, values - old)
        slope = gain * difference / dt
        slow = -np.expm1(-dt / (4 * self._tau))
        columns["snr_db"][rows] = np.where(first, values, old + gain * difference)
        columns["snr_var"][rows] = np.where(
            first, 0.0, (1 - slow) * (columns["snr_var"][rows] + slow * difference**2)
        )
        trend = columns["snr_trend_db_s"][rows]
        columns["snr_trend_db_s"][rows] = trend + np.where(first, 0.0, slow) * (slope - trend)
        columns["snr_last_db"][rows] = values
        columns["snr_heard_s"][rows] = now_s

    def fold_capability(self, report: CapabilityReport) -> bool:
        """Fold what a device can run; returns whether anything changed."""
        row = self.ensure(report.user)
        if row < 0:
            return False
        decoders = tuple(dict.fromkeys(report.decoders))
        known = self._capability_index.get(decoders)
        if known is None and len(self.capability_sets) >= MOST_CAPABILITY_SETS:
            self.out_of_range["capability-sets-full"] += 1
            return False
        if known is None:
            known = self._capability_index[decoders] = len(self.capability_sets)
            self.capability_sets.append(decoders)
        new = {
            "group": self.groups.index(report.group or UNKNOWN_GROUP),
            "device_class": self.device_classes.index(report.device_class),
            "capability_set": known,
            "held_set": self.held.index(read_holdings(report, self.out_of_range)),
        }
        changed = fold_classifier(report, self._columns, row, self.classifiers.index, self.out_of_range)
        for name, value in new.items():
            changed |= bool(self._columns[name][row] != value)
            self._columns[name][row] = value
        if len(self.held.sets) > 2 * len(self.users) + 64:
            self.held.compact(self.held_set)
        if report.slice:
            self.set_slice((report.user,), report.slice)
        return changed

    def fold_quality(self, report: QualityReport, expected_psnr_db: float, now_s: float) -> int:
        """Fold one measured transmission.

        Args:
            report: what was measured.
            expected_psnr_db: the surface at the reported effective SNR, prefix and decoder; NaN when the
                surface does not cover it, then only the SNR statistics are folded.
            now_s: receive time, s.

        Returns:
            The user's row; -1 when the report is out of range (counted under ``quality``) or the table full.
        """
        if not (-60.0 <= report.snr_db <= 90.0 and 0.0 <= report.psnr_db <= 100.0):
            self.out_of_range["quality"] += 1
            return -1
        row = self.ensure(report.user)
        if row < 0:
            return row
        columns = self._columns
        count = int(columns["qualities"][row])
        gain = 1.0 / (1.0 + min(count, self._memory))
        reported = float(columns["snr_db"][row])
        if not math.isnan(reported):
            self._ema("snr_bias_db", "snr_bias_var", row, report.snr_db - reported, gain)
        if not math.isnan(expected_psnr_db):
            self._ema("offset_db", "offset_var", row, report.psnr_db - expected_psnr_db, gain)
            columns["surface_db"][row] += gain * (expected_psnr_db - float(columns["surface_db"][row]))
            self._fold_step(row, expected_psnr_db, report.psnr_db, gain)
        since = now_s - float(columns["quality_s"][row])
        if count and 0 < since < 1e6:
            # Interval, not rate, is averaged: the mean of 1/interval is biased upwards.
            rate = float(columns["sending_rate"][row])
            interval = since if math.isnan(rate) else 1.0 / rate + gain * (since - 1.0 / rate)
            columns["sending_rate"][row] = 1.0 / max(interval, 1e-3)
        columns["psnr_db"][row] = report.psnr_db
        columns["quality_s"][row] = now_s
        columns["qualities"][row] = count + 1
        return row

    def _fold_step(self, row: int, expected_db: float, measured_db: float, gain: float) -> None:
        """How measured PSNR follows the surface between transmissions; level shifts are left out."""
        columns = self._columns
        expected_step = expected_db - float(columns["surface_last_db"][row])
        measured_step = measured_db - float(columns["psnr_db"][row])
        columns["surface_last_db"][row] = expected_db
        if abs(measured_step) <= LEVEL_SHIFT_DB and not math.isnan(expected_step):
            columns["step_power"][row] += gain * (expected_step**2 - float(columns["step_power"][row]))
            product = expected_step * measured_step
            columns["step_product"][row] += gain * (product - float(columns["step_product"][row]))

    def _ema(self, mean: str, variance: str, row: int, value: float, gain: float) -> None:
        columns = self._columns
        difference = value - float(columns[mean][row])
        if gain == 1.0:
            columns[mean][row], columns[variance][row] = value, 0.0
            return
        columns[mean][row] += gain * difference
        columns[variance][row] = (1 - gain) * (columns[variance][row] + gain * difference**2)

    def forget_content(self, rows: IntArray, memory: int = 3) -> None:
        """Let the offsets of these rows adapt quickly again: a new decoder version serves them."""
        self._columns["qualities"][rows] = np.minimum(self._columns["qualities"][rows], memory)

    def active(self, now_s: float, stale_after_s: float) -> BoolArray:
        """bool [N]: users with a usable SINR heard within ``stale_after_s``."""
        mask: BoolArray = (now_s - self.snr_heard_s) <= stale_after_s
        return mask

    def remove_silent(self, now_s: float, remove_after_s: float) -> list[str]:
        """Remove users of whom nothing was heard for ``remove_after_s``; returns their ids."""
        last = np.maximum(self.heard_s, self.quality_s)
        # A user known only from a capability report waits for its first indication.
        gone = ((now_s - last) > remove_after_s) & (last > -1e17)
        if not gone.any():
            return []
        removed = [self.users[row] for row in np.flatnonzero(gone)]
        keep = np.flatnonzero(~gone)
        for name, (_, default) in COLUMNS.items():
            column = self._columns[name]
            column[: len(keep)] = column[keep]
            column[len(keep) : len(self.users)] = default
        self.users = [self.users[row] for row in keep]
        self._rows = {user: row for row, user in enumerate(self.users)}
        return removed

    def group_name(self, row: int) -> str:
        """Group of a row, ``unknown`` before its capability report."""
        return self.groups.name(int(self._columns["group"][row]), UNKNOWN_GROUP)
