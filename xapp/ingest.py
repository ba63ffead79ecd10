"""The hot path: RMR message -> E2AP -> KPM -> user table -> policy -> actuator, on the event loop.

A bad message is counted by cause, logged once per cause and node, and dropped. Decisions are made for the
site that serves the node, and coalesced: several indications of a site read together lead to one decision.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Final, Protocol

from xapp.actuator import Actuator
from xapp.policy.controller import DirectiveController
from xapp.ric import e2ap, kpm
from xapp.ric.aper import E2DecodeError
from xapp.ric.measurement_choice import SubscriptionPlan
from xapp.ric.rmr.frame import RmrMessage
from xapp.status import Status
from xapp.telemetry.user_table import UserTable

_log = logging.getLogger(__name__)

OTHER_NODE: Final = "other"
"""Metric label of nodes that are not listened to: foreign names must not grow the number of series."""

_SLICE: Final = "sliceID="

PlanOf = Callable[[str], SubscriptionPlan | None]
"""What is asked of an E2 node, by its id; None for one that is not listened to."""

NO_SITE: Final = -1
"""In the user table's column ``site``: no site serves the user's node."""


class DecidingSite(Protocol):
    """The part of :class:`xapp.sites.SiteLink` needed here."""

    @property
    def index(self) -> int: ...

    @property
    def controller(self) -> DirectiveController: ...

    @property
    def actuator(self) -> Actuator: ...


SiteOf = Callable[[str], DecidingSite | None]
"""The site that serves an E2 node, by its id; None for one of no site."""

IndicationCallback = Callable[[str, int], bool]
"""Called with (E2 node id, RMR sub_id) for each indication of a node that is listened to; False: it is of no
subscription in force."""


class IndicationIngest:
    """See the module docstring.

    Args:
        table, status: what it feeds.
        site_of: whose users are decided about; those of a node without a site are only kept in the table.
        plan_of: what is asked of each node; messages of others are dropped.
        on_indication: told of every indication, decodable or not: the subscription is alive.
        clock: monotonic seconds.

    Attributes:
        users: a user of each node as it was reported last, for requests that must name one.
        without_site: user reports of nodes that no site serves, by node.
    """

    def __init__(
        self,
        table: UserTable,
        status: Status,
        *,
        site_of: SiteOf,
        plan_of: PlanOf,
        on_indication: IndicationCallback,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.users: dict[str, kpm.UeId] = {}
        self.without_site: Counter[str] = Counter()
        self._table = table
        self._status = status
        self._site_of = site_of
        self._plan_of = plan_of
        self._on_indication = on_indication
        self._clock = clock
        self._logged: set[tuple[str, str]] = set()
        self._received_ns: dict[int, int] = {}

    def on_message(self, message: RmrMessage, received_ns: int) -> None:
        """Take one RIC Indication; ``received_ns``: ``time.perf_counter_ns()`` when its bytes were read."""
        node = message.meid
        plan = self._plan_of(node)
        if plan is None:
            self._drop(OTHER_NODE, "unknown_node", f"indication of E2 node {node[:64]!r}, not listened to")
            return
        self._status.counters["indications"] += 1
        if not self._on_indication(node, message.sub_id):
            self._drop(node, "foreign_subscription", f"RMR subscription id {message.sub_id} is not in force")
            return
        start = time.perf_counter()
        try:
            indication = e2ap.decode_ric_indication(message.payload)
        except E2DecodeError as error:
            self._undecodable(node, "bad_e2ap", error)
            return
        try:
            content = kpm.decode_kpm_indication(
                indication.header, indication.message, measurements=plan.measurements, version=plan.version
            )
        except E2DecodeError as error:
            self._undecodable(node, "bad_kpm", error)
            return
        elapsed = time.perf_counter() - start
        self._status.decode.add(elapsed)
        self._status.metrics.decode.observe(elapsed)
        self._status.metrics.indications.labels(node, "decoded").inc()
        site = self._site_of(node)
        self._fold(plan, content.users, NO_SITE if site is None else site.index)
        if site is None:
            self._note_missing_site(node, len(content.users))
        elif site.index not in self._received_ns:
            self._received_ns[site.index] = received_ns
            asyncio.get_running_loop().call_soon(self._decide, site)

    def _decide(self, site: DecidingSite) -> None:
        """One decision for all that was folded of a site so far; changed directives go to its actuator."""
        received_ns = self._received_ns.pop(site.index)
        start = time.perf_counter()
        directives = site.controller.decide(self._clock())
        elapsed = time.perf_counter() - start
        self._status.policy.add(elapsed)
        self._status.metrics.policy.observe(elapsed)
        site.actuator.submit(directives, received_ns)

    def _fold(self, plan: SubscriptionPlan, reports: Sequence[kpm.UeReport], site: int) -> None:
        if not reports:
            return
        node = plan.node
        users = [report.ue.user for report in reports]
        self.users[node] = reports[0].ue
        plain: dict[str, list[kpm.Value]] = {}
        labelled: dict[str, list[kpm.Value]] = {}
        for index, report in enumerate(reports):
            for name, value in report.values.items():
                columns = labelled if name[-1:] == "]" else plain
                column = columns.get(name)
                if column is None:
                    column = columns[name] = [None] * len(users)
                column[index] = value
        # The first name of a metric counts: the unlabelled value is the total, a labelled one stands in.
        metrics = plan.columns({**plain, **labelled})
        self._table.fold_indication(node, users, metrics, self._clock(), site)
        for name, values in labelled.items():
            self._note_slice(name, users, values)
        self._status.counters["ue_reports"] += len(users)
        self._status.metrics.ue_reports.labels(node).inc(len(users))

    def _note_slice(self, name: str, users: Sequence[str], values: Sequence[kpm.Value]) -> None:
        """A value measured for a slice tells which slice its user is in."""
        label = next((part for part in name[:-1].partition("[")[2].split(",") if part.startswith(_SLICE)), "")
        if label:
            members = [user for user, value in zip(users, values, strict=True) if value is not None]
            self._table.set_slice(members, label.removeprefix(_SLICE))

    def _note_missing_site(self, node: str, users: int) -> None:
        if node not in self.without_site:
            self._status.events.add(
                "site_missing", f"{node}: of no site in `sites`; its users get no directives", e2_node=node
            )
        self.without_site[node] += users

    def _undecodable(self, node: str, outcome: str, error: E2DecodeError) -> None:
        self._status.counters["decode_errors"] += 1
        self._drop(node, outcome, str(error))

    def _drop(self, node: str, outcome: str, text: str) -> None:
        self._status.metrics.indications.labels(node, outcome).inc()
        if (node, outcome) not in self._logged:
            self._logged.add((node, outcome))
            _log.warning(
                "message dropped (further ones of this kind are only counted)",
                extra={"e2_node": node, "outcome": outcome, "reason": text[:500]},
            )
