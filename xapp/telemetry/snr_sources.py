"""The SINR of users from all that a report says about their channel, each source weighed by trust.

Trust of a source is the share of plausible values lately, times what the check for one value for all users
leaves (:mod:`xapp.telemetry.trust`), times its freshness: it halves every :data:`HALF_LIFE_S` after the last
report of that source, and ends after :data:`FORGET_S`.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, Final

import numpy as np

from xapp.telemetry.columns import SOURCES, BoolArray, FloatArray, IntArray
from xapp.telemetry.radio_quality import (
    ERROR_SD_DB,
    SINR_RANGE_DB,
    sinr_from_cqi,
    sinr_from_throughput,
    snr_from_rsrp,
)
from xapp.telemetry.trust import SameValueDetector, TrustCounters, fuse

HALF_LIFE_S: Final = 1.0
FORGET_S: Final = 5.0

_MEMORY: Final = 0.1
"""Gain of the moving share of plausible values."""

_COLUMN: Final = {"SINR": "sinr", "CQI": "cqi", "RSRP": "rsrp", "PROXY": "proxy"}
_CHECKED: Final = ("SINR", "CQI", "RSRP")
"""Equal throughput or resource shares are what a fair scheduler gives: not a symptom."""

_SD_DB: Final = tuple(ERROR_SD_DB[source] for source in SOURCES)

_log = logging.getLogger(__name__)


class SnrSources:
    """Sources of the SINR of all users of a table.

    Args:
        columns: the table's columns; those of :data:`xapp.telemetry.columns.SOURCES` are kept here.
        nodes: names of the E2 nodes by index.
        out_of_range: counts implausible proxies, under ``PROXY``.
        on_finding: see :class:`xapp.telemetry.user_table.UserTable`.

    Attributes:
        carriers: E2 node -> usable downlink bandwidth in Hz, for nodes whose proxy is used.
        detector: one value for all users.
    """

    def __init__(
        self,
        columns: Mapping[str, Any],
        nodes: Sequence[str],
        out_of_range: Counter[str],
        on_finding: Callable[[str, str], None] | None,
    ) -> None:
        self.carriers: dict[int, float] = {}
        self.detector = SameValueDetector()
        self._columns = columns
        self._nodes = nodes
        self._out_of_range = out_of_range
        self._on_finding = on_finding
        self._doubted: set[str] = set()  # had an implausible value; those never doubted cost less

    @property
    def counters(self) -> TrustCounters:
        """Findings since the start."""
        return self.detector.counters

    def implausible(self, name: str, rows: IntArray) -> None:
        """Values of measurement ``name`` were out of range for these users."""
        column = _COLUMN.get(name)
        if column is not None:
            self._columns[f"{column}_plausible"][rows] *= 1.0 - _MEMORY
            self._doubted.add(name)

    def fold(
        self,
        node: int,
        rows: IntArray,
        values: Mapping[str, FloatArray],
        gaps: Collection[str],
        now_s: float,
    ) -> FloatArray:
        """Fuse what one indication says.

        Args:
            node: index of the E2 node.
            rows: int64 [N].
            values: measurement -> float64 [N] in its own unit, NaN where there is no plausible value.
            gaps: measurements that have a NaN.
            now_s: receive time, s.

        Returns:
            float64 [N]: SINR in dB, NaN for users of whom no source was heard in this indication.
        """
        heard: BoolArray = np.zeros(len(rows), bool)
        for source in _CHECKED:
            if source not in values:
                continue
            if source in gaps:
                present = ~np.isnan(values[source])
                if present.any():
                    self._hear(source, node, rows[present], values[source][present], now_s)
                    heard |= present
            else:
                self._hear(source, node, rows, values[source], now_s)
                heard[:] = True
        if "SINR" in values and "SINR" not in gaps and self._believed("SINR", rows, node):
            self._settle(rows, 0, 1.0, _SD_DB[0] ** 2)
            return values["SINR"]
        if self.carriers.get(node):
            heard |= self._estimate_proxy(node, rows, values, now_s)
        if not heard.any():
            return np.full(len(rows), np.nan)
        columns = self._columns
        fused = fuse(
            (
                columns["sinr_db"][rows],
                sinr_from_cqi(columns["cqi"][rows]),
                snr_from_rsrp(columns["rsrp_dbm"][rows]),
                columns["proxy_db"][rows],
            ),
            [self._trust(source, rows, now_s) for source in SOURCES],
            _SD_DB,
        )
        usable = heard & ~np.isnan(fused.snr_db)
        kept = rows[usable]
        self._settle(kept, fused.source[usable], fused.trust[usable], fused.error_var[usable])
        return np.where(usable, np.clip(fused.snr_db, *SINR_RANGE_DB), np.nan)

    def _hear(self, source: str, node: int, rows: IntArray, values: FloatArray, now_s: float) -> None:
        """Note the source as heard, examine it, renew its trust."""
        columns, column = self._columns, _COLUMN[source]
        columns[f"{column}_heard_s"][rows] = now_s
        stamps = columns[f"{column}_round"]
        stamp, event = self.detector.fold(node, source, values, stamps[rows])
        stamps[rows] = stamp
        if event:
            self._report(event, node, source)
        factor = self.detector.factor(node, source)
        if source in self._doubted:
            columns[f"{column}_trust"][rows] = self._recover(column, rows) * factor
        else:
            columns[f"{column}_trust"][rows] = factor

    def _recover(self, column: str, rows: IntArray) -> FloatArray:
        """A plausible value more: the new share of plausible ones."""
        share: FloatArray = self._columns[f"{column}_plausible"][rows]
        share = share + _MEMORY * (1.0 - share)
        share[share > 0.999] = 1.0  # else it never returns to full trust
        self._columns[f"{column}_plausible"][rows] = share
        return share

    def _believed(self, source: str, rows: IntArray, node: int) -> bool:
        """Full trust for everybody: the source alone decides, and the rest need not be computed."""
        if source not in self._doubted:
            return self.detector.factor(node, source) == 1.0
        return bool((self._columns[f"{_COLUMN[source]}_trust"][rows] == 1.0).all())

    def _settle(self, rows: IntArray, source: Any, trust: Any, error_var: Any) -> None:
        self._columns["snr_source"][rows] = source
        self._columns["snr_trust"][rows] = trust
        self._columns["snr_error_var"][rows] = error_var

    def _estimate_proxy(
        self, node: int, rows: IntArray, values: Mapping[str, FloatArray], now_s: float
    ) -> BoolArray:
        throughput, share = values.get("DRB.UEThpDl"), values.get("RRU.PrbTotDl")
        if throughput is None or share is None:
            return np.zeros(len(rows), bool)
        estimate = sinr_from_throughput(throughput, share, self.carriers[node])
        wrong = np.isinf(estimate)
        if wrong.any():
            self._out_of_range["PROXY"] += int(wrong.sum())
            self.implausible("PROXY", rows[wrong])
        present: BoolArray = np.isfinite(estimate)
        kept = rows[present]
        self._columns["proxy_db"][kept] = estimate[present]
        self._columns["proxy_heard_s"][kept] = now_s
        self._columns["proxy_trust"][kept] = self._recover("proxy", kept)
        return present

    def _trust(self, source: str, rows: IntArray, now_s: float) -> FloatArray:
        """float64 [N], 0..1; NaN for what is too old to be used."""
        column = _COLUMN[source]
        age = now_s - self._columns[f"{column}_heard_s"][rows]
        trust = self._columns[f"{column}_trust"][rows] * np.exp2(-np.maximum(age, 0.0) / HALF_LIFE_S)
        result: FloatArray = np.where(age <= FORGET_S, trust, np.nan)
        return result

    def _report(self, event: str, node: int, source: str) -> None:
        name = self._nodes[node]
        users = self.detector.found().get((node, source), 0)
        if event == "declared":
            text = f"{name}: {source} is one value for all {users} users; believed 1/{users}"
            _log.warning("one value for all users", extra={"e2_node": name, "metric": source, "users": users})
        else:
            text = f"{name}: {source} differs between users again"
            _log.info("values differ between users again", extra={"e2_node": name, "metric": source})
        if self._on_finding is not None:
            self._on_finding("same_value" if event == "declared" else "same_value_withdrawn", text)
