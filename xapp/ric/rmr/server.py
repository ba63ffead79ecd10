"""Listening side of RMR over TCP: accepts connections and cuts their bytes into messages.

Rules:
- Bytes that are no RMR frame end their connection, and are counted; the others and the listening port stay.
- A peer that does not read its answers loses them (bounded buffer), not this process.
- Connections beyond a limit are closed at once.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import replace
from typing import cast

from xapp.ric.rmr.frame import MAX_FRAME_BYTES, FrameReader, RmrFrameError, RmrMessage, encode_frame
from xapp.ric.rmr.transport import MessageCallback, QuietLog, TransportCounters

MAX_CONNECTIONS = 64
_MAX_REPLY_BACKLOG_BYTES = 256 << 10

AnswerElsewhere = Callable[[RmrMessage, RmrMessage], bool]
"""Sends an answer (second) when the connection of the asked message (first) has gone."""


def answer_to(to: RmrMessage, message: RmrMessage) -> RmrMessage:
    """``message`` with what an answer repeats: the transaction id unless it has one, and the call data."""
    return replace(message, xid=message.xid or to.xid, call=to.call)


class _PeerConnection(asyncio.Protocol):
    """One accepted connection; the way back for the messages that come over it."""

    def __init__(self, owner: FrameServer) -> None:
        self._owner = owner
        self._reader = FrameReader(owner.max_frame_bytes, origin=self)
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # A cast, no check: uvloop's transports are none of asyncio's classes.
        self._transport = cast(asyncio.Transport, transport)
        self._owner._opened(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self._owner._lost(self)

    def data_received(self, data: bytes) -> None:
        received_ns = time.perf_counter_ns()
        if self._transport is None or self._transport.is_closing():
            return
        self._owner.counters.bytes_received += len(data)
        failure: RmrFrameError | None = None
        try:
            arrived = self._reader.feed(data)
        except RmrFrameError as error:
            arrived, failure = error.completed, error
        for message in arrived:
            self._owner.on_message(message, received_ns)
        if failure is not None:
            self._owner._broken(self, failure)

    @property
    def peer(self) -> str:
        """``host:port`` of the other end, for logs."""
        name = self._transport.get_extra_info("peername") if self._transport else None
        return f"{name[0]}:{name[1]}" if isinstance(name, tuple) else "unknown"

    def send_back(self, to: RmrMessage, message: RmrMessage) -> bool:
        """Answer on this connection, else as the owner knows; False when the peer has stopped reading."""
        if self._transport is None or self._transport.is_closing():
            return self._owner.answer_elsewhere(to, message)
        if self._transport.get_write_buffer_size() > _MAX_REPLY_BACKLOG_BYTES:
            return False
        self._transport.write(encode_frame(self._owner.sign(answer_to(to, message))))
        self._owner.counters.sent += 1
        return True

    def close(self) -> None:
        """Close at once; unsent answers are lost."""
        if self._transport is not None:
            self._transport.abort()


class FrameServer:
    """One listening port.

    Args:
        on_message: gets every message; must not raise.
        source: ``host:port`` put into answers, as :attr:`source`.
        answer_elsewhere: see :data:`AnswerElsewhere`; None: such answers are not sent.

    Attributes:
        source, source_ip: names put into sent messages that have none; set them once the port is known.
    """

    def __init__(
        self,
        on_message: MessageCallback,
        counters: TransportCounters,
        log: QuietLog,
        *,
        answer_elsewhere: AnswerElsewhere | None = None,
        max_frame_bytes: int = MAX_FRAME_BYTES,
        max_connections: int = MAX_CONNECTIONS,
    ) -> None:
        self.on_message = on_message
        self.counters = counters
        self.answer_elsewhere = answer_elsewhere or (lambda to, message: False)
        self.max_frame_bytes = max_frame_bytes
        self.source = ""
        self.source_ip = ""
        self._log = log
        self._max_connections = max_connections
        self._peers: set[_PeerConnection] = set()
        self._server: asyncio.Server | None = None
        self._port = 0

    async def listen(self, host: str, port: int) -> None:
        """Open the port; 0 takes a free one.

        Raises:
            OSError: the address cannot be bound.
        """
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: _PeerConnection(self), host, port)
        self._port = self._server.sockets[0].getsockname()[1]

    @property
    def port(self) -> int:
        """The bound TCP port; 0 before."""
        return self._port

    @property
    def connections(self) -> int:
        """Connections open now."""
        return len(self._peers)

    def sign(self, message: RmrMessage) -> RmrMessage:
        """With the names of this process where the message has none."""
        if message.src and message.src_ip:
            return message
        return replace(message, src=message.src or self.source, src_ip=message.src_ip or self.source_ip)

    async def close(self) -> None:
        """Close the port and every connection."""
        if self._server is not None:
            self._server.close()
            self._server = None
        for peer in list(self._peers):
            peer.close()
        await asyncio.sleep(0)  # lets the aborted connections report that they are gone

    def _opened(self, peer: _PeerConnection) -> None:
        if len(self._peers) >= self._max_connections:
            self.counters.connections_refused += 1
            self._log.warning(
                "connections", "RMR connection from %s refused: %d are open", peer.peer, len(self._peers)
            )
            peer.close()
            return
        self.counters.connections_opened += 1
        self._peers.add(peer)

    def _lost(self, peer: _PeerConnection) -> None:
        self._peers.discard(peer)

    def _broken(self, peer: _PeerConnection, error: RmrFrameError) -> None:
        self.counters.frame_errors += 1
        self._log.warning("frames", "RMR connection from %s closed: %s", peer.peer, error)
        peer.close()
