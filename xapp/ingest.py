"""The hot path: RMR message -> E2AP -> KPM -> user table -> policy -> actuator, on the event loop.

A bad message is counted by cause, logged once per cause and node, and dropped. Decisions are coalesced:
several indications read together lead to one decision.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Collection, Sequence
from typing import Final

from xapp.actuator import Actuator
from xapp.policy.controller import DirectiveController
from xapp.ric import e2ap, kpm
from xapp.ric.aper import E2DecodeError
from xapp.ric.rmr import messages
from xapp.ric.rmr.frame import RmrMessage
from xapp.status import Status
from xapp.telemetry.user_table import RANGES, UserTable

_log = logging.getLogger(__name__)

MEASUREMENTS: Final = ("SINR", "CQI", "RSRP", "DRB.UEThpDl", "RRU.PrbTotDl")
"""KPM measurements subscribed to."""

OTHER_NODE: Final = "other"
"""Metric label of nodes that are not configured: foreign names must not grow the number of series."""

IndicationCallback = Callable[[str, int], None]
"""Called with (E2 node id, RMR sub_id) for each indication of a configured node."""


class IndicationIngest:
    """See the module docstring.

    Args:
        table, controller, actuator, status: what it feeds.
        e2_nodes: configured node ids; messages of others are dropped.
        on_indication: told of every indication, decodable or not: the subscription is alive.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        table: UserTable,
        controller: DirectiveController,
        actuator: Actuator,
        status: Status,
        *,
        e2_nodes: Collection[str],
        on_indication: IndicationCallback,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._table = table
        self._controller = controller
        self._actuator = actuator
        self._status = status
        self._e2_nodes = frozenset(e2_nodes)
        self._on_indication = on_indication
        self._clock = clock
        self._logged: set[tuple[str, str]] = set()
        self._received_ns: int | None = None

    def on_message(self, message: RmrMessage, received_ns: int) -> None:
        """Take one RMR message; ``received_ns``: ``time.perf_counter_ns()`` when its bytes were read."""
        if message.mtype != messages.RIC_INDICATION:
            self._drop(OTHER_NODE, "unexpected_message_type", f"RMR message type {message.mtype}")
            return
        node = message.meid
        if node not in self._e2_nodes:
            self._drop(OTHER_NODE, "unknown_node", f"indication of E2 node {node[:64]!r}, not configured")
            return
        self._status.counters["indications"] += 1
        self._on_indication(node, message.sub_id)
        start = time.perf_counter()
        try:
            indication = e2ap.decode_ric_indication(message.payload)
        except E2DecodeError as error:
            self._undecodable(node, "bad_e2ap", error)
            return
        try:
            content = kpm.decode_kpm_indication(
                indication.header, indication.message, measurements=MEASUREMENTS
            )
        except E2DecodeError as error:
            self._undecodable(node, "bad_kpm", error)
            return
        elapsed = time.perf_counter() - start
        self._status.decode.add(elapsed)
        self._status.metrics.decode.observe(elapsed)
        self._status.metrics.indications.labels(node, "decoded").inc()
        self._fold(node, content.users)
        if self._received_ns is None:
            self._received_ns = received_ns
            asyncio.get_running_loop().call_soon(self.decide)

    def decide(self) -> None:
        """One decision for everything folded so far; changed directives go to the actuator."""
        received_ns, self._received_ns = self._received_ns, None
        if received_ns is None:
            received_ns = time.perf_counter_ns()
        start = time.perf_counter()
        directives = self._controller.decide(self._clock())
        elapsed = time.perf_counter() - start
        self._status.policy.add(elapsed)
        self._status.metrics.policy.observe(elapsed)
        self._actuator.submit(directives, received_ns)

    def _fold(self, node: str, reports: Sequence[kpm.UeReport]) -> None:
        if not reports:
            return
        users = [report.ue.user for report in reports]
        columns: dict[str, list[float | int | None]] = {}
        for index, report in enumerate(reports):
            for name, value in report.values.items():
                plain = name if name in RANGES else name.partition("[")[0]
                if plain not in RANGES:
                    continue
                column = columns.get(plain)
                if column is None:
                    column = columns[plain] = [None] * len(users)
                # The unlabelled value is the total; a labelled one (slice, 5QI) stands in for it.
                if plain == name or column[index] is None:
                    column[index] = value
        self._table.fold_indication(node, users, columns, self._clock())
        self._status.counters["ue_reports"] += len(users)
        self._status.metrics.ue_reports.labels(node).inc(len(users))

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
