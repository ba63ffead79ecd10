"""Counters of processes that may restart while they are watched.

A restarted process counts from 0 again. The totals keep what every earlier instance had counted when it was
last seen, so that a sum over the run only misses the last fraction of a second of a killed process.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any


class CounterTotals:
    """Sum of counters over the instances of one process."""

    def __init__(self) -> None:
        self._ended: dict[str, float] = {}
        self._current: dict[str, float] = {}
        self._instance: str | None = None

    def update(self, counters: Mapping[str, float], instance: str | None = None) -> None:
        """Take the newest reading.

        Args:
            counters: name -> value, which only grows within an instance.
            instance: id of the process; None: a value that went down tells of a new one.
        """
        new = {name: float(value) for name, value in counters.items()}
        shrunk = any(value < self._current.get(name, 0.0) for name, value in new.items())
        changed = shrunk if instance is None else self._instance is not None and instance != self._instance
        if changed:
            for name, value in self._current.items():
                self._ended[name] = self._ended.get(name, 0.0) + value
            self._current = {}
        self._current.update(new)
        self._instance = instance

    def __getitem__(self, name: str) -> int:
        """Total of a counter; 0 if it was never seen."""
        return round(self._ended.get(name, 0.0) + self._current.get(name, 0.0))


@dataclass(frozen=True)
class Latency:
    """Percentiles in milliseconds over ``count`` samples; None before the first."""

    p50: float | None = None
    p99: float | None = None
    count: int = 0


@dataclass
class XAppHistory:
    """What the xApp said of itself over a run, whatever instance said it.

    Attributes:
        counters: totals of the state's ``counters``.
        users: table of the newest state.
        events: every event seen once, oldest first.
        instances: ids in the order of their appearance.
        policy: of the newest state. confidence: of the adapter's sources there, 0..1, by encoder.
    """

    counters: CounterTotals = field(default_factory=CounterTotals)
    users: list[dict[str, Any]] = field(default_factory=list)
    groups: list[dict[str, Any]] = field(default_factory=list)
    peers: dict[str, Any] = field(default_factory=dict)
    policy: dict[str, Any] = field(default_factory=dict)
    confidence: dict[str, float] = field(default_factory=dict)
    events: list[dict[str, Any]] = field(default_factory=list)
    instances: list[str] = field(default_factory=list)
    last_seq: int = 0
    _latency: dict[str, dict[str, Latency]] = field(default_factory=dict)
    _histograms: dict[str, tuple[list[float], list[float]]] = field(default_factory=dict)

    def update(self, state: Mapping[str, Any]) -> list[dict[str, Any]]:
        """Take one answer of ``GET /semcom/v1/state?after=<last_seq>``; returns the events that are new.

        Unknown and missing keys are no error: another version of the xApp may be watched.
        """
        instance = str(state.get("instance", ""))
        if not self.instances or self.instances[-1] != instance:
            self.instances.append(instance)
            self.last_seq = 0
        self.counters.update(_numbers(state.get("counters")), instance)
        self.users = list(state.get("users") or [])
        self.groups = list(state.get("groups") or [])
        self.peers = dict(state.get("peers") or {})
        self.policy = dict(state.get("policy") or {})
        sources = (state.get("alignment") or {}).get("sources") or []
        self.confidence = {
            str(source.get("encoder")): float(source.get("value") or 0.0)
            for source in sources if source.get("what") == "confidence"
        }
        latencies = self._latency.setdefault(instance, {})
        for name, value in (state.get("latency_ms") or {}).items():
            latencies[name] = Latency(
                _number(value, "p50"), _number(value, "p99"), int(value.get("count") or 0)
            )
        histogram = (state.get("latency_histogram") or {}).get("loop") or {}
        if histogram.get("edges_ms"):
            self._histograms[instance] = (list(histogram["edges_ms"]), list(histogram.get("counts") or []))
        fresh = [e for e in state.get("events") or [] if int(e.get("seq", 0)) > self.last_seq]
        for event in fresh:
            self.last_seq = max(self.last_seq, int(event.get("seq", 0)))
        self.events.extend(fresh)
        return fresh

    def latency(self, name: str) -> Latency:
        """Percentiles of ``loop``, ``decode`` or ``policy``: of the instance with most samples."""
        return max(
            (values.get(name, Latency()) for values in self._latency.values()),
            key=lambda latency: latency.count,
            default=Latency(),
        )

    def loop_histogram(self) -> tuple[list[float], list[float]]:
        """(bucket edges in ms, counts) summed over the instances that use the newest instance's edges."""
        if not self._histograms:
            return [], []
        edges = list(self._histograms.values())[-1][0]
        rows = [counts for other, counts in self._histograms.values() if other == edges]
        width = max(len(row) for row in rows)
        return edges, [sum(row[i] for row in rows if i < len(row)) for i in range(width)]


def _numbers(values: object) -> dict[str, float]:
    if not isinstance(values, Mapping):
        return {}
    return {str(k): float(v) for k, v in values.items() if isinstance(v, int | float)}


def _number(values: Mapping[str, Any], key: str) -> float | None:
    value = values.get(key)
    return float(value) if isinstance(value, int | float) else None


def mean(values: Sequence[float]) -> float | None:
    """Arithmetic mean; None of nothing."""
    return sum(values) / len(values) if values else None
