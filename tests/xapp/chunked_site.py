"""A site in memory that takes targets in chunks as a runtime does, and misbehaves as told."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from xapp_simulated_site import bundle_files, make_manifest

from codec_runtime.contract.ranges import ByteRange
from codec_runtime.contract.updates import ActivationReport, InboxListing
from xapp.delivery.repository import TufRepository
from xapp.runtime_client import RuntimeRefused

BUNDLE = "decoder/conv/2"
WEIGHTS = bytes(range(250)) * 4


class ChunkedSite:
    """``fault`` is called with each request's kind and may raise; ``kept`` are the bytes by hashed name."""

    def __init__(self, fault: Callable[[str], None] = lambda kind: None) -> None:
        self.fault = fault
        self.kept: dict[str, bytes] = {}
        self.complete: dict[str, str] = {}
        self.metadata: dict[str, bytes] = {}
        self.weights: list[str] = []
        self.activated: list[list[str]] = []
        self.answers = [ActivationReport(instance="i", outcome="activated")]
        self.spans: list[tuple[str, int, int]] = []
        self.takes_files = False
        self.awaits_files = False
        self.announced: list[list[str]] = []

    async def inbox(self) -> InboxListing:
        self.fault("inbox")
        return InboxListing(
            targets=dict(self.complete),
            partial={name: len(data) for name, data in self.kept.items()},
            weights=self.weights,
            metadata={name: hashlib.sha256(data).hexdigest() for name, data in self.metadata.items()},
            takes_files=self.takes_files,
            awaits_files=self.awaits_files,
        )

    async def put_metadata(self, name: str, data: bytes) -> None:
        self.fault("metadata")
        self.metadata[name] = data

    async def put_chunk(self, name: str, span: ByteRange, data: bytes) -> int:
        self.fault("chunk")
        assert len(data) == span.size
        self.spans.append((name, span.first, span.last))
        have = self.kept.get(name, b"")
        if span.first == len(have):
            have = self.kept[name] = have + data
        if len(have) == span.total:
            del self.kept[name]
            folder, _, file = name.rpartition("/")
            digest, _, file = file.partition(".")
            if hashlib.sha256(have).hexdigest() != digest:
                raise RuntimeRefused("thrown away", 422)
            self.complete[f"{folder}/{file}"] = digest
        return len(have)

    async def activate(
        self,
        bundles: list[str],
        *,
        targets: Mapping[str, bytes] | None = None,
        metadata: Mapping[str, bytes] | None = None,
        coming: Sequence[str] = (),
    ) -> ActivationReport:
        self.fault("activate")
        assert self.takes_files or not (targets or metadata)
        assert self.awaits_files or not coming
        self.announced.append(list(coming))
        for name, data in (targets or {}).items():
            folder, _, file = name.rpartition("/")
            self.complete[f"{folder}/{file.partition('.')[2]}"] = hashlib.sha256(data).hexdigest()
        self.metadata.update(metadata or {})
        self.activated.append(bundles)
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]


def repository_with(place: Path, *versions: int, weights: bytes = WEIGHTS) -> TufRepository:
    """A repository of ``decoder/conv`` in these versions."""
    repository = TufRepository(place)
    for version in versions:
        manifest = make_manifest("decoder", "conv", version, weights)
        repository.publish(manifest, bundle_files(manifest, weights))
    return repository


async def no_sleep(seconds: float) -> None:
    pass
