"""When which alarm is raised and cleared: looked at once a second, from the state of the xApp's parts.

A state that may pass by itself (a peer that starts later than the xApp) is an alarm only when it has lasted
for a while.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final

import numpy as np

from xapp.ric.alarms import (
    NO_INDICATIONS,
    NO_USABLE_PAIR,
    NOT_REGISTERED,
    RUNTIME_UNREACHABLE,
    SAME_VALUE_METRIC,
    SUBSCRIPTION_FAILING,
    UPDATE_REFUSED,
    UPDATE_ROLLED_BACK,
    ActiveAlarmList,
    Problem,
)
from xapp.ric.registration import AppmgrRegistration, Standing
from xapp.ric.subscription_phase import Phase
from xapp.ric.subscription_set import SubscriptionSet
from xapp.status import Status
from xapp.telemetry.columns import NO_PAIR
from xapp.telemetry.user_table import UserTable

RUNTIME: Final = "runtime"
PATIENCE_S: Final = 10.0
"""How long a peer may be away before it is an alarm."""


class AlarmRules:
    """Alarms about runtime, updates, E2 nodes and registration. (A refused configuration is raised at once,
    where it is refused.)

    Args:
        alarms: raised and cleared.
        status: peers. table: metrics that carry one value for all users.
        clock: monotonic seconds.
    """

    def __init__(
        self, alarms: ActiveAlarmList, status: Status, table: UserTable, clock: Callable[[], float]
    ) -> None:
        self._alarms = alarms
        self._status = status
        self._table = table
        self._clock = clock
        self._since: dict[tuple[int, str], float] = {}
        self._nodes: set[str] = set()
        self._same_value: set[str] = set()

    def look(self, subscriptions: SubscriptionSet, registration: AppmgrRegistration | None) -> None:
        """Compare the state with the alarms."""
        for peer in self._status.peers.peers.values():
            if peer.kind == RUNTIME:
                self._hold(RUNTIME_UNREACHABLE, peer.site, peer.up is not True, peer.reason)
        nodes = set()
        for meid, client in subscriptions.clients.items():
            nodes.add(meid)
            state = client.state
            failing = state.phase in (Phase.IDLE, Phase.REQUESTED)
            self._hold(SUBSCRIPTION_FAILING, meid, failing, state.detail)
            # A silent node is subscribed to again and again meanwhile: that does not end the alarm.
            self._hold(NO_INDICATIONS, meid, state.silent, state.detail)
        for meid in self._nodes - nodes:
            self._hold(SUBSCRIPTION_FAILING, meid, False)
            self._hold(NO_INDICATIONS, meid, False)
        self._nodes = nodes
        if registration is not None:
            absent = registration.standing is not Standing.REGISTERED
            self._hold(NOT_REGISTERED, "", absent, f"standing with appmgr: {registration.standing}")
        lost = np.flatnonzero(self._table.codec == NO_PAIR)
        named = ", ".join(self._table.users[row] for row in lost[:8])
        self._hold(NO_USABLE_PAIR, "", bool(len(lost)), f"{len(lost)} users, {named}")
        self._look_at_metrics(f"{node} {metric}" for node, metric in self._table.same_value_nodes())

    def on_event(self, kind: str, text: str, site: str = "") -> None:
        """An event for people was noted, about a site or none."""
        if kind == "site_refused":
            self._alarms.raise_alarm(UPDATE_REFUSED, site, text)
        elif kind in ("bundle_swapped", "bundle_withdrawn"):
            self._alarms.clear_alarm(UPDATE_REFUSED, site)
        elif kind == "rollout_rolling_back":
            self._alarms.raise_alarm(UPDATE_ROLLED_BACK, additional_info=text)
        elif kind == "rollout_done":
            self._alarms.clear_alarm(UPDATE_ROLLED_BACK)

    def _hold(self, problem: Problem, identity: str, bad: bool, detail: str = "") -> None:
        """Raise what has been bad for :data:`PATIENCE_S`, clear what is good."""
        key = (problem.number, identity)
        if not bad:
            if self._since.pop(key, None) is not None:
                self._alarms.clear_alarm(problem, identity)
        elif self._clock() - self._since.setdefault(key, self._clock()) >= PATIENCE_S:
            self._alarms.raise_alarm(problem, identity, detail)

    def _look_at_metrics(self, suspect: Iterable[str]) -> None:
        told = set(suspect)
        for identity in told - self._same_value:
            self._alarms.raise_alarm(SAME_VALUE_METRIC, identity, "one value for all users in every report")
        for identity in self._same_value - told:
            self._alarms.clear_alarm(SAME_VALUE_METRIC, identity)
        self._same_value = told
