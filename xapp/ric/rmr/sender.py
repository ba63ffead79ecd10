"""Sending side of RMR over TCP: one endpoint, a queue, and a connection that is kept alive.

Rules:
- The first connection and every lost one are (re)tried with doubling delays; messages wait in a bounded
  queue meanwhile, and what does not fit is counted as dropped.
- What the peer sends on this connection (librmr returns messages there when it cannot resolve the sender's
  name) goes to a callback, if there is one. Bytes that are no RMR frame end the connection.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections import deque
from dataclasses import replace

from xapp.ric.rmr.frame import FrameReader, RmrFrameError, RmrMessage, encode_frame
from xapp.ric.rmr.server import answer_to
from xapp.ric.rmr.transport import MessageCallback, TransportCounters

QUEUE_FRAMES = 1024
_log = logging.getLogger(__name__)

_CONNECT_TIMEOUT_S = 5.0


class RmrSender:
    """Sends to one RMR endpoint. Make one with :meth:`connect`.

    Attributes:
        sent: frames handed to the operating system.
        dropped: messages refused because the queue was full, or lost with a broken connection.
        connects, connect_failures: attempts by outcome.
        frame_errors: connections ended because the peer sent bytes that are no RMR frame.
    """

    def __init__(
        self,
        host: str,
        port: int,
        source: str,
        source_ip: str,
        queue_frames: int,
        backoff_s: tuple[float, float],
        on_message: MessageCallback | None,
        totals: TransportCounters,
    ) -> None:
        self.host = host
        self.port = port
        self.sent = 0
        self.dropped = 0
        self.connects = 0
        self.connect_failures = 0
        self.frame_errors = 0
        self._source = source
        self._source_ip = source_ip
        self._queue: deque[bytes] = deque()
        self._queue_frames = queue_frames
        self._backoff_s = backoff_s
        self._on_message = on_message
        self._totals = totals
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
        queue_frames: int = QUEUE_FRAMES,
        backoff_s: tuple[float, float] = (0.1, 5.0),
    ) -> RmrSender:
        """Start connecting in the background; returns at once, whether or not the peer is there.

        Args:
            source: ``name:port`` put into messages that have no ``src``.
            queue_frames: messages that may wait for the connection.
            backoff_s: first and longest delay between attempts.
        """
        sender = cls(host, port, source, "", queue_frames, backoff_s, None, TransportCounters())
        sender.start()
        return sender

    def start(self) -> None:
        """Start connecting in the background of the running loop."""
        self._task = asyncio.create_task(self._run(), name=f"rmr-sender-{self.host}:{self.port}")

    @property
    def connected(self) -> bool:
        """A connection is open now."""
        return self._up.is_set()

    @property
    def idle(self) -> bool:
        """Nothing waits to be sent."""
        return not self._queue

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
        if not (message.src and message.src_ip):
            message = replace(
                message, src=message.src or self._source, src_ip=message.src_ip or self._source_ip
            )
        frame = encode_frame(message)
        if len(self._queue) >= self._queue_frames:
            self._drop(1)
            return False
        self._queue.append(frame)
        self._wakeup.set()
        return True

    def send_back(self, to: RmrMessage, message: RmrMessage) -> bool:
        """Answer a message that came from the peer of this connection."""
        return self.send(answer_to(to, message))

    async def close(self) -> None:
        """Stop; what is still queued is dropped."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
            self._task = None
        self._drop(len(self._queue))
        self._queue.clear()

    def _drop(self, count: int) -> None:
        self.dropped += count
        self._totals.send_dropped += count

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
                self._totals.connect_failures += 1
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
        gone = asyncio.create_task(self._read(reader))
        gone.add_done_callback(lambda _task: self._wakeup.set())
        try:
            while not gone.done():
                self._wakeup.clear()
                while self._queue and not gone.done():
                    writer.write(self._queue.popleft())
                    self.sent += 1
                    self._totals.sent += 1
                    await writer.drain()
                if not gone.done():
                    await self._wakeup.wait()
            raise ConnectionResetError(gone.result())
        finally:
            gone.cancel()

    async def _read(self, reader: asyncio.StreamReader) -> str:
        """Pass on what the peer sends; ends with the connection, or its framing, and says why."""
        frames = FrameReader(origin=self)
        try:
            while data := await reader.read(65536):
                received_ns = time.perf_counter_ns()
                self._totals.bytes_received += len(data)
                failure: RmrFrameError | None = None
                try:
                    arrived = frames.feed(data)
                except RmrFrameError as error:
                    arrived, failure = error.completed, error
                if self._on_message is not None:
                    for message in arrived:
                        self._on_message(message, received_ns)
                if failure is not None:
                    self.frame_errors += 1
                    self._totals.frame_errors += 1
                    return str(failure)
        except OSError as error:
            return str(error)
        return "closed by the peer"
