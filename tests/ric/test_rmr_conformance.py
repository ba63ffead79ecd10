"""What every RMR transport does: the same tests on the wire transport and, where it is installed, on librmr.

The other side is made of sockets and frames only (``rmr_support.BarePeer``).
"""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path

import pytest
from rmr_support import HOST, Bench, bare_peer, skip_without_librmr
from waiting import until

from xapp.ric.rmr import messages
from xapp.ric.rmr.frame import RmrFrameError, RmrMessage, encode_frame


@pytest.fixture(params=["wire", "librmr"])
def bench(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    if request.param == "librmr":
        skip_without_librmr()
    return Bench(request.param, tmp_path, monkeypatch)


def ignore(message: RmrMessage, received_ns: int) -> None:
    pass


def test_received_messages_keep_order_and_every_field(bench: Bench) -> None:
    sent = [
        RmrMessage(
            messages.RIC_INDICATION,
            bytes([number]) * size,
            sub_id=number - 1,  # -1 is none, 0 is an id
            meid="gnb_001_001_0000000" + str(number),
            xid=b"transaction-" + bytes([65 + number]) * 20,
            src=f"{HOST}:1",
            src_ip=f"{HOST}:1",
        )
        for number, size in enumerate((0, 1, 300, 9000, 100_000, 1_000_000))
    ]

    async def scenario() -> None:
        got: list[tuple[RmrMessage, int]] = []
        async with (
            bare_peer() as peer,
            bench.transport(lambda message, at: got.append((message, at))) as transport,
        ):
            await peer.send(transport.port, *sent)
            await until(lambda: len(got) == len(sent))
            assert [message for message, _ in got] == sent
            assert all(at > 0 for _, at in got)
            assert transport.name == bench.kind
            assert transport.counters.messages == len(sent)
            assert transport.counters.bytes_received >= sum(len(message.payload) for message in sent)

    asyncio.run(scenario())


def test_message_may_arrive_in_pieces(bench: Bench) -> None:
    async def scenario() -> None:
        got: list[RmrMessage] = []
        async with (
            bare_peer() as peer,
            bench.transport(lambda message, at: got.append(message)) as transport,
        ):
            writer = await peer.connect(transport.port)
            stream = encode_frame(RmrMessage(1, b"in pieces")) + encode_frame(RmrMessage(2, b"and another"))
            for start, end in ((0, 1), (1, 7), (7, 60), (60, 300), (300, 345), (345, 346), (346, 700)):
                writer.write(stream[start:end])
                await writer.drain()
                await asyncio.sleep(0.002)
            await until(lambda: len(got) == 2)
            assert [(message.mtype, message.payload) for message in got] == [
                (1, b"in pieces"),
                (2, b"and another"),
            ]

    asyncio.run(scenario())


def test_health_check_is_answered_and_goes_no_further(bench: Bench) -> None:
    async def scenario() -> None:
        got: list[RmrMessage] = []
        async with (
            bare_peer() as peer,
            bench.transport(lambda message, at: got.append(message)) as transport,
        ):
            request = RmrMessage(messages.RIC_HEALTH_CHECK_REQ, b"how are you", xid=b"probe", src=peer.name)
            await peer.send(transport.port, request)
            await until(lambda: len(peer.received) == 1)
            answer = peer.received[0]
            assert (answer.mtype, answer.payload) == (messages.RIC_HEALTH_CHECK_RESP, b"OK\n")
            assert answer.xid == b"probe"
            assert got == []
            assert transport.counters.health_checks == 1

    asyncio.run(scenario())


def test_failing_handler_is_counted_and_dispatch_goes_on(bench: Bench) -> None:
    async def scenario() -> None:
        seen: list[int] = []

        def handler(message: RmrMessage, received_ns: int) -> None:
            seen.append(message.sub_id)
            if message.sub_id == 0:
                raise RuntimeError("no")

        async with bare_peer() as peer, bench.transport(handler) as transport:
            await peer.send(transport.port, *(RmrMessage(1, b"x", sub_id=number) for number in range(3)))
            await until(lambda: seen == [0, 1, 2])
            assert transport.counters.handler_errors == 1

    asyncio.run(scenario())


def test_garbage_on_one_connection_stops_no_other(bench: Bench) -> None:
    async def scenario() -> None:
        got: list[RmrMessage] = []
        async with (
            bare_peer() as peer,
            bench.transport(lambda message, at: got.append(message)) as transport,
        ):
            writer = await peer.connect(transport.port)
            writer.write(b"GET /metrics HTTP/1.1\r\nHost: xapp\r\n\r\n")
            await writer.drain()
            await peer.send(transport.port, RmrMessage(1, b"still here"))
            await until(lambda: len(got) == 1)
            assert got[0].payload == b"still here"

    asyncio.run(scenario())


def test_message_goes_where_its_type_and_subscription_say(bench: Bench) -> None:
    async def scenario() -> None:
        async with bare_peer() as first, bare_peer() as second:
            routes = f"rte|10|{first.name}\nmse|10|7|{second.name}  # one subscription of its own\n"
            async with bench.transport(ignore, routes) as transport:
                for sub_id in (-1, 0, 7, 8):
                    assert transport.send(RmrMessage(10, b"p", sub_id=sub_id, meid="gnb", xid=b"x"))
                await until(lambda: len(first.received) == 3 and len(second.received) == 1)
                assert [message.sub_id for message in first.received] == [-1, 0, 8]
                got = second.received[0]
                assert (got.sub_id, got.meid, got.xid, got.payload) == (7, "gnb", b"x", b"p")
                assert got.src == f"{HOST}:{transport.port}"
                assert got.src_ip == f"{HOST}:{transport.port}"
                assert transport.counters.sent == 4

    asyncio.run(scenario())


def test_message_goes_to_the_owner_of_its_meid(bench: Bench) -> None:
    async def scenario() -> None:
        async with bare_peer() as first, bare_peer() as second:
            routes = (
                "newrt|start|t\nmse|10|-1|%meid\nnewrt|end|1\n"
                f"meid_map|start|m\nmme_ar|{first.name}|gnb_a gnb_b gnb_c\nmme_ar|{second.name}|gnb_c\n"
                "mme_del|gnb_b\nmeid_map|end|3\n"
            )
            async with bench.transport(ignore, routes) as transport:
                for meid in ("gnb_a", "gnb_b", "gnb_c", ""):
                    transport.send(RmrMessage(10, b"p", meid=meid))
                await until(lambda: transport.counters.unroutable == 2 and transport.counters.sent == 2)
                await until(lambda: bool(first.received and second.received))
                assert [message.meid for message in first.received] == ["gnb_a"]
                assert [message.meid for message in second.received] == ["gnb_c"]

    asyncio.run(scenario())


def test_groups_get_a_copy_each_and_take_turns_inside(bench: Bench) -> None:
    async def scenario() -> None:
        async with bare_peer() as one, bare_peer() as two, bare_peer() as log:
            routes = f"mse|10|-1|{one.name},{two.name};{log.name}"
            async with bench.transport(ignore, routes) as transport:
                for number in range(4):
                    assert transport.send(RmrMessage(10, bytes([number])))
                await until(lambda: len(one.received + two.received + log.received) == 8)
                assert [message.payload[0] for message in one.received] == [0, 2]
                assert [message.payload[0] for message in two.received] == [1, 3]
                assert [message.payload[0] for message in log.received] == [0, 1, 2, 3]

    asyncio.run(scenario())


def test_untidy_seed_file_is_read_the_same_way(bench: Bench) -> None:
    async def scenario() -> None:
        async with bare_peer() as one, bare_peer() as two:
            routes = (
                "# a comment\r\n\r\n newrt | start | first # id\r\n"
                f"rte | 10 | {two.name}\r\nrte|10|{one.name} # the last one holds\r\n"
                f"rte|11|{one.name}|5\nmse|12|-1|{one.name};{two.name}\n"
                "hello|1|2\nnewrt|end\n"
                f"newrt|start|second\nrte|11|{two.name}\nnewrt|end|7\n"  # the count is wrong: refused
                f"updatert|start|third\nrte|10|{two.name}\nupdatert|end|1\n"
            )
            async with bench.transport(ignore, routes) as transport:
                transport.send(RmrMessage(10, b"a"))
                transport.send(RmrMessage(11, b"b", sub_id=5))
                transport.send(RmrMessage(11, b"c", sub_id=6))
                transport.send(RmrMessage(12, b"d"))
                await until(lambda: transport.counters.unroutable >= 1 and len(one.received) >= 2)
                assert [message.payload for message in one.received] == [b"b", b"d"]
                await until(lambda: len(two.received) == 2)
                assert [message.payload for message in two.received] == [b"a", b"d"]

    asyncio.run(scenario())


def test_entries_of_other_senders_and_ourselves_are_left_out(bench: Bench) -> None:
    async def scenario() -> None:
        async with bare_peer() as mine, bare_peer() as other:
            routes = f"mse|10|-1|{mine.name}\nmse|10,elsewhere:4560|-1|{other.name}\n"
            async with bench.transport(ignore, routes) as transport:
                transport.send(RmrMessage(10, b""))
                await until(lambda: len(mine.received) == 1)
                assert other.received == []

    asyncio.run(scenario())


def test_message_without_a_route_is_counted(bench: Bench) -> None:
    async def scenario() -> None:
        async with bench.transport(ignore, "rte|10|127.0.0.1:9") as transport:
            transport.send(RmrMessage(11, b""))
            await until(lambda: transport.counters.unroutable == 1)
            assert transport.counters.sent == 0

    asyncio.run(scenario())


def test_reply_reaches_a_sender_whose_name_says_nothing(bench: Bench) -> None:
    async def scenario() -> None:
        got: list[RmrMessage] = []
        async with (
            bare_peer() as peer,
            bench.transport(lambda message, at: got.append(message)) as transport,
        ):
            question = RmrMessage(messages.A1_POLICY_REQ, b"?", sub_id=4, xid=b"t1", src="nobody")
            await peer.send(transport.port, question)
            await until(lambda: len(got) == 1)
            assert transport.reply(got[0], RmrMessage(messages.A1_POLICY_RESP, b"first", sub_id=0, meid="m"))
            assert transport.reply(got[0], RmrMessage(messages.A1_POLICY_RESP, b"2" * 50_000, xid=b"t2"))
            await until(lambda: len(peer.received) == 2)
            first, second = peer.received
            assert (first.mtype, first.payload, first.sub_id) == (messages.A1_POLICY_RESP, b"first", 0)
            assert (first.meid, first.xid) == ("m", b"t1")
            assert first.src == f"{HOST}:{transport.port}"
            assert (second.payload, second.sub_id, second.xid) == (b"2" * 50_000, -1, b"t2")

    asyncio.run(scenario())


def test_reply_finds_the_sender_by_name_when_its_connection_has_gone(bench: Bench) -> None:
    async def scenario() -> None:
        got: list[RmrMessage] = []
        async with (
            bare_peer() as peer,
            bench.transport(lambda message, at: got.append(message)) as transport,
        ):
            writer = await peer.send(transport.port, RmrMessage(1, b"?", src=peer.name))
            await until(lambda: len(got) == 1)
            writer.close()
            await asyncio.sleep(0.05)
            assert transport.reply(got[0], RmrMessage(2, b"!"))
            await until(lambda: len(peer.received) == 1)
            assert peer.received[0].payload == b"!"

    asyncio.run(scenario())


def test_reply_to_a_waiting_caller_repeats_its_call_data(bench: Bench) -> None:
    async def scenario() -> None:
        got: list[RmrMessage] = []
        async with (
            bench.transport(lambda message, at: got.append(message)) as transport,
        ):
            frame = bytearray(encode_frame(RmrMessage(1, b"?", src="nobody")))
            xid = b"call-1\0junk".ljust(32, b"j")
            frame[50 + 12 : 50 + 44] = xid
            frame[50 + 192 : 50 + 196] = (4).to_bytes(4, "little")  # the sender waits in rmr_call
            frame[50 + 280] = 7  # call id
            reader, writer = await asyncio.open_connection(HOST, transport.port)
            writer.write(frame)
            await until(lambda: len(got) == 1)
            assert transport.reply(got[0], RmrMessage(2, b"!"))
            async with asyncio.timeout(5):
                answer = await reader.readexactly(50 + 280 + 4 + 1)
            assert answer[50 + 12 : 50 + 44] == xid
            assert answer[50 + 192 : 50 + 196] == bytes(4)
            assert answer[50 + 280] == 7
            writer.close()

    asyncio.run(scenario())


def test_what_does_not_fit_a_frame_is_refused_at_once(bench: Bench) -> None:
    async def scenario() -> None:
        async with bench.transport(ignore, "rte|10|127.0.0.1:9") as transport:
            for message in (RmrMessage(10, bytes(5 << 20)), RmrMessage(10, b"", meid="m" * 32)):
                with pytest.raises(RmrFrameError):
                    transport.send(message)

    asyncio.run(scenario())


def test_port_in_use_is_reported(bench: Bench) -> None:
    async def scenario() -> None:
        async with bench.transport(ignore) as transport:
            opener = type(transport).open  # type: ignore[attr-defined]
            with pytest.raises(OSError, match=r"(?i)address"):
                await opener(HOST, transport.port, ignore)

    asyncio.run(scenario())


def test_closed_transport_sends_and_dispatches_nothing(bench: Bench) -> None:
    async def scenario() -> None:
        got: list[RmrMessage] = []
        async with bare_peer() as peer:
            async with bench.transport(
                lambda message, at: got.append(message), f"rte|10|{peer.name}"
            ) as transport:
                await peer.send(transport.port, RmrMessage(1, b"?", src=peer.name))
                await until(lambda: len(got) == 1)
                await transport.close()
                assert not transport.send(RmrMessage(10, b""))
                assert not transport.reply(got[0], RmrMessage(10, b""))
                assert transport.counters.send_dropped >= 1
                with socket.socket() as probe:  # librmr goes on listening; nobody listens to it
                    if probe.connect_ex((HOST, transport.port)) == 0:
                        probe.sendall(encode_frame(RmrMessage(1, b"late")))
                await asyncio.sleep(0.15)
                assert len(got) == 1
            assert peer.received == []

    asyncio.run(scenario())
