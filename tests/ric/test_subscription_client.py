"""The subscription client against the emulated subscription manager, over HTTP without sockets."""

from __future__ import annotations

import asyncio
import json

import httpx
import pytest
from subscription_bench import (
    MEID,
    Bench,
    MemoryStore,
    RecordingNode,
    request,
)
from waiting import until

from xapp.lab.e2_node import MEASUREMENTS, E2Node, UserMeasurement
from xapp.lab.misbehaviour import Misbehaviour
from xapp.ric.e2ap import decode_ric_indication
from xapp.ric.kpm import decode_kpm_indication, encode_event_trigger
from xapp.ric.rmr.frame import RmrMessage
from xapp.ric.rmr.messages import RIC_INDICATION
from xapp.ric.rmr.wire import WireTransport
from xapp.ric.subscription import Cause, Phase, Reason
from xapp.ric.subscription_ids import parse_ids


def test_subscription_becomes_active_and_the_node_reports() -> None:
    async def scenario() -> None:
        node = RecordingNode()
        bench = Bench(node)
        async with bench.running() as client:
            await bench.active(client)
            reporting = node.started[0]
            assert (reporting.meid, reporting.period_ms, reporting.action_ids) == (MEID, 100, (1,))
            assert (reporting.rmr_host, reporting.rmr_port) == ("127.0.0.1", 4560)
            assert client.on_indication(reporting.instance_id, bench.now)
        assert bench.changes[-2:] == [Phase.REQUESTED, Phase.ACTIVE]

    asyncio.run(scenario())


def test_nothing_is_sent_before_the_xapp_is_ready() -> None:
    async def scenario() -> None:
        bench = Bench(RecordingNode())
        ready = False
        async with bench.running(ready=lambda: ready) as client:
            await asyncio.sleep(0.05)
            assert (client.counters.requests, bench.manager.posts) == (0, 0)
            ready = True
            await bench.active(client)

    asyncio.run(scenario())


def test_stalled_subscription_is_replaced_and_its_indications_are_not_used() -> None:
    async def scenario() -> None:
        node = RecordingNode()
        bench = Bench(node)
        async with bench.running() as client:
            await bench.active(client)
            first = client.state.e2_instance_id
            assert first is not None
            bench.advance(client, 1.5)
            await until(lambda: client.state.phase is Phase.STALLED)
            bench.advance(client, 1.5)
            await bench.active(client)
            assert client.state.e2_instance_id != first
            assert list(node.running) == [client.state.e2_instance_id]
            assert not client.on_indication(first, bench.now)
            assert not client.on_indication(999, bench.now)
            counters = client.counters
            assert (counters.stalls, counters.deletions) == (1, 1)
            assert counters.resubscriptions[Reason.STALL] == 1
            assert (counters.old_sub_ids, counters.unknown_sub_ids, counters.indications) == (1, 1, 0)

    asyncio.run(scenario())


def test_unknown_node_is_refused_and_asked_for_again() -> None:
    async def scenario() -> None:
        bench = Bench(RecordingNode(), meid="gnb_elsewhere")
        async with bench.running() as client:
            await until(lambda: client.counters.refusals == 1)
            assert "not connected" in client.state.detail
            bench.advance(client, 1.5)
            await until(lambda: client.counters.requests == 2)
            assert client.counters.failures[Cause.SUBMGR] >= 1
            assert client.counters.resubscriptions[Reason.RETRY] == 1

    asyncio.run(scenario())


def test_unreachable_manager_is_retried_without_an_exception() -> None:
    async def scenario() -> None:
        def refuse(request: httpx.Request) -> httpx.Response:
            raise httpx.ConnectError("connection refused")

        bench = Bench(RecordingNode())
        bench.http = httpx.AsyncClient(transport=httpx.MockTransport(refuse))
        async with bench.running() as client:
            await until(lambda: client.counters.failures[Cause.CONNECTION] == 1)
            assert client.state.phase is Phase.IDLE
            bench.advance(client, 2)
            await until(lambda: client.counters.refusals == 2)

    asyncio.run(scenario())


def test_node_that_comes_back_is_subscribed_at_once() -> None:
    async def scenario() -> None:
        node = RecordingNode()
        bench = Bench(node)
        async with bench.running() as client:
            await bench.active(client)
            await bench.manager.node_disconnected(MEID)
            client.on_node_disconnected()
            assert client.state.phase is Phase.IDLE
            await asyncio.sleep(0.02)
            assert bench.manager.posts == 1
            bench.manager.node_connected(MEID)
            client.on_node_reconnected()
            await bench.active(client)
            assert (len(bench.manager.e2), len(bench.manager.rest), len(node.running)) == (1, 1, 1)
            assert client.counters.resubscriptions[Reason.RECONNECT] == 1

    asyncio.run(scenario())


def test_restarted_xapp_takes_over_its_own_subscription() -> None:
    async def scenario() -> None:
        node, store = RecordingNode(), MemoryStore()
        bench = Bench(node)
        async with bench.running(store) as client:
            await bench.active(client)
        await client.close(delete=False)
        kept = client.state.subscription_id
        async with bench.running(store) as client:
            await bench.active(client)
            assert client.state.subscription_id == kept
            assert (client.counters.requests, client.counters.taken_over) == (0, 1)
            assert client.on_indication(node.started[0].instance_id, bench.now)
        assert len(node.started) == 1

    asyncio.run(scenario())


def test_restarted_xapp_with_another_request_deletes_the_old_one() -> None:
    async def scenario() -> None:
        node, store = RecordingNode(), MemoryStore()
        bench = Bench(node)
        async with bench.running(store) as client:
            await bench.active(client)
        async with bench.running(store, request=request(event_trigger=encode_event_trigger(200))) as client:
            await bench.active(client)
            assert [reporting.period_ms for reporting in node.running.values()] == [200]
            assert (client.counters.deletions, client.counters.resubscriptions[Reason.RESTART]) == (1, 1)

    asyncio.run(scenario())


@pytest.mark.parametrize("keeps", [True, False])
def test_many_restarts_leave_exactly_one_subscription(keeps: bool) -> None:
    async def scenario() -> None:
        node, store = RecordingNode(), MemoryStore()
        bench = Bench(node)
        for run in range(6):
            # Ends anywhere: after the POST, before the notification, or in peace.
            async with bench.running(store if keeps else None) as client:
                await until(lambda client=client: client.counters.requests > 0 or client.settled)  # type: ignore[misc]
                if run % 2:
                    await bench.active(client)
        async with bench.running(store if keeps else None) as client:
            await bench.active(client)
            await until(lambda: len(bench.manager.rest) == 1)
            assert list(bench.manager.rest) == [client.state.subscription_id]
            assert list(bench.manager.e2) == [client.state.e2_instance_id] == list(node.running)

    asyncio.run(scenario())


def test_store_that_keeps_failing_is_told_once_and_tried_on(caplog: pytest.LogCaptureFixture) -> None:
    async def scenario() -> None:
        bench, store = Bench(RecordingNode()), MemoryStore(failing=True)
        async with bench.running(store) as client:
            await bench.active(client)
            failures = client.counters.store_failures
            client._wakeup.set()
            await until(lambda: client.counters.store_failures > failures)
            warnings = [record.message for record in caplog.records if record.levelname == "WARNING"]
            assert sum("not stored" in message for message in warnings) == 1
            store.failing = False
            client._wakeup.set()
            await until(lambda: store.value is not None)

    asyncio.run(scenario())


def test_a_failure_that_repeats_is_told_once(caplog: pytest.LogCaptureFixture) -> None:
    async def scenario() -> None:
        bench = Bench(RecordingNode(), Misbehaviour(refused_posts=3))
        async with bench.running() as client:
            for refusals in (1, 2, 3):
                await until(lambda wanted=refusals: client.counters.refusals >= wanted)
                bench.advance(client, 60.0)
            await bench.active(client)
        assert client.counters.refusals == 3
        told = [r for r in caplog.records if r.levelname == "WARNING" and "failed: " in r.message]
        assert len(told) == 1

    asyncio.run(scenario())


def test_store_that_fails_or_lies_does_not_stop_the_subscription() -> None:
    async def scenario() -> None:
        lies = (b"no json", b"[1]", b"\xff", b'{"live": 5}', b"[" * 5000)
        for store in (MemoryStore(failing=True), *map(MemoryStore, lies)):
            bench = Bench(RecordingNode())
            async with bench.running(store) as client:
                await bench.active(client)
            assert (client.counters.store_failures > 0) == store.failing

    asyncio.run(scenario())


def test_close_deletes_when_asked() -> None:
    async def scenario() -> None:
        node, store = RecordingNode(), MemoryStore()
        bench = Bench(node)
        async with bench.running(store) as client:
            await bench.active(client)
        await client.close(delete=True)
        await until(lambda: not bench.manager.rest)
        assert node.running == {}
        assert store.value is None

    asyncio.run(scenario())


def test_an_id_that_could_not_be_deleted_at_the_end_is_kept_for_the_next_run() -> None:
    async def scenario() -> None:
        store = MemoryStore()
        bench = Bench(RecordingNode())
        async with bench.running(store) as client:
            await bench.active(client)
        bench.manager.misbehaviour = Misbehaviour(refused_deletes=1)
        await client.close(delete=True)
        assert parse_ids(store.value).live == client.state.subscription_id

    asyncio.run(scenario())


def test_kept_ids_name_what_is_at_the_manager() -> None:
    async def scenario() -> None:
        store = MemoryStore()
        bench = Bench(RecordingNode())
        async with bench.running(store) as client:
            await bench.active(client)
            await until(lambda: store.value is not None and b'"0"' in store.value)
            assert store.value is not None
            assert json.loads(store.value)["live"] == client.state.subscription_id
            kept = parse_ids(store.value)
            assert (kept.instances, kept.attempt, kept.obsolete) == ({0: 1}, 0, {})

    asyncio.run(scenario())


def test_from_subscription_to_decoded_user_reports_over_rmr() -> None:
    async def scenario() -> None:
        received: list[RmrMessage] = []
        transport = await WireTransport.listen("127.0.0.1", 0, lambda message, at: received.append(message))
        node = E2Node(MEID)
        bench = Bench(node, rmr_port=transport.port)
        async with bench.running() as client:
            await bench.active(client)
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
