"""What every RMR transport offers, and the part of receiving that both share.

Rules, whichever transport:
- A received message goes to the callback on the event loop, in the order of its connection. An exception in
  the callback is counted and logged; the next message is dispatched all the same.
- A health check request (100) is answered with a response (101) and goes no further. The answer comes from
  the loop that dispatches messages, so it is missing when dispatch is stuck.
- :meth:`RmrTransport.send` and :meth:`RmrTransport.reply` never block: they put the message into a bounded
  queue, and what becomes of it shows in the counters.
- Bytes that are no RMR frame cost their connection at most.
"""

from __future__ import annotations

import logging
import os
import socket
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal, Protocol

from xapp.ric.rmr import messages
from xapp.ric.rmr.frame import MEID_BYTES, RmrFrameError, RmrMessage

MessageCallback = Callable[[RmrMessage, int], None]
"""Called with the message and ``time.perf_counter_ns()`` at which its last bytes were read. Must be quick."""

TransportName = Literal["librmr", "wire"]

_log = logging.getLogger(__name__)

_LOG_INTERVAL_S = 10.0
_HEALTH_ANSWER = b"OK\n"
_MAX_HOST_BYTES = 57  # with ":65535" it fits the 63 bytes of a source


@dataclass(slots=True)
class TransportCounters:
    """What a transport has seen since it was opened; each only grows.

    Attributes:
        messages: passed to the callback.
        bytes_received: on all connections; librmr shows payloads only.
        health_checks: answered.
        frame_errors: connections ended because of bytes that are no RMR frame (wire); messages refused
            because their length fields contradict (librmr, which keeps the connection).
        handler_errors: exceptions raised by the callback.
        receive_dropped: received messages lost because the event loop did not keep up (librmr: in the
            library's ring or in ours; on the wire, TCP holds the sender back instead).
        connections_opened, connections_refused: accepted, and closed at once because there were too many
            (wire only).
        connect_failures: failed attempts to reach an endpoint (wire only).
        sent: handed to the operating system.
        send_dropped: refused because a queue was full, or given up after retries.
        send_retries: attempts that RMR asked to repeat (librmr only).
        unroutable: no route for the message type and subscription id, or no owner for the meid; librmr
            says the same of an endpoint that cannot be reached.
        send_failures: other refusals by the library (librmr only).
        replies_dropped: answers not sent because the peer does not read, or has gone.
        route_tables, route_errors: tables taken, and tables or records refused (wire only).
    """

    messages: int = 0
    bytes_received: int = 0
    health_checks: int = 0
    frame_errors: int = 0
    handler_errors: int = 0
    receive_dropped: int = 0
    connections_opened: int = 0
    connections_refused: int = 0
    connect_failures: int = 0
    sent: int = 0
    send_dropped: int = 0
    send_retries: int = 0
    unroutable: int = 0
    send_failures: int = 0
    replies_dropped: int = 0
    route_tables: int = 0
    route_errors: int = 0


class RmrTransport(Protocol):
    """An open RMR data port."""

    @property
    def name(self) -> TransportName:
        """Which implementation it is."""

    @property
    def port(self) -> int:
        """The bound TCP port."""

    @property
    def counters(self) -> TransportCounters:
        """Up to date when it is read."""

    def send(self, message: RmrMessage) -> bool:
        """Send by the route table: message type, then subscription id, then meid.

        ``src`` and ``src_ip`` are the transport's own. True: taken for sending. False, and counted: certainly
        not sent.

        Raises:
            RmrFrameError: the message does not fit a frame.
        """

    def reply(self, to: RmrMessage, message: RmrMessage) -> bool:
        """Send ``message`` to where ``to`` came from, whatever the route table says (return to sender).

        An empty transaction id becomes that of ``to``. ``to`` must have been received by this transport.

        Raises:
            RmrFrameError: the message does not fit a frame.
        """

    async def close(self) -> None:
        """Stop receiving and sending; the callback is not called any more."""


class TransportOpener(Protocol):
    """Signature of the ``open`` class methods."""

    async def __call__(
        self, host: str, port: int, on_message: MessageCallback, *, source: str = ""
    ) -> RmrTransport:
        """Open the data port and load the routes that ``RMR_SEED_RT`` and ``RMR_RTG_SVC`` name.

        Args:
            host, port: address to listen on; port 0 takes a free one.
            source: host part of the name in sent messages; empty: see :func:`source_host`.

        Raises:
            OSError: the address cannot be bound.
            ValueError: an environment variable of RMR is malformed.
        """


class QuietLog:
    """Logs at most one line for each cause in 10 s; the counters tell the rest."""

    def __init__(self) -> None:
        self._quiet_until: dict[str, float] = {}

    def may_log(self, cause: str) -> bool:
        """Whether the time has come for another line about ``cause``."""
        now = time.monotonic()
        if now < self._quiet_until.get(cause, 0.0):
            return False
        self._quiet_until[cause] = now + _LOG_INTERVAL_S
        return True

    def warning(self, cause: str, text: str, *arguments: object) -> None:
        """``logging.warning``, seldom."""
        if self.may_log(cause):
            _log.warning(text, *arguments)

    def exception(self, cause: str, text: str, *arguments: object) -> None:
        """``logging.exception``, seldom."""
        if self.may_log(cause):
            _log.exception(text, *arguments)


class Dispatcher:
    """Hands received messages to the callback and answers health checks. Lives on the event loop."""

    def __init__(self, on_message: MessageCallback, counters: TransportCounters, log: QuietLog) -> None:
        self._on_message = on_message
        self._counters = counters
        self._log = log

    def dispatch(self, message: RmrMessage, received_ns: int) -> None:
        """Never raises an ``Exception``."""
        if message.mtype == messages.RIC_HEALTH_CHECK_REQ:
            self._answer_health_check(message)
            return
        self._counters.messages += 1
        try:
            self._on_message(message, received_ns)
        except Exception:
            self._counters.handler_errors += 1
            self._log.exception("handler", "handler of RMR message type %d failed", message.mtype)

    def _answer_health_check(self, request: RmrMessage) -> None:
        self._counters.health_checks += 1
        answer = RmrMessage(
            mtype=messages.RIC_HEALTH_CHECK_RESP,
            payload=_HEALTH_ANSWER,
            sub_id=request.sub_id,
            meid=request.meid[: MEID_BYTES - 1],
            xid=request.xid,
        )
        try:
            sent = request.origin is not None and request.origin.send_back(request, answer)
        except RmrFrameError:  # an meid that is no clean UTF-8 grows when it is encoded again
            sent = False
        if not sent:
            self._counters.replies_dropped += 1


def source_host(environment: Mapping[str, str] = os.environ) -> str:
    """Host part of the name that RMR puts into messages and looks for in route tables.

    ``RMR_SRC_ID`` without a port if it is set, else the host name without its domain (librmr, ``rmr_si.c``,
    ``init``).
    """
    forced = environment.get("RMR_SRC_ID", "")
    if forced.startswith("["):
        return forced.split("]", 1)[0][: _MAX_HOST_BYTES - 1] + "]"
    return (forced.split(":", 1)[0] or socket.gethostname().split(".", 1)[0])[:_MAX_HOST_BYTES]
