"""Prometheus metrics of the xApp, and the bounded reservoir behind the percentiles of the state view.

Where ``runtime_url`` is the only site, the label ``site`` is empty, which to Prometheus is the same as none.
"""

from __future__ import annotations

from collections import deque
from typing import Final

import numpy as np
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info, generate_latest
from prometheus_client.gc_collector import GCCollector
from prometheus_client.process_collector import ProcessCollector

from xapp.part_metrics import PartCounters

LATENCY_BUCKETS: Final = (
    0.0001,
    0.00025,
    0.0005,
    0.001,
    0.0025,
    0.005,
    0.01,
    0.025,
    0.05,
    0.1,
    0.25,
    1.0,
    5.0,
)
"""Seconds: 0.1 ms .. 100 ms and beyond."""


class Reservoir:
    """The last ``size`` durations, seconds, for exact recent percentiles."""

    def __init__(self, size: int = 4096) -> None:
        self._values: deque[float] = deque(maxlen=size)
        self.count = 0

    def add(self, seconds: float) -> None:
        """Remember one duration."""
        self._values.append(seconds)
        self.count += 1

    def summary_ms(self) -> dict[str, float | int | None]:
        """``{"p50", "p99", "count"}``, milliseconds; None without a value."""
        if not self._values:
            return {"p50": None, "p99": None, "count": 0}
        p50, p99 = np.percentile(np.fromiter(self._values, np.float64), (50, 99)) * 1e3
        return {"p50": round(float(p50), 3), "p99": round(float(p99), 3), "count": self.count}

    def histogram_ms(self, edges_ms: tuple[float, ...]) -> dict[str, list[float] | list[int]]:
        """Counts between the edges (ms); values beyond the last edge are in the last count."""
        values = np.fromiter(self._values, np.float64) * 1e3
        counts, _ = np.histogram(np.minimum(values, edges_ms[-1]), edges_ms)
        return {"edges_ms": list(edges_ms), "counts": [int(count) for count in counts]}


class XAppMetrics:
    """All metrics in a registry of their own, so that two xApps fit in one test process."""

    def __init__(self) -> None:
        registry = self.registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        GCCollector(registry=registry)
        self.indications = Counter(
            "semcom_xapp_indications_total",
            "RIC indications received, by E2 node and outcome (decoded, or the cause of the drop)",
            ["e2_node", "outcome"],
            registry=registry,
        )
        self.ue_reports = Counter(
            "semcom_xapp_ue_reports_total", "User reports decoded, by E2 node", ["e2_node"], registry=registry
        )
        self.out_of_range = Gauge(
            "semcom_xapp_values_out_of_range",
            "Reported values not used because they are impossible, by measurement",
            ["measurement"],
            registry=registry,
        )
        self.decode = self._histogram("decode", "E2AP and KPM decoding of one indication")
        self.policy = self._histogram("policy", "One policy decision for all users of a site")
        self.split_decision = self._histogram(
            "split_decision", "One decision about the cuts of all classifying users of a site"
        )
        self.loop = self._histogram("loop", "Indication received to directive acknowledged by the runtime")
        self.users = Gauge("semcom_xapp_users", "Users in the table, by state", ["state"], registry=registry)
        self.mean_prefix = Gauge(
            "semcom_xapp_mean_prefix", "Mean latent channels decided", ["site"], registry=registry
        )
        self.predicted_miss = Gauge(
            "semcom_xapp_predicted_miss_ratio",
            "Predicted share of pictures below target",
            ["site"],
            registry=registry,
        )
        self.directives = Counter(
            "semcom_xapp_directives_total",
            "Directives, by outcome (applied, rejected)",
            ["outcome", "site"],
            registry=registry,
        )
        self.batches = Counter(
            "semcom_xapp_directive_batches_total",
            "Directive batches, by outcome (acknowledged, retried, refused)",
            ["outcome", "site"],
            registry=registry,
        )
        self.telemetry = Counter(
            "semcom_xapp_telemetry_events_total",
            "Telemetry events, by kind",
            ["kind", "site"],
            registry=registry,
        )
        self.telemetry_gaps = Counter(
            "semcom_xapp_telemetry_gaps_total",
            "Telemetry events lost in the site's buffer",
            ["site"],
            registry=registry,
        )
        self.drifts = Counter(
            "semcom_xapp_drifts_total", "Content drifts detected, by group", ["group"], registry=registry
        )
        self.updates = Counter(
            "semcom_xapp_updates_total",
            "Codec updates, by outcome (activated, refused, failed)",
            ["outcome"],
            registry=registry,
        )
        self.bytes_pushed = Counter(
            "semcom_xapp_update_bytes_total", "Bytes pushed to sites' inboxes", registry=registry
        )
        self.push_missing = Gauge(
            "semcom_xapp_push_missing_bytes",
            "Bytes that a site does not have yet of the bundle last pushed to it",
            ["site"],
            registry=registry,
        )
        self.model_version = Gauge(
            "semcom_xapp_model_version_info",
            "1 for each decoder version assigned to a group at a site",
            ["group", "decoder", "version", "site"],
            registry=registry,
        )
        self.peer_up = Gauge(
            "semcom_xapp_peer_up", "1 while the peer is reachable", ["peer", "site"], registry=registry
        )
        self.peer_reconnects = Counter(
            "semcom_xapp_peer_reconnects_total",
            "Times a lost peer came back",
            ["peer", "site"],
            registry=registry,
        )
        self.transport = Info("semcom_xapp_rmr_transport", "RMR transport in use, and why", registry=registry)
        self.parts = PartCounters(registry)
        self.build = Info("semcom_xapp_build", "Version of the xApp", registry=registry)

    def _histogram(self, name: str, text: str) -> Histogram:
        return Histogram(f"semcom_xapp_{name}_seconds", text, registry=self.registry, buckets=LATENCY_BUCKETS)

    def exposition(self) -> bytes:
        """The text format."""
        return generate_latest(self.registry)
