"""What the subscription tests share: a manager, clients and their HTTP endpoint, all in memory."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Any

import httpx
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from waiting import until

from xapp.lab.e2_node import MEASUREMENTS, Reporting
from xapp.lab.misbehaviour import Misbehaviour
from xapp.lab.submgr import LabSubscriptionManager
from xapp.lab.subscription_manager import create_app
from xapp.ric.kpm import encode_action_definition, encode_event_trigger
from xapp.ric.subscription import (
    Phase,
    ReportAction,
    SubscriptionClient,
    SubscriptionDetail,
    SubscriptionRequest,
)

MEID = "gnb_001_001_00000001"
SUBSCRIPTIONS_URL = "http://submgr/ric/v1/subscriptions"
TWO_DETAILS = {"more": (SubscriptionDetail(b"\x01", (ReportAction(2, b"\x02"),)),)}
OTHER_ACTION = ReportAction(1, encode_action_definition(MEASUREMENTS[:2], 100))


def request(**changes: Any) -> SubscriptionRequest:
    """A KPM subscription with a period of 100 ms."""
    fields: dict[str, Any] = {
        "meid": MEID,
        "ran_function_id": 2,
        "event_trigger": encode_event_trigger(100),
        "actions": (ReportAction(1, encode_action_definition(MEASUREMENTS, 100)),),
        "period_s": 0.1,
        "host": "127.0.0.1",
        "http_port": 8080,
        "rmr_port": 4560,
    }
    return SubscriptionRequest(**(fields | changes))


def notification(
    identifier: str | None, e2_instance: int, *, xapp_instance: int = 1, cause: str = "", **more: str
) -> dict[str, Any]:
    """A notification of one instance."""
    instance = {
        "XappEventInstanceId": xapp_instance,
        "E2EventInstanceId": e2_instance,
        "ErrorCause": cause,
        "ErrorSource": "",
    }
    return {"SubscriptionId": identifier, "SubscriptionInstances": [instance | more]}


class RecordingNode:
    """E2 nodes that only remember; any name but ``gnb_elsewhere`` is known."""

    def __init__(self) -> None:
        self.running: dict[int, Reporting] = {}
        self.started: list[Reporting] = []

    async def start_reporting(self, reporting: Reporting) -> None:
        if reporting.meid == "gnb_elsewhere":
            raise LookupError(f"E2 node {reporting.meid} is not connected")
        self.running[reporting.instance_id] = reporting
        self.started.append(reporting)

    async def stop_reporting(self, instance_id: int, endpoint: tuple[str, int] | None = None) -> None:
        reporting = self.running.get(instance_id)
        if reporting is not None and endpoint in (None, reporting.endpoint):
            del self.running[instance_id]


class MemoryStore:
    """Keeps one value, or fails."""

    def __init__(self, value: bytes | None = None, failing: bool = False) -> None:
        self.value = value
        self.failing = failing

    async def load(self) -> bytes | None:
        if self.failing:
            raise RuntimeError("store is down")
        return self.value

    async def save(self, value: bytes | None) -> None:
        if self.failing:
            raise RuntimeError("store is down")
        self.value = value


class Bench:
    """A manager and the xApp's notification endpoint; the clock moves only when told."""

    def __init__(self, node: Any, misbehaviour: Misbehaviour | None = None, **changes: Any) -> None:
        self.now = 100.0
        self.listeners: list[Callable[[Any], bool]] = []
        xapp = Starlette(routes=[Route("/ric/v1/subscriptions/response", self._notified, methods=["POST"])])
        to_xapp = httpx.AsyncClient(transport=httpx.ASGITransport(app=xapp))
        self.app = create_app(node, misbehaviour=misbehaviour, http=to_xapp)
        self.manager: LabSubscriptionManager = self.app.state.manager
        self.http = httpx.AsyncClient(transport=httpx.ASGITransport(app=self.app))
        self.request = request(**changes)
        self.changes: list[Phase] = []

    async def _notified(self, request: Request) -> Response:
        body = await request.json()
        return JSONResponse({"accepted": [listener(body) for listener in self.listeners]})

    def client(self, store: MemoryStore | None = None, **options: Any) -> SubscriptionClient:
        """A client that hears the notifications."""
        wanted = options.pop("request", self.request)
        client = SubscriptionClient(
            "http://submgr",
            wanted,
            http=self.http,
            store=store,
            on_change=lambda phase, detail: self.changes.append(phase),
            clock=lambda: self.now,
            **options,
        )
        self.listeners.append(client.on_notification)
        return client

    @contextlib.asynccontextmanager
    async def running(
        self, store: MemoryStore | None = None, **options: Any
    ) -> AsyncIterator[SubscriptionClient]:
        """A client, supervised for the time of the block."""
        client = self.client(store, **options)
        task = asyncio.create_task(client.supervise())
        try:
            yield client
        finally:
            self.listeners.remove(client.on_notification)
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    async def active(self, client: SubscriptionClient) -> None:
        """Wait until the client is subscribed and nothing is left to do."""
        await until(
            lambda: client.settled and client.state.phase is Phase.ACTIVE and not client.state.obsolete
        )

    def advance(self, client: SubscriptionClient, seconds: float) -> None:
        """Move the clock and wake the client."""
        self.now += seconds
        client._wakeup.set()
