"""The RMR port: dispatch, health check, and what bad peers and handlers cannot do."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from xapp.ric.rmr import messages
from xapp.ric.rmr.frame import FrameReader, RmrMessage, encode_frame
from xapp.ric.rmr.wire import RmrSender, WireTransport

HOST = "127.0.0.1"


async def until(condition: Callable[[], bool], timeout_s: float = 5.0) -> None:
    """Wait for a condition that another task makes true."""
    async with asyncio.timeout(timeout_s):
        while not condition():  # noqa: ASYNC110 - the condition is the product's state, it has no event
            await asyncio.sleep(0.005)


def test_messages_arrive_in_order_with_their_fields() -> None:
    async def scenario() -> None:
        got: list[tuple[RmrMessage, int]] = []
        transport = await WireTransport.listen(HOST, 0, lambda message, at: got.append((message, at)))
        sender = await RmrSender.connect(HOST, transport.port, source="lab:1")
        for number in range(50):
            assert sender.send(
                RmrMessage(messages.RIC_INDICATION, bytes([number]), sub_id=number, meid="gnb")
            )
        await until(lambda: len(got) == 50)
        assert [message.sub_id for message, _ in got] == list(range(50))
        assert got[0][0].src == "lab:1"
        assert all(at > 0 for _, at in got)
        assert sender.sent == 50
        assert transport.counters.messages == 50
        await sender.close()
        await transport.close()

    asyncio.run(scenario())


def test_health_check_is_answered_on_the_same_connection() -> None:
    async def scenario() -> None:
        got: list[RmrMessage] = []
        transport = await WireTransport.listen(HOST, 0, lambda message, at: got.append(message))
        reader, writer = await asyncio.open_connection(HOST, transport.port)
        writer.write(encode_frame(RmrMessage(messages.RIC_HEALTH_CHECK_REQ, b"", xid=b"probe")))
        frames = FrameReader()
        answers: list[RmrMessage] = []
        async with asyncio.timeout(5):
            while not answers:
                answers = frames.feed(await reader.read(4096))
        assert answers[0].mtype == messages.RIC_HEALTH_CHECK_RESP
        assert answers[0].payload == b"OK\n"
        assert answers[0].xid == b"probe"
        assert got == []
        writer.close()
        await transport.close()

    asyncio.run(scenario())


def test_bad_peer_loses_its_connection_and_nobody_else_does() -> None:
    async def scenario() -> None:
        got: list[RmrMessage] = []
        transport = await WireTransport.listen(HOST, 0, lambda message, at: got.append(message))
        sender = await RmrSender.connect(HOST, transport.port)
        assert await sender.wait_connected(5)
        reader, writer = await asyncio.open_connection(HOST, transport.port)
        writer.write(b"GET /metrics HTTP/1.1\r\n\r\n")
        async with asyncio.timeout(5):
            assert await reader.read() == b""
        assert transport.counters.frame_errors == 1
        sender.send(RmrMessage(1, b"still here"))
        await until(lambda: len(got) == 1)
        writer.close()
        await sender.close()
        await transport.close()

    asyncio.run(scenario())


def test_failing_handler_is_counted_and_dispatch_goes_on() -> None:
    async def scenario() -> None:
        seen: list[int] = []

        def handler(message: RmrMessage, received_ns: int) -> None:
            seen.append(message.sub_id)
            if message.sub_id == 0:
                raise RuntimeError("no")

        transport = await WireTransport.listen(HOST, 0, handler)
        sender = await RmrSender.connect(HOST, transport.port)
        for number in range(3):
            sender.send(RmrMessage(1, b"", sub_id=number))
        await until(lambda: seen == [0, 1, 2])
        assert transport.counters.handler_errors == 1
        await sender.close()
        await transport.close()

    asyncio.run(scenario())


def test_connections_beyond_the_limit_are_refused() -> None:
    async def scenario() -> None:
        transport = await WireTransport.listen(HOST, 0, lambda message, at: None, max_connections=1)
        _, first = await asyncio.open_connection(HOST, transport.port)
        await until(lambda: transport.connections == 1)
        reader, second = await asyncio.open_connection(HOST, transport.port)
        async with asyncio.timeout(5):
            assert await reader.read() == b""
        assert transport.counters.connections_refused == 1
        assert transport.connections == 1
        first.close()
        second.close()
        await transport.close()

    asyncio.run(scenario())


def test_sender_reconnects_when_the_peer_comes_back() -> None:
    async def scenario() -> None:
        got: list[bytes] = []
        first = await WireTransport.listen(HOST, 0, lambda message, at: got.append(message.payload))
        port = first.port
        sender = await RmrSender.connect(HOST, port, backoff_s=(0.01, 0.05))
        assert await sender.wait_connected(5)
        await first.close()
        await until(lambda: not sender.connected)
        sender.send(RmrMessage(1, b"kept for later"))
        second = await WireTransport.listen(HOST, port, lambda message, at: got.append(message.payload))
        await until(lambda: b"kept for later" in got)
        assert sender.connects == 2
        await sender.close()
        await second.close()

    asyncio.run(scenario())


def test_queue_of_an_unreachable_peer_is_bounded() -> None:
    async def scenario() -> None:
        sender = await RmrSender.connect(HOST, 1, queue_frames=3, backoff_s=(0.01, 0.02))
        results = [sender.send(RmrMessage(1, b"")) for _ in range(5)]
        assert results == [True, True, True, False, False]
        assert sender.dropped == 2
        await until(lambda: sender.connect_failures >= 2)
        await sender.close()
        assert sender.dropped == 5

    asyncio.run(scenario())


def test_port_in_use_is_reported() -> None:
    async def scenario() -> None:
        transport = await WireTransport.listen(HOST, 0, lambda message, at: None)
        with pytest.raises(OSError, match="address"):
            await WireTransport.listen(HOST, transport.port, lambda message, at: None)
        await transport.close()

    asyncio.run(scenario())
