"""What published cuts cost users of one classifier and compute class, and through the server the others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from codec_runtime.contract.devices import DEVICES
from xapp.policy.split_estimates import RESULT_BYTES, SplitEstimates
from xapp.split.latency import CutMeasures, Floats, Link, stage_times
from xapp.split.objective import DevicePower, Weights, energy_j, prices
from xapp.split.published import CutMenu
from xapp.split.sharing import SharedEdge
from xapp.split_options import SplitOptions
from xapp.telemetry.columns import BoolArray, IntArray
from xapp.telemetry.user_table import UserTable

_EMPTIEST = 0.05
"""Battery below which a joule gets no dearer."""


@dataclass(frozen=True)
class UserGroup:
    """N users who choose among the C cuts of one menu.

    Attributes:
        rows: (N,) of the user table.
        menu: the cuts.
        costs: (N, C) of a request, seconds of latency with joules and other answers than the uncut network's
            weighted in; ``inf`` where not allowed.
        root: (N, C) for the price of the server: busy seconds a second times the root of what one costs.
        rate: (N,) requests a second.
        downlink_bps: (N,).
    """

    rows: IntArray
    menu: CutMenu
    costs: Floats
    root: Floats
    rate: Floats
    downlink_bps: Floats

    def take(self, some: BoolArray) -> UserGroup:
        """Some of the users, mask (N,)."""
        return UserGroup(
            self.rows[some],
            self.menu,
            self.costs[some],
            self.root[some],
            self.rate[some],
            self.downlink_bps[some],
        )


def user_group(
    table: UserTable,
    rows: IntArray,
    network: str,
    compute_class: str,
    menu: CutMenu,
    estimates: SplitEstimates,
    options: SplitOptions,
) -> UserGroup:
    """Costs of users (rows of the table) that have this classifier and compute class."""
    measures = menu.measures
    beside_s, slow = estimates.device(network, compute_class, float(np.max(measures.device_s)))
    edge = estimates.edge(network, float(np.max(measures.edge_s)))
    expected = CutMeasures(slow * np.asarray(measures.device_s) + beside_s, *measures[1:])
    link = estimates.link(rows, options)
    power = DevicePower.of(DEVICES[compute_class])
    battery = table.battery[rows]
    joule = np.where(np.isnan(battery), 0.0, options.per_joule / np.maximum(battery, _EMPTIEST))
    priced = prices(link, edge, power, Weights(1.0, joule), RESULT_BYTES)
    costs = np.stack(np.broadcast_arrays(*priced), axis=1) @ np.vstack(expected)
    costs = costs + options.per_disagreement * menu.disagreement
    kept = (menu.depth >= options.min_depth) & (1.0 - menu.disagreement >= options.min_agreement)
    allowed = np.broadcast_to(menu.allowed & kept, costs.shape)
    each = Link(*(np.asarray(value)[:, None] for value in (link.uplink_bps, link.downlink_bps, link.delay_s)))
    if options.deadline_ms:
        times = stage_times(expected, each, edge, RESULT_BYTES)
        allowed = _with(allowed, times.total_s <= options.deadline_ms / 1e3)
    if options.energy_mj:
        joules = energy_j(expected, each, edge, power, RESULT_BYTES)
        allowed = _with(allowed, joules <= options.energy_mj / 1e3)
    rate = table.classify_rate[rows]
    busy = rate[:, None] * np.asarray(measures.edge_s) * edge.slowdown
    second = np.asarray(priced.edge_s) / np.asarray(edge.slowdown)
    return UserGroup(
        rows,
        menu,
        np.where(allowed, costs, np.inf),
        busy * np.sqrt(second)[:, None],
        rate,
        np.asarray(link.downlink_bps),
    )


def shared_edge(groups: Sequence[UserGroup]) -> SharedEdge:
    """All users of a site as one problem, a second of all of them; menus padded to the longest."""
    shape = sum(len(group.rows) for group in groups), max(len(group.menu) for group in groups)
    own, root = np.full(shape, np.inf), np.zeros(shape)
    start = 0
    for group in groups:
        place = slice(start, start + len(group.rows)), slice(len(group.menu))
        own[place], root[place] = group.rate[:, None] * group.costs, group.root
        start += len(group.rows)
    return SharedEdge(own, root)


def _with(allowed: BoolArray, keeps: BoolArray) -> BoolArray:
    """Cuts that keep a limit as well; all allowed ones for a user with none that does."""
    both = allowed & keeps
    result: BoolArray = np.where(both.any(axis=1, keepdims=True), both, allowed)
    return result
