"""RMR over TCP on asyncio without librmr: the xApp's data port, its routes and the endpoints behind them.

Receiving: see :mod:`xapp.ric.rmr.server`. A message goes to the callback as soon as its last byte is read, on
the event loop: there is no queue that could overflow, TCP holds back a sender that is too quick.

Sending: a route names endpoints; each has a queue and a connection of its own, opened with its first message
(:mod:`xapp.ric.rmr.sender`). Messages wait there while an endpoint is away, where librmr would give up.
An answer goes back over the connection of its question while that is open, else to the sender's name
(``src``), else to its address (``src_ip``); librmr tries the name first.
"""

from __future__ import annotations

import asyncio
import socket
from typing import Final

from xapp.ric.rmr.frame import MAX_FRAME_BYTES, RmrMessage, check_message
from xapp.ric.rmr.route_source import RouteSource, RoutingSettings
from xapp.ric.rmr.routes import RouteTable, RouteTableReader, parse_endpoint
from xapp.ric.rmr.sender import QUEUE_FRAMES, RmrSender
from xapp.ric.rmr.server import MAX_CONNECTIONS, FrameServer, answer_to
from xapp.ric.rmr.transport import (
    Dispatcher,
    MessageCallback,
    QuietLog,
    TransportCounters,
    TransportName,
    source_host,
)

__all__ = ["MessageCallback", "RmrSender", "TransportCounters", "WireTransport"]

MAX_ENDPOINTS = 256
"""Endpoints with a connection, or one that is tried, at a time."""

_BACKOFF_S: Final = (0.1, 5.0)


class WireTransport:
    """The xApp's RMR data port. Make one with :meth:`open`.

    Attributes:
        name, port, counters: see :class:`~xapp.ric.rmr.transport.RmrTransport`.
    """

    def __init__(
        self,
        on_message: MessageCallback,
        *,
        max_frame_bytes: int = MAX_FRAME_BYTES,
        max_connections: int = MAX_CONNECTIONS,
        queue_frames: int = QUEUE_FRAMES,
        backoff_s: tuple[float, float] = _BACKOFF_S,
    ) -> None:
        self.counters = TransportCounters()
        self._log = QuietLog()
        self._dispatcher = Dispatcher(on_message, self.counters, self._log)
        self._server = FrameServer(
            self._dispatcher.dispatch,
            self.counters,
            self._log,
            answer_elsewhere=self._answer_by_name,
            max_frame_bytes=max_frame_bytes,
            max_connections=max_connections,
        )
        self._queue_frames = queue_frames
        self._backoff_s = backoff_s
        self._routes: RouteSource | None = None
        self._senders: dict[str, RmrSender] = {}
        self._closing: set[asyncio.Task[None]] = set()
        self._closed = False

    @classmethod
    async def open(
        cls,
        host: str,
        port: int,
        on_message: MessageCallback,
        *,
        source: str = "",
        routing: RoutingSettings | None = None,
        max_frame_bytes: int = MAX_FRAME_BYTES,
        max_connections: int = MAX_CONNECTIONS,
        queue_frames: int = QUEUE_FRAMES,
        backoff_s: tuple[float, float] = _BACKOFF_S,
    ) -> WireTransport:
        """Open the port and start dispatching; see :class:`~xapp.ric.rmr.transport.TransportOpener`.

        Args:
            host, port: address to listen on; port 0 takes a free one, see :attr:`port`.
            on_message: see :data:`MessageCallback`.
            source: host part of the name put into messages; empty: ``RMR_SRC_ID`` or the host name.
            routing: where routes come from; None: from the environment.
            max_frame_bytes: longer frames end their connection.
            max_connections: further connections are closed at once.
            queue_frames: messages that may wait for an endpoint.
            backoff_s: first and longest delay between attempts to reach an endpoint.

        Raises:
            OSError: the address cannot be bound.
            ValueError: an environment variable of RMR is malformed.
        """
        routing = RoutingSettings.from_environment() if routing is None else routing
        transport = cls(
            on_message,
            max_frame_bytes=max_frame_bytes,
            max_connections=max_connections,
            queue_frames=queue_frames,
            backoff_s=backoff_s,
        )
        server = transport._server
        await server.listen(host, port)
        source = source or source_host()
        address = _own_address(host)
        server.source = f"{source}:{server.port}"
        server.source_ip = f"{address}:{server.port}" if address else server.source
        transport._routes = RouteSource(
            routing,
            RouteTableReader((server.source, server.source_ip)),
            transport.counters,
            transport._log,
            source=source,
            data_name=server.source,
        )
        await transport._routes.start(host)
        return transport

    @classmethod
    async def listen(
        cls,
        host: str,
        port: int,
        on_message: MessageCallback,
        *,
        source: str = "semcom-xapp",
        max_frame_bytes: int = MAX_FRAME_BYTES,
        max_connections: int = MAX_CONNECTIONS,
    ) -> WireTransport:
        """:meth:`open` without any routes: receives and replies only.

        Raises:
            OSError: the address cannot be bound.
        """
        return await cls.open(
            host,
            port,
            on_message,
            source=source,
            routing=RoutingSettings(),
            max_frame_bytes=max_frame_bytes,
            max_connections=max_connections,
        )

    @property
    def name(self) -> TransportName:
        """``wire``."""
        return "wire"

    @property
    def port(self) -> int:
        """The bound TCP port."""
        return self._server.port

    @property
    def control_port(self) -> int:
        """The bound TCP port for the route manager; 0 for none."""
        return self._routes.control_port if self._routes is not None else 0

    @property
    def connections(self) -> int:
        """Accepted connections open now."""
        return self._server.connections

    @property
    def routes(self) -> RouteTable:
        """The route table in force."""
        return self._routes.table if self._routes is not None else RouteTable()

    def send(self, message: RmrMessage) -> bool:
        """See :meth:`RmrTransport.send <xapp.ric.rmr.transport.RmrTransport.send>`.

        With several groups: True if one took it.
        """
        check_message(message)
        if self._closed:
            self.counters.send_dropped += 1
            return False
        endpoints = self.routes.endpoints(message.mtype, message.sub_id, message.meid)
        if not endpoints:
            self.counters.unroutable += 1
            self._log.warning(
                "unroutable",
                "no RMR route for message type %d, subscription %d, meid %r",
                message.mtype, message.sub_id, message.meid,
            )  # fmt: skip
            return False
        taken = [self._send_to(endpoint, message) for endpoint in endpoints]  # every group gets its copy
        return any(taken)

    def reply(self, to: RmrMessage, message: RmrMessage) -> bool:
        """See :meth:`RmrTransport.reply <xapp.ric.rmr.transport.RmrTransport.reply>`."""
        check_message(message)
        sent = not self._closed and to.origin is not None and to.origin.send_back(to, message)
        if not sent:
            self.counters.replies_dropped += 1
        return sent

    async def close(self) -> None:
        """Close the port and every connection; what is still queued is dropped and counted."""
        self._closed = True
        if self._routes is not None:
            await self._routes.close()
        for sender in self._senders.values():
            await sender.close()
        self._senders.clear()
        await asyncio.gather(*self._closing)
        await self._server.close()

    def _send_to(self, endpoint: str, message: RmrMessage) -> bool:
        sender = self._senders.get(endpoint)
        if sender is None:
            if len(self._senders) >= MAX_ENDPOINTS and not self._retire_one():
                self.counters.send_dropped += 1
                self._log.warning("endpoints", "RMR endpoint %s: %d are in use", endpoint, MAX_ENDPOINTS)
                return False
            host, port = parse_endpoint(endpoint)
            sender = self._senders[endpoint] = RmrSender(
                host,
                port,
                self._server.source,
                self._server.source_ip,
                self._queue_frames,
                self._backoff_s,
                self._dispatcher.dispatch,
                self.counters,
            )
            sender.start()
        return sender.send(message)

    def _retire_one(self) -> bool:
        """Make room: close the oldest sender that has nothing to send and is in no route; False if none."""
        routed = self.routes.known_endpoints()
        for endpoint, sender in self._senders.items():
            if sender.idle and endpoint not in routed:
                del self._senders[endpoint]
                task = asyncio.create_task(sender.close())
                self._closing.add(task)
                task.add_done_callback(self._closing.discard)
                return True
        return False

    def _answer_by_name(self, to: RmrMessage, message: RmrMessage) -> bool:
        """Answer when the connection has gone."""
        for endpoint in (to.src, to.src_ip):
            try:
                parse_endpoint(endpoint)
            except ValueError:
                continue
            return not self._closed and self._send_to(endpoint, answer_to(to, message))
        return False


def _own_address(host: str) -> str:
    """The address that peers see: ``host`` if it is one, else that of the default route; empty if unknown."""
    if host not in {"", "0.0.0.0", "::"}:
        return host
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # TEST-NET-1; connecting a datagram socket sends nothing
        except OSError:
            return ""
        return str(probe.getsockname()[0])
