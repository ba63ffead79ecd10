"""Signed bundles into the serving set, withdrawn ones out of it; the record of what serves after a restart.

Rules:

1. One activation at a time; inference goes on meanwhile. What is slow (verification, loading, warm-up) runs
   in a thread of its own, the swap itself is one assignment in the event loop.
2. A refusal, at whatever step, leaves the published set, the record and the installed bundles as they were.
3. What arrives, what is retired (``max_versions``) and what the signed director withdraws change in one swap.
   Requests in flight finish with the models they began with; users who were told to use a withdrawn decoder
   fall back in the same callback, before any request can see the new set.
4. Nothing is withdrawn that would leave no encoder with a decoder.
5. Then the record is written, and only then leaves the disk what serves no longer.
6. The record (``active.msgpack``) names installed bundles only; shipped ones are found in their own place. It
   alone decides at a start: metadata, expired or not, is not asked, so a site never starts without models for
   want of fresh signatures.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Collection, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec

from codec_runtime.bundle.checks import SERVED_KINDS
from codec_runtime.bundle.errors import BundleError, NothingLeftError, RefusalError
from codec_runtime.bundle.inbox import Inbox
from codec_runtime.bundle.reconstruction import BundleHere
from codec_runtime.bundle.refusals import storage_refusal
from codec_runtime.bundle.steps import Reached, unobserved
from codec_runtime.bundle.store import find_bundles, write_atomic
from codec_runtime.bundle.trust import BundleInstaller, split_bundle_path
from codec_runtime.contract.bundle import MANIFEST_FILE, WEIGHTS_FILE
from codec_runtime.contract.updates import ActivationReport, ActivationRequest
from codec_runtime.serving.alignment_models import retired_alignment
from codec_runtime.serving.classification import retired_classifiers
from codec_runtime.serving.directives import DirectiveTable
from codec_runtime.serving.metrics import RuntimeMetrics
from codec_runtime.serving.pace import Pace
from codec_runtime.serving.priority import lower_priority
from codec_runtime.serving.registry import LoadedBundle, ModelRegistry, Models
from codec_runtime.serving.repository import UnloadRefusedError, check_unload
from codec_runtime.serving.settings import RuntimeSettings, shipped_weights

logger = logging.getLogger(__name__)

_ACTIVE_FILE = "active.msgpack"
_LET_GO_S = 0.3
"""After a swap: requests that began on the old models have ended by then, as a rule."""


class Activations:
    """Puts bundles into the registry: at start-up those shipped and recorded, later those signed.

    Args:
        settings: of the runtime; instance: its id, for the reports.
        inbox: where the pushed files are.
        registry: what serves.
        directives: decoders that a user is told to use are not retired.
        metrics: counted into.
        on_published: called after each swap.
        adapters_in_force: adapters that a user is assigned are not retired either.
        is_busy: whether requests wait or run.
        reached: told every step; for tests.
    """

    def __init__(
        self,
        settings: RuntimeSettings,
        instance: str,
        inbox: Inbox,
        registry: ModelRegistry,
        directives: DirectiveTable,
        metrics: RuntimeMetrics,
        on_published: Callable[[], None],
        is_busy: Callable[[], bool],
        reached: Reached = unobserved,
        adapters_in_force: Callable[[], Collection[tuple[str, int]]] = frozenset,
    ) -> None:
        self._settings = settings
        self._instance = instance
        self._registry = registry
        self._directives = directives
        self._metrics = metrics
        self._on_published = on_published
        self._reached = reached
        self._adapters_in_force = adapters_in_force
        state = Path(settings.state_dir)
        self._record = state / _ACTIVE_FILE
        self._shipped = shipped_weights(settings)
        self.store = state / "bundles"
        self._pace = Pace(settings.activation_share, is_busy)

        def installing(step: str) -> None:
            reached(step)
            self._pace.pause()

        root = Path(settings.trusted_root) if settings.trusted_root else None
        self.installer = BundleInstaller(
            inbox, self.store, state / "tuf", root, shipped=self._shipped, site=settings.site,
            reached=installing,
        )
        self._thread = ThreadPoolExecutor(
            1, "activation", initializer=lower_priority, initargs=(settings.activation_nice,)
        )
        self._one_at_a_time = asyncio.Lock()

    @property
    def _models(self) -> Models:
        return self._registry.models

    def load_at_start(self) -> None:
        """Shipped bundles of served kinds, then those activated earlier; one that is damaged is logged."""
        directories = [place for place in find_bundles(self._shipped) if place.parts[-3] in SERVED_KINDS]
        directories += [self.store / bundle for bundle in self._recorded()]
        # Encoders and knowledge bases first: a decoder needs its encoder, an adapter its knowledge base.
        for directory in sorted(directories, key=lambda d: d.parent.parent.name not in ("encoder", "skb")):
            try:
                self._registry.publish(self._registry.prepare([directory]))
            except (BundleError, RefusalError) as error:
                logger.error(
                    "bundle not loaded",
                    extra={"bundle": str(directory), "error": type(error).__name__, "reason": str(error)},
                )
        self._on_published()

    async def activate(self, request: ActivationRequest) -> ActivationReport:
        """Verify, load, warm up, publish, withdraw."""
        async with self._one_at_a_time:
            report = await self._activate(request)
        self._metrics.activations.labels(report.outcome, report.error).inc()
        if report.outcome == "refused":
            self._metrics.update_refusals.labels("activation", report.error).inc()
        level = logging.WARNING if report.outcome == "refused" else logging.INFO
        logger.log(level, "activation", extra={
            "bundles": request.bundles, "outcome": report.outcome, "error": report.error,
            "detail": report.detail, "publish_ms": report.publish_ms, "withdrawn": report.withdrawn,
        })
        return report

    async def unload(self, family: str, version: int) -> None:
        """Stop serving a decoder version; it stays installed, as the newest ``max_versions`` idle ones do.

        Raises:
            UnknownModelError, UnloadRefusedError: nothing changes.
        """
        async with self._one_at_a_time:
            bundle = self._models.decoder(family, version)
            check_unload(self._models, self._directives.decoders_in_force(), family, version)
            if not self._directives.devices.spared(self._models.decoders, [(family, version)], 1):
                raise UnloadRefusedError(
                    f"decoder {family} version {version}: it is the only one that some device holds"
                )
            self._registry.publish([], frozenset({bundle.directory}))
            self._on_published()
            loaded = {place.directory for place in self._models.all()}
            places = (self.store / "decoder" / family).glob("[0-9]*")
            idle = sorted((place for place in places if place not in loaded), key=lambda p: int(p.name))
            idle_beyond = idle[: -self._settings.max_versions]
            loop = asyncio.get_running_loop()
            await loop.run_in_executor(self._thread, self._settle, idle_beyond)
            loop.call_later(_LET_GO_S, self._let_go, [bundle])
        logger.info("unloaded", extra={"bundle": f"decoder/{family}/{version}"})

    def close(self) -> None:
        self._thread.shutdown(wait=False, cancel_futures=True)

    async def _activate(self, request: ActivationRequest) -> ActivationReport:
        loop = asyncio.get_running_loop()
        started = time.perf_counter()
        places: list[Path] = []
        try:
            installation = await loop.run_in_executor(
                self._thread, self.installer.install, request.bundles, frozenset(request.coming)
            )
            places = installation.places
            verified = time.perf_counter()
            prepared = await loop.run_in_executor(
                self._thread, self._registry.prepare, installation.bundles, self._pace.pause
            )
            loaded = time.perf_counter()
            self._reached("serve: warmed up")
            withdrawn = frozenset(self.store / bundle for bundle in installation.withdrawn)
            dropped = withdrawn | self._retired(prepared)
            leaving = [bundle for bundle in self._models.all() if bundle.directory in dropped]
            swap_s = self._swap(prepared, dropped)
        except (BundleError, RefusalError, OSError) as error:
            refused = storage_refusal(error) if isinstance(error, OSError) else error
            self._discard_unserved(places)
            return ActivationReport(
                instance=self._instance, outcome="refused", error=type(refused).__name__, detail=str(refused),
                verify_ms=1e3 * (time.perf_counter() - started),
            )
        swapped = time.perf_counter()
        await loop.run_in_executor(self._thread, self._settle, dropped)
        record_ms = 1e3 * (time.perf_counter() - swapped)
        loop.call_later(_LET_GO_S, self._let_go, leaving)
        return ActivationReport(
            instance=self._instance, outcome="already-active" if swap_s is None else "activated",
            verify_ms=1e3 * (verified - started - installation.awaited_s),
            awaited_ms=1e3 * installation.awaited_s, load_ms=1e3 * (loaded - verified),
            publish_ms=1e3 * (swap_s or 0.0), record_ms=record_ms, withdrawn=sorted(installation.withdrawn),
        )

    def _swap(self, arriving: list[LoadedBundle], dropped: frozenset[Path]) -> float | None:
        """Publish; the seconds it took, None if that set serves already.

        Raises:
            NothingLeftError, MixedPairError, VersionConflictError: nothing changes.
        """
        leaving = [bundle for bundle in self._models.all() if bundle.directory in dropped]
        if not leaving and all(_is_loaded(bundle, self._models) for bundle in arriving):
            return None
        staying = [bundle for bundle in self._models.all() if bundle.directory not in dropped]
        if _decoders(leaving) and not _decoders([*staying, *arriving]):
            raise NothingLeftError(
                "the signed director withdraws the last decoder of this site: assign another one first"
            )
        swap_s = self._registry.publish(arriving, dropped)
        moved, left = self._directives.fall_back(self._models) if leaving else (0, 0)
        self._reached("serve: published")
        self._metrics.swap_seconds.observe(swap_s)
        self._metrics.directive_fallbacks.labels("newest version").inc(moved)
        self._metrics.directive_fallbacks.labels("default").inc(left)
        self._metrics.directives.set(len(self._directives))
        self._on_published()
        return swap_s

    def _settle(self, dropped: Iterable[Path]) -> None:
        """Record what serves; then remove what does not. If the disk fails, the next activation does it."""
        try:
            self._record_active()
        except OSError as error:
            logger.error("active bundles not recorded", extra={"reason": str(error)})
            return
        self._reached("serve: recorded")
        for place in dropped:
            self.installer.discard(place)
        self._reached("serve: old versions removed")

    def _let_go(self, leaving: list[LoadedBundle]) -> None:
        """Free old models in the thread of low priority, not where the last request on them ends."""
        with contextlib.suppress(RuntimeError):  # the thread has ended, and so does the process
            self._thread.submit(leaving.clear)

    def _discard_unserved(self, directories: Iterable[Path]) -> None:
        """Bundles that verify but cannot be served do not stay on disk."""
        served = {bundle.directory for bundle in self._models.all()}
        for directory in directories:
            if directory not in served:
                self.installer.discard(directory)

    def _retired(self, arriving: Iterable[LoadedBundle]) -> frozenset[Path]:
        """Oldest fine-tuned versions beyond ``max_versions`` of a family that nobody is told to use, and
        that are no device's only ones; and encoders that nothing needs any more."""
        in_force = self._directives.decoders_in_force()
        retired: set[Path] = set()
        served = set(self._models.decoders)
        new = [b.manifest for b in arriving if not _is_loaded(b, self._models)]
        for family in {manifest.name for manifest in new if manifest.kind == "decoder"}:
            loaded = {v: b for (f, v), b in sorted(self._models.decoders.items()) if f == family}
            spare = [
                (family, v) for v, b in loaded.items()
                if b.manifest.parent is not None and (family, v) not in in_force
            ]
            excess = max(0, len(loaded) + 1 - self._settings.max_versions)
            going = self._directives.devices.spared(served, spare, excess)
            served.difference_update(going)
            retired.update(self._models.decoders[key].directory for key in going)
        retired |= retired_alignment(
            self._models, new, self._adapters_in_force(), self._settings.max_versions, self.store
        )
        retired |= retired_classifiers(
            self._models, new, self._directives.splits.in_force(), self._settings.max_versions,
            time.monotonic() - self._settings.classifier_grace_s,
        )
        return frozenset(retired | self._idle_encoders(arriving, retired))

    def _idle_encoders(self, arriving: Iterable[LoadedBundle], retired: set[Path]) -> set[Path]:
        """Oldest installed encoders beyond ``max_versions`` that no decoder needs; never the newest one."""
        models = self._models
        staying = [*arriving, *(b for b in models.decoders.values() if b.directory not in retired)]
        needed = {b.manifest.encoder_sha256 for b in staying if b.manifest.kind == "decoder"}
        idle = [
            bundle.directory for _, bundle in sorted(models.encoders.items())[:-1]
            if bundle.sha256 not in needed and bundle.directory.is_relative_to(self.store)
        ]
        return set(idle[: max(0, len(models.encoders) - self._settings.max_versions)])

    def installed_targets(self, here: Iterable[BundleHere]) -> dict[str, str]:
        """sha256 (hex) by TUF target path of what serves and was installed; ``here`` of the installer."""
        serving = {bundle.directory for bundle in self._models.all()}
        digests: dict[str, str] = {}
        for bundle in here:
            if bundle.directory in serving and bundle.directory.is_relative_to(self.store):
                place = bundle.directory.relative_to(self.store).as_posix()
                digests[f"{place}/{MANIFEST_FILE}"] = bundle.manifest_sha256
                digests[f"{place}/{WEIGHTS_FILE}"] = bundle.manifest.weights_sha256
        return digests

    # The record of what serves

    def _recorded(self) -> list[str]:
        try:
            recorded = msgspec.msgpack.decode(self._record.read_bytes(), type=list[str])
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
        active = [
            f"{b.manifest.kind}/{b.manifest.name}/{b.manifest.version}"
            for b in self._models.all()
            if not b.directory.is_relative_to(self._shipped)
        ]
        write_atomic(self._record, msgspec.msgpack.encode(active))


def _decoders(bundles: Iterable[LoadedBundle]) -> bool:
    return any(bundle.manifest.kind == "decoder" for bundle in bundles)


def _is_loaded(bundle: LoadedBundle, models: Models) -> bool:
    loaded = models.loaded(bundle.manifest)
    return loaded is not None and loaded.sha256 == bundle.sha256
