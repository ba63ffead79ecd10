"""The real client against a subscription manager that misbehaves: one test for each way."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
import uvicorn
from subscription_bench import Bench, MemoryStore, RecordingNode, request
from waiting import until

from xapp.lab.faulty_link import FaultyLink, LinkFault
from xapp.lab.misbehaviour import Misbehaviour
from xapp.ric.subscription import Cause, Phase, Reason, SubscriptionClient
from xapp.ric.subscription_phase import Step

# Longer than any delay between two attempts.
LATER_S = 31.0


async def eventually_active(bench: Bench, client: SubscriptionClient, wait_s: float = 8.0) -> None:
    """Let time run until the client is subscribed, and check that this left exactly one subscription."""
    async with asyncio.timeout(wait_s):
        while not (client.settled and client.state.phase is Phase.ACTIVE):
            bench.advance(client, 0.5)
            await asyncio.sleep(0.002)
    await bench.active(client)
    await until(lambda: list(bench.manager.rest) == [client.state.subscription_id])
    assert list(bench.manager.e2) == [client.state.e2_instance_id]


@pytest.mark.parametrize(
    ("misbehaviour", "cause"),
    [
        ({"refused_posts": 3, "refusal_status": 503}, Cause.HTTP_503),
        ({"refused_posts": 1, "refusal_status": 400}, Cause.HTTP_400),
        ({"refused_posts": 1, "refusal_status": 404}, Cause.HTTP_404),
        ({"refused_posts": 1, "refusal_status": 500}, Cause.HTTP_500),
        ({"refused_posts": 1, "refusal_status": 418}, Cause.HTTP_OTHER),
        ({"error_notifications": 2}, Cause.E2_NODE),
        (
            {"error_notifications": 1, "timeout_type": "E2-Timeout", "error_source": "SUBMGR"},
            Cause.E2_TIMEOUT,
        ),
        ({"error_notifications": 1, "error_source": "RTMGR", "error_cause": ""}, Cause.RTMGR),
        ({"error_notifications": 1, "early_notification": True}, Cause.E2_NODE),
        ({"lost_notifications": 2}, Cause.NO_NOTIFICATION),
        ({"wrong_instance_ids": 1}, Cause.NO_NOTIFICATION),
    ],
    ids=lambda value: str(value) if isinstance(value, Cause) else "-".join(map(str, value.values())),
)
def test_failure_is_counted_and_followed_by_a_subscription(
    misbehaviour: dict[str, Any], cause: Cause
) -> None:
    async def scenario() -> None:
        bench = Bench(RecordingNode(), Misbehaviour(**misbehaviour))
        async with bench.running(MemoryStore()) as client:
            await eventually_active(bench, client)
        times = next(value for value in misbehaviour.values() if isinstance(value, int))
        counters = client.counters
        assert counters.failures[cause] == counters.refusals == times
        assert counters.resubscriptions[Reason.RETRY] == times == counters.requests - 1

    asyncio.run(scenario())


@pytest.mark.parametrize("early", [True, False])
def test_notification_may_come_before_or_after_the_answer(early: bool) -> None:
    async def scenario() -> None:
        bench = Bench(RecordingNode(), Misbehaviour(early_notification=early, notification_delay_s=0.01))
        async with bench.running() as client:
            await bench.active(client)
            await until(lambda: client.state.subscription_id is not None)
            assert (client.counters.notifications, client.counters.refusals) == (1, 0)
            assert list(bench.manager.rest) == [client.state.subscription_id]

    asyncio.run(scenario())


def test_notification_that_comes_after_the_wait_for_it_is_of_no_use_but_does_no_harm() -> None:
    async def scenario() -> None:
        bench = Bench(RecordingNode(), Misbehaviour(notification_delay_s=0.05))
        async with bench.running() as client:
            await until(lambda: client.state.subscription_id is not None)
            bench.manager.misbehaviour = Misbehaviour(refused_deletes=1)
            bench.advance(client, client.state.answer_timeout_s)
            await until(lambda: client.state.phase is Phase.IDLE)
            bench.advance(client, LATER_S)
            await eventually_active(bench, client)
            await until(lambda: not bench.manager._tasks)
            assert client.counters.failures[Cause.NO_NOTIFICATION] == 1
            assert client.counters.late_notifications + client.counters.notifications >= 1
            assert client.on_indication(next(iter(bench.manager.e2)), bench.now)

    asyncio.run(scenario())


def test_duplicate_notifications_are_counted_once() -> None:
    async def scenario() -> None:
        bench = Bench(RecordingNode(), Misbehaviour(duplicate_notifications=1))
        async with bench.running() as client:
            await until(lambda: client.counters.duplicate_notifications == 1)
            assert (client.state.phase, client.counters.notifications) == (Phase.ACTIVE, 1)

    asyncio.run(scenario())


def test_notification_with_a_wrong_subscription_id_is_believed_for_want_of_better() -> None:
    async def scenario() -> None:
        node = RecordingNode()
        bench = Bench(node, Misbehaviour(wrong_subscription_ids=1))
        async with bench.running() as client:
            await until(lambda: client.counters.foreign_notifications == 1)
            assert client.state.phase is Phase.REQUESTED
            bench.advance(client, client.state.answer_timeout_s)
            await until(lambda: client.state.phase is Phase.ACTIVE)
            assert [client.state.e2_instance_id] == list(node.running)
            # What is really there is not deleted as long as its reports are in use.
            await asyncio.sleep(0.02)
            assert len(bench.manager.rest) == 1
        await client.close(delete=True)
        await until(lambda: not bench.manager.rest and not node.running)

    asyncio.run(scenario())


def test_run_that_crashed_in_the_middle_of_its_request_leaves_nothing_behind() -> None:
    async def scenario() -> None:
        node = RecordingNode()
        bench = Bench(node, Misbehaviour(notification_delay_s=0.1))
        async with bench.running() as client:
            await until(lambda: bool(node.running))
        # The same request while the manager works on it: its answer names an id that does not exist.
        async with bench.running() as client:
            await until(lambda: client.counters.foreign_notifications == 1)
            bench.advance(client, client.state.answer_timeout_s)
            await until(lambda: client.state.phase is Phase.ACTIVE)
            assert list(bench.manager.rest) == [client.state.subscription_id]
            assert list(node.running) == [client.state.e2_instance_id]

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("misbehaviour", "cause"),
    [({"answer_delay_s": 0.2}, Cause.TIMEOUT), ({"garbage_answers": 1}, Cause.BAD_ANSWER)],
)
def test_post_whose_answer_is_lost_is_not_repeated_if_the_notification_comes(
    misbehaviour: dict[str, Any], cause: Cause
) -> None:
    async def scenario() -> None:
        bench = Bench(RecordingNode(), Misbehaviour(**misbehaviour, notification_delay_s=0.12))
        async with bench.running(timeout_s=0.1) as client:
            await until(lambda: client.counters.failures[cause] == 1)
            await bench.active(client)
            assert client.counters.requests == 1
            assert list(bench.manager.rest) == [client.state.subscription_id]

    asyncio.run(scenario())


def test_two_ids_for_one_event_instance_are_deleted_together() -> None:
    async def scenario() -> None:
        bench = Bench(RecordingNode(), Misbehaviour(garbage_answers=1, notification_delay_s=0.2))
        async with bench.running() as client:
            await until(lambda: client.counters.refusals == 1)
            bench.manager.misbehaviour.notification_delay_s = 0.0
            bench.advance(client, 1.0)
            await until(lambda: client.state.phase is Phase.ACTIVE)
            await until(lambda: client.counters.late_notifications == 1)
            assert (len(bench.manager.rest), len(bench.manager.e2)) == (2, 1)
            assert set(client.ids) == set(bench.manager.rest)
            assert client.state.step(bench.now) is Step.WAIT
        await client.close(delete=True)
        await until(lambda: not bench.manager.rest and not bench.manager.e2)

    asyncio.run(scenario())


def test_slow_answers_within_the_time_are_waited_for() -> None:
    async def scenario() -> None:
        bench = Bench(RecordingNode(), Misbehaviour(answer_delay_s=0.05))
        async with bench.running() as client:
            await bench.active(client)
            await until(lambda: client.state.subscription_id is not None)
            assert (client.counters.requests, client.counters.refusals) == (1, 0)

    asyncio.run(scenario())


def test_refused_deletion_is_retried_before_the_next_request() -> None:
    async def scenario() -> None:
        bench = Bench(RecordingNode(), Misbehaviour(refused_deletes=2))
        async with bench.running() as client:
            await bench.active(client)
            client.on_node_reconnected()
            await eventually_active(bench, client)
            assert client.counters.delete_failures[Cause.HTTP_400] == 2
            assert client.counters.requests == 2

    asyncio.run(scenario())


@pytest.mark.parametrize("forget", [True, False])
def test_restarted_manager_gets_the_request_again_only_if_reports_stop(forget: bool) -> None:
    async def scenario() -> None:
        node = RecordingNode()
        bench = Bench(node)
        async with bench.running() as client:
            await bench.active(client)
            await bench.manager.restart(forget=forget)
            assert bool(node.running) is not forget
            if forget:
                bench.advance(client, 1.5)
                await until(lambda: client.state.phase is Phase.STALLED)
                await eventually_active(bench, client)
            assert client.on_indication(next(iter(node.running)), bench.now)
            assert client.counters.resubscriptions[Reason.STALL] == int(forget)

    asyncio.run(scenario())


def test_manager_that_dies_while_it_works_on_a_request_is_asked_again() -> None:
    async def scenario() -> None:
        bench = Bench(RecordingNode(), Misbehaviour(notification_delay_s=60.0))
        async with bench.running() as client:
            await until(lambda: client.state.subscription_id is not None)
            bench.manager.misbehaviour = Misbehaviour()
            await bench.manager.restart()
            bench.advance(client, client.state.answer_timeout_s)
            await eventually_active(bench, client)
            assert client.counters.failures[Cause.NO_NOTIFICATION] == 1

    asyncio.run(scenario())


@contextlib.asynccontextmanager
async def served(app: Any) -> AsyncIterator[int]:
    """The application on a real socket; its port."""
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="critical", lifespan="off"))
    task = asyncio.create_task(server.serve())
    await until(lambda: server.started)
    try:
        yield server.servers[0].sockets[0].getsockname()[1]
    finally:
        server.should_exit = True
        await task


@pytest.mark.parametrize(
    ("fault", "cause"),
    [
        (LinkFault.HALF_CLOSED, Cause.PROTOCOL),
        (LinkFault.SILENT, Cause.TIMEOUT),
        (LinkFault.RESET, Cause.PROTOCOL),
    ],
)
def test_connection_that_breaks_is_counted_and_the_request_repeated(fault: LinkFault, cause: Cause) -> None:
    async def scenario() -> None:
        bench = Bench(RecordingNode())
        async with served(bench.app) as port, FaultyLink("127.0.0.1", port, fault=fault) as link:
            link.faults = 2
            async with httpx.AsyncClient(trust_env=False) as http:
                client = SubscriptionClient(
                    f"http://127.0.0.1:{link.port}",
                    request(),
                    http=http,
                    clock=lambda: bench.now,
                    timeout_s=0.3,
                )
                bench.listeners.append(client.on_notification)
                task = asyncio.create_task(client.supervise())
                await eventually_active(bench, client)
                task.cancel()
                await asyncio.wait([task])
        assert client.counters.failures[cause] == 2 == client.counters.refusals

    asyncio.run(scenario())


def test_answer_that_is_cut_off_is_made_up_for_by_the_notification() -> None:
    async def scenario() -> None:
        bench = Bench(RecordingNode(), Misbehaviour(cut_answers=1, notification_delay_s=0.1))
        async with served(bench.app) as port, httpx.AsyncClient(trust_env=False) as http:
            client = SubscriptionClient(
                f"http://127.0.0.1:{port}", request(), http=http, clock=lambda: bench.now, timeout_s=5.0
            )
            bench.listeners.append(client.on_notification)
            task = asyncio.create_task(client.supervise())
            await bench.active(client)
            assert client.counters.failures[Cause.PROTOCOL] == 1
            assert (client.counters.requests, len(bench.manager.rest)) == (1, 1)
            task.cancel()
            await asyncio.wait([task])

    asyncio.run(scenario())
