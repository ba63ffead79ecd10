"""What the RMR tests share: the other side of the wire in bare frames, and transports on loopback."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from xapp.ric.rmr.choose import TransportUnavailableError, choose_transport
from xapp.ric.rmr.frame import FrameReader, RmrMessage, encode_frame
from xapp.ric.rmr.transport import MessageCallback, RmrTransport

HOST = "127.0.0.1"
ENVIRONMENT = ("RMR_SEED_RT", "RMR_RTG_SVC", "RMR_CTL_PORT", "RMR_SRC_ID", "RMR_BIND_IF", "RMR_RTREQ_FREQ")


def skip_without_librmr() -> None:
    """Skips the test, with the reason, where librmr is not installed."""
    try:
        choose_transport("librmr")
    except TransportUnavailableError as error:
        pytest.skip(str(error))


@dataclass
class BarePeer:
    """An RMR endpoint made of sockets and frames only; it answers nothing by itself.

    Attributes:
        received: messages on accepted connections and on those of :meth:`connect`.
        ends: the closed connections of :meth:`connect`.
    """

    port: int = 0
    received: list[RmrMessage] = field(default_factory=list)
    writers: list[asyncio.StreamWriter] = field(default_factory=list)
    ends: int = 0
    tasks: list[asyncio.Task[None]] = field(default_factory=list)

    @property
    def name(self) -> str:
        """As routes and sources have it."""
        return f"{HOST}:{self.port}"

    async def read(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Collect what arrives on one connection."""
        self.writers.append(writer)
        frames = FrameReader()
        with contextlib.suppress(OSError):
            while data := await reader.read(65536):
                self.received += frames.feed(data)
        self.ends += 1

    async def connect(self, port: int) -> asyncio.StreamWriter:
        """A connection to ``port`` whose input is collected."""
        reader, writer = await asyncio.open_connection(HOST, port)
        self.tasks.append(asyncio.create_task(self.read(reader, writer)))
        return writer

    async def send(self, port: int, *messages: RmrMessage) -> asyncio.StreamWriter:
        """Over a connection of its own, which stays open."""
        writer = await self.connect(port)
        for message in messages:
            writer.write(encode_frame(message))
        return writer


@contextlib.asynccontextmanager
async def bare_peer(port: int = 0) -> AsyncIterator[BarePeer]:
    """A peer that listens on a free port."""
    peer = BarePeer()
    server = await asyncio.start_server(peer.read, HOST, port)
    peer.port = server.sockets[0].getsockname()[1]
    try:
        yield peer
    finally:
        server.close()
        for writer in peer.writers:
            writer.transport.abort()
        for task in peer.tasks:
            task.cancel()
        await asyncio.gather(*peer.tasks, return_exceptions=True)


@dataclass
class Bench:
    """Opens transports of one kind with routes of their own.

    Attributes:
        kind: ``librmr`` or ``wire``.
    """

    kind: str
    folder: Path
    monkeypatch: pytest.MonkeyPatch

    @contextlib.asynccontextmanager
    async def transport(self, on_message: MessageCallback, routes: str = "") -> AsyncIterator[RmrTransport]:
        """An open transport that knows ``routes`` (the records between start and end, or whole tables)."""
        for variable in ENVIRONMENT:
            self.monkeypatch.delenv(variable, raising=False)
        if "newrt" not in routes:
            routes = f"newrt|start|test\n{routes}\nnewrt|end\n"
        seed = self.folder / "routes.rt"
        seed.write_text(routes)
        self.monkeypatch.setenv("RMR_SEED_RT", str(seed))
        self.monkeypatch.setenv("RMR_RTG_SVC", "-1")
        self.monkeypatch.setenv("RMR_SRC_ID", HOST)
        self.monkeypatch.setenv("RMR_BIND_IF", HOST)
        choice = choose_transport(self.kind)  # type: ignore[arg-type]
        transport = await choice.open(HOST, 0, on_message)
        try:
            yield transport
        finally:
            await transport.close()
