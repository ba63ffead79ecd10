"""Both transports against a real librmr process; librmr's own limits. Skipped where it is not installed."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
import sys
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from rmr_support import HOST, Bench, bare_peer, skip_without_librmr
from waiting import until

from xapp.ric.rmr.choose import choose_transport
from xapp.ric.rmr.frame import RmrMessage, encode_frame
from xapp.ric.rmr.route_source import RoutingSettings
from xapp.ric.rmr.transport import RmrTransport
from xapp.ric.rmr.wire import WireTransport

PEER = Path(__file__).with_name("rmr_librmr_peer.py")
FIELDS: dict[str, Any] = {"mtype": 12050, "sub_id": 0, "meid": "gnb_001_001_00000001", "xid": "transaction-7"}
PAYLOADS = (b"", b"\x00\x01\xff", bytes(range(256)) * 500)


@pytest.fixture(autouse=True)
def _librmr() -> None:
    skip_without_librmr()


@pytest.fixture(params=["wire", "librmr"])
def bench(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    return Bench(request.param, tmp_path, monkeypatch)


@pytest.fixture
def librmr_bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    return Bench("librmr", tmp_path, monkeypatch)


@dataclass
class Peer:
    """The process, and what it has printed."""

    process: asyncio.subprocess.Process
    port: int
    events: list[dict[str, Any]]

    def do(self, what: str, payload: bytes = b"", **fields: Any) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(
            json.dumps({"do": what, "payload": payload.hex(), **fields}).encode() + b"\n"
        )

    async def wait_for(self, kind: str, count: int = 1) -> list[dict[str, Any]]:
        def seen() -> list[dict[str, Any]]:
            return [event for event in self.events if event["event"] == kind]

        await until(lambda: len(seen()) >= count, 20)
        return seen()


@contextlib.asynccontextmanager
async def librmr_peer(folder: Path, port: int, routes: str = "", source: str = HOST) -> AsyncIterator[Peer]:
    seed = folder / f"peer-{port}.rt"
    seed.write_text(f"newrt|start|peer\n{routes}\nnewrt|end\n")
    process = await asyncio.create_subprocess_exec(
        sys.executable, str(PEER), str(port),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
        limit=4 << 20,
        env={**os.environ, "RMR_SEED_RT": str(seed), "RMR_RTG_SVC": "-1", "RMR_SRC_ID": source,
             "RMR_BIND_IF": HOST},
    )  # fmt: skip
    peer = Peer(process, port, [])

    async def collect() -> None:
        assert process.stdout is not None
        while line := await process.stdout.readline():
            peer.events.append(json.loads(line))

    task = asyncio.create_task(collect())
    try:
        await peer.wait_for("ready")
        yield peer
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()
        await task


async def free_port() -> int:
    async with bare_peer() as peer:
        return peer.port


def ignore(message: RmrMessage, received_ns: int) -> None:
    pass


def test_librmr_receives_what_we_send(bench: Bench, tmp_path: Path) -> None:
    async def scenario() -> None:
        port = await free_port()
        async with (
            librmr_peer(tmp_path, port) as peer,
            bench.transport(ignore, f"mse|12050|-1|{HOST}:{port}") as transport,
        ):
            for payload in PAYLOADS:
                transport.send(RmrMessage(12050, payload, 0, FIELDS["meid"], FIELDS["xid"].encode()))
            got = await peer.wait_for("received", len(PAYLOADS))
            for event, payload in zip(got, PAYLOADS, strict=True):
                assert event["payload"] == payload.hex()
                assert event | FIELDS == event
                assert event["src"] == f"{HOST}:{transport.port}"

    asyncio.run(scenario())


def test_we_receive_what_librmr_sends(bench: Bench, tmp_path: Path) -> None:
    async def scenario() -> None:
        got: list[RmrMessage] = []
        port = await free_port()
        async with (
            bench.transport(lambda message, at: got.append(message)) as transport,
            librmr_peer(tmp_path, port, f"mse|12050|0|{HOST}:{transport.port}") as peer,
        ):
            for payload in PAYLOADS:
                peer.do("send", payload, **FIELDS)
            await until(lambda: len(got) == len(PAYLOADS))
            for message, payload in zip(got, PAYLOADS, strict=True):
                assert message == RmrMessage(
                    12050, payload, 0, FIELDS["meid"], FIELDS["xid"].encode(),
                    f"{HOST}:{port}", f"{HOST}:{port}",
                )  # fmt: skip

    asyncio.run(scenario())


def test_librmr_returns_a_message_to_us_as_its_sender(bench: Bench, tmp_path: Path) -> None:
    async def scenario() -> None:
        got: list[RmrMessage] = []
        port = await free_port()
        async with (
            librmr_peer(tmp_path, port) as peer,
            bench.transport(lambda message, at: got.append(message), f"rte|20012|{HOST}:{port}") as transport,
        ):
            peer.do("answer", b"policy", mtype=20010)
            await peer.wait_for("answering")
            transport.send(RmrMessage(20012, b"query", 5, "m", b"x1"))
            await until(lambda: len(got) == 1)
            answer = got[0]
            assert (answer.mtype, answer.payload, answer.xid) == (20010, b"policy", b"x1")
            assert (answer.sub_id, answer.meid) == (5, "m")

    asyncio.run(scenario())


@pytest.mark.parametrize("source", [HOST, "no-such-name.invalid"])
def test_reply_reaches_librmr(bench: Bench, tmp_path: Path, source: str) -> None:
    async def scenario() -> None:
        opened: list[RmrTransport] = []

        def handler(message: RmrMessage, received_ns: int) -> None:
            assert opened[0].reply(message, RmrMessage(20011, b"OK", 9, "m2"))

        port = await free_port()
        async with bench.transport(handler) as transport:
            opened.append(transport)
            async with librmr_peer(tmp_path, port, f"rte|20010|{HOST}:{transport.port}", source) as peer:
                peer.do("send", b"policy", **FIELDS | {"mtype": 20010})
                event = (await peer.wait_for("received"))[0]
                assert (event["mtype"], event["sub_id"], event["meid"]) == (20011, 9, "m2")
                assert bytes.fromhex(event["payload"]) == b"OK"
                assert event["xid"] == FIELDS["xid"]

    asyncio.run(scenario())


def test_reply_wakes_a_caller_of_rmr_call(bench: Bench, tmp_path: Path) -> None:
    async def scenario() -> None:
        opened: list[RmrTransport] = []

        def handler(message: RmrMessage, received_ns: int) -> None:
            assert opened[0].reply(message, RmrMessage(20011, b"done"))

        port = await free_port()
        async with bench.transport(handler) as transport:
            opened.append(transport)
            async with librmr_peer(tmp_path, port, f"rte|20010|{HOST}:{transport.port}") as peer:
                peer.do("call", b"policy", **FIELDS | {"mtype": 20010})
                event = (await peer.wait_for("answered"))[0]
                assert bytes.fromhex(event["payload"]) == b"done"

    asyncio.run(scenario())


def test_route_manager_on_librmr_is_told_what_became_of_its_table(tmp_path: Path) -> None:
    async def scenario() -> None:
        port = await free_port()
        routing = RoutingSettings(control_port=0)
        transport = await WireTransport.open(HOST, 0, ignore, source=HOST, routing=routing)
        async with librmr_peer(tmp_path, port, f"rte|20|{HOST}:{transport.control_port}") as peer:
            table = f"newrt|start|t1\nrte|10|{HOST}:{port}\nnewrt|end|1\n".encode()
            peer.do("call", table, **FIELDS | {"mtype": 20})
            event = (await peer.wait_for("answered"))[0]
            assert (event["mtype"], bytes.fromhex(event["payload"])) == (22, b"OK t1 \n\0")
            assert transport.send(RmrMessage(10, b"by the new route"))
            assert bytes.fromhex((await peer.wait_for("received"))[0]["payload"]) == b"by the new route"
        await transport.close()

    asyncio.run(scenario())


def test_messages_wait_for_a_busy_loop_and_the_surplus_is_counted(librmr_bench: Bench) -> None:
    async def scenario() -> None:
        got: list[RmrMessage] = []
        async with librmr_bench.transport(ignore) as first:
            opener = type(first).open  # type: ignore[attr-defined]
            transport = await opener(HOST, 0, lambda message, at: got.append(message), receive_limit=50)
            frames = b"".join(encode_frame(RmrMessage(1, b"x", sub_id=number)) for number in range(400))
            with socket.create_connection((HOST, transport.port)) as sender:
                sender.sendall(frames)
                give_up = time.monotonic() + 20
                while transport.counters.receive_dropped < 350 and time.monotonic() < give_up:
                    time.sleep(0.01)  # noqa: ASYNC251 - the loop is busy on purpose
            assert transport.counters.receive_dropped == 350
            assert got == []
            await until(lambda: len(got) == 50)
            assert [message.sub_id for message in got] == list(range(50))
            await transport.close()

    asyncio.run(scenario())


def test_message_with_an_impossible_payload_length_is_refused(librmr_bench: Bench) -> None:
    async def scenario() -> None:
        got: list[RmrMessage] = []
        async with (
            bare_peer() as peer,
            librmr_bench.transport(lambda message, at: got.append(message)) as transport,
        ):
            frame = bytearray(encode_frame(RmrMessage(1, b"x")))
            frame[50 + 4 : 50 + 8] = (2**32 - 300).to_bytes(4, "big")  # wraps in librmr's own check
            writer = await peer.connect(transport.port)
            writer.write(bytes(frame) + encode_frame(RmrMessage(1, b"next")))
            await until(lambda: len(got) == 1)
            assert got[0].payload == b"next"
            assert transport.counters.frame_errors == 1

    asyncio.run(scenario())


def test_send_queue_is_bounded(librmr_bench: Bench) -> None:
    async def scenario() -> None:
        async with librmr_bench.transport(ignore) as first:
            opener = type(first).open  # type: ignore[attr-defined]
            transport = await opener(HOST, 0, ignore, send_limit=1)
            results = [transport.send(RmrMessage(77, bytes(1 << 20))) for _ in range(200)]
            assert not all(results)
            assert transport.counters.send_dropped == results.count(False)
            await until(lambda: transport.counters.unroutable == results.count(True))
            await transport.close()

    asyncio.run(scenario())


def test_buffers_are_freed_with_their_messages(librmr_bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    from xapp.ric.rmr import librmr

    freed: list[int] = []
    release = librmr.rmr.rmr_free_msg

    def counting(buffer: Any) -> None:
        freed.append(1)
        release(buffer)

    async def scenario() -> None:
        kept: list[RmrMessage] = []
        async with (
            bare_peer() as peer,
            librmr_bench.transport(lambda message, at: kept.append(message)) as transport,
        ):
            await peer.send(transport.port, *(RmrMessage(1, b"x") for _ in range(20)))
            await until(lambda: len(kept) == 20)
            assert freed == []
            del kept[5:]
            await until(lambda: len(freed) == 15)

    monkeypatch.setattr(librmr.rmr, "rmr_free_msg", counting)
    asyncio.run(scenario())


def test_librmr_is_chosen_where_it_is_installed() -> None:
    choice = choose_transport("auto")
    assert (choice.name, choice.reason) == ("librmr", "librmr_si.so is installed")
    assert choose_transport("wire").name == "wire"
