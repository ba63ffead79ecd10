"""What a cut costs a user: seconds and joules, weighted; as prices of the four measures of a cut.

Energy is the device's alone, for one request:

    E = P_compute * T_device + P_radio * T_air + 8 * (e_up * bytes_up + e_down * bytes_down) + P_idle * T_wait

with T_wait the part of net and edge time in which the radio is not active.

Radio defaults are the LTE model of :mod:`codec_runtime.contract.energy`. Its tail (the radio stays on for
some seconds after a transfer) is left out: at several requests a second it is paid whatever the cut, unless
everything is on the device.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from codec_runtime.contract.devices import DeviceClass
from codec_runtime.contract.energy import LTE
from xapp.split.latency import CutMeasures, EdgeLoad, Floats, Link, airtime_s, stage_times


@dataclass(frozen=True)
class DevicePower:
    """Power model of a device class.

    Attributes:
        compute_w: while it computes the head.
        idle_w: while it waits.
        radio_w: while the radio sends or receives, beside the energy a bit.
        up_j_per_bit, down_j_per_bit: radio energy a bit.
    """

    compute_w: float
    idle_w: float = 0.3
    radio_w: float = LTE.base.value
    up_j_per_bit: float = LTE.up.value
    down_j_per_bit: float = LTE.down.value

    @classmethod
    def of(cls, device: DeviceClass) -> DevicePower:
        """Of a device class, with an LTE radio."""
        return cls(device.active_watts, device.idle_watts)


@dataclass(frozen=True)
class Weights:
    """Of the sum that is minimised: cost units of a second of latency and of a joule of the device; scalars,
    or arrays (N,)."""

    per_second: Floats | float = 1.0
    per_joule: Floats | float = 0.0


class Prices(NamedTuple):
    """Cost of one unit of each measure of a cut; scalars or arrays (N,), none below 0."""

    device_s: Floats | float
    crossing_bytes: Floats | float
    edge_s: Floats | float
    offloaded: Floats | float

    def of(self, measures: CutMeasures) -> Floats:
        """The cost of a cut, or of several."""
        pairs = zip(self, measures, strict=True)
        return np.asarray(sum(np.asarray(price) * value for price, value in pairs), dtype=np.float64)


def energy_j(
    measures: CutMeasures, link: Link, edge: EdgeLoad, power: DevicePower, result_bytes: float
) -> Floats:
    """Joules that one request costs the device."""
    times = stage_times(measures, link, edge, result_bytes)
    air = airtime_s(measures, link, result_bytes)
    bits_up = 8.0 * np.asarray(measures.crossing_bytes)
    bits_down = 8.0 * result_bytes * np.asarray(measures.offloaded)
    return np.asarray(
        power.compute_w * times.device_s
        + power.radio_w * air
        + power.up_j_per_bit * bits_up
        + power.down_j_per_bit * bits_down
        + power.idle_w * (times.net_s + times.edge_s - air),
        dtype=np.float64,
    )


def prices(link: Link, edge: EdgeLoad, power: DevicePower, weights: Weights, result_bytes: float) -> Prices:
    """Prices for which ``prices(...).of(m)`` is ``weights.per_second * latency + weights.per_joule *
    energy``.

    Both are linear in the measures; collected by hand, as this is the hot path of a decision.
    """
    waiting = weights.per_second + weights.per_joule * power.idle_w
    active = weights.per_second + weights.per_joule * power.radio_w
    up_bit = active / link.uplink_bps + weights.per_joule * power.up_j_per_bit
    down_bit = active / link.downlink_bps + weights.per_joule * power.down_j_per_bit
    return Prices(
        weights.per_second + weights.per_joule * power.compute_w,
        8.0 * up_bit,
        waiting * edge.slowdown,
        waiting * (2.0 * link.delay_s + edge.queue_s) + 8.0 * result_bytes * down_bit,
    )


def weighted_cost(
    measures: CutMeasures,
    link: Link,
    edge: EdgeLoad,
    power: DevicePower,
    weights: Weights,
    result_bytes: float,
) -> Floats:
    """The sum that is minimised, from latency and energy themselves."""
    latency = stage_times(measures, link, edge, result_bytes).total_s
    cost = weights.per_second * latency
    if np.any(weights.per_joule):
        cost = cost + weights.per_joule * energy_j(measures, link, edge, power, result_bytes)
    return np.asarray(cost, dtype=np.float64)
