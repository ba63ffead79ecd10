"""Which models serve, and how one set replaces another.

Rules:

1. ``Models`` is immutable. A request takes the current one once and uses it to its end.
2. A set is *prepared* (built, compiled, warmed up; verified, if that was not done) outside; only then one
   assignment publishes it.
3. A decoder enters only with the encoder it was trained against loaded, and only if neither's compatibility
   set excludes the other: a mixed pair cannot be formed.
4. An error while preparing leaves the published set as it was.
5. A sound bundle that the backend does not compute correctly is served by torch.
6. An adapter enters only with the knowledge base that it is aligned to.
7. A classifier enters with all its published cuts, each held to its manifest.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import cast

from torch import nn

from codec_runtime.bundle.errors import BundleError, MixedPairError, VersionConflictError
from codec_runtime.bundle.store import VerifiedBundle, read_verified
from codec_runtime.contract.bundle import BundleManifest
from codec_runtime.contract.split import SplitGraph
from codec_runtime.serving.alignment_compute import warm_up_adapter
from codec_runtime.serving.backends.interface import Backend, BackendName, CodecNetwork
from codec_runtime.serving.backends.selection import build_network
from codec_runtime.serving.backends.torch_backend import TorchBackend
from codec_runtime.serving.classification_cuts import site_cuts
from codec_runtime.serving.pace import Pause, unhurried
from codec_runtime.serving.warm_up import PictureSizes, warm_up
from codec_runtime.split.classifiers import classifier_config
from codec_runtime.split.parts import CutParts

DEFAULT_DECODER = "attention"
NETWORK_KINDS = ("encoder", "decoder")
"""Computed by a backend; the others by torch alone."""


class UnknownModelError(LookupError):
    """A request names an encoder or decoder version that is not loaded; the message lists those that are."""


@dataclass(frozen=True)
class LoadedBundle:
    """A served module with its manifest and the directory it came from.

    Attributes:
        module: the trained module, the reference.
        network: what computes it.
        backend: the engine of ``network``.
    """

    manifest: BundleManifest
    module: nn.Module
    directory: Path
    network: CodecNetwork
    backend: BackendName

    @property
    def sha256(self) -> str:
        return self.manifest.weights_sha256


@dataclass(frozen=True)
class LoadedClassifier(LoadedBundle):
    """A classifier with its graph and the parts of its published cuts by id; ``loaded_s``: when, by the
    monotonic clock."""

    graph: SplitGraph
    cuts: Mapping[str, CutParts]
    loaded_s: float

    @property
    def pixels(self) -> int:
        """Of its picture."""
        return classifier_config(self.module).size ** 2


@dataclass(frozen=True)
class Models:
    """One consistent set: encoders, knowledge bases by version; decoders, adapters, classifiers by
    (name, version)."""

    encoders: Mapping[int, LoadedBundle] = field(default_factory=dict)
    decoders: Mapping[tuple[str, int], LoadedBundle] = field(default_factory=dict)
    knowledge: Mapping[int, LoadedBundle] = field(default_factory=dict)
    adapters: Mapping[tuple[str, int], LoadedBundle] = field(default_factory=dict)
    classifiers: Mapping[tuple[str, int], LoadedClassifier] = field(default_factory=dict)

    def encoder(self, version: int | None = None) -> LoadedBundle:
        """The encoder of ``version``, the newest base one if None.

        Raises:
            UnknownModelError.
        """
        if version is None:
            bases = [v for v, bundle in self.encoders.items() if bundle.manifest.parent is None]
            version = max(bases, default=0)
        if version not in self.encoders:
            raise UnknownModelError(
                f"unknown version {version} of the encoder; loaded are {sorted(self.encoders) or 'none'}"
            )
        return self.encoders[version]

    def decoder(self, family: str, version: int | None = None) -> LoadedBundle:
        """The decoder of ``family`` and ``version``, the newest base version if None.

        Raises:
            UnknownModelError.
        """
        if version is not None and (family, version) in self.decoders:
            return self.decoders[family, version]
        versions = {v: b for (f, v), b in self.decoders.items() if f == family}
        if not versions:
            raise UnknownModelError(
                f"unknown decoder {family!r}; loaded are {sorted({f for f, _ in self.decoders}) or 'none'}"
            )
        if version is not None:
            raise UnknownModelError(
                f"unknown version {version} of decoder {family}; loaded are {sorted(versions)}"
            )
        bases = [v for v, bundle in versions.items() if bundle.manifest.parent is None]
        return versions[max(bases, default=max(versions))]

    def encoder_of(self, decoder: LoadedBundle) -> LoadedBundle:
        """The loaded encoder that ``decoder`` was trained against.

        Raises:
            MixedPairError: it is not loaded.
        """
        for bundle in self.encoders.values():
            if bundle.sha256 == decoder.manifest.encoder_sha256:
                return bundle
        manifest = decoder.manifest
        raise MixedPairError(
            f"mixed pair: decoder {manifest.name} version {manifest.version} was trained against "
            f"encoder {manifest.encoder_sha256[:12]}..., which is not loaded"
        )

    def adapter(self, name: str, version: int) -> LoadedBundle:
        """The adapter of that name and version.

        Raises:
            UnknownModelError.
        """
        if (name, version) not in self.adapters:
            known = sorted(v for n, v in self.adapters if n == name)
            raise UnknownModelError(
                f"unknown version {version} of adapter {name!r}; loaded are {known or 'none'}"
            )
        return self.adapters[name, version]

    def knowledge_of(self, adapter: LoadedBundle) -> LoadedBundle:
        """The loaded knowledge base that ``adapter`` is aligned to.

        Raises:
            MixedPairError: it is not loaded.
        """
        for bundle in self.knowledge.values():
            if adapter.manifest.works_with("skb", bundle.sha256):
                return bundle
        named = [f"version {b.version}" for b in adapter.manifest.compatible if b.kind == "skb"]
        raise MixedPairError(
            f"mixed pair: adapter {adapter.manifest.name} version {adapter.manifest.version} is aligned to "
            f"knowledge base {' or '.join(named)}, which is not loaded"
        )

    def default_decoder(self) -> str:
        """``attention`` if there is one, else the first family by name, "" if none is loaded."""
        families = sorted({family for family, _ in self.decoders})
        return DEFAULT_DECODER if DEFAULT_DECODER in families else next(iter(families), "")

    def all(self) -> list[LoadedBundle]:
        """Encoders, decoders, knowledge bases, adapters, classifiers, each in order of version."""
        found = [self.encoders[v] for v in sorted(self.encoders)]
        found += [self.decoders[key] for key in sorted(self.decoders)]
        found += [self.knowledge[v] for v in sorted(self.knowledge)]
        found += [self.adapters[key] for key in sorted(self.adapters)]
        return found + [self.classifiers[key] for key in sorted(self.classifiers)]

    def loaded(self, manifest: BundleManifest) -> LoadedBundle | None:
        """The bundle of that kind, name and version, whatever its weights."""
        named = (manifest.name, manifest.version)
        match manifest.kind:
            case "encoder":
                return self.encoders.get(manifest.version)
            case "skb":
                return self.knowledge.get(manifest.version)
            case "adapter":
                return self.adapters.get(named)
            case "classifier":
                return self.classifiers.get(named)
            case _:
                return self.decoders.get(named)


class ModelRegistry:
    """Holds the published :class:`Models`; readers take :attr:`models`, one writer at a time publishes.

    Args:
        backend: engine of the networks; eager torch on the CPU if None.
        on_fallback: called when torch stands in for ``backend``.
        sizes: of the pictures that users send, for the warm-up.
    """

    def __init__(
        self,
        backend: Backend | None = None,
        on_fallback: Callable[[], None] | None = None,
        sizes: PictureSizes | None = None,
    ) -> None:
        self._backend = backend or TorchBackend(device="cpu")
        self._on_fallback = on_fallback
        self._sizes = sizes or PictureSizes()
        self._models = Models()
        self._writer = threading.Lock()

    @property
    def models(self) -> Models:
        return self._models

    def prepare(
        self, bundles: Iterable[Path | VerifiedBundle], pause: Pause = unhurried
    ) -> list[LoadedBundle]:
        """Build, compile and warm up bundles; nothing is served yet.

        Args:
            bundles: as verified, or directories of those that are to be verified first.
            pause: called between steps.

        Raises:
            BundleError (with ``WarmUpError``).
            MixedPairError: a decoder's encoder is neither loaded nor among them.
            VersionConflictError: another bundle of that name and version is loaded.
        """
        loaded = [
            self._load(read_verified(bundle) if isinstance(bundle, Path) else bundle, pause)
            for bundle in bundles
        ]
        models = _merged(self._models, loaded, frozenset())
        for bundle in loaded:
            pause()
            if bundle.manifest.kind in NETWORK_KINDS:
                warm_up(bundle.network, bundle.manifest.kind, self._sizes.usual(), bundle.directory)
            elif bundle.manifest.kind == "adapter":
                warm_up_adapter(bundle.module, models.knowledge_of(bundle).module, str(bundle.directory))
        return loaded

    def _load(self, verified: VerifiedBundle, pause: Pause) -> LoadedBundle:
        pause()
        module = verified.build()
        pause()
        if verified.manifest.kind not in NETWORK_KINDS:  # computed as it is, by torch
            unused = cast(CodecNetwork, module)
            if verified.manifest.kind == "classifier":
                return LoadedClassifier(
                    verified.manifest, module, verified.directory, unused, "torch",
                    *site_cuts(verified, module), time.monotonic(),
                )
            return LoadedBundle(verified.manifest, module.eval(), verified.directory, unused, "torch")
        network, backend = build_network(self._backend, module, self._on_fallback, pause)
        return LoadedBundle(verified.manifest, module, verified.directory, network, backend)

    def publish(
        self, bundles: Iterable[LoadedBundle], dropped: frozenset[Path] = frozenset()
    ) -> float:
        """Serve ``bundles`` from the next request on; returns the seconds the swap took.

        Args:
            dropped: directories of the bundles that are served no longer from the same swap on.

        Raises:
            MixedPairError, VersionConflictError: nothing changes.
        """
        with self._writer:
            models = _merged(self._models, bundles, dropped)
            started = time.perf_counter()
            self._models = models
            return time.perf_counter() - started


def _merged(models: Models, bundles: Iterable[LoadedBundle], dropped: frozenset[Path]) -> Models:
    encoders = {key: bundle for key, bundle in models.encoders.items() if bundle.directory not in dropped}
    decoders = {key: bundle for key, bundle in models.decoders.items() if bundle.directory not in dropped}
    knowledge = {key: bundle for key, bundle in models.knowledge.items() if bundle.directory not in dropped}
    adapters = {key: bundle for key, bundle in models.adapters.items() if bundle.directory not in dropped}
    classifiers = {k: bundle for k, bundle in models.classifiers.items() if bundle.directory not in dropped}
    known: LoadedBundle
    for bundle in bundles:
        manifest = bundle.manifest
        if manifest.kind == "encoder":
            known = encoders.setdefault(manifest.version, bundle)
        elif manifest.kind == "decoder":
            known = decoders.setdefault((manifest.name, manifest.version), bundle)
        elif manifest.kind == "skb":
            known = knowledge.setdefault(manifest.version, bundle)
        elif manifest.kind == "adapter":
            known = adapters.setdefault((manifest.name, manifest.version), bundle)
        elif isinstance(bundle, LoadedClassifier):
            known = classifiers.setdefault((manifest.name, manifest.version), bundle)
        else:
            raise BundleError(f"{bundle.directory}: a bundle of kind {manifest.kind} is not served here")
        if known.sha256 != bundle.sha256:
            raise VersionConflictError(
                f"{manifest.kind} {manifest.name} version {manifest.version} is loaded with other weights"
            )
    merged = Models(
        MappingProxyType(encoders), MappingProxyType(decoders), MappingProxyType(knowledge),
        MappingProxyType(adapters), MappingProxyType(classifiers),
    )
    for adapter in adapters.values():
        merged.knowledge_of(adapter)
    for decoder in decoders.values():
        _check_compatible(merged.encoder_of(decoder), decoder)
    return merged


def _check_compatible(encoder: LoadedBundle, decoder: LoadedBundle) -> None:
    """Raises: MixedPairError: the compatibility set of one of them excludes the other."""
    for one, other in ((encoder, decoder), (decoder, encoder)):
        if not one.manifest.works_with(other.manifest.kind, other.sha256):
            raise MixedPairError(
                f"mixed pair: the compatibility set of {one.manifest.kind} {one.manifest.name} version "
                f"{one.manifest.version} excludes {other.manifest.kind} {other.manifest.name} version "
                f"{other.manifest.version}"
            )
