"""Prometheus metrics of the runtime, in a registry of their own."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from codec_runtime import __version__
from codec_runtime.serving.registry import Models

REQUEST_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.2, 0.5, 1.0, 2.5, 10.0)
BATCH_BUCKETS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32)
SWAP_BUCKETS = (1e-6, 1e-5, 1e-4, 5e-4, 1e-3, 5e-3, 1e-2, 1e-1)
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class RuntimeMetrics:
    """One attribute a metric; ``render`` gives the exposition text."""

    def __init__(self, instance: str, site: str) -> None:
        self.registry = registry = CollectorRegistry()
        prefix = "semcom_runtime_"
        self.request_seconds = Histogram(
            f"{prefix}request_seconds", "Inference request, arrival to answer", ("model", "outcome"),
            buckets=REQUEST_BUCKETS, registry=registry,
        )
        self.queue_depth = Gauge(
            f"{prefix}queue_depth", "Inference requests waiting or running", registry=registry
        )
        self.queue_seconds = Histogram(
            f"{prefix}queue_seconds", "Waiting of an inference request for its turn",
            buckets=REQUEST_BUCKETS, registry=registry,
        )
        self.batch_pictures = Histogram(
            f"{prefix}batch_pictures", "Pictures computed together", buckets=BATCH_BUCKETS, registry=registry
        )
        self.requests_dropped = Counter(
            f"{prefix}requests_dropped_total",
            "Requests not computed: deadline passed in the queue (expired) or client gone", ("cause",),
            registry=registry,
        )
        self.swap_seconds = Histogram(
            f"{prefix}swap_seconds", "Publishing a set of models (the pointer swap alone)",
            buckets=SWAP_BUCKETS, registry=registry,
        )
        self.activations = Counter(
            f"{prefix}activations_total", "Activation requests", ("outcome", "error"), registry=registry
        )
        self.model = Gauge(
            f"{prefix}model_info", "1 for each bundle that is served",
            ("kind", "name", "version", "architecture", "sha256", "served_by"), registry=registry,
        )
        self.backend = Gauge(
            f"{prefix}backend_info", "1 for the engine that computes the codec", ("backend", "precision"),
            registry=registry,
        )
        self.backend_fallbacks = Counter(
            f"{prefix}backend_fallbacks_total", "Networks that torch serves because the backend does not",
            registry=registry,
        )
        self.directives = Gauge(
            f"{prefix}directives_in_force", "Users with a directive", registry=registry
        )
        self.directives_received = Counter(
            f"{prefix}directives_total", "Directives received", ("outcome",), registry=registry
        )
        self.directive_fallbacks = Counter(
            f"{prefix}directive_fallbacks_total",
            "Directives replaced because their decoder was withdrawn, by what applies instead", ("to",),
            registry=registry,
        )
        self.encodes = Counter(
            f"{prefix}encodes_total", "Encode requests answered, by codec (jpeg, heic: no pair fits)",
            ("codec",), registry=registry,
        )
        self.coding_cut_short = Counter(
            f"{prefix}coding_cut_short_total",
            "Conventional files sent before the largest quality that fits was found, for want of time",
            ("codec",), registry=registry,
        )
        self.telemetry_events = Counter(
            f"{prefix}telemetry_events_total", "Events put on the stream", ("kind",), registry=registry
        )
        self.telemetry_dropped = Counter(
            f"{prefix}telemetry_dropped_total", "Events that left the ring before a reader came",
            registry=registry,
        )
        self.pictures = Gauge(f"{prefix}pictures", "Recent pictures kept for training", registry=registry)
        self.picture_bytes = Gauge(
            f"{prefix}picture_bytes", "Bytes of recent pictures kept", registry=registry
        )
        self.training_jobs = Counter(
            f"{prefix}training_jobs_total", "Training jobs ended", ("outcome",), registry=registry
        )
        self.bad_requests = Counter(
            f"{prefix}bad_requests_total", "Requests refused as malformed", ("endpoint",), registry=registry
        )
        self.inbox_files = Counter(
            f"{prefix}inbox_files_total", "Files put into the inbox", ("outcome",), registry=registry
        )
        self.update_refusals = Counter(
            f"{prefix}update_refusals_total", "Parts of an update refused, by where and why",
            ("stage", "error"), registry=registry,
        )
        self.info = Gauge(
            f"{prefix}info", "Runtime process", ("instance", "site", "version"), registry=registry
        )
        self.info.labels(instance, site, __version__).set(1)

    def show_models(self, models: Models) -> None:
        """Make ``model_info`` list exactly the bundles of ``models``."""
        self.model.clear()
        for bundle in models.all():
            manifest = bundle.manifest
            self.model.labels(
                manifest.kind, manifest.name, str(manifest.version), manifest.architecture,
                bundle.sha256[:16], bundle.backend,
            ).set(1)

    def render(self) -> bytes:
        return generate_latest(self.registry)
