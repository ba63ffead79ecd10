"""What a site keeps about classification, wired: who cuts where, heads for devices, counters.

Written from the event loop; directives may be read by any thread.
"""

from __future__ import annotations

from dataclasses import dataclass

from prometheus_client import CollectorRegistry, Counter, Gauge

from codec_runtime.bundle.store import read_verified
from codec_runtime.contract.classification import PublishedCut
from codec_runtime.contract.split import SplitGraph
from codec_runtime.serving.classification import (
    AlteredStreamError,
    UnknownCutError,
    WrongFeaturesError,
    classifier_of,
)
from codec_runtime.serving.classification_table import SplitTable
from codec_runtime.serving.codec_models import Result
from codec_runtime.serving.registry import Models, UnknownModelError
from codec_runtime.split.parts import check_head, head_file


@dataclass(frozen=True)
class ClassificationMetrics:
    """Registered once a process."""

    answers: Counter
    refusals: Counter
    feature_bytes: Counter
    streams: Counter
    heads: Counter
    directives: Gauge
    fallbacks: Counter

    @classmethod
    def into(cls, registry: CollectorRegistry) -> ClassificationMetrics:
        """New ones in a registry."""
        prefix = "semcom_runtime_classify_"
        return cls(
            Counter(f"{prefix}answers_total", "Pictures classified, by cut", ("network", "cut"),
                    registry=registry),
            Counter(f"{prefix}refusals_total", "Features refused, by what is wrong with them", ("reason",),
                    registry=registry),
            Counter(f"{prefix}feature_bytes_total", "Bytes of the features classified", ("network", "cut"),
                    registry=registry),
            Counter(f"{prefix}streams_total",
                    "Streams classified, by form: fixed-length and shortened ones had exceeded the cap",
                    ("network", "form"), registry=registry),
            Counter(f"{prefix}heads_total", "Heads given to devices", ("network", "cut"), registry=registry),
            Gauge(f"{prefix}directives_in_force", "Users told where to cut", registry=registry),
            Counter(f"{prefix}directive_fallbacks_total",
                    "Users no longer told where to cut, as their version was withdrawn", registry=registry),
        )


class ClassificationSite:
    """Directives, heads and counters of one site.

    Args:
        table: who cuts where.
        registry: where the counters are registered.
    """

    def __init__(self, table: SplitTable, registry: CollectorRegistry) -> None:
        self.table = table
        self.metrics = ClassificationMetrics.into(registry)

    def published(self, models: Models) -> list[PublishedCut]:
        """Cuts that are served, by network and version, in the order of their bundle."""
        return [
            parts.published
            for _, classifier in sorted(models.classifiers.items()) for parts in classifier.cuts.values()
        ]

    def graph(self, models: Models, digest: str) -> SplitGraph | None:
        """The graph that cuts with this digest are of; None if no classifier served has it."""
        graphs = (classifier.graph for classifier in models.classifiers.values())
        return next((graph for graph in graphs if graph.digest == digest), None)

    def head(self, models: Models, network: str, version: int, cut: str) -> bytes:
        """The weights of a cut's head; reads the bundle's file, so not for the event loop.

        Raises:
            UnknownModelError: not served, or removed meanwhile. BundleError: the file is damaged.
        """
        classifier = classifier_of(models, network, version)
        parts = classifier.cuts.get(cut)
        if parts is None or not parts.published.head_bytes:
            raise UnknownCutError(f"cut {cut[:32]!r} of {network} version {version} has no weights to give")
        if not classifier.directory.is_dir():
            raise UnknownModelError(f"version {version} of classifier {network} has been removed")
        verified = read_verified(classifier.directory)
        data = head_file(verified.stored, verified.manifest.quantised, parts.head_tensors)
        check_head(classifier.manifest, cut, data)
        self.metrics.heads.labels(network, cut).inc()
        return data

    def swapped(self, models: Models) -> None:
        """Right after another set was published."""
        self.metrics.fallbacks.inc(self.table.fall_back(models.classifiers))
        self.count_directives()

    def count_directives(self) -> None:
        """Right after directives were applied."""
        self.metrics.directives.set(len(self.table))

    def note(self, result: Result, feature_bytes: int) -> None:
        """Count an answer."""
        network, cut = str(result.parameters["network"]), str(result.parameters["cut"])
        self.metrics.answers.labels(network, cut).inc()
        self.metrics.feature_bytes.labels(network, cut).inc(feature_bytes)
        self.metrics.streams.labels(network, str(result.parameters["stream"])).inc()

    def refused(self, cause: Exception) -> None:
        """Count a refusal of :func:`codec_runtime.serving.classification.run_classify`."""
        if isinstance(cause, AlteredStreamError):
            reason = cause.reason
        elif isinstance(cause, (UnknownModelError, WrongFeaturesError)):
            reason = type(cause).__name__
        else:
            reason = "ProtocolError"
        self.metrics.refusals.labels(reason).inc()
