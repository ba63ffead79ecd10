"""What the xApp tells people about itself: bounded event list, reachability of peers, counters."""

from __future__ import annotations

import logging
import time
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from xapp.delivery.progress import Deliveries
from xapp.metrics import Reservoir, XAppMetrics

_log = logging.getLogger("xapp.events")


class EventLog:
    """The last ``size`` events with sequence numbers; each is logged too.

    Attributes:
        listener: told of each event's kind and text, and of the site that it is about (empty: of none).
    """

    def __init__(self, size: int = 200) -> None:
        self.listener: Callable[[str, str, str], None] | None = None
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
            self.listener(kind, text, str(details.get("site", "")))

    def after(self, seq: int) -> list[dict[str, Any]]:
        """Events with a larger sequence number, oldest first."""
        return [event for event in self._events if event["seq"] > seq]


@dataclass(slots=True)
class Peer:
    """Reachability of one peer; ``up`` is None before the first contact.

    Attributes:
        kind: what it is, its name without the site. site: that it belongs to; empty for the only one.
    """

    kind: str
    site: str = ""
    up: bool | None = None
    reconnects: int = 0
    reason: str = ""


class Peers:
    """All peers: transitions go to the event list and the metrics, repetitions do not.

    A peer that each of several sites has (``runtime``, ``telemetry``) is named ``<peer>:<site>``.

    Attributes:
        peers: by name.
    """

    def __init__(self, metrics: XAppMetrics, events: EventLog) -> None:
        self._metrics = metrics
        self._events = events
        self.peers: dict[str, Peer] = {}

    def expect(self, peer: str, site: str = "") -> None:
        """Name a peer, down, before the first contact."""
        self._peer(peer, site)
        self._metrics.peer_up.labels(peer, site).set(0)
        self._metrics.peer_reconnects.labels(peer, site)

    def is_up(self, peer: str, site: str = "") -> bool:
        """Whether the last contact succeeded."""
        known = self.peers.get(peer_name(peer, site))
        return known is not None and known.up is True

    def up(self, peer: str, site: str = "") -> None:
        """A contact succeeded."""
        known = self._peer(peer, site)
        if known.up:
            return
        back = known.up is False
        known.up, known.reason = True, ""
        self._metrics.peer_up.labels(peer, site).set(1)
        if back:
            known.reconnects += 1
            self._metrics.peer_reconnects.labels(peer, site).inc()
            name = peer_name(peer, site)
            self._events.add("peer_back", f"{name} is back", peer=name, site=site)

    def down(self, peer: str, reason: str, site: str = "") -> None:
        """A contact failed."""
        known = self._peer(peer, site)
        known.reason = reason[:300]
        if not known.up:  # still down, or never reached: nothing was lost
            return
        known.up = False
        self._metrics.peer_up.labels(peer, site).set(0)
        name = peer_name(peer, site)
        self._events.add("peer_lost", f"{name} is not reachable: {reason[:200]}", peer=name, site=site)

    def _peer(self, peer: str, site: str) -> Peer:
        return self.peers.setdefault(peer_name(peer, site), Peer(peer, site))


def peer_name(peer: str, site: str) -> str:
    """``runtime``, or ``runtime:berlin`` where there are several sites."""
    return f"{peer}:{site}" if site else peer


class Status:
    """Everything observable about one xApp process."""

    def __init__(self) -> None:
        self.started = time.monotonic()
        self.metrics = XAppMetrics()
        self.events = EventLog()
        self.peers = Peers(self.metrics, self.events)
        self.counters: Counter[str] = Counter()
        self.deliveries = Deliveries(self.metrics)
        self.loop, self.decode, self.policy = Reservoir(), Reservoir(), Reservoir()
