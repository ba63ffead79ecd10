"""The parts of a running site, wired: models, directives, inference worker, telemetry, updates, training."""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import TypeVar

import torch

from codec_runtime.bundle.inbox import Inbox
from codec_runtime.bundle.steps import Reached, unobserved
from codec_runtime.contract.directives import DirectiveAck, DirectiveBatch
from codec_runtime.contract.telemetry import CapabilityReport, TrainingReport
from codec_runtime.contract.updates import ActivationReport, ActivationRequest, InboxListing, SiteStatus
from codec_runtime.serving.activation import Activations
from codec_runtime.serving.alignment_pairs import PairBuffer
from codec_runtime.serving.alignment_site import AlignmentSite
from codec_runtime.serving.backends.selection import select_backend
from codec_runtime.serving.classification_site import ClassificationSite
from codec_runtime.serving.conventional import available_codecs
from codec_runtime.serving.directives import DirectiveTable
from codec_runtime.serving.metrics import RuntimeMetrics
from codec_runtime.serving.pictures import PictureBuffer
from codec_runtime.serving.priority import lower_priority
from codec_runtime.serving.queue import BatchLimits
from codec_runtime.serving.registry import ModelRegistry, Models
from codec_runtime.serving.settings import RuntimeSettings, shipped_weights
from codec_runtime.serving.telemetry import Report, TelemetryStream
from codec_runtime.serving.training_jobs import TrainingJobs
from codec_runtime.serving.warm_up import PictureSizes
from codec_runtime.serving.worker import InferenceWorker

_FILE_THREADS = 4
_ResultT = TypeVar("_ResultT")

logger = logging.getLogger(__name__)


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
        sizes = PictureSizes()
        self.registry = ModelRegistry(backend, self.metrics.backend_fallbacks.inc, sizes)
        self.directives = DirectiveTable()
        self.pictures = PictureBuffer(settings.pictures_per_user, settings.pictures_max_bytes)
        self.telemetry = TelemetryStream(
            self.instance, settings.telemetry_buffer, self.metrics.telemetry_dropped.inc
        )
        self.alignment = AlignmentSite(
            PairBuffer(settings.items_per_user, settings.items_max_bytes), self.publish, self.metrics.registry
        )
        self.classification = ClassificationSite(self.directives.splits, self.metrics.registry)
        self.inbox = Inbox(
            self._state / "inbox",
            max_file_bytes=settings.inbox_max_file_bytes,
            max_files=settings.inbox_max_files,
            max_partials=settings.inbox_max_partials,
            partial_max_age_s=settings.inbox_partial_max_age_s,
            reached=reached,
        )
        self.activations = Activations(
            settings, self.instance, self.inbox, self.registry, self.directives, self.metrics,
            self._published, lambda: self.inference.depth > 0, reached, self.alignment.table.in_force,
        )
        self.jobs = TrainingJobs(
            self._state / "jobs",
            self._training_report,
            queue_limit=settings.training_queue,
            minimum_pictures=settings.training_min_pictures,
            nice=settings.training_nice,
        )
        batch = BatchLimits(settings.max_batch, settings.batch_max_pixels, 1e-3 * settings.batch_wait_ms)
        self.inference = InferenceWorker(
            settings.max_queue, batch, settings.inference_nice, self.metrics, sizes
        )
        self._files = ThreadPoolExecutor(
            _FILE_THREADS, "files", initializer=lower_priority, initargs=(settings.activation_nice,)
        )
        self.activations.load_at_start()
        if not self.ready:
            logger.error("no encoder and decoder to serve", extra={"weights": str(shipped_weights(settings))})

    # Models

    @property
    def models(self) -> Models:
        """The set that serves now; take it once a request."""
        return self.registry.models

    async def activate(self, request: ActivationRequest) -> ActivationReport:
        """Verify, load, warm up, publish (:mod:`codec_runtime.serving.activation`)."""
        return await self.activations.activate(request)

    def _published(self) -> None:
        self.metrics.show_models(self.models)
        self.classification.swapped(self.models)
        self.ready = bool(self.models.encoders and self.models.decoders)

    def listing(self) -> InboxListing:
        """What the site has already; reads files, so not for the event loop."""
        here = self.activations.installer.here()
        return InboxListing(
            targets=self.inbox.targets() | self.activations.installed_targets(here),
            partial=self.inbox.partial(),
            weights=sorted({bundle.manifest.weights_sha256 for bundle in here}),
            metadata=self.inbox.metadata(),
            takes_files=True,
            awaits_files=True,
        )

    def status(self) -> SiteStatus:
        return SiteStatus(
            instance=self.instance,
            site=self.settings.site,
            telemetry_seq=self.telemetry.last_seq,
            models=[bundle.manifest for bundle in self.models.all()],
            conventional=list(available_codecs()),
            classifiers=self.classification.published(self.models),
        )

    # Directives and telemetry

    def apply(self, batch: DirectiveBatch) -> DirectiveAck:
        applied, rejected = self.directives.apply(batch, self.models)
        self.metrics.directives.set(len(self.directives))
        self.classification.count_directives()
        self.metrics.directives_received.labels("applied").inc(applied)
        self.metrics.directives_received.labels("rejected").inc(len(rejected))
        return DirectiveAck(
            instance=self.instance, sequence=batch.sequence, applied=applied, rejected=rejected
        )

    def publish(self, report: Report) -> None:
        if isinstance(report, CapabilityReport):
            self.directives.devices.note(report)
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

    async def beside_users(self, do: Callable[..., _ResultT], *arguments: object) -> _ResultT:
        """``do(*arguments)`` in a thread of low priority: files and hashes that no user waits for."""
        return await asyncio.get_running_loop().run_in_executor(self._files, partial(do, *arguments))

    def busy(self) -> bool:
        """Whether so many inference requests wait that files for the inbox are put off."""
        return self.inference.depth > self.settings.inbox_busy_share * self.settings.max_queue

    # Life time

    def drain(self) -> None:
        """Begin the shutdown: not ready, telemetry streams end; requests in flight go on."""
        self.ready = False
        self.telemetry.close()

    async def close(self) -> None:
        self.alignment.close()
        self.inbox.close()
        self.drain()
        await self.jobs.close()
        self.inference.close()
        self._files.shutdown(wait=False, cancel_futures=True)
        self.activations.close()
