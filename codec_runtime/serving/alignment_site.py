"""What a site keeps about alignment, wired: assignments, telemetry, labelled samples, counters.

Used from the event loop. Reports are gathered for :data:`REPORT_EVERY_S` after a source's first sample.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Final

import msgspec
import numpy as np
import torch
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from codec_runtime.adapters.confidence import chance_confidence, pair_losses
from codec_runtime.contract.alignment import AlignmentReport
from codec_runtime.serving.alignment import AlignAnswer
from codec_runtime.serving.alignment_pairs import PairBuffer
from codec_runtime.serving.alignment_reports import ReportLedger, Source
from codec_runtime.serving.alignment_table import AssignmentTable

REPORT_EVERY_S: Final = 1.0
_CONSISTENCY_PAIRS: Final = 32
_FEWEST_PAIRS: Final = 8
_DOUBT: Final = 0.5
"""Confidence below which a label is in doubt: that of chance (:func:`chance_confidence`)."""
_BUCKETS: Final = tuple(round(0.05 * step, 2) for step in range(1, 21))


@dataclass(frozen=True)
class AlignmentMetrics:
    """Registered once a process."""

    samples: Counter
    confidence: Histogram
    fallbacks: Counter
    mismatches: Counter
    assignments: Gauge
    items: Gauge
    item_bytes: Gauge

    @classmethod
    def into(cls, registry: CollectorRegistry) -> AlignmentMetrics:
        """New ones in a registry."""
        prefix = "semcom_runtime_alignment_"
        return cls(
            Counter(f"{prefix}samples_total", "Samples aligned, by encoder and adapter version",
                    ("encoder", "adapter", "version"), registry=registry),
            Histogram(f"{prefix}confidence", "Mean alignment confidence of a request, 0..1",
                      ("encoder",), buckets=_BUCKETS, registry=registry),
            Counter(f"{prefix}fallbacks_total",
                    "Requests answered on an older knowledge base, the newest that both sides hold",
                    registry=registry),
            Counter(f"{prefix}knowledge_mismatches_total",
                    "Requests refused: no knowledge base that both sides hold", registry=registry),
            Gauge(f"{prefix}assignments", "Users with an assigned adapter version", registry=registry),
            Gauge(f"{prefix}items", "Labelled items kept for training", registry=registry),
            Gauge(f"{prefix}item_bytes", "Bytes of labelled items kept", registry=registry),
        )


class AlignmentSite:
    """See the module docstring.

    Args:
        pairs: users' labelled samples.
        publish: puts a report on the telemetry stream.
        registry: of the metrics.
    """

    def __init__(
        self, pairs: PairBuffer, publish: Callable[[AlignmentReport], None], registry: CollectorRegistry
    ) -> None:
        self.pairs = pairs
        self.table = AssignmentTable()
        self.metrics = AlignmentMetrics.into(registry)
        self._publish = publish
        self._ledger = ReportLedger()
        self._timer: asyncio.TimerHandle | None = None

    def note(self, user: str, answer: AlignAnswer) -> None:
        """A request was answered; without a user it only counts."""
        work, adapter = answer.work, answer.choice.adapter.manifest
        metrics = self.metrics
        metrics.samples.labels(work.encoder, adapter.name, str(adapter.version)).inc(work.pictures)
        metrics.confidence.labels(work.encoder).observe(float(answer.told["confidence"].mean()))
        if answer.choice.fallback:
            metrics.fallbacks.inc()
        if not user:
            return
        if answer.items is not None:
            for place, item in enumerate(answer.items.tolist()):
                self.pairs.add(
                    user, item, encoder=work.encoder, modality=work.modality,
                    tokens=work.values[place, : work.lengths[place]], pooled=answer.told["pooled"][place],
                    adapter=(adapter.name, adapter.version),
                )
            metrics.items.set(len(self.pairs))
            metrics.item_bytes.set(self.pairs.total_bytes)
        source = Source(
            user, work.encoder, adapter.name, adapter.version, answer.choice.knowledge.manifest.version
        )
        self._send(self._ledger.note(source, answer.told["confidence"]))
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(REPORT_EVERY_S, self.report)

    def report(self) -> None:
        """Publish what has been gathered."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._send(self._ledger.take())

    def close(self) -> None:
        """Publish the rest; no report comes afterwards by itself."""
        self.report()

    def _send(self, reports: list[tuple[Source, AlignmentReport]]) -> None:
        @cache  # a user's encoders have the same pairs
        def consistency(user: str, adapter: str, version: int) -> float | None:
            return self._consistency(user, (adapter, version))

        for source, report in reports:
            found = consistency(source.user, source.adapter, source.adapter_version)
            self._publish(msgspec.structs.replace(report, label_consistency=found))

    def _consistency(self, user: str, adapter: tuple[str, int]) -> float | None:
        pairs = self.pairs.latest_pairs(user, adapter, _CONSISTENCY_PAIRS)
        if len(pairs) < _FEWEST_PAIRS:
            return None
        images, texts = (
            torch.from_numpy(np.stack([pair[side].pooled for pair in pairs])) for side in (0, 1)
        )
        # Of so few pairs, and in the event loop: no mixture is fitted, chance decides pair by pair.
        confident = chance_confidence(pair_losses(images @ texts.t()), len(pairs)) >= _DOUBT
        return float(confident.float().mean())
