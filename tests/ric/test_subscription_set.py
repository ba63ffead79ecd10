"""Subscriptions to several E2 nodes that come and go, and the audit of the manager's list."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Any

import httpx
import pytest
from subscription_bench import (
    SUBSCRIPTIONS_URL,
    TWO_DETAILS,
    Bench,
    MemoryStore,
    RecordingNode,
    request,
)
from waiting import until

from xapp.lab.e2_node import MEASUREMENTS
from xapp.lab.misbehaviour import Misbehaviour
from xapp.ric.kpm import encode_action_definition, encode_event_trigger
from xapp.ric.subscription import Cause, Phase, Reason, ReportAction
from xapp.ric.subscription_set import MAX_NODES, STRANGER_GRACE_S, SubscriptionSet

NODES = ("gnb_1", "gnb_2", "gnb_3")


class Stores(dict[str, MemoryStore]):
    """One store for each node."""

    def __call__(self, meid: str) -> MemoryStore:
        return self.setdefault(meid, MemoryStore())


@contextlib.asynccontextmanager
async def running(
    bench: Bench, stores: Stores | None = None, nodes: tuple[str, ...] = NODES, **options: Any
) -> AsyncIterator[SubscriptionSet]:
    """A set, run for the time of the block; it then ends as a process that is killed."""
    subscriptions = SubscriptionSet(
        "http://submgr", http=bench.http, store=stores, clock=lambda: bench.now, **options
    )
    for meid in nodes:
        subscriptions.want(request(meid=meid))
    bench.listeners.append(subscriptions.on_notification)
    task = asyncio.create_task(subscriptions.run())
    try:
        yield subscriptions
    finally:
        bench.listeners.remove(subscriptions.on_notification)
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled()


async def all_active(bench: Bench, subscriptions: SubscriptionSet) -> None:
    for client in list(subscriptions.clients.values()):
        await bench.active(client)


def listed(bench: Bench) -> list[str]:
    """Nodes of the E2 subscriptions at the manager."""
    return sorted(e2.meid for e2 in bench.manager.e2.values())


def test_every_node_is_subscribed_and_told_apart() -> None:
    async def scenario() -> None:
        bench = Bench(RecordingNode(), Misbehaviour(early_notification=True))
        async with running(bench) as subscriptions:
            await all_active(bench, subscriptions)
            assert subscriptions.phases() == dict.fromkeys(NODES, "active")
            instances = {e2.meid: e2.instance_id for e2 in bench.manager.e2.values()}
            assert all(subscriptions.on_indication(meid, instance) for meid, instance in instances.items())
            assert not subscriptions.on_indication("gnb_1", instances["gnb_2"])
            assert not subscriptions.on_indication("gnb_9", instances["gnb_2"])
            counters = subscriptions.counters
            assert (counters.indications, counters.unknown_sub_ids, counters.notifications) == (3, 2, 3)
            assert not subscriptions.on_notification(
                {"SubscriptionInstances": [{"XappEventInstanceId": 5000}]}
            )
            assert counters.foreign_notifications == 1

    asyncio.run(scenario())


def test_nodes_come_and_go_while_it_runs() -> None:
    async def scenario() -> None:
        node, stores = RecordingNode(), Stores()
        bench = Bench(node)
        async with running(bench, stores, ("gnb_1",)) as subscriptions:
            await all_active(bench, subscriptions)
            subscriptions.want(request(meid="gnb_2"))
            await all_active(bench, subscriptions)
            assert listed(bench) == ["gnb_1", "gnb_2"]
            await subscriptions.forget("gnb_1")
            await subscriptions.forget("never there")
            await until(lambda: listed(bench) == ["gnb_2"])
            assert (list(subscriptions.clients), stores["gnb_1"].value) == (["gnb_2"], None)
            subscriptions.want(request(meid="gnb_1"))
            subscriptions.want(request(meid="gnb_4"))
            await all_active(bench, subscriptions)
            names = [client.request.xapp_event_instance_id for client in subscriptions.clients.values()]
            assert len(set(names)) == 3
            bases = {client.state.request.instance_id(0, 0) for client in subscriptions.clients.values()}
            assert bases == set(names)
            assert listed(bench) == ["gnb_1", "gnb_2", "gnb_4"]

    asyncio.run(scenario())


def test_a_wish_for_something_else_changes_the_subscription() -> None:
    async def scenario() -> None:
        bench = Bench(RecordingNode())
        async with running(bench, nodes=("gnb_1",)) as subscriptions:
            await all_active(bench, subscriptions)
            subscriptions.want(request(meid="gnb_1"))
            assert subscriptions.clients["gnb_1"].settled
            action = ReportAction(1, encode_action_definition(MEASUREMENTS[:1], 100))
            subscriptions.want(request(meid="gnb_1", actions=(action,)))
            await until(lambda: len(bench.manager.rest) == 1 and bench.manager.posts == 2)
            await all_active(bench, subscriptions)
            assert subscriptions.clients["gnb_1"].request.actions == (action,)
            assert subscriptions.counters.resubscriptions[Reason.CHANGE] == 1

    asyncio.run(scenario())


def test_reconnect_of_one_node_does_not_touch_the_others() -> None:
    async def scenario() -> None:
        bench = Bench(RecordingNode())
        seen: list[tuple[str, Phase]] = []
        async with running(
            bench, on_change=lambda meid, phase, _: seen.append((meid, phase))
        ) as subscriptions:
            await all_active(bench, subscriptions)
            seen.clear()
            before = {e2.meid: e2.instance_id for e2 in bench.manager.e2.values()}
            await bench.manager.node_disconnected("gnb_2")
            subscriptions.on_node_disconnected("gnb_2")
            await asyncio.sleep(0.01)
            bench.manager.node_connected("gnb_2")
            subscriptions.on_node_reconnected("gnb_2")
            subscriptions.on_node_reconnected("never there")
            await all_active(bench, subscriptions)
            after = {e2.meid: e2.instance_id for e2 in bench.manager.e2.values()}
            assert {meid for meid in NODES if before[meid] != after[meid]} == {"gnb_2"}
            assert ("gnb_2", Phase.IDLE) in seen
            assert ("gnb_1", Phase.IDLE) not in seen

    asyncio.run(scenario())


@pytest.mark.parametrize("kept", ["all", "none", "every second time"])
def test_many_restarts_leave_exactly_one_subscription_for_each_node(kept: str) -> None:
    async def scenario() -> None:
        node, stores = RecordingNode(), Stores()
        bench = Bench(node)
        for run in range(7):
            if kept == "none" or (kept == "every second time" and run % 2):
                stores = Stores()
            # The names given to the nodes depend on the order of discovery.
            nodes = NODES[run % 3 :] + NODES[: run % 3]
            async with running(bench, stores, nodes) as subscriptions:
                await all_active(bench, subscriptions)
                if run % 3 == 0:
                    subscriptions.on_node_reconnected("gnb_1")
                    await all_active(bench, subscriptions)
                await subscriptions.audit()
                await until(lambda: listed(bench) == list(NODES))
                live = {client.state.e2_instance_id for client in subscriptions.clients.values()}
                assert live == set(bench.manager.e2) == set(node.running)
        await subscriptions.close(delete=True)
        await until(lambda: not bench.manager.e2 and not node.running)

    asyncio.run(scenario())


async def leak(bench: Bench, meid: str, **changes: Any) -> str:
    """A subscription of this xApp that it does not know of."""
    action = ReportAction(9, encode_action_definition(("CQI",), 100))
    body = request(meid=meid, actions=(action,), **changes).body(attempt=60)
    answer = await bench.http.post(SUBSCRIPTIONS_URL, json=body)
    await until(lambda: not bench.manager._ongoing)
    return str(answer.json()["SubscriptionId"])


def test_leaked_subscriptions_are_found_by_endpoint_and_deleted() -> None:
    async def scenario() -> None:
        bench = Bench(RecordingNode())
        told: list[tuple[str, str]] = []
        leaked = await leak(bench, "gnb_1")
        foreign = await leak(bench, "gnb_1", host="service-ricxapp-other-http.ricxapp")
        async with running(bench, on_event=lambda kind, text: told.append((kind, text))) as subscriptions:
            await all_active(bench, subscriptions)
            assert len(bench.manager.rest) == 5
            await subscriptions.audit()
            await until(lambda: leaked not in bench.manager.rest)
            assert foreign in bench.manager.rest
            assert len(bench.manager.rest) == 4
            await subscriptions.audit()
            assert (subscriptions.counters.leaked, subscriptions.counters.leaked_deleted) == (1, 1)
            assert [kind for kind, _ in told] == ["subscription_leaked"]
            assert "gnb_1" in told[0][1]

    asyncio.run(scenario())


def test_leak_that_shares_an_event_instance_in_force_is_left_alone() -> None:
    async def scenario() -> None:
        bench = Bench(RecordingNode())
        async with running(bench, nodes=("gnb_1",)) as subscriptions:
            await all_active(bench, subscriptions)
            both = request(meid="gnb_1", **TWO_DETAILS).body(attempt=60)
            both["SubscriptionDetails"][1]["EventTriggers"] = list(encode_event_trigger(200))
            await bench.http.post(SUBSCRIPTIONS_URL, json=both)
            await until(lambda: not bench.manager._ongoing)
            assert len(bench.manager.e2) == 2
            await subscriptions.audit()
            await until(lambda: not bench.manager._tasks)
            assert (len(bench.manager.e2), len(bench.manager.rest)) == (2, 2)
            assert (subscriptions.counters.leaked, subscriptions.counters.leaked_deleted) == (1, 0)

    asyncio.run(scenario())


def test_leak_to_a_node_that_is_not_wanted_waits_for_the_discovery() -> None:
    async def scenario() -> None:
        bench = Bench(RecordingNode())
        leaked = await leak(bench, "gnb_9")
        async with running(bench) as subscriptions:
            await all_active(bench, subscriptions)
            await subscriptions.audit()
            assert leaked in bench.manager.rest
            bench.now += STRANGER_GRACE_S
            for client in subscriptions.clients.values():
                client.on_indication(client.state.e2_instance_id or -1, bench.now)
            await subscriptions.audit()
            await until(lambda: leaked not in bench.manager.rest)

    asyncio.run(scenario())


def test_leak_whose_id_cannot_be_found_is_counted_and_told_once() -> None:
    async def scenario() -> None:
        bench = Bench(RecordingNode(), Misbehaviour(no_lists=True))
        told: list[str] = []
        leaked = await leak(bench, "gnb_1")
        async with running(bench, on_event=lambda kind, text: told.append(text)) as subscriptions:
            await all_active(bench, subscriptions)
            await subscriptions.audit()
            await subscriptions.audit()
            assert leaked in bench.manager.rest
            counters = subscriptions.counters
            assert (counters.leaked, counters.leaked_deleted) == (1, 0)
            assert counters.delete_failures[Cause.HTTP_404] == 2
            assert len(told) == 1
            assert "stays" in told[0]

    asyncio.run(scenario())


def test_manager_that_forgot_while_the_node_reports_on_is_asked_again() -> None:
    async def scenario() -> None:
        node = RecordingNode()
        bench = Bench(node)
        async with running(bench, nodes=("gnb_1",)) as subscriptions:
            await all_active(bench, subscriptions)
            await bench.manager.restart(keep_reporting=True)
            assert node.running
            await subscriptions.audit()
            assert subscriptions.phases() == {"gnb_1": "active"}
            await subscriptions.audit()
            await until(lambda: listed(bench) == ["gnb_1"])
            await all_active(bench, subscriptions)
            assert subscriptions.counters.resubscriptions[Reason.FORGOTTEN] == 1
            await subscriptions.audit()
            assert subscriptions.phases() == {"gnb_1": "active"}

    asyncio.run(scenario())


def broken(_: httpx.Request) -> httpx.Response:
    raise httpx.ReadError("gone")


@pytest.mark.parametrize(
    "answer",
    [broken, lambda _: httpx.Response(500), lambda _: httpx.Response(200, content=b"[1, {}]")],
    ids=["broken", "HTTP 500", "nonsense"],
)
def test_audit_survives_a_manager_that_answers_badly(
    answer: Callable[[httpx.Request], httpx.Response],
) -> None:
    async def scenario() -> None:
        http = httpx.AsyncClient(transport=httpx.MockTransport(answer))
        subscriptions = SubscriptionSet("http://submgr", http=http)
        await subscriptions.audit()
        subscriptions.want(request())
        await subscriptions.audit()
        assert subscriptions.counters.leaked == 0

    asyncio.run(scenario())


def test_too_many_nodes_are_refused() -> None:
    subscriptions = SubscriptionSet("http://submgr", http=Bench(RecordingNode()).http)
    for number in range(MAX_NODES):
        subscriptions.want(request(meid=f"gnb_{number}"))
    with pytest.raises(ValueError, match=f"at most {MAX_NODES}"):
        subscriptions.want(request(meid="gnb_too_many"))
    assert "gnb_too_many" not in subscriptions.clients
