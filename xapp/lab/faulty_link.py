"""A TCP relay in front of a lab peer whose connections go half-closed, silent or dead on request."""

from __future__ import annotations

import asyncio
import contextlib
from enum import Enum
from typing import Self

_CHUNK = 65536
_CONNECT_TIMEOUT_S = 5.0


class LinkFault(Enum):
    """What happens to a connection once the client has sent something."""

    HALF_CLOSED = "half-closed"
    """The peer ends its side without an answer, and still takes what the client sends."""
    SILENT = "silent"
    """The peer takes everything and never answers."""
    RESET = "reset"
    """The connection is torn down."""


class FaultyLink:
    """Relays connections to one peer; ``faults`` of them, counted down, suffer ``fault`` instead.

    Attributes:
        port: where it listens.
        fault, faults: what happens to how many of the next connections; -1: to all.
    """

    def __init__(self, host: str, port: int, *, fault: LinkFault = LinkFault.HALF_CLOSED) -> None:
        self.fault = fault
        self.faults = 0
        self.port = 0
        self._peer = (host, port)
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        faulty = self.faults != 0
        self.faults -= self.faults > 0
        with contextlib.suppress(OSError, asyncio.CancelledError, TimeoutError):
            await (self._fail(reader, writer) if faulty else self._relay(reader, writer))
        writer.close()

    async def _fail(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(_CHUNK)
        if self.fault is LinkFault.RESET:
            writer.transport.abort()
            return
        if self.fault is LinkFault.HALF_CLOSED:
            writer.write_eof()
        await _drain(reader)

    async def _relay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        async with asyncio.timeout(_CONNECT_TIMEOUT_S):
            peer_reader, peer_writer = await asyncio.open_connection(*self._peer)
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(_copy(reader, peer_writer))
                group.create_task(_copy(peer_reader, writer))
        except* OSError:
            pass
        finally:
            peer_writer.close()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while chunk := await reader.read(_CHUNK):
        writer.write(chunk)
        await writer.drain()
    if writer.can_write_eof():
        writer.write_eof()


async def _drain(reader: asyncio.StreamReader) -> None:
    while await reader.read(_CHUNK):
        pass
