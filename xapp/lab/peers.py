"""Is the other side there? One log line and one count an outage, however long it lasts."""

from __future__ import annotations

import logging

from xapp.lab.metrics import LabMetrics

logger = logging.getLogger(__name__)


class Peer:
    """Tells an outage once when it begins and once when it ends.

    Args:
        name: for log and metric, e.g. ``runtime``.
        metrics: gauge ``semcom_lab_peer_up`` and counter ``semcom_lab_peer_outages_total``.
    """

    def __init__(self, name: str, metrics: LabMetrics) -> None:
        self._name = name
        self._up: bool | None = None
        self._gauge = metrics.peer_up.labels(name)
        self._outages = metrics.outages.labels(name)
        self._gauge.set(0)

    @property
    def up(self) -> bool:
        """Last known state; False before the first contact."""
        return bool(self._up)

    def note(self, up: bool, reason: str = "") -> None:
        """Take down what the last contact showed; never having been there is no outage."""
        if up == self._up:
            return
        if up:
            logger.info("peer is there", extra={"peer": self._name})
        elif self._up is None:
            logger.info("peer is not there yet", extra={"peer": self._name, "reason": reason})
        else:
            logger.warning("peer went away", extra={"peer": self._name, "reason": reason})
            self._outages.inc()
        self._up = up
        self._gauge.set(int(up))
