"""RMR through librmr, with receive and send loops of our own. Needs ``librmr_si.so``.

Two threads keep the event loop free, because librmr blocks:

- *receive*: waits for a message for at most 0.1 s, copies it, puts it into a bounded queue, and wakes the
  event loop once for all that wait there. What does not fit is freed and counted.
- *send*: takes messages from a bounded queue. The first message to an endpoint resolves its name and connects
  within the call; ``RMR_ERR_RETRY`` is repeated a few times with doubling pauses, then counted as dropped.

A received buffer lives as long as its message, as the way back (return to sender), and is freed with it; an
answer is a clone of it, so one message may be answered several times. (librmr leaves the asker's address in
the clone's ``src_ip``; ``src`` is right.)

Known of the library:

- ``rmr_close`` stops neither the library's receive thread nor its listening port: both last as long as the
  process. With ``RMR_RTG_SVC=-1`` its table thread goes on with a file name that ``rmr_close`` has freed:
  there it is not called.
- Bytes that are no frame leave their connection silent, not closed, and show in no counter; other header
  versions and frames shorter than a header pass. A frame length of zero makes its receive thread spin, and no
  further message arrives: only the counter ``receive_dropped`` tells (seen with 4.9.4).
- Where it listens and what it calls itself are environment variables of the process: ``RMR_BIND_IF`` and
  ``RMR_SRC_ID``. :meth:`LibrmrTransport.open` sets those that are not set.

Source: librmr 4.9, ``rmr_si.c``, ``mt_call_si_static.c``, ``sr_si_static.c``, ``rtc_static.c``.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import queue
import socket
import threading
import time
from collections import deque

from ricxappframe.rmr import exceptions, rmr

from xapp.ric.rmr import librmr_buffers as buffers
from xapp.ric.rmr.frame import RmrMessage, check_message
from xapp.ric.rmr.transport import (
    Dispatcher,
    MessageCallback,
    QuietLog,
    TransportCounters,
    TransportName,
)

NORMAL_MESSAGE_BYTES = 8192
"""Payload for which librmr reserves memory in advance; longer ones are received all the same."""

_RECEIVE_TIMEOUT_MS = 100
_DISPATCH_BATCH = 256  # then other tasks of the loop get their turn
_SEND_ATTEMPTS = 8
_FIRST_PAUSE_S = 0.001
_READY_TIMEOUT_S = 3.0
_CLOSE_TIMEOUT_S = 2.0

_log = logging.getLogger(__name__)


class _Received:
    """Owns one received buffer: the way back, and who frees it."""

    __slots__ = ("_free", "buffer", "owner")

    def __init__(self, owner: LibrmrTransport, buffer: buffers.Buffer) -> None:
        self.owner = owner
        self.buffer = buffer
        self._free = rmr.rmr_free_msg  # still at hand when the interpreter shuts down

    def __del__(self) -> None:
        self._free(self.buffer)

    def send_back(self, to: RmrMessage, message: RmrMessage) -> bool:
        """Queue an answer."""
        return self.owner._enqueue(message, to)


class LibrmrTransport:
    """An RMR context. Make one with :meth:`open`."""

    def __init__(
        self,
        context: int,
        port: int,
        on_message: MessageCallback,
        receive_limit: int,
        send_limit: int,
    ) -> None:
        self._context = context
        self._port = port
        self._loop = asyncio.get_running_loop()
        self._counters = TransportCounters()
        self._log = QuietLog()
        self._dispatcher = Dispatcher(on_message, self._counters, self._log)
        self._dropped_here = self._dropped_by_librmr = 0
        self._inbox: deque[tuple[RmrMessage, int]] = deque()
        self._receive_limit = receive_limit
        self._woken = False
        self._outbox: queue.Queue[tuple[RmrMessage, RmrMessage | None]] = queue.Queue(send_limit)
        self._stopping = threading.Event()
        self._static_routes = os.environ.get("RMR_RTG_SVC", "").strip().startswith("-")
        self._threads = [
            threading.Thread(target=self._receive, name="rmr-receive", daemon=True),
            threading.Thread(target=self._transmit, name="rmr-send", daemon=True),
        ]

    @classmethod
    async def open(
        cls,
        host: str,
        port: int,
        on_message: MessageCallback,
        *,
        source: str = "",
        receive_limit: int = 4096,
        send_limit: int = 1024,
    ) -> LibrmrTransport:
        """Start librmr on a port; see :class:`~xapp.ric.rmr.transport.TransportOpener`.

        Args:
            port: 0 takes a port that is free at the moment (librmr cannot say which one it got).
            receive_limit: messages that may wait for the event loop.
            send_limit: messages that may wait for the send thread.

        Raises:
            OSError: the address cannot be bound, or librmr refuses to start.
        """
        port = _free_port(host, port)
        if host not in {"", "0.0.0.0", "::"}:
            _set_environment("RMR_BIND_IF", f"[{host}]" if ":" in host else host)
        if source:
            _set_environment("RMR_SRC_ID", source)
        try:
            context = rmr.rmr_init(str(port).encode(), NORMAL_MESSAGE_BYTES, rmr.RMRFL_NONE)
        except exceptions.InitFailed as error:  # a BaseException
            raise OSError(f"librmr cannot start on {host}:{port}; it says why on stderr") from error
        buffers.set_low_latency(context)
        transport = cls(context, port, on_message, receive_limit, send_limit)
        for thread in transport._threads:
            thread.start()
        await transport._seed_loaded()
        return transport

    @property
    def name(self) -> TransportName:
        """``librmr``."""
        return "librmr"

    @property
    def port(self) -> int:
        """The bound TCP port."""
        return self._port

    @property
    def counters(self) -> TransportCounters:
        """See :class:`TransportCounters`; drops in the library's ring are read on access."""
        if not self._stopping.is_set():
            self._dropped_by_librmr = buffers.dropped_by_library(self._context)
        self._counters.receive_dropped = self._dropped_here + self._dropped_by_librmr
        return self._counters

    def send(self, message: RmrMessage) -> bool:
        """See :meth:`RmrTransport.send <xapp.ric.rmr.transport.RmrTransport.send>`.

        True says only that the message waits for the send thread: whether there is a route shows in the
        counters.
        """
        return self._enqueue(message, None)

    def reply(self, to: RmrMessage, message: RmrMessage) -> bool:
        """See :meth:`RmrTransport.reply <xapp.ric.rmr.transport.RmrTransport.reply>`."""
        sent = to.origin is not None and to.origin.send_back(to, message)
        if not sent:
            self._counters.replies_dropped += 1
        return sent

    async def close(self) -> None:
        """Stop both threads and the callback; queued messages have at most 2 s to leave.

        See the module's text for what librmr itself keeps open.
        """
        if self._stopping.is_set():
            return
        self._stopping.set()
        for thread in self._threads:
            await asyncio.to_thread(thread.join, _CLOSE_TIMEOUT_S)
        self._dropped_here += len(self._inbox)
        self._inbox.clear()
        if any(thread.is_alive() for thread in self._threads):
            _log.warning("librmr is busy connecting: its context is left open")
        elif not self._static_routes:
            await asyncio.to_thread(rmr.rmr_close, self._context)

    async def _seed_loaded(self) -> None:
        """Wait for the library's table thread, briefly: a message sent before would find no route."""
        if not os.environ.get("RMR_SEED_RT"):
            return
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_READY_TIMEOUT_S):
                while not rmr.rmr_ready(self._context):  # noqa: ASYNC110 - librmr offers no event
                    await asyncio.sleep(0.005)
                return
        _log.warning("librmr has read no route table from RMR_SEED_RT yet")

    # --- receiving

    def _receive(self) -> None:
        while not self._stopping.is_set():
            # No buffer is handed in: librmr would free it and return another.
            buffer = rmr.rmr_torcv_msg(self._context, None, _RECEIVE_TIMEOUT_MS)
            if buffer:
                self._take(_Received(self, buffer), time.perf_counter_ns())

    def _take(self, origin: _Received, received_ns: int) -> None:
        """Put a received message where the event loop finds it. A buffer that is not, is freed here."""
        try:
            message = buffers.read_message(origin.buffer, origin)
        except Exception as error:  # whatever it is, it must not end the loop
            self._counters.frame_errors += 1
            self._log.warning("frames", "RMR message refused: %s", error)
            return
        self._counters.bytes_received += len(message.payload)
        if len(self._inbox) >= self._receive_limit:
            self._dropped_here += 1
            self._log.warning("inbox", "RMR message dropped: %d wait already", self._receive_limit)
            return
        self._inbox.append((message, received_ns))
        if not self._woken:  # set before the loop is told, cleared before it looks: no wake-up is lost
            self._woken = True
            with contextlib.suppress(RuntimeError):  # the loop was closed without us
                self._loop.call_soon_threadsafe(self._dispatch)

    def _dispatch(self) -> None:
        """On the event loop: everything that waits, in batches."""
        self._woken = False
        for _ in range(_DISPATCH_BATCH):
            if self._stopping.is_set() or not self._inbox:
                return
            message, received_ns = self._inbox.popleft()
            self._dispatcher.dispatch(message, received_ns)
        if self._inbox and not self._woken:
            self._woken = True
            self._loop.call_soon(self._dispatch)

    # --- sending

    def _enqueue(self, message: RmrMessage, to: RmrMessage | None) -> bool:
        check_message(message)
        if self._stopping.is_set():
            self._counters.send_dropped += 1
            return False
        try:
            self._outbox.put_nowait((message, to))
        except queue.Full:
            self._counters.send_dropped += 1
            return False
        return True

    def _transmit(self) -> None:
        stop_at = float("inf")
        while True:
            if self._stopping.is_set():
                stop_at = min(stop_at, time.monotonic() + _CLOSE_TIMEOUT_S / 2)
            if time.monotonic() >= stop_at:
                self._counters.send_dropped += self._outbox.qsize()
                return
            try:
                message, to = self._outbox.get(timeout=_RECEIVE_TIMEOUT_MS / 1000)
            except queue.Empty:
                if self._stopping.is_set():
                    return
                continue
            try:
                self._send_now(message, to)
            except Exception:
                self._counters.send_failures += 1
                self._log.exception("send", "librmr cannot send message type %d", message.mtype)
            del message, to  # a received buffer must not wait here for the next message

    def _send_now(self, message: RmrMessage, to: RmrMessage | None) -> None:
        """One message through the library; the outcome is counted."""
        if to is None:
            buffer, call = buffers.new(self._context, message), rmr.rmr_send_msg
        else:
            origin = to.origin
            assert isinstance(origin, _Received)
            buffer, call = buffers.answer(origin.buffer, to, message), rmr.rmr_rts_msg
        state, pause_s = buffers.RMR_ERR_RETRY, _FIRST_PAUSE_S
        for attempt in range(_SEND_ATTEMPTS):
            if attempt:
                self._counters.send_retries += 1
                self._stopping.wait(pause_s)
                pause_s *= 2
            buffer = call(self._context, buffer)
            if not buffer:
                raise MemoryError("librmr returned no buffer")
            state = buffer.contents.state
            if state != buffers.RMR_ERR_RETRY:
                break
        rmr.rmr_free_msg(buffer)
        self._count(state, message)

    def _count(self, state: int, message: RmrMessage) -> None:
        if state == buffers.RMR_OK:
            self._counters.sent += 1
        elif state == buffers.RMR_ERR_NOENDPT:
            self._counters.unroutable += 1
            self._log.warning(
                "unroutable",
                "no RMR endpoint for message type %d, subscription %d, meid %r",
                message.mtype, message.sub_id, message.meid,
            )  # fmt: skip
        elif state == buffers.RMR_ERR_RETRY:
            self._counters.send_dropped += 1
            self._log.warning("retries", "RMR endpoint does not take message type %d", message.mtype)
        else:
            self._counters.send_failures += 1
            self._log.warning("state", "RMR state %d for message type %d", state, message.mtype)


def _free_port(host: str, port: int) -> int:
    """``port``, or a free one for 0; librmr has no error of its own for a port in use.

    Raises:
        OSError: the address cannot be bound.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind((host, port))
        return int(probe.getsockname()[1])


def _set_environment(variable: str, value: str) -> None:
    """For librmr, which reads it with ``getenv``; what the operator has set stays."""
    if os.environ.setdefault(variable, value) != value:
        _log.warning("%s=%s is set, not %s", variable, os.environ[variable], value)
