"""The parts of a running site, wired: models, directives, inference worker, telemetry, updates, training."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import os
import shutil
import threading
import time
import uuid
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

import msgspec
import torch

from codec_runtime.bundle.errors import BundleError, RefusalError
from codec_runtime.bundle.inbox import Inbox
from codec_runtime.bundle.refusals import storage_refusal
from codec_runtime.bundle.steps import Reached, unobserved
from codec_runtime.bundle.store import find_bundles, write_atomic
from codec_runtime.bundle.trust import BundleInstaller, split_bundle_path
from codec_runtime.contract.bundle import MANIFEST_FILE, WEIGHTS_FILE
from codec_runtime.contract.directives import DirectiveAck, DirectiveBatch
from codec_runtime.contract.telemetry import TrainingReport
from codec_runtime.contract.updates import ActivationReport, ActivationRequest, SiteStatus
from codec_runtime.serving.backends.selection import select_backend
from codec_runtime.serving.directives import DirectiveTable
from codec_runtime.serving.metrics import RuntimeMetrics
from codec_runtime.serving.pictures import PictureBuffer
from codec_runtime.serving.registry import LoadedBundle, ModelRegistry, Models
from codec_runtime.serving.settings import RuntimeSettings, shipped_weights
from codec_runtime.serving.telemetry import Report, TelemetryStream
from codec_runtime.serving.training_jobs import TrainingJobs

logger = logging.getLogger(__name__)

_ACTIVE_FILE = "active.msgpack"
_ResultT = TypeVar("_ResultT")


class OverloadedError(RuntimeError):
    """The bounded inference queue is full (HTTP 503)."""


class Runtime:
    """One site. Its methods run in the event loop; computation runs in its two worker threads."""

    def __init__(self, settings: RuntimeSettings, reached: Reached = unobserved) -> None:
        torch.set_num_threads(settings.torch_threads)
        self.settings = settings
        self.instance = uuid.uuid4().hex
        self.ready = False
        self._state = Path(settings.state_dir)
        self._state.mkdir(parents=True, exist_ok=True)
        self.metrics = RuntimeMetrics(self.instance, settings.site)
        backend = select_backend(
            settings.backend, threads=settings.torch_threads, compiled=settings.torch_compile
        )
        self.metrics.backend.labels(backend.name, backend.precision).set(1)
        logger.info("backend", extra={"backend": backend.name, "precision": backend.precision})
        self.registry = ModelRegistry(backend, self.metrics.backend_fallbacks.inc)
        self.directives = DirectiveTable()
        self.pictures = PictureBuffer(settings.pictures_per_user, settings.pictures_max_bytes)
        self.telemetry = TelemetryStream(
            self.instance, settings.telemetry_buffer, self.metrics.telemetry_dropped.inc
        )
        self.inbox = Inbox(
            self._state / "inbox",
            max_file_bytes=settings.inbox_max_file_bytes,
            max_files=settings.inbox_max_files,
            reached=reached,
        )
        self._store = self._state / "bundles"
        root = Path(settings.trusted_root) if settings.trusted_root else None
        self._reached = reached
        self._installer = BundleInstaller(
            self.inbox, self._store, self._state / "tuf", root, site=settings.site, reached=reached
        )
        self.jobs = TrainingJobs(
            self._state / "jobs",
            self._training_report,
            queue_limit=settings.training_queue,
            minimum_pictures=settings.training_min_pictures,
            nice=settings.training_nice,
        )
        self._worker = ThreadPoolExecutor(1, "inference", initializer=_lower_priority,
                                          initargs=(settings.inference_nice,))
        self._updater = ThreadPoolExecutor(1, "activation")
        self._activation = asyncio.Lock()
        self._queued = 0
        self._load_at_start()

    # Models

    @property
    def models(self) -> Models:
        """The set that serves now; take it once a request."""
        return self.registry.models

    def _load_at_start(self) -> None:
        """Shipped bundles, then those activated earlier; a damaged one is left out and logged."""
        directories = find_bundles(shipped_weights(self.settings))
        directories += [self._store / bundle for bundle in self._recorded()]
        # Encoders first: a decoder needs its encoder.
        for directory in sorted(directories, key=lambda d: d.parent.parent.name != "encoder"):
            try:
                self.registry.publish(self.registry.prepare([directory]))
            except (BundleError, RefusalError) as error:
                logger.error(
                    "bundle not loaded",
                    extra={"bundle": str(directory), "error": type(error).__name__, "reason": str(error)},
                )
        self.metrics.show_models(self.models)
        self.ready = bool(self.models.encoders and self.models.decoders)
        if not self.ready:
            weights = str(shipped_weights(self.settings))
            logger.error("no encoder and decoder to serve", extra={"weights": weights})

    def _recorded(self) -> list[str]:
        try:
            recorded = msgspec.msgpack.decode((self._state / _ACTIVE_FILE).read_bytes(), type=list[str])
        except FileNotFoundError:
            return []
        except (OSError, msgspec.DecodeError) as error:
            logger.error("record of active bundles is unreadable", extra={"reason": str(error)})
            return []
        known = []
        for bundle in recorded:
            try:
                split_bundle_path(bundle)
            except RefusalError as error:
                logger.error("active bundle ignored", extra={"reason": str(error)})
            else:
                known.append(bundle)
        return known

    def _record_active(self) -> None:
        shipped = shipped_weights(self.settings)
        active = [
            f"{b.manifest.kind}/{b.manifest.name}/{b.manifest.version}"
            for b in self.models.all()
            if not b.directory.is_relative_to(shipped)
        ]
        write_atomic(self._state / _ACTIVE_FILE, msgspec.msgpack.encode(active))

    async def activate(self, request: ActivationRequest) -> ActivationReport:
        """Verify, load, warm up, publish; one activation at a time, inference goes on meanwhile."""
        async with self._activation:
            report = await self._activate(request)
        self.metrics.activations.labels(report.outcome, report.error).inc()
        if report.outcome == "refused":
            self.metrics.update_refusals.labels("activation", report.error).inc()
        level = logging.WARNING if report.outcome == "refused" else logging.INFO
        logger.log(level, "activation", extra={
            "bundles": request.bundles, "outcome": report.outcome, "error": report.error,
            "detail": report.detail, "publish_ms": report.publish_ms,
        })
        return report

    async def _activate(self, request: ActivationRequest) -> ActivationReport:
        loop = asyncio.get_running_loop()
        started = time.perf_counter()
        directories: list[Path] = []
        try:
            directories = await loop.run_in_executor(self._updater, self._installer.install, request.bundles)
            verified = time.perf_counter()
            prepared = await loop.run_in_executor(self._updater, self.registry.prepare, directories)
            loaded = time.perf_counter()
            self._reached("serve: warmed up")
            verify_ms, load_ms = 1e3 * (verified - started), 1e3 * (loaded - verified)
            if all(_is_loaded(bundle, self.models) for bundle in prepared):
                return ActivationReport(
                    instance=self.instance, outcome="already-active", verify_ms=verify_ms, load_ms=load_ms
                )
            retired = self._retired(prepared)
            swap_s = self.registry.publish(prepared, retired)
        except (BundleError, RefusalError, OSError) as error:
            refused = storage_refusal(error) if isinstance(error, OSError) else error
            self._discard_unserved(directories)
            return ActivationReport(
                instance=self.instance, outcome="refused", error=type(refused).__name__, detail=str(refused),
                verify_ms=1e3 * (time.perf_counter() - started),
            )
        self._reached("serve: published")
        self.metrics.swap_seconds.observe(swap_s)
        self.metrics.show_models(self.models)
        self.ready = bool(self.models.encoders and self.models.decoders)
        try:
            self._record_active()
        except OSError as error:
            logger.error("active bundles not recorded", extra={"reason": str(error)})
        self._reached("serve: recorded")
        for family, version in retired:
            shutil.rmtree(self._store / "decoder" / family / str(version), ignore_errors=True)
        self._reached("serve: old versions removed")
        return ActivationReport(
            instance=self.instance, outcome="activated",
            verify_ms=verify_ms, load_ms=load_ms, publish_ms=1e3 * swap_s,
        )

    def _discard_unserved(self, directories: Iterable[Path]) -> None:
        """Bundles that verify but cannot be served do not stay on disk."""
        served = {bundle.directory for bundle in self.models.all()}
        for directory in directories:
            if directory not in served:
                self._installer.discard(directory)

    def _retired(self, arriving: Iterable[LoadedBundle]) -> frozenset[tuple[str, int]]:
        """Oldest fine-tuned versions beyond ``max_versions`` of a family that nobody is told to use."""
        in_force = self.directives.decoders_in_force()
        retired: set[tuple[str, int]] = set()
        for family in {b.manifest.name for b in arriving if b.manifest.kind == "decoder"}:
            versions = sorted(v for f, v in self.models.decoders if f == family)
            spare = [
                v for v in versions
                if self.models.decoders[family, v].manifest.parent is not None and (family, v) not in in_force
            ]
            excess = max(0, len(versions) + 1 - self.settings.max_versions)
            retired.update((family, v) for v in spare[:excess])
        return frozenset(retired)

    def target_digests(self) -> dict[str, str]:
        """sha256 (hex) by TUF target path of what is in the inbox or installed from it."""
        digests = self.inbox.targets()
        for bundle in self.models.all():
            if bundle.directory.is_relative_to(self._store):
                place = bundle.directory.relative_to(self._store)
                digests[str(place / WEIGHTS_FILE)] = bundle.sha256
                manifest = hashlib.sha256((bundle.directory / MANIFEST_FILE).read_bytes())
                digests[str(place / MANIFEST_FILE)] = manifest.hexdigest()
        return digests

    def status(self) -> SiteStatus:
        return SiteStatus(
            instance=self.instance,
            site=self.settings.site,
            telemetry_seq=self.telemetry.last_seq,
            models=[bundle.manifest for bundle in self.models.all()],
        )

    # Directives and telemetry

    def apply(self, batch: DirectiveBatch) -> DirectiveAck:
        applied, rejected = self.directives.apply(batch, self.models)
        self.metrics.directives.set(len(self.directives))
        self.metrics.directives_received.labels("applied").inc(applied)
        self.metrics.directives_received.labels("rejected").inc(len(rejected))
        return DirectiveAck(
            instance=self.instance, sequence=batch.sequence, applied=applied, rejected=rejected
        )

    def publish(self, report: Report) -> None:
        self.telemetry.publish(report)
        self.metrics.telemetry_events.labels(report.__struct_config__.tag).inc()

    def _training_report(self, report: TrainingReport) -> None:
        self.publish(report)
        if report.state in ("succeeded", "failed"):
            self.metrics.training_jobs.labels(report.state).inc()
            logger.info("training job ended", extra={
                "job": report.job, "state": report.state, "gain_db": report.heldout_gain_db,
                "detail": report.detail,
            })

    # Inference worker

    async def compute(self, work: Callable[[], _ResultT]) -> _ResultT:
        """Run ``work`` in the inference thread.

        Raises:
            OverloadedError: the queue is full.
        """
        if self._queued >= self.settings.max_queue:
            raise OverloadedError(f"{self._queued} inference requests are waiting")
        self._queued += 1
        self.metrics.queue_depth.set(self._queued)
        future = asyncio.get_running_loop().run_in_executor(self._worker, work)
        # Counted down when the work ends, not when the client goes away: that is what bounds the queue.
        future.add_done_callback(self._one_less)
        return await asyncio.shield(future)

    def _one_less(self, future: asyncio.Future[_ResultT]) -> None:
        self._queued -= 1
        self.metrics.queue_depth.set(self._queued)
        if not future.cancelled():
            future.exception()  # retrieved, should the client have gone

    def drain(self) -> None:
        """Begin the shutdown: not ready, telemetry streams end; requests in flight go on."""
        self.ready = False
        self.telemetry.close()

    async def close(self) -> None:
        self.drain()
        await self.jobs.close()
        self._worker.shutdown(wait=False, cancel_futures=True)
        self._updater.shutdown(wait=False, cancel_futures=True)


def _is_loaded(bundle: LoadedBundle, models: Models) -> bool:
    manifest = bundle.manifest
    if manifest.kind == "encoder":
        loaded = models.encoders.get(manifest.version)
    else:
        loaded = models.decoders.get((manifest.name, manifest.version))
    return loaded is not None and loaded.sha256 == bundle.sha256


def _lower_priority(nice: int) -> None:
    """Linux schedules per thread: the event loop stays ahead of the inference thread on a busy core."""
    try:
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), nice)
    except OSError as error:
        logger.warning("inference thread keeps its priority", extra={"reason": str(error)})
