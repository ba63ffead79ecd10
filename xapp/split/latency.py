"""How long a split inference takes: device, radio, edge server, and the way back.

    T = T_device(head) + T_net(what crosses, the answer) + T_edge(tail, queue)

A legal cut enters this only by four numbers (:class:`CutMeasures`), linearly. The exact methods of this
package rest on that: :mod:`xapp.split.problem` gives the numbers, this module and
:mod:`xapp.split.objective` what each of them costs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


class CutMeasures(NamedTuple):
    """What a cut asks of device, radio and edge; scalars, or arrays of one shape.

    Attributes:
        device_s: seconds of the head on the device.
        crossing_bytes: bytes that go up, each tensor once.
        edge_s: seconds of the tail on the whole, idle edge server.
        offloaded: 1 where anything is left to the edge, 0 where all is computed on the device.
    """

    device_s: Floats | float
    crossing_bytes: Floats | float
    edge_s: Floats | float
    offloaded: Floats | float


@dataclass(frozen=True)
class Link:
    """A user's radio link; scalars, or arrays (N,).

    Attributes:
        uplink_bps, downlink_bps: bit/s that this user gets now, above 0.
        delay_s: one way, without the time to transmit.
    """

    uplink_bps: Floats | float
    downlink_bps: Floats | float
    delay_s: Floats | float = 0.0


@dataclass(frozen=True)
class EdgeLoad:
    """What else the edge server does; scalars, or arrays (N,).

    Attributes:
        queue_s: wait before a tail begins.
        slowdown: times longer than on the idle server that a tail takes, at least 1; 1 / (share of it).
    """

    queue_s: Floats | float = 0.0
    slowdown: Floats | float = 1.0


class StageTimes(NamedTuple):
    """Seconds by stage; ``net_s`` holds both ways, ``edge_s`` the queue."""

    device_s: Floats
    net_s: Floats
    edge_s: Floats

    @property
    def total_s(self) -> Floats:
        """Seconds from input to answer."""
        return self.device_s + self.net_s + self.edge_s


def airtime_s(measures: CutMeasures, link: Link, result_bytes: float) -> Floats:
    """Seconds in which the device's radio sends or receives."""
    up = 8.0 * np.asarray(measures.crossing_bytes) / link.uplink_bps
    down = np.asarray(measures.offloaded) * (8.0 * result_bytes / np.asarray(link.downlink_bps))
    return np.asarray(up + down, dtype=np.float64)


def stage_times(measures: CutMeasures, link: Link, edge: EdgeLoad, result_bytes: float) -> StageTimes:
    """Latency of one request by stage.

    Args:
        measures: of the cut.
        link, edge: of the user, shapes that broadcast with ``measures``.
        result_bytes: the answer of the tail.
    """
    offloaded = np.asarray(measures.offloaded)
    net = airtime_s(measures, link, result_bytes) + offloaded * (2.0 * np.asarray(link.delay_s))
    tail = np.asarray(measures.edge_s) * edge.slowdown + offloaded * np.asarray(edge.queue_s)
    return StageTimes(np.asarray(measures.device_s, dtype=np.float64), net, tail)
