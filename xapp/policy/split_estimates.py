"""What link, device and server do for classifying users: predicted by KPM and rooflines, then corrected.

- *Rate*: bandwidth x 0.75 log2(1 + SINR), ended at 256QAM (:mod:`xapp.telemetry.radio_quality`), with the
  table's SINR, which may itself come from throughput per resource block. Averaged as the time of a bit, since
  times are linear in it; the worse of a short and a long average counts, as a link that failed a minute ago
  may fail again while a move is under way.
- *Network*: a line for each user from predicted to reported time; its intercept is the delay there and back,
  its slope says how far the rate was predicted wrongly.
- *Edge*: a line for each classifier at the site; the intercept is queue and overhead, the slope the server's
  slowness against its class.
- *Device*: a line for each classifier and compute class.

Network and edge also forget with time: nobody reports of a link or a server that all have left, and what they
were when they were left is not what they are for ever.
"""

from __future__ import annotations

import math
from typing import Final

import numpy as np

from codec_runtime.contract.classification import SplitReport
from xapp.split.latency import EdgeLoad, Floats, Link
from xapp.split.line_fit import SUMS, LinePrior, Lines, add_sample, fitted_lines
from xapp.split_options import SplitOptions
from xapp.telemetry.columns import LINK_SUMS, BoolArray, FloatArray, IntArray
from xapp.telemetry.radio_quality import MOST_EFFICIENCY, SHANNON_SHARE
from xapp.telemetry.user_table import UserTable

RESULT_BYTES: Final = 1000.0
"""Of an answer: logits or the best classes."""
LEAST_BPS: Final = 10e3
"""Rate predicted at least, so that times stay finite."""
_SHORT, _LONG = 0.5, 0.05
_LONGEST_S: Final = 600.0
_NET_SLOPES: Final = (1 / 32, 32.0)
_EDGE_PRIOR: Final = LinePrior(0.002, 1.0, slope_range=(0.02, 1000.0))
_DEVICE_PRIOR: Final = LinePrior(0.0, 1.0, slope_range=(0.02, 50.0))


class SplitEstimates:
    """See the module docstring; one site's.

    Args:
        table: its ``net_`` and ``bit_`` columns are written here.
    """

    def __init__(self, table: UserTable) -> None:
        self._table = table
        self._edge: dict[str, Floats] = {}
        self._device: dict[tuple[str, str], Floats] = {}

    def note_rates(self, rows: IntArray, options: SplitOptions) -> None:
        """Fold the present SINR of these rows into the averages; once a decision."""
        table = self._table
        now = 1.0 / predicted_bps(table.snr_db[rows], 1e6 * options.uplink_mhz)
        for column, newest in ((table.bit_s, _SHORT), (table.bit_long_s, _LONG)):
            before = column[rows]
            column[rows] = np.where(np.isnan(before), now, before + newest * (now - before))

    def age(self, rows: BoolArray, elapsed_s: float, options: SplitOptions) -> None:
        """Let what was reported of links and the server count less; once a decision.

        Args:
            rows: mask of the site's own; other sites share the table.
        """
        kept = 0.5 ** (max(elapsed_s, 0.0) / options.memory_s)
        for name in LINK_SUMS:
            getattr(self._table, name)[rows] *= kept
        for sums in self._edge.values():
            np.multiply(sums, kept, out=sums)

    def link(self, rows: IntArray, options: SplitOptions) -> Link:
        """Of these rows, whose rates were noted."""
        table = self._table
        bit_s = np.maximum(table.bit_s[rows], table.bit_long_s[rows])
        sums = np.stack([getattr(table, name)[rows] for name in LINK_SUMS], axis=1)
        lines = fitted_lines(sums, _typical_airtime_s(bit_s), _network_prior(options))
        up = 1.0 / (bit_s * lines.slope)
        return Link(up, up * options.downlink_mhz / options.uplink_mhz, lines.intercept / 2.0)

    def edge(self, network: str, whole_s: float) -> EdgeLoad:
        """Queue and slowness of the server for a classifier of which it computes ``whole_s`` in all."""
        line = _line(self._edge.get(network), whole_s, _EDGE_PRIOR)
        return EdgeLoad(line.intercept[0], line.slope[0])

    def device(self, network: str, compute_class: str, whole_s: float) -> tuple[float, float]:
        """(Seconds beside computing, slowness against the class) of devices."""
        line = _line(self._device.get((network, compute_class)), whole_s, _DEVICE_PRIOR)
        return float(line.intercept[0]), float(line.slope[0])

    def note_report(
        self, row: int, report: SplitReport, device_s: float, edge_s: float, options: SplitOptions
    ) -> bool:
        """Fold what a device measured; False for a report out of range, which is not used.

        Args:
            row: of the user. device_s, edge_s: predicted by the rooflines for the cut of the report.
        """
        times = (report.device_ms / 1e3, report.network_ms / 1e3, report.edge_ms / 1e3)
        if not (all(0.0 <= time <= _LONGEST_S for time in times) and 0 <= report.feature_bytes <= 1 << 30):
            return False
        table = self._table
        bit_s = float(table.bit_s[row])
        if report.feature_bytes and not math.isnan(bit_s):
            down_bytes = RESULT_BYTES * options.uplink_mhz / options.downlink_mhz
            air = 8.0 * bit_s * (report.feature_bytes + down_bytes)
            sums = np.array([getattr(table, name)[row] for name in LINK_SUMS])
            add_sample(sums, air, times[1], _network_prior(options))
            for name, value in zip(LINK_SUMS, sums, strict=True):
                getattr(table, name)[row] = value
        if report.feature_bytes:
            sums = self._edge.setdefault(report.network, np.zeros(SUMS))
            add_sample(sums, edge_s, times[2], _EDGE_PRIOR)
        key = (report.network, report.device_class)
        add_sample(self._device.setdefault(key, np.zeros(SUMS)), device_s, times[0], _DEVICE_PRIOR)
        return True


def predicted_bps(snr_db: FloatArray, bandwidth_hz: float) -> FloatArray:
    """Rate for a SINR, attenuated Shannon bound; at least :data:`LEAST_BPS`."""
    efficiency = SHANNON_SHARE * np.log2(1.0 + np.power(10.0, np.asarray(snr_db) / 10.0))
    rate: FloatArray = np.maximum(np.minimum(efficiency, MOST_EFFICIENCY) * bandwidth_hz, LEAST_BPS)
    return rate


def _network_prior(options: SplitOptions) -> LinePrior:
    return LinePrior(2.0 * options.delay_ms / 1e3, 1.0, slope_range=_NET_SLOPES)


def _typical_airtime_s(bit_s: FloatArray) -> FloatArray:
    """Of 10 kB."""
    return bit_s * 8e4


def _line(sums: Floats | None, scale: float, prior: LinePrior) -> Lines:
    known = np.zeros(SUMS) if sums is None else sums
    return fitted_lines(known[None], max(scale, 1e-6), prior)
