"""What the xApp tells people about itself: bounded event list, reachability of peers, counters."""

from __future__ import annotations

import logging
import time
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from xapp.metrics import Reservoir, XAppMetrics

_log = logging.getLogger("xapp.events")


class EventLog:
    """The last ``size`` events with sequence numbers; each is logged too.

    Attributes:
        listener: told of each event's kind and text.
    """

    def __init__(self, size: int = 200) -> None:
        self.listener: Callable[[str, str], None] | None = None
        self._events: deque[dict[str, Any]] = deque(maxlen=size)
        self._seq = 0

    def add(self, kind: str, text: str, **details: Any) -> None:
        """Remember an event: a kind for programs, one line for people, details as plain values."""
        self._seq += 1
        self._events.append(
            {"seq": self._seq, "time_ns": time.time_ns(), "kind": kind, "text": text, **details}
        )
        _log.info(text, extra={"event": kind, **{f"event_{key}": value for key, value in details.items()}})
        if self.listener is not None:
            self.listener(kind, text)

    def after(self, seq: int) -> list[dict[str, Any]]:
        """Events with a larger sequence number, oldest first."""
        return [event for event in self._events if event["seq"] > seq]


@dataclass(slots=True)
class Peer:
    """Reachability of one peer; ``up`` is None before the first contact."""

    up: bool | None = None
    reconnects: int = 0
    reason: str = ""


class Peers:
    """All peers: transitions go to the event list and the metrics, repetitions do not."""

    def __init__(self, metrics: XAppMetrics, events: EventLog) -> None:
        self._metrics = metrics
        self._events = events
        self.peers: dict[str, Peer] = {}

    def expect(self, name: str) -> None:
        """Name a peer, down, before the first contact."""
        self.peers.setdefault(name, Peer())
        self._metrics.peer_up.labels(name).set(0)
        self._metrics.peer_reconnects.labels(name)

    def is_up(self, name: str) -> bool:
        """Whether the last contact succeeded."""
        peer = self.peers.get(name)
        return peer is not None and peer.up is True

    def up(self, name: str) -> None:
        """A contact succeeded."""
        peer = self.peers.setdefault(name, Peer())
        if peer.up:
            return
        back = peer.up is False
        peer.up, peer.reason = True, ""
        self._metrics.peer_up.labels(name).set(1)
        if back:
            peer.reconnects += 1
            self._metrics.peer_reconnects.labels(name).inc()
            self._events.add("peer_back", f"{name} is back", peer=name)

    def down(self, name: str, reason: str) -> None:
        """A contact failed."""
        peer = self.peers.setdefault(name, Peer())
        peer.reason = reason[:300]
        if not peer.up:  # still down, or never reached: nothing was lost
            return
        peer.up = False
        self._metrics.peer_up.labels(name).set(0)
        self._events.add("peer_lost", f"{name} is not reachable: {reason[:200]}", peer=name)


class Status:
    """Everything observable about one xApp process."""

    def __init__(self) -> None:
        self.started = time.monotonic()
        self.metrics = XAppMetrics()
        self.events = EventLog()
        self.peers = Peers(self.metrics, self.events)
        self.counters: Counter[str] = Counter()
        self.loop, self.decode, self.policy = Reservoir(), Reservoir(), Reservoir()
