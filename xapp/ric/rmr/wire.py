"""RMR over TCP on asyncio: the xApp's data port (:class:`WireTransport`) and a sender (:class:`RmrSender`).

Rules of the listening side:
- A message goes to the callback as soon as its last byte is read, in order, on the event loop. An exception
in the
  callback is counted and logged; the next message is dispatched all the same.
- A health check request (100) is answered with a response (101) on the same connection and goes no further.
The
  answer comes from the loop that dispatches messages, so it is missing when dispatch is stuck.
- Bytes that are no RMR frame end their connection; the others and the listening port stay.
- A peer that does not read its answers loses them (bounded buffer), not the xApp.

Rules of the sending side: the first connection and every lost one are (re)tried with doubling delays;
messages wait in a bounded queue meanwhile, and what does not fit is counted as dropped.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

from xapp.ric.rmr import messages
from xapp.ric.rmr.frame import MAX_FRAME_BYTES, FrameReader, RmrFrameError, RmrMessage, encode_frame

MessageCallback = Callable[[RmrMessage, int], None]
"""Called with the message and ``time.perf_counter_ns()`` at which its last bytes were read. Must be quick."""

_log = logging.getLogger(__name__)

_MAX_REPLY_BACKLOG_BYTES = 256 << 10
_CONNECT_TIMEOUT_S = 5.0
_LOG_INTERVAL_S = 10.0
_HEALTH_ANSWER = b"OK\n"


@dataclass(slots=True)
class TransportCounters:
    """What a :class:`WireTransport` has seen since it started; each only grows.

    Attributes:
        messages: passed to the callback.
        bytes_received: on all connections.
        health_checks: answered.
        frame_errors: connections ended because of bytes that are no RMR frame.
        handler_errors: exceptions raised by the callback.
        connections_opened, connections_refused: accepted, and closed at once because there were too many.
        replies_dropped: answers not sent because the peer does not read.
    """

    messages: int = 0
    bytes_received: int = 0
    health_checks: int = 0
    frame_errors: int = 0
    handler_errors: int = 0
    connections_opened: int = 0
    connections_refused: int = 0
    replies_dropped: int = 0


class _PeerConnection(asyncio.Protocol):
    """One accepted connection."""

    def __init__(self, owner: WireTransport) -> None:
        self._owner = owner
        self._reader = FrameReader(owner.max_frame_bytes)
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # A cast, no check: uvloop's transports are none of asyncio's classes.
        self._transport = cast(asyncio.Transport, transport)
        self._owner._opened(self)

    def connection_lost(self, exc: Exception | None) -> None:
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
            self._owner._dispatch(self, message, received_ns)
        if failure is not None:
            self._owner._broken(self, failure)

    @property
    def peer(self) -> str:
        """``host:port`` of the other end, for logs."""
        name = self._transport.get_extra_info("peername") if self._transport else None
        return f"{name[0]}:{name[1]}" if isinstance(name, tuple) else "unknown"

    def reply(self, message: RmrMessage) -> bool:
        """Send on this connection; False when the peer has stopped reading."""
        if self._transport is None or self._transport.is_closing():
            return False
        if self._transport.get_write_buffer_size() > _MAX_REPLY_BACKLOG_BYTES:
            return False
        self._transport.write(encode_frame(message))
        return True

    def close(self) -> None:
        """Close at once; unsent answers are lost."""
        if self._transport is not None:
            self._transport.abort()


class WireTransport:
    """The xApp's RMR data port. Make one with :meth:`listen`.

    Attributes:
        counters: see :class:`TransportCounters`.
        max_frame_bytes: longest frame accepted.
    """

    def __init__(
        self, on_message: MessageCallback, source: str, max_frame_bytes: int, max_connections: int
    ) -> None:
        self.counters = TransportCounters()
        self.max_frame_bytes = max_frame_bytes
        self._on_message = on_message
        self._source = source
        self._max_connections = max_connections
        self._peers: set[_PeerConnection] = set()
        self._server: asyncio.Server | None = None
        self._port = 0
        self._quiet_until: dict[str, float] = {}

    @classmethod
    async def listen(
        cls,
        host: str,
        port: int,
        on_message: MessageCallback,
        *,
        source: str = "semcom-xapp",
        max_frame_bytes: int = MAX_FRAME_BYTES,
        max_connections: int = 64,
    ) -> WireTransport:
        """Open the port and start dispatching.

        Args:
            host, port: address to listen on; port 0 takes a free one, see :attr:`port`.
            on_message: see :data:`MessageCallback`.
            source: name put into answers, the port is appended.
            max_frame_bytes: longer frames end their connection.
            max_connections: further connections are closed at once.

        Raises:
            OSError: the address cannot be bound.
        """
        transport = cls(on_message, source, max_frame_bytes, max_connections)
        loop = asyncio.get_running_loop()
        transport._server = await loop.create_server(lambda: _PeerConnection(transport), host, port)
        transport._port = transport._server.sockets[0].getsockname()[1]
        return transport

    @property
    def port(self) -> int:
        """The bound TCP port."""
        return self._port

    @property
    def connections(self) -> int:
        """Connections open now."""
        return len(self._peers)

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
            self._warn(
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
        self._warn("frames", "RMR connection from %s closed: %s", peer.peer, error)
        peer.close()

    def _dispatch(self, peer: _PeerConnection, message: RmrMessage, received_ns: int) -> None:
        if message.mtype == messages.RIC_HEALTH_CHECK_REQ:
            self._answer_health_check(peer, message)
            return
        self.counters.messages += 1
        try:
            self._on_message(message, received_ns)
        except Exception:
            self.counters.handler_errors += 1
            if self._may_log("handler"):
                _log.exception("handler of RMR message type %d failed", message.mtype)

    def _answer_health_check(self, peer: _PeerConnection, request: RmrMessage) -> None:
        self.counters.health_checks += 1
        answer = RmrMessage(
            mtype=messages.RIC_HEALTH_CHECK_RESP,
            payload=_HEALTH_ANSWER,
            sub_id=request.sub_id,
            meid=request.meid[:31],
            xid=request.xid,
            src=f"{self._source}:{self._port}"[-63:],
        )
        try:
            sent = peer.reply(answer)
        except RmrFrameError:  # an meid that is no clean UTF-8 grows when it is encoded again
            sent = False
        if not sent:
            self.counters.replies_dropped += 1

    def _may_log(self, cause: str) -> bool:
        """At most one line for each cause in ``_LOG_INTERVAL_S``; the counters tell the rest."""
        now = time.monotonic()
        if now < self._quiet_until.get(cause, 0.0):
            return False
        self._quiet_until[cause] = now + _LOG_INTERVAL_S
        return True

    def _warn(self, cause: str, text: str, *arguments: object) -> None:
        if self._may_log(cause):
            _log.warning(text, *arguments)


class RmrSender:
    """Sends to one RMR endpoint over a connection that is kept alive. Make one with :meth:`connect`.

    Attributes:
        sent: frames handed to the operating system.
        dropped: messages refused because the queue was full, or lost with a broken connection.
        connects, connect_failures: attempts by outcome.
    """

    def __init__(
        self, host: str, port: int, source: str, queue_frames: int, backoff_s: tuple[float, float]
    ) -> None:
        self.host = host
        self.port = port
        self.sent = 0
        self.dropped = 0
        self.connects = 0
        self.connect_failures = 0
        self._source = source
        self._queue: deque[bytes] = deque()
        self._queue_frames = queue_frames
        self._backoff_s = backoff_s
        self._wakeup = asyncio.Event()
        self._up = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    @classmethod
    async def connect(
        cls,
        host: str,
        port: int,
        *,
        source: str = "",
        queue_frames: int = 1024,
        backoff_s: tuple[float, float] = (0.1, 5.0),
    ) -> RmrSender:
        """Start connecting in the background; returns at once, whether or not the peer is there.

        Args:
            source: ``name:port`` put into messages that have no ``src``.
            queue_frames: messages that may wait for the connection.
            backoff_s: first and longest delay between attempts.
        """
        sender = cls(host, port, source, queue_frames, backoff_s)
        sender._task = asyncio.create_task(sender._run(), name=f"rmr-sender-{host}:{port}")
        return sender

    @property
    def connected(self) -> bool:
        """A connection is open now."""
        return self._up.is_set()

    async def wait_connected(self, timeout_s: float) -> bool:
        """Wait until connected; False if that took longer than ``timeout_s``."""
        try:
            async with asyncio.timeout(timeout_s):
                await self._up.wait()
        except TimeoutError:
            return False
        return True

    def send(self, message: RmrMessage) -> bool:
        """Queue a message; False, and counted, when the queue is full.

        Raises:
            RmrFrameError: the message does not fit a frame.
        """
        if not message.src and self._source:
            message = RmrMessage(
                message.mtype,
                message.payload,
                message.sub_id,
                message.meid,
                message.xid,
                self._source,
                message.src_ip,
            )
        frame = encode_frame(message)
        if len(self._queue) >= self._queue_frames:
            self.dropped += 1
            return False
        self._queue.append(frame)
        self._wakeup.set()
        return True

    async def close(self) -> None:
        """Stop; what is still queued is dropped."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
            self._task = None
        self.dropped += len(self._queue)
        self._queue.clear()

    async def _run(self) -> None:
        first, longest = self._backoff_s
        delay = first
        while True:
            try:
                # Not wait_for: in Python 3.11 it loses a cancellation that meets the connection.
                async with asyncio.timeout(_CONNECT_TIMEOUT_S):
                    reader, writer = await asyncio.open_connection(self.host, self.port)
            except (OSError, TimeoutError) as error:
                self.connect_failures += 1
                if delay == first:
                    _log.warning("RMR peer %s:%d is not reachable, retrying: %s", self.host, self.port, error)
                await asyncio.sleep(delay)
                delay = min(delay * 2, longest)
                continue
            self.connects += 1
            self._up.set()
            opened = time.monotonic()
            try:
                await self._pump(reader, writer)
            except (OSError, TimeoutError) as error:
                _log.warning("RMR connection to %s:%d lost: %s", self.host, self.port, error or "closed")
            finally:
                self._up.clear()
                writer.close()
            # A peer that accepts and closes at once must not be hammered.
            delay = first if time.monotonic() - opened > longest else min(delay * 2, longest)
            await asyncio.sleep(delay)

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Write queued frames until the connection ends.

        Raises:
            OSError: the connection is gone.
        """
        gone = asyncio.create_task(self._drain_input(reader))
        gone.add_done_callback(lambda _task: self._wakeup.set())
        try:
            while not gone.done():
                self._wakeup.clear()
                while self._queue and not gone.done():
                    writer.write(self._queue.popleft())
                    self.sent += 1
                    await writer.drain()
                if not gone.done():
                    await self._wakeup.wait()
            raise ConnectionResetError("closed by the peer")
        finally:
            gone.cancel()

    @staticmethod
    async def _drain_input(reader: asyncio.StreamReader) -> None:
        """Discard what the peer sends back; ends with the connection."""
        with contextlib.suppress(OSError):
            while await reader.read(65536):
                pass
