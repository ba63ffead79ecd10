"""The lab's subscription manager by itself: what it does as the real one, and its control interface."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from xapp.lab.e2_node import E2Node, Reporting, UserMeasurement
from xapp.lab.misbehaviour import Misbehaviour
from xapp.lab.submgr import LabSubscriptionManager
from xapp.lab.subscription_manager import create_app
from xapp.ric.e2ap import decode_ric_indication
from xapp.ric.kpm import encode_event_trigger
from xapp.ric.rmr.frame import RmrMessage
from xapp.ric.rmr.wire import WireTransport

PATH = "/ric/v1/subscriptions"
MEID = "gnb_001_001_00000001"


class Node:
    """Remembers who gets reports."""

    def __init__(self) -> None:
        self.running: set[tuple[int, tuple[str, int]]] = set()

    async def start_reporting(self, reporting: Reporting) -> None:
        if reporting.meid != MEID:
            raise LookupError(f"E2 node {reporting.meid} is not connected")
        self.running.add((reporting.instance_id, reporting.endpoint))

    async def stop_reporting(self, instance_id: int, endpoint: tuple[str, int] | None = None) -> None:
        self.running = {
            key for key in self.running if key[0] != instance_id or endpoint not in (None, key[1])
        }


def body(host: str = "xapp-http", name: int = 1, **changes: Any) -> dict[str, Any]:
    detail = {
        "XappEventInstanceId": name,
        "EventTriggers": list(encode_event_trigger(100)),
        "ActionToBeSetupList": [{"ActionID": 1, "ActionType": "report", "ActionDefinition": [1, 2]}],
    }
    return {
        "ClientEndpoint": {"Host": host, "HTTPPort": 8080, "RMRPort": 4560},
        "Meid": MEID,
        "RANFunctionID": 2,
        "SubscriptionDetails": [detail],
    } | changes


@contextlib.asynccontextmanager
async def manager(
    misbehaviour: Misbehaviour | None = None, node: Any = None
) -> AsyncIterator[tuple[LabSubscriptionManager, httpx.AsyncClient, list[dict[str, Any]]]]:
    """(manager, client of its HTTP interface, notifications it sent)."""
    told: list[dict[str, Any]] = []

    def hear(request: httpx.Request) -> httpx.Response:
        told.append(httpx.Response(200, content=request.content).json())
        return httpx.Response(200)

    http = httpx.AsyncClient(transport=httpx.MockTransport(hear))
    app = create_app(node or Node(), misbehaviour=misbehaviour, http=http)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://submgr") as client:
        yield app.state.manager, client, told
    await app.state.manager.close()


async def settle(lab: LabSubscriptionManager) -> None:
    """Wait for the work in the background."""
    while lab._tasks:
        await asyncio.wait(list(lab._tasks), timeout=5)


async def subscribed(lab: LabSubscriptionManager, http: httpx.AsyncClient, content: dict[str, Any]) -> str:
    answer = await http.post(PATH, json=content)
    assert (answer.status_code, answer.json()["SubscriptionInstances"]) == (201, None)
    await settle(lab)
    return str(answer.json()["SubscriptionId"])


def test_bad_requests_are_explained() -> None:
    async def scenario() -> None:
        async with manager() as (_, http, _told):
            detail = body()["SubscriptionDetails"][0]
            two_types = [*detail["ActionToBeSetupList"], {"ActionID": 2, "ActionType": "policy"}]
            for change in (
                {"Meid": 5},
                {"SubscriptionDetails": []},
                {"ClientEndpoint": {}},
                {"SubscriptionDetails": [detail | {"EventTriggers": [300]}]},
                {"SubscriptionDetails": [detail | {"EventTriggers": [255, 255]}]},
                {"SubscriptionDetails": [detail | {"ActionToBeSetupList": []}]},
                {"SubscriptionDetails": [detail | {"ActionToBeSetupList": two_types}]},
            ):
                answer = await http.post(PATH, json=body() | change)
                assert answer.status_code == 400
                assert "bad subscription request" in answer.json()["error"]
            unknown = await http.post(PATH, json=body(SubscriptionId="none"))
            assert unknown.status_code == 404

    asyncio.run(scenario())


def test_success_is_told_with_a_space_as_cause_as_the_real_manager_does() -> None:
    async def scenario() -> None:
        async with manager() as (lab, http, told):
            identifier = await subscribed(lab, http, body())
            assert told == [
                {
                    "SubscriptionId": identifier,
                    "SubscriptionInstances": [
                        {
                            "XappEventInstanceId": 1,
                            "E2EventInstanceId": 1,
                            "ErrorCause": " ",
                            "ErrorSource": "E2Node",
                            "TimeoutType": "",
                        }
                    ],
                }
            ]
            listed = (await http.get(PATH)).json()
            assert listed == [
                {
                    "SubscriptionId": 1,
                    "Meid": MEID,
                    "ClientEndpoint": ["xapp-rmr:4560"],
                    "SubscriptionInstances": None,
                }
            ]
            by_xapp = (await http.get("/ric/v1/get_xapp_rest_restsubscriptions/xapp-http")).json()
            assert by_xapp[identifier]["InstanceIds"] == [1]

    asyncio.run(scenario())


def test_the_same_request_is_the_same_subscription_and_an_equal_one_shares_it() -> None:
    async def scenario() -> None:
        node = Node()
        async with manager(node=node) as (lab, http, told):
            first = await subscribed(lab, http, body())
            assert await subscribed(lab, http, body()) == first
            renamed = await subscribed(lab, http, body(name=2))
            other = await subscribed(lab, http, body(host="other-http"))
            assert len({first, renamed, other}) == 3
            assert [n["SubscriptionInstances"][0]["E2EventInstanceId"] for n in told] == [1, 1, 1, 1]
            assert node.running == {(1, ("xapp-http", 4560)), (1, ("other-http", 4560))}
            # Whoever deletes takes the endpoint away, from all names it has for it.
            await http.delete(f"{PATH}/{first}")
            await settle(lab)
            assert node.running == {(1, ("other-http", 4560))}
            await http.delete(f"{PATH}/{renamed}")
            await http.delete(f"{PATH}/{other}")
            await settle(lab)
            assert (node.running, lab.e2, lab.rest) == (set(), {}, {})

    asyncio.run(scenario())


def test_several_actions_are_never_merged() -> None:
    async def scenario() -> None:
        async with manager() as (lab, http, _):
            detail = body()["SubscriptionDetails"][0]
            actions = [{"ActionID": number, "ActionType": "report"} for number in (1, 2)]
            for name in (1, 2):
                changed = detail | {"XappEventInstanceId": name, "ActionToBeSetupList": actions}
                await subscribed(lab, http, body(SubscriptionDetails=[changed]))
            assert sorted(lab.e2) == [1, 2]

    asyncio.run(scenario())


def test_deletion_waits_for_the_request_and_what_is_not_there_is_deleted() -> None:
    async def scenario() -> None:
        class SlowNode(Node):
            async def start_reporting(self, reporting: Reporting) -> None:
                await gate.wait()
                await super().start_reporting(reporting)

        gate = asyncio.Event()
        async with manager(node=SlowNode()) as (lab, http, _):
            identifier = (await http.post(PATH, json=body())).json()["SubscriptionId"]
            assert (await http.delete(f"{PATH}/{identifier}")).status_code == 400
            # The same again meanwhile gets an id that does not exist.
            twin = (await http.post(PATH, json=body())).json()["SubscriptionId"]
            assert twin not in lab.rest
            gate.set()
            await settle(lab)
            assert (await http.delete(f"{PATH}/{identifier}")).status_code == 204
            assert (await http.delete(f"{PATH}/{twin}")).status_code == 204
            await settle(lab)
            assert lab.rest == {}

    asyncio.run(scenario())


def test_disconnected_node_loses_its_subscriptions_and_is_answered_503() -> None:
    async def scenario() -> None:
        node = Node()
        async with manager(node=node) as (lab, http, _):
            await subscribed(lab, http, body())
            assert (await http.post(f"/lab/nodes/{MEID}/disconnect")).status_code == 204
            assert (lab.rest, lab.e2, node.running) == ({}, {}, set())
            assert (await http.post(PATH, json=body())).status_code == 503
            await http.post(f"/lab/nodes/{MEID}/connect")
            await subscribed(lab, http, body())

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("options", "left", "running"),
    [({}, 0, False), ({"forget": False}, 1, True), ({"keep_reporting": True}, 0, True)],
)
def test_restart_forgets_what_it_is_told_to(options: dict[str, bool], left: int, running: bool) -> None:
    async def scenario() -> None:
        node = Node()
        async with manager(node=node) as (lab, http, _):
            await subscribed(lab, http, body())
            assert (await http.post("/lab/restart", json=options)).status_code == 204
            assert (len(lab.rest), bool(node.running)) == (left, running)
            assert (await http.post("/lab/restart", json={"frget": 1})).status_code == 400

    asyncio.run(scenario())


def test_misbehaviour_is_set_over_http_and_used_up() -> None:
    async def scenario() -> None:
        async with manager() as (lab, http, told):
            answer = await http.put("/lab/misbehaviour", json={"refused_posts": 1, "lost_notifications": -1})
            assert answer.json()["refused_posts"] == 1
            assert (await http.post(PATH, json=body())).status_code == 503
            await subscribed(lab, http, body())
            await subscribed(lab, http, body(name=2))
            assert told == []
            shown = (await http.get("/lab/misbehaviour")).json()
            assert (shown["refused_posts"], shown["lost_notifications"]) == (0, -1)
            bad = await http.put("/lab/misbehaviour", json={"refused_posts": "many"})
            assert (bad.status_code, "refused_posts" in bad.json()["error"]) == (400, True)

    asyncio.run(scenario())


def test_xapp_that_does_not_listen_is_told_again() -> None:
    async def scenario() -> None:
        calls = 0

        def hear(_: httpx.Request) -> httpx.Response:
            nonlocal calls
            calls += 1
            return httpx.Response(200 if calls > 1 else 503)

        app = create_app(Node(), http=httpx.AsyncClient(transport=httpx.MockTransport(hear)))
        lab = app.state.manager
        async with httpx.AsyncClient(
            transport=httpx.ASGITransport(app=app), base_url="http://submgr"
        ) as http:
            await subscribed(lab, http, body())
        assert calls == 2
        await lab.close()

    asyncio.run(scenario())


def test_node_reports_each_action_to_each_endpoint() -> None:
    async def scenario() -> None:
        received: list[list[RmrMessage]] = [[], []]
        transports = [
            await WireTransport.listen("127.0.0.1", 0, lambda message, at, box=box: box.append(message))
            for box in received
        ]
        node = E2Node(MEID)
        for transport in transports:
            await node.start_reporting(Reporting(MEID, 7, 123, (1, 2), 100, "127.0.0.1", transport.port))
        assert len(node.reportings) == 2
        assert node.report([UserMeasurement(1, 1.0, 5, -90.0, 100, 10)], 1000.0) == 4
        async with asyncio.timeout(5):
            while [len(box) for box in received] != [2, 2]:  # noqa: ASYNC110 - no event tells of it
                await asyncio.sleep(0.005)
        actions = [decode_ric_indication(message.payload).action_id for message in received[0]]
        assert actions == [1, 2]
        await node.stop_reporting(7, ("127.0.0.1", transports[0].port))
        assert [reporting.rmr_port for reporting in node.reportings] == [transports[1].port]
        await node.stop_reporting(7)
        assert node.reportings == ()
        for transport in transports:
            await transport.close()

    asyncio.run(scenario())
