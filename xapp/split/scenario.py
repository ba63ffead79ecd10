"""What users live through in a comparison of deciders: links from drive tests, a stated load of the edge.

*Throughput.* A drive test tells the CQI and the bit rate that an application used, not what was to be had;
in the up direction that is little more than acknowledgements. So the rate to be had is taken from the CQI:

    uplink = efficiency(CQI) * bandwidth * uplink share of the TDD frame * (1 - overhead) * share of the cell

with the efficiency of TS 38.214 table 5.2.2.1-2 and the overheads of TS 38.306 clause 4.1.2 (0.08 up, 0.14
down). The CQI is of the downlink; that the uplink is limited by the phone's power is not in it.
:func:`claim_check` holds the claim against what the same traces did carry: its level is right, but from
second to second a download's rate has little to do with the CQI (other users, another carrier). Hence the
second way, ``carried``: the rate to be had down is what a download (a session that takes what it can get)
carried, and up this times the ratio of the two formulas. It is measured, with all its swings, but of few
sessions, and in the other direction.

*Load.* The edge server is lightly or heavily used by others (a two-state Markov chain, mean stay 60 s); its
utilisation moves around the state's mean (first-order autoregression) and the wait is that of an M/M/1 queue,
service * u / (1 - u). All of it from one seed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy.stats import spearmanr

from xapp.lab.channel import CQI_EFFICIENCY
from xapp.lab.trace import Trace
from xapp.split.latency import EdgeLoad, Floats, Link

_EFFICIENCY = np.concatenate(([0.0], CQI_EFFICIENCY))


@dataclass(frozen=True)
class RadioShare:
    """What part of a carrier a user has; see the module.

    Attributes:
        bandwidth_hz: of the carrier.
        uplink_share: of the TDD frame.
        cell_share: of the cell's resources for this user, 0..1.
        delay_s: one way, scheduling and core included.
        least_bps: rate out of coverage (CQI 0), so that a time stays finite.
    """

    bandwidth_hz: float = 20e6
    uplink_share: float = 0.25
    cell_share: float = 0.5
    delay_s: float = 0.008
    least_bps: float = 50e3

    def uplink_bps(self, cqi: Floats) -> Floats:
        """Rate to be had for a CQI 0..15, any shape."""
        return self._rate(cqi, self.uplink_part)

    def downlink_bps(self, cqi: Floats) -> Floats:
        """Likewise, down."""
        return self._rate(cqi, self.downlink_part)

    @property
    def uplink_part(self) -> float:
        """Of the carrier's symbols, what carries data up."""
        return self.uplink_share * (1.0 - 0.08)

    @property
    def downlink_part(self) -> float:
        """Likewise, down."""
        return (1.0 - self.uplink_share) * (1.0 - 0.14)

    def _rate(self, cqi: Floats, part: float) -> Floats:
        efficiency = np.interp(cqi, np.arange(16), _EFFICIENCY)
        return np.maximum(efficiency * self.bandwidth_hz * self.cell_share * part, self.least_bps)


@dataclass(frozen=True)
class LoadProcess:
    """Of the edge server, by others.

    Attributes:
        light, heavy: mean utilisation in the two states.
        stay_s: mean time in a state.
        service_s: mean service time of the others' requests.
        memory: of the autoregression, a step of one second.
        spread: standard deviation of the utilisation within a state.
    """

    light: float = 0.4
    heavy: float = 0.93
    stay_s: float = 60.0
    service_s: float = 0.01
    memory: float = 0.9
    spread: float = 0.04

    def queue_s(self, steps: int, seed: int) -> Floats:
        """(T,) expected wait, one value a second."""
        random = np.random.default_rng([seed, 811])
        heavy, noise = False, 0.0
        waits = np.empty(steps)
        step_spread = self.spread * np.sqrt(1.0 - self.memory**2)
        for step in range(steps):
            if random.random() < 1.0 / self.stay_s:
                heavy = not heavy
            noise = self.memory * noise + random.normal(0.0, step_spread)
            used = float(np.clip((self.heavy if heavy else self.light) + noise, 0.0, 0.98))
            waits[step] = self.service_s * used / (1.0 - used)
        return waits


@dataclass(frozen=True)
class Scenario:
    """Links and load by user and second.

    Attributes:
        uplink_bps, downlink_bps: (N, T).
        queue_s: (T,).
        delay_s: one way.
    """

    uplink_bps: Floats
    downlink_bps: Floats
    queue_s: Floats
    delay_s: float

    @property
    def link(self) -> Link:
        """Of all users and seconds, (N, T)."""
        return Link(self.uplink_bps, self.downlink_bps, self.delay_s)

    @property
    def edge(self) -> EdgeLoad:
        """Of all users and seconds, (N, T)."""
        return EdgeLoad(np.broadcast_to(self.queue_s, self.uplink_bps.shape))


def scenario_from_traces(
    traces: Sequence[Trace],
    seconds: int,
    share: RadioShare,
    load: LoadProcess,
    seed: int,
    rate: Literal["cqi", "carried"] = "cqi",
) -> Scenario:
    """One user a trace, its first ``seconds``; shorter traces are played backwards from their end.

    Only the last sample at or before each second is used, as a decider would have it.

    Raises:
        ValueError: no trace (no download, for ``carried``), or fewer than two seconds.
    """
    used = list(traces) if rate == "cqi" else downloads(traces)
    if not used or seconds < 2:
        raise ValueError(
            f"{len(used)} of {len(traces)} traces give a rate by {rate}, {seconds} s: one and two are needed"
        )
    queue = load.queue_s(seconds, seed)
    if rate == "cqi":
        cqi = np.stack([_held(trace, "CQI", seconds) for trace in used])
        return Scenario(share.uplink_bps(cqi), share.downlink_bps(cqi), queue, share.delay_s)
    carried = 1e3 * np.stack([_held(trace, "DL_bitrate", seconds) for trace in used])
    ratio = share.uplink_part / share.downlink_part
    down, up = np.maximum(carried, share.least_bps), np.maximum(carried * ratio, share.least_bps)
    return Scenario(up, down, queue, share.delay_s)


def downloads(traces: Sequence[Trace]) -> list[Trace]:
    """Those in which a file was downloaded all the time, by their names, with the rate."""
    return [trace for trace in traces if trace.name.startswith("Download") and "DL_bitrate" in trace.values]


def _held(trace: Trace, column: str, seconds: int) -> Floats:
    duration = int(trace.duration_s)
    phase = np.arange(seconds) % max(2 * duration, 1)
    at = np.where(phase <= duration, phase, 2 * duration - phase)
    rows = np.searchsorted(trace.seconds, at, side="right") - 1
    return np.asarray(trace.values[column][rows], dtype=np.float64)


@dataclass(frozen=True)
class ClaimCheck:
    """How the rate by CQI compares with what was carried.

    Attributes:
        samples: rows compared.
        uplink_exceeded: share of rows in which more went up than the claim says is possible; near 0 for a
            claim that is not too low.
        downlink_exceeded: likewise, down, of downloads (which use what they can get).
        download_rank_correlation: Spearman's, of claim and carried downlink rate over downloads; NaN without
            downloads.
        download_median_ratio: carried / claimed downlink rate, median over downloads; NaN without.
    """

    samples: int
    uplink_exceeded: float
    downlink_exceeded: float
    download_rank_correlation: float
    download_median_ratio: float


def claim_check(traces: Sequence[Trace], share: RadioShare) -> ClaimCheck:
    """Compare; traces without the bit rates count for nothing. Downloads are those named so."""
    up = [
        trace.values["UL_bitrate"] * 1e3 > share.uplink_bps(trace.values["CQI"])
        for trace in traces
        if "UL_bitrate" in trace.values
    ]
    full = downloads(traces)
    samples = int(sum(len(exceeded) for exceeded in up))
    exceeded = float(np.concatenate(up).mean()) if up else float("nan")
    if not full:
        return ClaimCheck(samples, exceeded, float("nan"), float("nan"), float("nan"))
    claimed = np.concatenate([share.downlink_bps(trace.values["CQI"]) for trace in full])
    carried = np.concatenate([trace.values["DL_bitrate"] * 1e3 for trace in full])
    correlation = float(spearmanr(claimed, carried).statistic)
    return ClaimCheck(
        samples, exceeded, float((carried > claimed).mean()), correlation, float(np.median(carried / claimed))
    )
