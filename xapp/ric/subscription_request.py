"""What an xApp asks the subscription manager for: ``POST /ric/v1/subscriptions``.

Field names, ranges and defaults are those of the subscription API 0.0.4 (``api/xapp_rest_api.yaml`` of
``ric-plt-xapp-frame``), and of ``ric-plt-submgr``, which adds checks of its own. Octet strings are arrays of
integers there. An API older than 0.0.4 wrapped them as ``{"OctetString": "..."}``; that form is not offered.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import Any, Final, Literal

INSTANCE_ID_STRIDE: Final = 1024
"""Own names of subscriptions (``XappEventInstanceId``, 16 bits) of successive attempts are this far apart."""

MAX_DETAILS: Final = 8
"""Details of one subscription; our limit, the API states none."""

ActionType = Literal["report", "insert", "policy"]


@dataclass(frozen=True)
class ReportAction:
    """One action: its id (0..255), the service model's action definition, and its type.

    The manager refuses different types in one subscription.
    """

    action_id: int
    definition: bytes
    action_type: ActionType = "report"


@dataclass(frozen=True)
class SubscriptionDetail:
    """One E2 subscription of a request: an event trigger and the actions to be set up under it.

    Details of one request are confirmed or refused one by one, each with an E2 event instance of its own;
    actions of one detail share the instance. Nodes that take a single action (FlexRIC's KPM) need one detail
    for each set of measurements.
    """

    event_trigger: bytes
    actions: tuple[ReportAction, ...]


@dataclass(frozen=True)
class E2Directives:
    """``E2SubscriptionDirectives``: how the manager deals with the E2 node.

    Attributes:
        timeout_s: wait for the node's answer, 1..10 s; required by the manager when directives are sent.
        retries: further attempts, 0..10.
        rmr_routing: ask the routing manager for a route to this xApp. A request *with* directives but without
            this field gets no route and hence no indications, so it is always sent.
    """

    timeout_s: int = 2
    retries: int = 2
    rmr_routing: bool = True

    def __post_init__(self) -> None:
        if not 1 <= self.timeout_s <= 10:
            raise ValueError(f"E2TimeoutTimerValue {self.timeout_s}: 1..10 s are allowed")
        if not 0 <= self.retries <= 10:
            raise ValueError(f"E2RetryCount {self.retries}: 0..10 are allowed")


@dataclass(frozen=True)
class SubscriptionRequest:
    """What to subscribe to and where the answers go.

    Attributes:
        meid: E2 node name as the RIC knows it (RAN name).
        ran_function_id: of the service model at that node, 0..4095.
        event_trigger, actions: the first (mostly the only) detail.
        period_s: shortest reporting period that the triggers ask for; used to notice a stall.
        host, http_port, rmr_port: this xApp, as the manager and the E2 termination reach it. The manager
            replaces ``http`` by ``rmr`` in ``host`` for the RMR route.
        xapp_event_instance_id: our own name of the first detail in the first attempt; the following
            details follow, all below 1024; attempts are 1024 apart. Distinct among the subscriptions of one
            xApp.
        more: further details.
        directives: None leaves the manager its defaults (2 s, 2 tries, with a route).

    Raises:
        ValueError: an id out of range, or a detail without an action.
    """

    meid: str
    ran_function_id: int
    event_trigger: bytes
    actions: tuple[ReportAction, ...]
    period_s: float
    host: str
    http_port: int
    rmr_port: int
    xapp_event_instance_id: int = 1
    more: tuple[SubscriptionDetail, ...] = ()
    directives: E2Directives | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.ran_function_id <= 4095:
            raise ValueError(f"RANFunctionID {self.ran_function_id}: 0..4095 are allowed")
        last = self.xapp_event_instance_id + len(self.more)
        if self.xapp_event_instance_id < 0 or last >= INSTANCE_ID_STRIDE:
            raise ValueError(
                f"XappEventInstanceId {self.xapp_event_instance_id}..{last}: at most {INSTANCE_ID_STRIDE - 1}"
                " leaves room for later attempts"
            )
        if len(self.details) > MAX_DETAILS:
            raise ValueError(f"{len(self.details)} details in one subscription: at most {MAX_DETAILS}")
        for detail in self.details:
            ids = [action.action_id for action in detail.actions]
            if not ids or len(set(ids)) != len(ids) or not all(0 <= i <= 255 for i in ids):
                raise ValueError(f"action ids {ids}: at least one, distinct, 0..255")

    @property
    def details(self) -> tuple[SubscriptionDetail, ...]:
        """All details, the first one first."""
        return (SubscriptionDetail(self.event_trigger, self.actions), *self.more)

    @property
    def rmr_endpoint(self) -> str:
        """``host:port`` of this xApp in the manager's list of subscriptions."""
        return f"{self.host.replace('http', 'rmr')}:{self.rmr_port}"

    def body(self, attempt: int = 0) -> dict[str, Any]:
        """JSON body of the POST of the ``attempt``-th attempt, from 0."""
        first = self.instance_id(attempt, 0)
        body: dict[str, Any] = {
            "ClientEndpoint": {"Host": self.host, "HTTPPort": self.http_port, "RMRPort": self.rmr_port},
            "Meid": self.meid,
            "RANFunctionID": self.ran_function_id,
            "SubscriptionDetails": [
                {
                    "XappEventInstanceId": (first + index) & 0xFFFF,
                    "EventTriggers": list(detail.event_trigger),
                    "ActionToBeSetupList": [
                        {
                            "ActionID": action.action_id,
                            "ActionType": action.action_type,
                            "ActionDefinition": list(action.definition),
                            "SubsequentAction": {"SubsequentActionType": "continue", "TimeToWait": "w10ms"},
                        }
                        for action in detail.actions
                    ],
                }
                for index, detail in enumerate(self.details)
            ],
        }
        if self.directives is not None:
            body["E2SubscriptionDirectives"] = {
                "E2TimeoutTimerValue": self.directives.timeout_s,
                "E2RetryCount": self.directives.retries,
                "RMRRoutingNeeded": self.directives.rmr_routing,
            }
        return body

    def instance_id(self, attempt: int, index: int) -> int:
        """XappEventInstanceId of detail ``index`` in an attempt."""
        return (self.xapp_event_instance_id + INSTANCE_ID_STRIDE * attempt + index) & 0xFFFF

    def digest(self) -> str:
        """Same for requests that ask for the same; the manager's own hash covers the same body."""
        return hashlib.sha256(json.dumps(self.body(), sort_keys=True).encode()).hexdigest()
