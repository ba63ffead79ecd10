"""An emulated OSC subscription manager: its tables and its work, without HTTP routes.

What it does as the real one (``ric-plt-submgr``) does: it answers a POST with 201 and a SubscriptionId,
works on the request afterwards and notifies the xApp's HTTP endpoint of each detail, at any time relative
to the 201, with an ErrorCause of one space for success. The same request again is the same subscription
(by a hash of it), an equal one (node, trigger, a single report action) of another name or xApp shares the
E2 subscription. DELETE is answered 204 before it is done, also for what is not there, and 400 as long as
the request is being worked on; it takes the xApp's endpoint off the E2 subscription, which ends with its
last one. A node that disconnects loses everything; POSTs for it get 503. While a request is worked on or its
notifications wait to be taken, the same request again gets a 201 with an id that does not exist.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
from collections.abc import Coroutine, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import httpx
import msgspec

from xapp.lab.e2_node import Reporting
from xapp.lab.misbehaviour import Misbehaviour
from xapp.lab.subscription_params import Detail, Refused, SubscriptionParams, parse_params, period_ms

NOTIFICATION_PATH = "/ric/v1/subscriptions/response"
REQUESTOR_ID = 123
"""The real manager uses the same RIC requestor id for all of its subscriptions."""

FULL_SUCCESS = " "
"""ErrorCause of a notification of success: the real manager joins two empty texts with a space."""

MAX_SUBSCRIPTIONS = 1000
_NOTIFY_RETRIES = 4
_EARLY_WAIT_S = 1.0

_log = logging.getLogger(__name__)


class ReportingNode(Protocol):
    """What the manager needs of an E2 node."""

    async def start_reporting(self, reporting: Reporting) -> None:
        """Begin; LookupError if the node is not this one."""

    async def stop_reporting(self, instance_id: int, endpoint: tuple[str, int] | None = None) -> None:
        """End, at one endpoint or (None) at all."""


@dataclass
class RestSubscription:
    """What a POST made: the E2 event instances it has, and the work that goes on."""

    identifier: str
    digest: str
    params: SubscriptionParams
    instances: set[int] = field(default_factory=set)
    requesting: bool = True
    deleting: bool = False

    @property
    def endpoint(self) -> tuple[str, int]:
        """RMR address of the xApp."""
        return self.params.ClientEndpoint.Host, self.params.ClientEndpoint.RMRPort


@dataclass
class E2Subscription:
    """One subscription at the node: whose, and for what."""

    instance_id: int
    meid: str
    content: str
    mergeable: bool
    endpoints: list[tuple[str, int]]


class LabSubscriptionManager:
    """The tables of subscriptions and the calls to the node and the xApps.

    Attributes:
        misbehaviour: what goes wrong; may be changed or replaced at any time.
        rest: subscriptions by SubscriptionId. e2: by E2 event instance.
        disconnected: names of nodes whose E2 connection is down.
        posts, deletes: requests seen.
    """

    def __init__(self, node: ReportingNode, misbehaviour: Misbehaviour, http: httpx.AsyncClient) -> None:
        self.misbehaviour = misbehaviour
        self.rest: dict[str, RestSubscription] = {}
        self.e2: dict[int, E2Subscription] = {}
        self.disconnected: set[str] = set()
        self.posts = self.deletes = 0
        self._node = node
        self._http = http
        self._digests: dict[str, str] = {}
        self._ongoing: set[str] = set()
        self._next_instance = 1
        self._serial = 0
        self._tasks: set[asyncio.Task[None]] = set()

    async def close(self) -> None:
        """End the work in the background."""
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._http.aclose()

    async def create(self, raw: bytes) -> str:
        """POST: the SubscriptionId; the work goes on in the background.

        Raises:
            Refused.
        """
        self.posts += 1
        faults = self.misbehaviour
        if faults.use("refused_posts"):
            raise Refused(faults.refusal_status, "refused on request")
        params = parse_params(raw)
        if params.Meid in self.disconnected:
            raise Refused(503, f"E2 node {params.Meid} is not connected")
        if params.SubscriptionId and params.SubscriptionId not in self.rest:
            raise Refused(404, f"no subscription {params.SubscriptionId}")
        digest = hashlib.sha256(json.dumps(msgspec.to_builtins(params), sort_keys=True).encode()).hexdigest()
        known = self.rest.get(params.SubscriptionId or self._digests.get(digest, ""))
        if digest in self._ongoing:
            self._serial += 1
            return f"lab-{self._serial}-does-not-exist"
        if known is None:
            if len(self.rest) >= MAX_SUBSCRIPTIONS:
                raise Refused(503, f"{MAX_SUBSCRIPTIONS} subscriptions exist")
            self._serial += 1
            known = RestSubscription(f"lab-{self._serial}-{digest[:12]}", digest, params)
            self.rest[known.identifier] = known
            self._digests[digest] = known.identifier
        self._ongoing.add(digest)
        task = self._in_background(self._process(known, params, digest))
        if faults.early_notification:
            await asyncio.wait({task}, timeout=_EARLY_WAIT_S)
        await asyncio.sleep(faults.answer_delay_s)
        return known.identifier

    async def delete(self, identifier: str) -> None:
        """DELETE, done in the background; no error if there is no such subscription.

        Raises:
            Refused: the request is still being worked on.
        """
        self.deletes += 1
        if self.misbehaviour.use("refused_deletes"):
            raise Refused(400, "refused on request")
        subscription = self.rest.get(identifier)
        if subscription is None or subscription.deleting:
            return
        if subscription.requesting:
            raise Refused(400, f"the request of {identifier} is still being worked on")
        subscription.deleting = True
        self._in_background(self._remove(subscription))
        await asyncio.sleep(self.misbehaviour.answer_delay_s)

    async def restart(self, *, forget: bool = True, keep_reporting: bool = False) -> None:
        """As a restarted manager: work in progress is lost, and with ``forget`` every subscription.

        Ids begin anew then. ``keep_reporting``: the node is not told and goes on with its reports.
        """
        for task in list(self._tasks):
            task.cancel()
        for subscription in self.rest.values():
            subscription.requesting = subscription.deleting = False
        self._ongoing.clear()
        if not forget:
            return
        instances = list(self.e2)
        self.rest.clear()
        self.e2.clear()
        self._digests.clear()
        self._next_instance = 1
        if not keep_reporting:
            for instance in instances:
                await self._node.stop_reporting(instance)

    async def node_disconnected(self, meid: str) -> None:
        """The node's E2 connection went down: its subscriptions are gone on all sides."""
        self.disconnected.add(meid)
        for instance, e2 in list(self.e2.items()):
            if e2.meid == meid:
                del self.e2[instance]
                await self._node.stop_reporting(instance)
        for identifier, subscription in list(self.rest.items()):
            if subscription.params.Meid == meid:
                del self.rest[identifier]
                self._digests.pop(subscription.digest, None)

    def node_connected(self, meid: str) -> None:
        """The node is back."""
        self.disconnected.discard(meid)

    def e2_list(self) -> list[dict[str, Any]]:
        """As ``GET /ric/v1/subscriptions``: E2 event instances, without the ids that DELETE wants."""
        return [
            {
                "SubscriptionId": e2.instance_id,
                "Meid": e2.meid,
                "ClientEndpoint": [f"{host.replace('http', 'rmr')}:{port}" for host, port in e2.endpoints],
                "SubscriptionInstances": None,
            }
            for e2 in self.e2.values()
        ]

    def xapp_list(self, service: str) -> dict[str, dict[str, Any]]:
        """As ``GET /ric/v1/get_xapp_rest_restsubscriptions/{service}``."""
        return {
            identifier: {
                "Created": "2026-01-01 00:00:00.000",
                "Meid": subscription.params.Meid,
                "InstanceIds": sorted(subscription.instances) or None,
                "SubReqOngoing": subscription.requesting,
                "SubDelReqOngoing": subscription.deleting,
            }
            for identifier, subscription in self.rest.items()
            if subscription.params.ClientEndpoint.Host == service
        }

    def _in_background(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _process(self, subscription: RestSubscription, params: SubscriptionParams, digest: str) -> None:
        """Set the details up at the node, one after the other, and tell the xApp of each."""
        refused = self.misbehaviour.use("error_notifications")
        try:
            outcomes = [
                await self._outcome(subscription, params, detail, refused)
                for detail in params.SubscriptionDetails
            ]
            subscription.requesting = False
            if not subscription.instances:
                self._digests.pop(digest, None)
            await asyncio.sleep(self.misbehaviour.notification_delay_s)
            for outcome in outcomes:
                await self._tell(subscription, outcome)
        finally:
            subscription.requesting = False
            self._ongoing.discard(digest)

    async def _outcome(
        self, subscription: RestSubscription, params: SubscriptionParams, detail: Detail, refused: bool
    ) -> dict[str, Any]:
        """How one detail went, as the notification tells it."""
        faults = self.misbehaviour
        instance, cause, source, timeout = 0, faults.error_cause, faults.error_source, faults.timeout_type
        if not refused:
            try:
                instance = await self._set_up(subscription, params, detail)
                cause, source, timeout = FULL_SUCCESS, "E2Node", ""
            except LookupError as error:
                cause, source, timeout = str(error), "SUBMGR", ""
        return {
            "XappEventInstanceId": detail.XappEventInstanceId,
            "E2EventInstanceId": instance,
            "ErrorCause": cause,
            "ErrorSource": source,
            "TimeoutType": timeout,
        }

    async def _set_up(
        self, subscription: RestSubscription, params: SubscriptionParams, detail: Detail
    ) -> int:
        """Merge a detail with what exists, or set it up at the node; its E2 event instance."""
        actions = msgspec.to_builtins(detail.ActionToBeSetupList)
        content = json.dumps([params.Meid, params.RANFunctionID, detail.EventTriggers, actions])
        # The real manager never merges several actions: it compares each with each.
        mergeable = len(actions) == 1 and actions[0]["ActionType"] == "report"
        endpoint = subscription.endpoint
        e2 = next((e2 for e2 in self.e2.values() if e2.mergeable and e2.content == content), None)
        if e2 is None or not mergeable:
            e2 = E2Subscription(self._next_instance, params.Meid, content, mergeable, [])
        if endpoint not in e2.endpoints:
            reporting = Reporting(
                meid=params.Meid,
                instance_id=e2.instance_id,
                request_id=REQUESTOR_ID,
                action_ids=tuple(action.ActionID for action in detail.ActionToBeSetupList),
                period_ms=period_ms(detail.EventTriggers),
                rmr_host=endpoint[0],
                rmr_port=endpoint[1],
            )
            if e2.instance_id not in self.e2:
                self._next_instance += 1
                self.e2[e2.instance_id] = e2
            e2.endpoints.append(endpoint)
            try:
                await self._node.start_reporting(reporting)
            except LookupError:
                del self.e2[e2.instance_id]
                raise
        subscription.instances.add(e2.instance_id)
        return e2.instance_id

    async def _tell(self, subscription: RestSubscription, outcome: Mapping[str, Any]) -> None:
        """The notification of one detail, several times if the xApp does not listen."""
        faults = self.misbehaviour
        identifier = subscription.identifier
        if faults.use("wrong_subscription_ids"):
            identifier = "lab-no-such-subscription"
        if faults.use("wrong_instance_ids"):
            outcome = {**outcome, "XappEventInstanceId": 65535}
        body = {"SubscriptionId": identifier, "SubscriptionInstances": [outcome]}
        if faults.use("lost_notifications"):
            return
        if faults.use("duplicate_notifications"):
            await self._notify(subscription, body)
        if not await self._notify(subscription, body):
            await self._keep_notifying(subscription, body)

    async def _notify(self, subscription: RestSubscription, notification: dict[str, Any]) -> bool:
        """One attempt to tell the xApp; True if it listened."""
        endpoint = subscription.params.ClientEndpoint
        url = f"http://{endpoint.Host}:{endpoint.HTTPPort}{NOTIFICATION_PATH}"
        try:
            answer = await self._http.post(url, json=notification)
            if answer.status_code == 200:
                return True
            cause = f"HTTP {answer.status_code}"
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            cause = repr(error)
        _log.warning("notification of %s to %s failed: %s", subscription.identifier, url, cause)
        return False

    async def _keep_notifying(self, subscription: RestSubscription, notification: dict[str, Any]) -> None:
        """Further attempts with growing delays, as long as the subscription exists."""
        for attempt in range(_NOTIFY_RETRIES):
            await asyncio.sleep(0.2 * 2**attempt)
            gone = self.rest.get(subscription.identifier) is not subscription
            if gone or await self._notify(subscription, notification):
                return

    async def _remove(self, subscription: RestSubscription) -> None:
        for instance in subscription.instances:
            e2 = self.e2.get(instance)
            if e2 is None or subscription.endpoint not in e2.endpoints:
                continue
            e2.endpoints.remove(subscription.endpoint)
            if not e2.endpoints:
                del self.e2[instance]
            await self._node.stop_reporting(instance, subscription.endpoint)
        self.rest.pop(subscription.identifier, None)
        self._digests.pop(subscription.digest, None)
