"""The subscription client against the emulated subscription manager, over HTTP without sockets."""

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

from xapp.lab.e2_node import MEASUREMENTS, E2Node, Reporting, UserMeasurement
from xapp.lab.subscription_manager import create_app
from xapp.ric.e2ap import decode_ric_indication
from xapp.ric.kpm import decode_kpm_indication, encode_action_definition, encode_event_trigger
from xapp.ric.rmr.frame import RmrMessage
from xapp.ric.rmr.messages import RIC_INDICATION
from xapp.ric.rmr.wire import WireTransport
from xapp.ric.subscription import Phase, ReportAction, SubscriptionClient, SubscriptionRequest

MEID = "gnb_001_001_00000001"


async def until(condition: Callable[[], bool], timeout_s: float = 8.0) -> None:
    """Wait for a condition that another task makes true."""
    async with asyncio.timeout(timeout_s):
        while not condition():  # noqa: ASYNC110 - the condition is the product's state, it has no event
            await asyncio.sleep(0.005)


class RecordingNode:
    """An E2 node that only remembers."""

    def __init__(self) -> None:
        self.running: dict[int, Reporting] = {}
        self.started: list[Reporting] = []

    async def start_reporting(self, reporting: Reporting) -> None:
        if reporting.meid != MEID:
            raise LookupError(f"E2 node {reporting.meid} is not connected")
        self.running[reporting.instance_id] = reporting
        self.started.append(reporting)

    async def stop_reporting(self, instance_id: int) -> None:
        self.running.pop(instance_id, None)


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
    """A manager, a client and the client's HTTP endpoint, all in memory."""

    def __init__(self, node: Any, *, early: bool = False, rmr_port: int = 4560, **changes: Any) -> None:
        self.client: SubscriptionClient | None = None
        self.now = 100.0
        xapp = Starlette(routes=[Route("/ric/v1/subscriptions/response", self._notified, methods=["POST"])])
        to_xapp = httpx.AsyncClient(transport=httpx.ASGITransport(app=xapp))
        self.manager = create_app(node, early_notification=early, http=to_xapp)
        self.http = httpx.AsyncClient(transport=httpx.ASGITransport(app=self.manager))
        fields: dict[str, Any] = {
            "meid": MEID,
            "ran_function_id": 2,
            "event_trigger": encode_event_trigger(100),
            "actions": (ReportAction(1, encode_action_definition(MEASUREMENTS, 100)),),
            "period_s": 0.1,
            "host": "127.0.0.1",
            "http_port": 8080,
            "rmr_port": rmr_port,
        }
        self.request = SubscriptionRequest(**(fields | changes))
        self.changes: list[Phase] = []

    async def _notified(self, request: Request) -> Response:
        assert self.client is not None
        self.client.on_notification(await request.json())
        return JSONResponse({})

    @contextlib.asynccontextmanager
    async def running(self, store: MemoryStore | None = None) -> AsyncIterator[SubscriptionClient]:
        """The client, supervised for the time of the block."""
        self.client = SubscriptionClient(
            "http://submgr",
            self.request,
            http=self.http,
            store=store,
            on_change=lambda phase, detail: self.changes.append(phase),
            clock=lambda: self.now,
        )
        task = asyncio.create_task(self.client.supervise())
        try:
            yield self.client
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    async def advance(self, client: SubscriptionClient, seconds: float) -> None:
        """Move the clock and wake the client."""
        self.now += seconds
        client.on_notification({})


def test_subscription_becomes_active_and_the_node_reports() -> None:
    async def scenario() -> None:
        node = RecordingNode()
        bench = Bench(node)
        async with bench.running() as client:
            await until(lambda: client.state.phase is Phase.ACTIVE)
            reporting = node.started[0]
            assert (reporting.meid, reporting.period_ms, reporting.action_id) == (MEID, 100, 1)
            assert (reporting.rmr_host, reporting.rmr_port) == ("127.0.0.1", 4560)
            assert client.on_indication(reporting.instance_id, bench.now)
        assert bench.changes[-2:] == [Phase.REQUESTED, Phase.ACTIVE]

    asyncio.run(scenario())


def test_notification_before_the_answer_is_taken() -> None:
    async def scenario() -> None:
        bench = Bench(RecordingNode(), early=True)
        async with bench.running() as client:
            await until(
                lambda: client.state.phase is Phase.ACTIVE and client.state.subscription_id is not None
            )
            assert client.counters.notifications == 1

    asyncio.run(scenario())


def test_stalled_subscription_is_replaced() -> None:
    async def scenario() -> None:
        node = RecordingNode()
        bench = Bench(node)
        async with bench.running() as client:
            await until(lambda: client.state.phase is Phase.ACTIVE)
            first = client.state.e2_instance_id
            await bench.advance(client, 1.5)
            await until(lambda: client.state.phase is Phase.STALLED)
            await bench.advance(client, 1.5)
            await until(lambda: client.state.phase is Phase.ACTIVE)
            assert client.state.e2_instance_id != first
            assert list(node.running) == [client.state.e2_instance_id]
            assert (client.counters.stalls, client.counters.deletions) == (1, 1)

    asyncio.run(scenario())


def test_unknown_node_is_refused_and_asked_for_again() -> None:
    async def scenario() -> None:
        bench = Bench(RecordingNode(), meid="gnb_elsewhere")
        async with bench.running() as client:
            await until(lambda: client.counters.refusals == 1)
            assert "not connected" in client.state.detail
            await bench.advance(client, 1.5)
            await until(lambda: client.counters.requests == 2)

    asyncio.run(scenario())


def test_unreachable_manager_is_retried_without_an_exception() -> None:
    async def scenario() -> None:
        def refuse(request: httpx.Request) -> httpx.Response:
            raise httpx.ConnectError("connection refused")

        bench = Bench(RecordingNode())
        bench.http = httpx.AsyncClient(transport=httpx.MockTransport(refuse))
        async with bench.running() as client:
            await until(lambda: client.counters.refusals == 1)
            assert client.state.phase is Phase.IDLE
            await bench.advance(client, 2)
            await until(lambda: client.counters.refusals == 2)

    asyncio.run(scenario())


def test_restarted_xapp_takes_over_its_own_subscription() -> None:
    async def scenario() -> None:
        node, store = RecordingNode(), MemoryStore()
        bench = Bench(node)
        async with bench.running(store) as client:
            await until(lambda: client.state.phase is Phase.ACTIVE and store.value is not None)
            await client.close(delete=False)
            kept = client.state.subscription_id
        async with bench.running(store) as client:
            await until(lambda: client.state.phase is Phase.ACTIVE)
            assert client.state.subscription_id == kept
            assert client.counters.requests == 0
        assert len(node.started) == 1

    asyncio.run(scenario())


def test_restarted_xapp_with_another_request_deletes_the_old_one() -> None:
    async def scenario() -> None:
        node, store = RecordingNode(), MemoryStore()
        bench = Bench(node)
        async with bench.running(store) as client:
            await until(lambda: client.state.phase is Phase.ACTIVE and store.value is not None)
            await client.close(delete=False)
        bench.request = SubscriptionRequest(
            **{**vars(bench.request), "event_trigger": encode_event_trigger(200)}
        )
        async with bench.running(store) as client:
            await until(lambda: client.state.phase is Phase.ACTIVE)
            assert [reporting.period_ms for reporting in node.running.values()] == [200]
            assert client.counters.deletions == 1

    asyncio.run(scenario())


def test_store_that_fails_or_lies_does_not_stop_the_subscription() -> None:
    async def scenario() -> None:
        for store in (MemoryStore(failing=True), MemoryStore(b"no json"), MemoryStore(b"[1]")):
            bench = Bench(RecordingNode())
            async with bench.running(store) as client:
                await until(lambda client=client: client.state.phase is Phase.ACTIVE)  # type: ignore[misc]

    asyncio.run(scenario())


def test_close_deletes_when_asked() -> None:
    async def scenario() -> None:
        node, store = RecordingNode(), MemoryStore()
        bench = Bench(node)
        async with bench.running(store) as client:
            await until(lambda: client.state.phase is Phase.ACTIVE)
        await client.close(delete=True)
        assert node.running == {}
        assert store.value is None

    asyncio.run(scenario())


def test_bad_subscription_requests_are_explained() -> None:
    async def scenario() -> None:
        bench = Bench(RecordingNode())
        good = bench.request.body()
        changes: list[dict[str, Any]] = [{"Meid": 5}, {"SubscriptionDetails": []}, {"ClientEndpoint": {}}]
        for change in changes:
            answer = await bench.http.post("http://submgr/ric/v1/subscriptions", json=good | change)
            assert answer.status_code == 400
            assert "bad subscription request" in answer.json()["error"]
        trigger = good["SubscriptionDetails"][0] | {"EventTriggers": [300]}
        answer = await bench.http.post(
            "http://submgr/ric/v1/subscriptions", json=good | {"SubscriptionDetails": [trigger]}
        )
        assert answer.status_code == 400
        assert (await bench.http.delete("http://submgr/ric/v1/subscriptions/none")).status_code == 404

    asyncio.run(scenario())


def test_identical_requests_are_merged() -> None:
    async def scenario() -> None:
        bench = Bench(RecordingNode())
        async with bench.running():
            url = "http://submgr/ric/v1/subscriptions"
            answers = [await bench.http.post(url, json=bench.request.body()) for _ in range(2)]
            assert answers[0].status_code == 201
            assert answers[0].json()["SubscriptionId"] == answers[1].json()["SubscriptionId"]
            assert len((await bench.http.get(url)).json()) == 1

    asyncio.run(scenario())


def test_from_subscription_to_decoded_user_reports_over_rmr() -> None:
    async def scenario() -> None:
        received: list[RmrMessage] = []
        transport = await WireTransport.listen("127.0.0.1", 0, lambda message, at: received.append(message))
        node = E2Node(MEID)
        bench = Bench(node, rmr_port=transport.port)
        async with bench.running() as client:
            await until(lambda: client.state.phase is Phase.ACTIVE)
            users = [
                UserMeasurement(1, 12.5, 11, -90.25, 4000, 20),
                UserMeasurement(2**33, None, None, -120.0, 0, None),
            ]
            assert node.report([], 1000.0) == 0
            assert node.report(users, 1000.0) == 1
            assert node.report(users, 1000.05) == 0  # the period is 100 ms
            assert node.report(users, 1000.1) == 1
            await until(lambda: len(received) == 2)
            assert client.on_indication(received[0].sub_id, bench.now)
        frame = received[1]
        assert (frame.mtype, frame.meid) == (RIC_INDICATION, MEID)
        indication = decode_ric_indication(frame.payload)
        assert (indication.instance_id, indication.ran_function_id) == (frame.sub_id, 2)
        assert indication.sequence_number == 1
        decoded = decode_kpm_indication(indication.header, indication.message)
        assert abs(decoded.timestamp - 1000.1) < 1e-6
        assert [report.ue.user for report in decoded.users] == ["ue-1", f"ue-{2**33}"]
        assert decoded.users[0].values == dict(zip(MEASUREMENTS, (12.5, 11, -90.25, 4000, 20), strict=True))
        assert decoded.users[1].values["SINR"] is None
        assert (node.indications_sent, node.indications_dropped) == (2, 0)
        await node.close()
        await transport.close()

    asyncio.run(scenario())
