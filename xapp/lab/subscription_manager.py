"""An emulated OSC subscription manager: the REST side of subscriptions, in front of an emulated E2 node.

What it does as the real one does: it answers a POST with 201 and a SubscriptionId, confirms by a
notification to the xApp's HTTP endpoint, merges requests that are the same, and keeps subscriptions across a
restart of the xApp. ``early_notification`` makes the notification arrive before the 201, which the real one
does now and then.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import logging
from collections.abc import AsyncIterator, Coroutine
from dataclasses import dataclass
from typing import Any, Protocol

import httpx
import msgspec
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from xapp.lab.e2_node import Reporting
from xapp.ric.aper import AperReader, E2DecodeError

SUBSCRIPTIONS_PATH = "/ric/v1/subscriptions"
NOTIFICATION_PATH = "/ric/v1/subscriptions/response"
REQUESTOR_ID = 123
"""The real manager uses the same RIC requestor id for all of its subscriptions."""

_MAX_SUBSCRIPTIONS = 1000
_NOTIFY_RETRIES = 4

_log = logging.getLogger(__name__)


class ReportingNode(Protocol):
    """What the manager needs of an E2 node."""

    async def start_reporting(self, reporting: Reporting) -> None:
        """Begin; LookupError if the node is not this one."""

    async def stop_reporting(self, instance_id: int) -> None:
        """End."""


class _Endpoint(msgspec.Struct):
    Host: str
    HTTPPort: int
    RMRPort: int


class _Action(msgspec.Struct):
    ActionID: int
    ActionType: str
    ActionDefinition: list[int] = []


class _Detail(msgspec.Struct):
    XappEventInstanceId: int
    EventTriggers: list[int]
    ActionToBeSetupList: list[_Action]


class _SubscriptionBody(msgspec.Struct):
    ClientEndpoint: _Endpoint
    Meid: str
    RANFunctionID: int
    SubscriptionDetails: list[_Detail]


@dataclass
class _Subscription:
    identifier: str
    digest: str
    body: _SubscriptionBody
    reportings: list[Reporting]


def _period_ms(trigger: list[int]) -> int:
    """Reporting period of a KPM event trigger definition, format 1.

    Raises:
        E2DecodeError, ValueError: it is none.
    """
    reader = AperReader(bytes(trigger), "eventTriggerDefinition")
    if reader.bits(3):
        raise reader.error("not event trigger format 1")
    return reader.sized_uint(2) + 1


class _Manager:
    """The table of subscriptions and the calls to the node and the xApps."""

    def __init__(self, node: ReportingNode, early_notification: bool, http: httpx.AsyncClient) -> None:
        self._node = node
        self._early = early_notification
        self._http = http
        self._subscriptions: dict[str, _Subscription] = {}
        self._next_instance = 1
        self._tasks: set[asyncio.Task[None]] = set()

    async def close(self) -> None:
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._http.aclose()

    async def create(self, request: Request) -> Response:
        """POST: 201, or 400 with what is wrong, or 503 when the table is full."""
        try:
            raw = await request.body()
            body = msgspec.json.decode(raw, type=_SubscriptionBody)
            periods = [_period_ms(detail.EventTriggers) for detail in body.SubscriptionDetails]
            if not body.SubscriptionDetails or not all(
                d.ActionToBeSetupList for d in body.SubscriptionDetails
            ):
                raise ValueError("SubscriptionDetails and ActionToBeSetupList must not be empty")
        except (msgspec.DecodeError, E2DecodeError, ValueError) as error:
            return JSONResponse({"error": f"bad subscription request: {error}"}, 400)
        digest = hashlib.sha256(json.dumps(msgspec.to_builtins(body), sort_keys=True).encode()).hexdigest()
        subscription = next((known for known in self._subscriptions.values() if known.digest == digest), None)
        if subscription is None:
            if len(self._subscriptions) >= _MAX_SUBSCRIPTIONS:
                return JSONResponse({"error": f"{_MAX_SUBSCRIPTIONS} subscriptions exist"}, 503)
            subscription = self._add(body, digest, periods)
        if self._early:
            notification = await self._set_up(subscription)
            if not await self._notify(subscription, notification):
                self._in_background(self._keep_notifying(subscription, notification))
        else:
            self._in_background(self._confirm(subscription))
        return JSONResponse({"SubscriptionId": subscription.identifier, "SubscriptionInstances": []}, 201)

    def _add(self, body: _SubscriptionBody, digest: str, periods: list[int]) -> _Subscription:
        reportings = []
        for detail, period in zip(body.SubscriptionDetails, periods, strict=True):
            reportings.append(
                Reporting(
                    meid=body.Meid,
                    instance_id=self._next_instance,
                    request_id=REQUESTOR_ID,
                    action_id=detail.ActionToBeSetupList[0].ActionID,
                    period_ms=period,
                    rmr_host=body.ClientEndpoint.Host,
                    rmr_port=body.ClientEndpoint.RMRPort,
                )
            )
            self._next_instance += 1
        identifier = f"lab-{reportings[0].instance_id}-{digest[:12]}"
        subscription = _Subscription(identifier, digest, body, reportings)
        self._subscriptions[identifier] = subscription
        return subscription

    def _in_background(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _confirm(self, subscription: _Subscription) -> None:
        """Set up the reports at the node and tell the xApp."""
        notification = await self._set_up(subscription)
        if not await self._notify(subscription, notification):
            await self._keep_notifying(subscription, notification)

    async def _set_up(self, subscription: _Subscription) -> dict[str, Any]:
        """Start reporting at the node; the notification that tells how it went."""
        instances = []
        for detail, reporting in zip(
            subscription.body.SubscriptionDetails, subscription.reportings, strict=True
        ):
            cause = ""
            try:
                await self._node.start_reporting(reporting)
            except LookupError as error:
                cause = str(error)
            instances.append(
                {
                    "XappEventInstanceId": detail.XappEventInstanceId,
                    "E2EventInstanceId": 0 if cause else reporting.instance_id,
                    "ErrorCause": cause,
                    "ErrorSource": "SUBMGR" if cause else "",
                    "TimeoutType": "",
                }
            )
        if any(instance["ErrorCause"] for instance in instances):
            await self._remove(subscription)
        return {"SubscriptionId": subscription.identifier, "SubscriptionInstances": instances}

    async def _notify(self, subscription: _Subscription, notification: dict[str, Any]) -> bool:
        """One attempt to tell the xApp; True if it listened."""
        endpoint = subscription.body.ClientEndpoint
        url = f"http://{endpoint.Host}:{endpoint.HTTPPort}{NOTIFICATION_PATH}"
        try:
            answer = await self._http.post(url, json=notification)
            if answer.is_success:
                return True
            cause = f"HTTP {answer.status_code}"
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            cause = repr(error)
        _log.warning("notification of %s to %s failed: %s", subscription.identifier, url, cause)
        return False

    async def _keep_notifying(self, subscription: _Subscription, notification: dict[str, Any]) -> None:
        """Further attempts with growing delays, as long as the subscription exists."""
        for attempt in range(_NOTIFY_RETRIES):
            await asyncio.sleep(0.2 * 2**attempt)
            gone = self._subscriptions.get(subscription.identifier) is not subscription
            if gone or await self._notify(subscription, notification):
                return

    async def _remove(self, subscription: _Subscription) -> None:
        self._subscriptions.pop(subscription.identifier, None)
        for reporting in subscription.reportings:
            await self._node.stop_reporting(reporting.instance_id)

    async def remove(self, request: Request) -> Response:
        """DELETE: 204, or 404 when there is no such subscription."""
        subscription = self._subscriptions.get(request.path_params["identifier"])
        if subscription is None:
            return JSONResponse({"error": "no such subscription"}, 404)
        await self._remove(subscription)
        return Response(status_code=204)

    async def list_all(self, _request: Request) -> Response:
        """GET: what exists, as the real manager lists it."""
        return JSONResponse(
            [
                {
                    "SubscriptionId": reporting.instance_id,
                    "RestSubscriptionId": subscription.identifier,
                    "Meid": subscription.body.Meid,
                    "ClientEndpoint": [f"{reporting.rmr_host}:{reporting.rmr_port}"],
                }
                for subscription in self._subscriptions.values()
                for reporting in subscription.reportings
            ]
        )


def create_app(
    node: ReportingNode,
    *,
    early_notification: bool = False,
    notify_timeout_s: float = 2.0,
    http: httpx.AsyncClient | None = None,
) -> Starlette:
    """The manager as a web application: POST, GET ``/ric/v1/subscriptions``, DELETE ``.../{id}``.

    Args:
        node: told to start and stop reporting.
        early_notification: notify before answering the POST.
        notify_timeout_s: longest wait for the xApp's answer to a notification.
        http: client for the notifications, closed with the application; None makes one.
    """
    http = http or httpx.AsyncClient(timeout=notify_timeout_s, trust_env=False)
    manager = _Manager(node, early_notification, http)

    @contextlib.asynccontextmanager
    async def lifespan(_app: Starlette) -> AsyncIterator[None]:
        yield
        await manager.close()

    return Starlette(
        routes=[
            Route(SUBSCRIPTIONS_PATH, manager.create, methods=["POST"]),
            Route(SUBSCRIPTIONS_PATH, manager.list_all, methods=["GET"]),
            Route(SUBSCRIPTIONS_PATH + "/{identifier}", manager.remove, methods=["DELETE"]),
        ],
        lifespan=lifespan,
    )
