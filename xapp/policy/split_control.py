"""Where each user of a site cuts its classifier: from the user table to changed split directives. Pure.

Once a period, for all users at once, by classifier and compute class:

1. link, device and server as estimated (:mod:`xapp.policy.split_estimates`);
2. the cost of a request with each published cut, latency and joules weighted (:mod:`xapp.split.objective`);
   cuts that break a limit, do not fit the device or were rejected for the user cost infinitely much;
3. a price for loading the server, common to all users of the site: with r requests a second of e edge
   seconds, users' tails meet and wait about (sum of r e) longer each, which is the square-root problem of
   :mod:`xapp.split.sharing` with ``own`` the cost and ``root`` r e sqrt(its price); its dual price is what a
   tail costs the others;
4. hysteresis (:mod:`xapp.split.switching`) on cost and price, with the requests since the last decision.

A cut in force that is published no longer, or of an older version than the newest published, is left at once.
A rejected cut is not tried again for :data:`REJECTED_S`; the next decision takes the best of the others.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import astuple, dataclass, field
from typing import Final

import numpy as np

from codec_runtime.contract.classification import PublishedCut, SplitDirective, SplitReport
from codec_runtime.contract.devices import DEVICES, EDGES
from codec_runtime.contract.split import SplitGraph
from xapp.policy.split_costs import UserGroup, shared_edge, user_group
from xapp.policy.split_estimates import SplitEstimates
from xapp.split.latency import Floats
from xapp.split.published import CutMenu, cut_menu
from xapp.split.sharing import edge_price
from xapp.split.switching import Choices, SwitchingRule, switch_step
from xapp.split_options import SplitOptions
from xapp.telemetry.columns import COMPUTE_CLASSES, BoolArray, IntArray
from xapp.telemetry.user_table import UserTable

REJECTED_S: Final = 30.0
MOST_CUTS: Final = 4096
"""Published cuts of a site that are looked at."""

CutKey = tuple[str, int, str]
"""Classifier, version, cut id."""


@dataclass(slots=True)
class SplitCounters:
    """Each only grows: decisions; cuts moved and given first; directives rejected; reports folded and not
    used."""

    decisions: int = 0
    moves: int = 0
    firsts: int = 0
    rejected: int = 0
    reports: int = 0
    unused_reports: int = 0


def total(counters: Iterable[SplitCounters]) -> SplitCounters:
    """Of all sites together."""
    rows = [astuple(one) for one in counters]
    return SplitCounters(*(sum(column) for column in zip(*rows, strict=True)))


@dataclass
class _Rejections:
    """Until when a cut is not tried again, by user."""

    until: dict[str, dict[CutKey, float]] = field(default_factory=dict)

    def add(self, user: str, cut: CutKey, now_s: float) -> None:
        self.until.setdefault(user, {})[cut] = now_s + REJECTED_S

    def current(self, now_s: float) -> dict[str, dict[CutKey, float]]:
        """Those in force; the others are forgotten."""
        kept = {
            user: {cut: until for cut, until in cuts.items() if until > now_s}
            for user, cuts in self.until.items()
        }
        self.until = {user: cuts for user, cuts in kept.items() if cuts}
        return self.until


class SplitController:
    """See the module docstring.

    Args:
        table: user table; columns ``cut`` and ``cut_arrears`` are written here.
        options: limits and weights; may be replaced at any time.
        stale_after_s: users not heard of for so long keep their cut.
        site: index of the site decided for; None for all users of the table.

    Attributes:
        moved: users of the last decision whose cut moved, with the new one.
    """

    def __init__(
        self, table: UserTable, options: SplitOptions, stale_after_s: float, site: int | None = None
    ) -> None:
        self.options = options
        self.stale_after_s = stale_after_s
        self.counters = SplitCounters()
        self.moved: list[tuple[str, CutKey]] = []
        self._table = table
        self._site = site
        self._estimates = SplitEstimates(table)
        self._published: tuple[PublishedCut, ...] = ()
        self._graphs: dict[str, SplitGraph] = {}
        self._keys: list[CutKey] = []
        self._menus: dict[tuple[str, str], CutMenu | None] = {}
        self._rejections = _Rejections()
        self._decided_s = math.nan

    def missing_graphs(self) -> list[str]:
        """Digests of graphs that published cuts name and that are not known."""
        return sorted({cut.graph for cut in self._published} - self._graphs.keys())

    def add_graph(self, graph: SplitGraph) -> None:
        """A graph that the site sent."""
        self._graphs[graph.digest] = graph
        self._menus.clear()

    def publish(self, cuts: Sequence[PublishedCut]) -> None:
        """The site publishes these cuts, and no others."""
        published = tuple(cuts[:MOST_CUTS])
        if published == self._published:
            return
        keys = list(dict.fromkeys(_key(cut) for cut in published))
        number = {key: index for index, key in enumerate(keys)}
        renumbered = np.array([number.get(key, -1) for key in self._keys] + [-1], dtype=np.int64)
        rows = np.flatnonzero(self._served(self._table.cut >= 0))
        self._table.cut[rows] = renumbered[np.minimum(self._table.cut[rows], len(self._keys))]
        digests = {cut.graph for cut in published}
        self._graphs = {digest: graph for digest, graph in self._graphs.items() if digest in digests}
        self._published, self._keys = published, keys
        self._menus.clear()

    def configure(self, options: SplitOptions, stale_after_s: float) -> None:
        """Follow changed settings from the next decision on."""
        self.options, self.stale_after_s = options, stale_after_s
        self._menus.clear()

    def note_report(self, report: SplitReport) -> None:
        """What a device measured of one request; not used for unknown users and cuts, or out of range."""
        row = self._table.row(report.user)
        menu = self._menu(report.network, report.device_class) if report.device_class in DEVICES else None
        place = _place(menu, (report.network, report.version, report.cut))
        if row is None or menu is None or place is None:
            self.counters.unused_reports += 1
            return
        measures = menu.measures
        device_s, edge_s = np.asarray(measures.device_s)[place], np.asarray(measures.edge_s)[place]
        if self._estimates.note_report(row, report, float(device_s), float(edge_s), self.options):
            self.counters.reports += 1
        else:
            self.counters.unused_reports += 1

    def on_rejected(self, users: Iterable[str], now_s: float) -> None:
        """The site cannot follow the cuts last decided for these users."""
        for user in users:
            row = self._table.row(user)
            self.counters.rejected += 1
            if row is None or not self._served(self._table.cut >= 0)[row]:
                continue
            self._rejections.add(user, self._keys[int(self._table.cut[row])], now_s)
            self._table.cut[row] = -1

    def full(self) -> list[SplitDirective]:
        """Every cut decided so far, for a runtime that restarted."""
        return self._directives(np.flatnonzero(self._served(self._table.cut >= 0)))

    @property
    def versions(self) -> frozenset[tuple[str, int]]:
        """(Classifier, version) that the site serves."""
        return frozenset((cut.network, cut.version) for cut in self._published)

    def users_by_cut(self) -> Counter[CutKey]:
        """Users by the cut in force."""
        cuts = self._table.cut[self._served(self._table.cut >= 0)]
        counts = np.bincount(cuts, minlength=len(self._keys))
        return Counter({key: int(count) for key, count in zip(self._keys, counts, strict=True) if count})

    def cut_of(self, row: int) -> CutKey | None:
        """The cut in force of a row of the table."""
        number = int(self._table.cut[row])
        return self._keys[number] if 0 <= number < len(self._keys) else None

    def decide(self, now_s: float) -> list[SplitDirective]:
        """Decide about all active users that classify; returns the directives that changed."""
        elapsed_s = self.options.period_s if math.isnan(self._decided_s) else now_s - self._decided_s
        self._decided_s = now_s
        own = self._served(np.ones(len(self._table.site), dtype=np.bool_))
        self._estimates.age(own, elapsed_s, self.options)
        self.moved = []
        if not self._published:
            return []
        table = self._table
        classifying = table.active(now_s, self.stale_after_s) & (table.classifier >= 0)
        rows: IntArray = np.flatnonzero(self._served(classifying))
        if not len(rows):
            return []
        self.counters.decisions += 1
        self._estimates.note_rates(rows, self.options)
        groups = self._groups(rows, now_s)
        price = edge_price(shared_edge(groups))[1] if groups else 0.0
        changed = [self._switch(group, price, elapsed_s) for group in groups]
        return self._directives(np.concatenate(changed)) if changed else []

    def _served(self, rows: BoolArray) -> BoolArray:
        if self._site is None:
            return rows
        at_site: BoolArray = rows & (self._table.site == self._site)
        return at_site

    def _menu(self, network: str, compute_class: str) -> CutMenu | None:
        """Cuts of the newest published version; None without any, or while its graph is not known."""
        key = (network, compute_class)
        if key not in self._menus:
            cuts = [cut for cut in self._published if cut.network == network]
            newest = max((cut.version for cut in cuts), default=0)
            cuts = [cut for cut in cuts if cut.version == newest]
            graph = self._graphs.get(cuts[0].graph) if cuts else None
            edge = EDGES[self.options.edge_class]
            menu = None if graph is None else cut_menu(graph, cuts, DEVICES[compute_class], edge)
            self._menus[key] = menu if menu is not None and len(menu) else None
        return self._menus[key]

    def _groups(self, rows: IntArray, now_s: float) -> list[UserGroup]:
        """The users by classifier and compute class, without those for whom no cut is allowed: they keep
        what they have."""
        table = self._table
        rejected = self._rejections.current(now_s)
        kinds = np.stack([table.classifier[rows], table.compute_class[rows]])
        distinct, inverse = np.unique(kinds, axis=1, return_inverse=True)
        place = inverse.ravel()
        groups = []
        for index, (classifier, compute) in enumerate(distinct.T):
            network, compute_class = table.classifiers.name(int(classifier)), COMPUTE_CLASSES[int(compute)]
            menu = self._menu(network, compute_class)
            if menu is None:
                continue
            group = user_group(
                table,
                rows[place.ravel() == index],
                network,
                compute_class,
                menu,
                self._estimates,
                self.options,
            )
            if rejected:
                self._forbid(group, rejected)
            groups.append(group.take(np.isfinite(group.costs.min(axis=1))))
        return [group for group in groups if len(group.rows)]

    def _forbid(self, group: UserGroup, rejected: dict[str, dict[CutKey, float]]) -> None:
        for place, row in enumerate(group.rows):
            cuts = rejected.get(self._table.users[row])
            if cuts:
                group.costs[place, [_key(cut) in cuts for cut in group.menu.cuts]] = np.inf

    def _switch(self, group: UserGroup, price: float, elapsed_s: float) -> IntArray:
        """Rows whose cut changed; their columns are written."""
        table, rule = self._table, SwitchingRule(self.options.band, self.options.patience)
        number = {key: index for index, key in enumerate(self._keys)}
        numbers = np.array([number[_key(cut)] for cut in group.menu.cuts], dtype=np.int64)
        place = np.full(len(self._keys) + 1, -1, dtype=np.int64)
        place[numbers] = np.arange(len(numbers))
        before = place[table.cut[group.rows]]

        def moving(held: Choices, best: Choices) -> Floats:
            extra = group.menu.extra_bytes[held, best]
            return np.asarray(self.options.move_ms / 1e3 + 8.0 * extra / group.downlink_bps)

        chosen, owed = switch_step(
            before,
            table.cut_arrears[group.rows],
            group.costs + 2.0 * price * group.root / group.rate[:, None],
            moving,
            group.rate * elapsed_s,
            rule,
        )
        changed = chosen != before
        moved = changed & (before >= 0)
        table.cut_arrears[group.rows] = owed
        table.cut[group.rows] = numbers[chosen]
        self.counters.moves += int(moved.sum())
        self.counters.firsts += int((changed & ~moved).sum())
        self.moved += [(table.users[row], self._keys[int(table.cut[row])]) for row in group.rows[moved]]
        rows: IntArray = group.rows[changed]
        return rows

    def _directives(self, rows: IntArray) -> list[SplitDirective]:
        table = self._table
        named = ((table.users[row], self._keys[int(table.cut[row])]) for row in rows)
        return [
            SplitDirective(user=user, network=network, version=version, cut=cut)
            for user, (network, version, cut) in named
        ]


def _key(cut: PublishedCut) -> CutKey:
    return cut.network, cut.version, cut.cut


def _place(menu: CutMenu | None, key: CutKey) -> int | None:
    cuts = () if menu is None else menu.cuts
    return next((index for index, cut in enumerate(cuts) if _key(cut) == key), None)
