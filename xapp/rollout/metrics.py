"""Prometheus metrics of roll-outs."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterable
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge

from xapp.rollout.gates import GATES, Reading
from xapp.rollout.state import Phase, Rollout

_VALUES: Final = ("estimate", "low", "high", "limit")


class RolloutMetrics:
    """Gauges of the roll-outs in progress, counters of what was decided."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.stage = Gauge(
            "semcom_xapp_rollout_stage",
            "Stage of the roll-out of a group's decoder, 0 for the canary; -1 while there is none",
            ["group", "decoder"],
            registry=registry,
        )
        self.owed = Gauge(
            "semcom_xapp_rollout_sites_owed",
            "Sites that a step of a roll-out could not reach yet",
            ["group", "decoder"],
            registry=registry,
        )
        self.decisions = Counter(
            "semcom_xapp_rollout_decisions_total",
            "Phases entered by roll-outs",
            ["phase"],
            registry=registry,
        )
        self.gate = Gauge(
            "semcom_xapp_rollout_gate",
            "Treated minus control users at a gate of the roll-out in progress: estimate, low, high, limit "
            "(quality in dB; errors and latency as shares)",
            ["group", "decoder", "gate", "value"],
            registry=registry,
        )

    def show(self, rollout: Rollout, owed: int) -> None:
        """Bring the gauges up to date.

        Args:
            rollout: the newest of its group and decoder. owed: sites that these owe a step, of all of them.
        """
        who = rollout.group, rollout.family
        self.stage.labels(*who).set(rollout.stage if rollout.active else -1)
        self.owed.labels(*who).set(owed)
        if rollout.standing_phase is not Phase.OBSERVING:
            for gate in GATES:
                for value in _VALUES:
                    with contextlib.suppress(KeyError):
                        self.gate.remove(*who, gate, value)

    def show_gates(self, rollout: Rollout, readings: Iterable[Reading]) -> None:
        """Of the stage that is observed."""
        for reading in readings:
            for name in _VALUES:
                value = getattr(reading, name)
                if not math.isnan(value):
                    self.gate.labels(rollout.group, rollout.family, reading.gate, name).set(value)
