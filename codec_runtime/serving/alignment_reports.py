"""Alignment telemetry: the confidence of many requests as one report a user and encoder, now and then."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any, Final

import numpy.typing as npt

from codec_runtime.contract.alignment import AlignmentReport

MAX_OPEN: Final = 4096
"""Reports being gathered; one more, and the oldest goes out early."""


@dataclass(frozen=True)
class Source:
    """What a report is about: whose samples, through which encoder, under which versions."""

    user: str
    encoder: str
    adapter: str
    adapter_version: int
    skb_version: int


class ReportLedger:
    """Sums by source, until they are taken."""

    def __init__(self) -> None:
        self._sums: dict[Source, tuple[int, float]] = {}

    def __len__(self) -> int:
        return len(self._sums)

    def note(self, source: Source, confidence: npt.NDArray[Any]) -> list[tuple[Source, AlignmentReport]]:
        """Add samples (B,); what goes out early, if there are too many sources."""
        samples, total = self._sums.pop(source, (0, 0.0))
        self._sums[source] = samples + len(confidence), total + float(confidence.sum(dtype="f8"))
        early = []
        while len(self._sums) > MAX_OPEN:
            early.append(self._take(next(iter(self._sums))))
        return early

    def take(self) -> list[tuple[Source, AlignmentReport]]:
        """All, and begin anew; label consistency is for the caller to fill in."""
        return [self._take(source) for source in list(self._sums)]

    def _take(self, source: Source) -> tuple[Source, AlignmentReport]:
        samples, total = self._sums.pop(source)
        return source, AlignmentReport(
            user=source.user, time_ns=time.time_ns(), encoder=source.encoder, adapter=source.adapter,
            adapter_version=source.adapter_version, skb_version=source.skb_version, samples=samples,
            confidence=min(max(total / samples, 0.0), 1.0),
        )
