"""How far the pushes of this process are, for the live state and the metrics."""

from __future__ import annotations

from typing import Any

from xapp.delivery.push import PushProgress
from xapp.metrics import XAppMetrics


class Deliveries:
    """The latest progress of each site and bundle, the last ``size`` of them.

    Args:
        metrics: ``semcom_xapp_push_missing_bytes{site}`` is what of the bundle on its way is not there yet.
    """

    def __init__(self, metrics: XAppMetrics, size: int = 64) -> None:
        self._metrics = metrics
        self._size = size
        self._latest: dict[tuple[str, str], PushProgress] = {}

    def on_progress(self, progress: PushProgress) -> None:
        """Take note; the ``progress`` of :func:`xapp.delivery.push.push`."""
        key = progress.site, progress.bundle
        self._latest.pop(key, None)
        self._latest[key] = progress
        while len(self._latest) > self._size:
            del self._latest[next(iter(self._latest))]
        self._metrics.push_missing.labels(progress.site).set(progress.total - progress.done)

    def view(self) -> list[dict[str, Any]]:
        """For ``GET /semcom/v1/state``, the latest last."""
        return [
            {
                "site": latest.site,
                "bundle": latest.bundle,
                "done": latest.done,
                "total": latest.total,
                "missing": latest.total - latest.done,
            }
            for latest in self._latest.values()
        ]
