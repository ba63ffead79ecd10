"""The RMR port: dispatch, health check, and what bad peers and handlers cannot do."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rmr_support import HOST, bare_peer
from waiting import until

from xapp.ric.rmr import choose, messages
from xapp.ric.rmr.choose import TransportUnavailableError, choose_transport
from xapp.ric.rmr.frame import FrameReader, RmrMessage, encode_frame
from xapp.ric.rmr.route_source import RoutingSettings
from xapp.ric.rmr.transport import source_host
from xapp.ric.rmr.wire import RmrSender, WireTransport

FRAME = encode_frame(RmrMessage(1, b"payload"))
WRONG_VERSION = FRAME[: 50 + 8] + (2).to_bytes(4, "big") + FRAME[50 + 12 :]
TOO_LONG = ((5 << 20).to_bytes(4, "little") + (5 << 20).to_bytes(4, "big") + b"$").ljust(50, b"\0")
TOO_SHORT = ((60).to_bytes(4, "little") + (60).to_bytes(4, "big") + b"$").ljust(60, b"\0")
BAD_STREAMS = {
    "garbage": b"GET /metrics HTTP/1.1\r\n\r\n",
    "zeros": bytes(400),
    "short": TOO_SHORT,
    "oversized": TOO_LONG,
    "wrong version": WRONG_VERSION,
    "good, then garbage": FRAME + b"\xff" * 20,
}


def ignore(message: RmrMessage, received_ns: int) -> None:
    pass


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


@pytest.mark.parametrize("stream", BAD_STREAMS.values(), ids=list(BAD_STREAMS))
def test_bad_peer_loses_its_connection_and_nobody_else_does(stream: bytes) -> None:
    async def scenario() -> None:
        got: list[RmrMessage] = []
        transport = await WireTransport.listen(HOST, 0, lambda message, at: got.append(message))
        sender = await RmrSender.connect(HOST, transport.port)
        assert await sender.wait_connected(5)
        reader, writer = await asyncio.open_connection(HOST, transport.port)
        writer.write(stream)
        async with asyncio.timeout(5):
            with contextlib.suppress(ConnectionResetError):
                assert await reader.read() == b""
        assert transport.counters.frame_errors == 1
        sender.send(RmrMessage(1, b"still here"))
        await until(lambda: bool(got) and got[-1].payload == b"still here")
        assert len(got) == 1 + stream.startswith(FRAME[:9]) * (stream != WRONG_VERSION)
        writer.close()
        await sender.close()
        await transport.close()

    asyncio.run(scenario())


@pytest.mark.parametrize("stream", BAD_STREAMS.values(), ids=list(BAD_STREAMS))
def test_endpoint_that_answers_rubbish_is_left_and_tried_again(stream: bytes) -> None:
    async def scenario() -> None:
        async with bare_peer() as peer:
            transport = await routed(f"rte|10|{peer.name}")
            assert transport.send(RmrMessage(10, b"one"))
            await until(lambda: len(peer.received) == 1)
            peer.writers[0].write(stream)
            await until(lambda: peer.ends == 1)
            assert transport.counters.frame_errors == 1
            assert transport.send(RmrMessage(10, b"two"))
            await until(lambda: len(peer.received) == 2)
            await transport.close()

    asyncio.run(scenario())


@settings(max_examples=30)
@given(st.lists(st.binary(max_size=300), max_size=4), st.integers(0, len(FRAME) - 1), st.integers(0, 255))
def test_no_bytes_stop_the_port(chunks: list[bytes], offset: int, value: int) -> None:
    async def scenario() -> None:
        got: list[bytes] = []
        transport = await WireTransport.listen(HOST, 0, lambda message, at: got.append(message.payload))
        for stream in (*chunks, FRAME[:offset] + bytes([value]) + FRAME[offset + 1 :]):
            _, writer = await asyncio.open_connection(HOST, transport.port)
            writer.write(stream)
            writer.close()
        _, writer = await asyncio.open_connection(HOST, transport.port)
        writer.write(encode_frame(RmrMessage(1, b"the last")))
        await until(lambda: b"the last" in got)
        writer.close()
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


async def routed(routes: str, path: Path | None = None, **limits: object) -> WireTransport:
    """A transport with a route table, handed over by a route manager unless there is a seed file."""
    if path is not None:
        routing = RoutingSettings(seed=path, reload_period_s=0.02)
        return await WireTransport.open(HOST, 0, ignore, source=HOST, routing=routing, **limits)  # type: ignore[arg-type]
    routing = RoutingSettings(control_port=0)
    transport = await WireTransport.open(HOST, 0, ignore, source=HOST, routing=routing, **limits)  # type: ignore[arg-type]
    async with bare_peer() as manager:
        table = f"newrt|start|t\n{routes}\nnewrt|end\n"
        await manager.send(transport.control_port, RmrMessage(messages.RMRRM_TABLE_DATA, table.encode()))
        await until(lambda: len(manager.received) == 1)
    return transport


def test_messages_wait_for_an_endpoint_that_is_away_and_the_surplus_is_counted() -> None:
    async def scenario() -> None:
        async with bare_peer() as peer:
            port = peer.port
        transport = await routed(f"rte|10|{HOST}:{port}", queue_frames=3, backoff_s=(0.01, 0.05))
        assert [transport.send(RmrMessage(10, bytes([n]))) for n in range(5)] == [True] * 3 + [False] * 2
        assert transport.counters.send_dropped == 2
        await until(lambda: transport.counters.connect_failures >= 2)
        async with bare_peer(port) as peer:
            await until(lambda: len(peer.received) == 3)
            assert [message.payload for message in peer.received] == [b"\0", b"\1", b"\2"]
        await transport.close()

    asyncio.run(scenario())


def test_changed_seed_file_is_read_again(tmp_path: Path) -> None:
    async def scenario() -> None:
        seed = tmp_path / "routes.rt"
        seed.write_text("newrt|start\nrte|10|a:1\nnewrt|end\n")
        transport = await routed("", seed)
        assert transport.routes.endpoints(10, -1, "") == ("a:1",)
        seed.write_text("newrt|start\nrte|10|b:1\n")  # half written: the old one holds
        await until(lambda: transport.counters.route_errors >= 1)
        assert transport.routes.endpoints(10, -1, "") == ("a:1",)
        seed.write_text("newrt|start\nrte|10|b:1\nnewrt|end\n")
        await until(lambda: transport.routes.endpoints(10, -1, "") == ("b:1",))
        seed.unlink()
        await asyncio.sleep(0.05)
        assert transport.routes.endpoints(10, -1, "") == ("b:1",)
        await transport.close()

    asyncio.run(scenario())


def test_missing_seed_file_leaves_a_transport_that_receives(tmp_path: Path) -> None:
    async def scenario() -> None:
        transport = await routed("", tmp_path / "absent.rt")
        assert not transport.send(RmrMessage(10, b""))
        assert transport.counters.unroutable == 1
        await transport.close()

    asyncio.run(scenario())


def test_route_manager_hears_of_good_and_bad_tables_and_replaces_the_seed(tmp_path: Path) -> None:
    async def scenario() -> None:
        seed = tmp_path / "routes.rt"
        seed.write_text("newrt|start|seed\nrte|10|seed:1\nnewrt|end\n")
        routing = RoutingSettings(seed, control_port=0, reload_period_s=0.02)
        transport = await WireTransport.open(HOST, 0, ignore, source=HOST, routing=routing)
        async with bare_peer() as manager:

            async def say(*texts: str) -> None:
                sent = [RmrMessage(messages.RMRRM_TABLE_DATA, text.encode()) for text in texts]
                await manager.send(transport.control_port, *sent)

            await say("newrt|start|t1\nrte|10|new:1\n", "newrt|end|1\n\0")
            await until(lambda: len(manager.received) == 1)
            await say("newrt|start|t2\nrte|10|bad:1\nnewrt|end|2\n")
            await until(lambda: len(manager.received) == 2)
            good, bad = manager.received
            assert {good.mtype, bad.mtype} == {messages.RMRRM_TABLE_STATE}
            assert good.payload == b"OK t1 \n\0"
            assert bad.payload == b"ERR t2 missing table records: expected 2 got 1\n\0"
            seed.write_text("newrt|start|seed\nrte|10|seed:2\nnewrt|end\n")
            await asyncio.sleep(0.06)
            assert transport.routes.endpoints(10, -1, "") == ("new:1",)
            assert transport.counters.route_tables == 2
            assert transport.counters.route_errors == 1
        await transport.close()

    asyncio.run(scenario())


def test_route_manager_is_asked_until_it_speaks() -> None:
    async def scenario() -> None:
        async with bare_peer() as manager:
            routing = RoutingSettings(manager=(HOST, manager.port), request_period_s=0.02)
            transport = await WireTransport.open(HOST, 0, ignore, source=HOST, routing=routing)
            await until(lambda: len(manager.received) >= 2)
            request = manager.received[0]
            assert (request.mtype, request.sub_id) == (messages.RMRRM_REQ_TABLE, 0)
            assert request.payload.startswith(f"{HOST}:{transport.port} ts=".encode())
            assert request.payload.endswith(b"\n\0")
            table = b"newrt|start|t\nrte|10|new:1\nnewrt|end|1\n"
            manager.writers[0].write(encode_frame(RmrMessage(messages.RMRRM_TABLE_DATA, table)))
            await until(lambda: manager.received[-1].mtype == messages.RMRRM_TABLE_STATE)
            assert transport.routes.endpoints(10, -1, "") == ("new:1",)
            await transport.close()

    asyncio.run(scenario())


def test_route_port_in_use_is_counted_and_the_data_port_works() -> None:
    async def scenario() -> None:
        async with bare_peer() as squatter:
            routing = RoutingSettings(control_port=squatter.port)
            transport = await WireTransport.open(HOST, 0, ignore, source=HOST, routing=routing)
            assert transport.control_port == 0
            assert transport.counters.route_errors == 1
            await transport.close()

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("environment", "control_port", "manager"),
    [
        ({}, None, None),
        ({"RMR_RTG_SVC": "-1", "RMR_CTL_PORT": "4561"}, None, None),
        ({"RMR_RTG_SVC": "9999"}, 9999, None),
        ({"RMR_RTG_SVC": "tcp:4561"}, 4561, None),
        ({"RMR_RTG_SVC": "rtmgr.ricplt:4561"}, 4561, ("rtmgr.ricplt", 4561)),
        ({"RMR_RTG_SVC": "rtmgr:1", "RMR_CTL_PORT": "4600"}, 4600, ("rtmgr", 1)),
        ({"RMR_CTL_PORT": "4600"}, 4600, ("routemgr", 4561)),
    ],
)
def test_environment_says_where_routes_come_from(
    environment: dict[str, str], control_port: int | None, manager: tuple[str, int] | None
) -> None:
    routing = RoutingSettings.from_environment({"RMR_SEED_RT": "/a/b.rt", **environment})
    assert (routing.seed, routing.control_port, routing.manager) == (Path("/a/b.rt"), control_port, manager)


@pytest.mark.parametrize("variable", ["RMR_RTG_SVC", "RMR_CTL_PORT"])
def test_malformed_environment_is_named(variable: str) -> None:
    with pytest.raises(ValueError, match=variable):
        RoutingSettings.from_environment({variable: "rtmgr"})


def test_own_name_comes_from_the_environment_without_its_port() -> None:
    assert source_host({"RMR_SRC_ID": "service-xapp-rmr.ricxapp:4560"}) == "service-xapp-rmr.ricxapp"
    assert source_host({"RMR_SRC_ID": "[fd00::1]:4560"}) == "[fd00::1]"
    assert source_host({})
    assert "." not in source_host({})


def test_wire_is_chosen_where_librmr_does_not_load(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choose, "LIBRARY", "librmr_that_is_not_there.so")
    choice = choose_transport("auto")
    assert choice.name == "wire"
    assert choice.open == WireTransport.open
    assert "librmr_that_is_not_there.so does not load" in choice.reason
    with pytest.raises(TransportUnavailableError, match="librmr_that_is_not_there"):
        choose_transport("librmr")
    with pytest.raises(ValueError, match="nng"):
        choose_transport("nng")  # type: ignore[arg-type]
