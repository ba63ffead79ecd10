"""How far best response is from the optimum when users share the edge server: measured, not promised.

Small cases against all combinations, large ones against the dual bound of :mod:`xapp.split.sharing`. Users
are drawn from the device classes, their links from the scenario; the server is small enough for them to
compete.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from xapp.split.candidates import CandidateCuts
from xapp.split.latency import EdgeLoad, Link
from xapp.split.objective import DevicePower, Prices, Weights, prices
from xapp.split.scenario import Scenario
from xapp.split.sharing import SharedEdge, exact_share, share_edge

_SMALL_USERS = 4
_COMBINATIONS = 1_000_000
_SLOWDOWNS = (5.0, 200.0)
"""Servers of these cases: from a fifth of the accelerator down to a single CPU core, log-uniform."""


@dataclass(frozen=True)
class SharingGap:
    """Relative excess of best response.

    Attributes:
        users: of a case.
        cases: drawn.
        against: ``optimum`` or ``bound``.
        optimal: share of cases without any gap.
    """

    users: int
    cases: int
    against: str
    mean_gap: float
    largest_gap: float
    optimal: float


def shared_edge(cuts: Sequence[CandidateCuts], priced: Sequence[Prices], slowdown: float) -> SharedEdge:
    """The costs of users with these candidates at these (scalar) prices, on a server ``slowdown`` times
    slower.

    The price of edge seconds is taken for a whole server; the shares are what is to be decided.
    """
    most = max(len(one) for one in cuts)
    own, root = np.full((len(cuts), most), np.inf), np.zeros((len(cuts), most))
    for user, (one, price) in enumerate(zip(cuts, priced, strict=True)):
        own[user, : len(one)] = price._replace(edge_s=0.0).of(one.measures)
        seconds = np.asarray(one.measures.edge_s) * slowdown
        root[user, : len(one)] = np.sqrt(float(price.edge_s) * seconds)
    return SharedEdge(own, root)


def sharing_gap(
    candidates: Sequence[CandidateCuts],
    powers: Sequence[DevicePower],
    weights: Weights,
    scenario: Scenario,
    seed: int,
) -> list[SharingGap]:
    """Gaps of small and large cases."""
    random = np.random.default_rng([seed, 907])

    def draw(users: int) -> SharedEdge:
        kinds = random.integers(0, len(candidates), users)
        rows = random.integers(0, len(scenario.uplink_bps), users)
        times = random.integers(0, scenario.uplink_bps.shape[1], users)
        priced = [
            prices(
                Link(float(scenario.uplink_bps[row, time]), float(scenario.downlink_bps[row, time]),
                     scenario.delay_s),
                EdgeLoad(), powers[kind], weights, candidates[kind].problem.result_bytes,
            )
            for kind, row, time in zip(kinds, rows, times, strict=True)
        ]  # fmt: skip
        slowdown = float(np.exp(random.uniform(*np.log(_SLOWDOWNS))))
        return shared_edge([candidates[kind] for kind in kinds], priced, slowdown)

    small, large = [], []
    widest = max(len(one) for one in candidates)
    users = min(_SMALL_USERS, int(np.log(_COMBINATIONS) / np.log(max(widest, 2))))
    for _ in range(40):
        case = draw(users)
        small.append(share_edge(case).cost / exact_share(case)[1] - 1.0)
    for _ in range(5):
        large.append(share_edge(draw(200)).gap)
    return [_summary(users, small, "optimum"), _summary(200, large, "bound")]


def _summary(users: int, gaps: Sequence[float], against: str) -> SharingGap:
    values = np.maximum(np.array(gaps), 0.0)
    return SharingGap(
        users, len(values), against, float(values.mean()), float(values.max()), float((values < 1e-9).mean())
    )
