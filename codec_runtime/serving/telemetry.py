"""The telemetry stream: a bounded ring of encoded events, many readers, none of which can block it."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable

import msgspec

from codec_runtime.contract.alignment import AlignmentReport
from codec_runtime.contract.classification import SplitReport
from codec_runtime.contract.telemetry import (
    CapabilityReport,
    FailureReport,
    QualityReport,
    TelemetryEvent,
    TrainingReport,
)

Report = CapabilityReport | QualityReport | FailureReport | TrainingReport | AlignmentReport | SplitReport
_CHUNK_EVENTS = 512


class TelemetryStream:
    """Events numbered from 1; used from one event loop.

    Args:
        instance: id of the runtime process, stamped on each event.
        capacity: events kept; older ones are gone for a reader that comes late (it sees the gap in ``seq``).
        on_missed: called with the number of events a reader missed.
    """

    def __init__(
        self, instance: str, capacity: int, on_missed: Callable[[int], None] | None = None
    ) -> None:
        self._instance = instance
        self._ring: deque[bytes] = deque(maxlen=capacity)
        self._last = 0
        self._news = asyncio.Event()
        self._closed = False
        self._encoder = msgspec.msgpack.Encoder()
        self._on_missed = on_missed or (lambda _: None)

    @property
    def last_seq(self) -> int:
        """Number of the newest event, 0 before the first."""
        return self._last

    def publish(self, report: Report) -> int:
        """Append an event and wake the readers; returns its number."""
        self._last += 1
        event = TelemetryEvent(instance=self._instance, seq=self._last, report=report)
        self._ring.append(self._encoder.encode(event))
        news, self._news = self._news, asyncio.Event()
        news.set()
        return self._last

    def close(self) -> None:
        """End every stream after what it has; the process is draining."""
        self._closed = True
        self._news.set()

    async def read(self, after: int, idle_s: float) -> AsyncIterator[bytes]:
        """Encoded events behind ``after``, concatenated in chunks, as they come.

        Ends when nothing happened for ``idle_s`` seconds or the stream is closed. An ``after`` ahead of this
        instance (the reader knew an earlier one) starts from the oldest event kept.
        """
        seen = 0 if after > self._last else max(after, 0)
        while True:
            news = self._news
            oldest = self._last - len(self._ring) + 1
            if seen < self._last:
                if seen + 1 < oldest:
                    self._on_missed(oldest - seen - 1)
                    seen = oldest - 1
                first = seen + 1 - oldest
                count = min(_CHUNK_EVENTS, self._last - seen)
                chunk = b"".join(self._ring[index] for index in range(first, first + count))
                seen += count
                yield chunk
                continue
            if self._closed:
                return
            try:
                await asyncio.wait_for(news.wait(), idle_s)
            except TimeoutError:
                return
