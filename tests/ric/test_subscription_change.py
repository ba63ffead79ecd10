"""Changed, composed and merged subscriptions, against the emulated subscription manager."""

from __future__ import annotations

import asyncio
import contextlib

import pytest
from subscription_bench import (
    OTHER_ACTION,
    SUBSCRIPTIONS_URL,
    Bench,
    MemoryStore,
    RecordingNode,
    request,
)
from waiting import until

from xapp.lab.misbehaviour import Misbehaviour
from xapp.ric.kpm import encode_event_trigger
from xapp.ric.subscription import Cause, Phase, Reason, ReportAction, SubscriptionClient, SubscriptionDetail
from xapp.ric.subscription_ids import parse_ids


def test_change_has_both_subscriptions_for_a_moment_and_then_the_new_one() -> None:
    async def scenario() -> None:
        node, store = RecordingNode(), MemoryStore()
        bench = Bench(node)
        async with bench.running(store) as client:
            await bench.active(client)
            old = client.state.e2_instance_id
            assert old is not None
            bench.manager.misbehaviour = Misbehaviour(lost_notifications=1)
            client.change(request(actions=(OTHER_ACTION,)))
            await until(lambda: len(node.running) == 2 and bench.manager.posts == 2)
            # Unconfirmed so far: the old one serves, and a crash now would leave nothing behind.
            assert client.on_indication(old, bench.now)
            await until(lambda: len(parse_ids(store.value).obsolete) == 1)
            successor = client.successor
            assert successor is not None
            new = next(number for number in node.running if number != old)
            client.on_notification(confirmation(successor.request.instance_id(successor.attempt, 0), new))
            await bench.active(client)
            await until(lambda: len(bench.manager.rest) == 1)
            assert list(node.running) == [client.state.e2_instance_id] == [new]
            assert client.request.actions == (OTHER_ACTION,)
            assert not client.on_indication(old, bench.now)
            assert client.counters.resubscriptions[Reason.CHANGE] == 1

    asyncio.run(scenario())


def confirmation(name: int, e2_instance: int) -> dict[str, object]:
    instance = {"XappEventInstanceId": name, "E2EventInstanceId": e2_instance, "ErrorCause": " "}
    return {"SubscriptionInstances": [instance]}


def test_refused_change_leaves_the_old_subscription_in_force() -> None:
    async def scenario() -> None:
        node = RecordingNode()
        bench = Bench(node)
        async with bench.running() as client:
            await bench.active(client)
            old = client.state.e2_instance_id
            bench.manager.misbehaviour = Misbehaviour(error_notifications=-1)
            client.change(request(actions=(OTHER_ACTION,)))
            await until(lambda: client.counters.failures[Cause.E2_NODE] == 1)
            assert (client.state.phase, client.state.e2_instance_id) == (Phase.ACTIVE, old)
            assert list(node.running) == [old]
            # And back: what was asked for is what there is.
            client.change(bench.request)
            await until(lambda: client.successor is None and not client.state.obsolete)
            assert len(bench.manager.rest) == 1

    asyncio.run(scenario())


def test_change_without_overlap_deletes_first() -> None:
    async def scenario() -> None:
        node = RecordingNode()
        bench = Bench(node)
        async with bench.running() as client:
            await bench.active(client)
            client.change(request(actions=(OTHER_ACTION,)), overlap=False)
            assert client.state.phase is Phase.IDLE
            await bench.active(client)
            assert (len(node.running), len(node.started), client.counters.deletions) == (1, 2, 1)

    asyncio.run(scenario())


def test_change_while_a_request_is_under_way_leaks_nothing() -> None:
    async def scenario() -> None:
        node = RecordingNode()
        bench = Bench(node, Misbehaviour(answer_delay_s=0.03, notification_delay_s=0.05))
        async with bench.running() as client:
            await until(lambda: bench.manager.posts == 1)
            assert client.state.phase is Phase.REQUESTED
            client.change(request(actions=(OTHER_ACTION,)))
            await bench.active(client)
            await until(lambda: len(bench.manager.rest) == 1)
            assert list(bench.manager.rest) == [client.state.subscription_id]
            assert client.request.actions == (OTHER_ACTION,)
        with pytest.raises(ValueError, match="gnb_2"):
            client.change(request(meid="gnb_2"))

    asyncio.run(scenario())


def test_several_actions_and_details_are_one_subscription() -> None:
    async def scenario() -> None:
        node = RecordingNode()
        actions = (ReportAction(1, b"\x01"), ReportAction(2, b"\x02"))
        more = (SubscriptionDetail(encode_event_trigger(500), (ReportAction(3, b"\x03"),)),)
        bench = Bench(node, actions=actions, more=more)
        async with bench.running() as client:
            await bench.active(client)
            assert [(r.action_ids, r.period_ms) for r in node.started] == [((1, 2), 100), ((3,), 500)]
            assert sorted(client.state.instances.values()) == sorted(node.running)
            assert all(client.on_indication(instance, bench.now) for instance in node.running)
            assert len(bench.manager.rest) == 1
        await client.close(delete=True)
        await until(lambda: not node.running)

    asyncio.run(scenario())


def test_a_merged_subscription_survives_the_end_of_its_twin() -> None:
    async def scenario() -> None:
        node = RecordingNode()
        bench = Bench(node)
        clients: list[SubscriptionClient] = []

        def in_use(identifier: str, instances: frozenset[int]) -> bool:
            # Two clients of one xApp and node: an id goes with the last of them.
            users = [c for c in clients if identifier in c.ids or instances & set(c.state.instances.values())]
            return len(users) > 1

        async with contextlib.AsyncExitStack() as stack:
            for _ in range(2):
                clients.append(await stack.enter_async_context(bench.running(in_use=in_use)))
                await bench.active(clients[-1])
            one, two = clients
            assert one.state.subscription_id == two.state.subscription_id
            assert one.state.e2_instance_id == two.state.e2_instance_id
            await one.close(delete=True)
            clients.remove(one)
            assert list(node.running) == [two.state.e2_instance_id]
            await two.close(delete=True)
            await until(lambda: not node.running)

    asyncio.run(scenario())


def test_another_xapp_with_an_equal_request_shares_the_reports_and_keeps_them() -> None:
    async def scenario() -> None:
        node = RecordingNode()
        bench = Bench(node)
        async with bench.running() as client:
            await bench.active(client)
            body = bench.request.body()
            body["ClientEndpoint"] = {"Host": "other-xapp", "HTTPPort": 1, "RMRPort": 4560}
            other = (await bench.http.post(SUBSCRIPTIONS_URL, json=body)).json()["SubscriptionId"]
            await until(lambda: len(next(iter(bench.manager.e2.values())).endpoints) == 2)
            assert other != client.state.subscription_id
            await client.close(delete=True)
            await until(lambda: list(bench.manager.rest) == [other])
            assert [e2.endpoints for e2 in bench.manager.e2.values()] == [[("other-xapp", 4560)]]

    asyncio.run(scenario())
