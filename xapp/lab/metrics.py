"""Prometheus metrics of the lab (``semcom_lab_*``)."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

_LATENCY_BUCKETS = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0)


class LabMetrics:
    """All metrics on a registry of their own, so that several labs can live in one test process."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        r = self.registry
        self.transmissions = Counter(
            "semcom_lab_transmissions",
            "Pictures sent through the runtime by outcome",
            ["device_class", "outcome"],
            registry=r,
        )
        self.retries = Counter("semcom_lab_retries", "Transmission attempts repeated", registry=r)
        self.latency = Histogram(
            "semcom_lab_transmission_latency_seconds",
            "Encode + decode at the runtime as the user's client sees it",
            buckets=_LATENCY_BUCKETS,
            registry=r,
        )
        self.psnr = Gauge("semcom_lab_psnr_db", "PSNR of the last picture, by user", ["user"], registry=r)
        self.snr = Gauge("semcom_lab_snr_db", "Mean SINR by user", ["user"], registry=r)
        self.peer_up = Gauge("semcom_lab_peer_up", "1 while the peer answers", ["peer"], registry=r)
        self.outages = Counter("semcom_lab_peer_outages", "Times that a peer went away", ["peer"], registry=r)
        self.reports_lost = Counter(
            "semcom_lab_reports_lost", "Telemetry reports dropped because the runtime was away", registry=r
        )
        self.indications = Counter("semcom_lab_indications", "E2 indications handed to RMR", registry=r)
        self.indications_dropped = Counter(
            "semcom_lab_indications_dropped", "E2 indications that RMR could not take", registry=r
        )
        self.step = Histogram(
            "semcom_lab_channel_step_seconds",
            "Mobility and channel of all users, one step",
            buckets=(0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2),
            registry=r,
        )
        self.late = Counter(
            "semcom_lab_report_periods_skipped", "Report periods that were missed", registry=r
        )
        self.errors = Counter(
            "semcom_lab_internal_errors", "Unexpected errors by task; it goes on", ["task"], registry=r
        )
        self.unreadable = Gauge(
            "semcom_lab_unreadable_pictures", "Files left out of the photographs", registry=r
        )
