"""Which models serve, and how one set replaces another.

Rules:

1. ``Models`` is immutable. A request takes the current one once and uses it to its end.
2. A set is *prepared* (built, compiled, warmed up; verified, if that was not done) outside; only then one
   assignment publishes it.
3. A decoder enters only with the encoder it was trained against loaded, and only if neither's compatibility
   set excludes the other: a mixed pair cannot be formed.
4. An error while preparing leaves the published set as it was.
5. A sound bundle that the backend does not compute correctly is served by torch.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

import numpy as np
from torch import nn

from codec_runtime.bundle.errors import BundleError, MixedPairError, VersionConflictError
from codec_runtime.bundle.store import VerifiedBundle, read_verified
from codec_runtime.contract.bundle import BundleManifest
from codec_runtime.serving.backends.interface import Backend, BackendName, CodecNetwork
from codec_runtime.serving.backends.selection import build_network
from codec_runtime.serving.backends.torch_backend import TorchBackend
from codec_runtime.serving.inference import decode, encode

DEFAULT_DECODER = "attention"
_WARM_UP_SIDE = 64
_WARM_UP_PREFIX = 4


class UnknownModelError(LookupError):
    """A request names an encoder or decoder version that is not loaded; the message lists those that are."""


class WarmUpError(BundleError):
    """The module loads but does not compute finite pictures of the right shape."""


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
class Models:
    """One consistent set: encoders by version, decoders by (family, version)."""

    encoders: Mapping[int, LoadedBundle] = field(default_factory=dict)
    decoders: Mapping[tuple[str, int], LoadedBundle] = field(default_factory=dict)

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

    def default_decoder(self) -> str:
        """``attention`` if there is one, else the first family by name, "" if none is loaded."""
        families = sorted({family for family, _ in self.decoders})
        return DEFAULT_DECODER if DEFAULT_DECODER in families else next(iter(families), "")

    def all(self) -> list[LoadedBundle]:
        """Encoders, then decoders, each in order of version."""
        encoders = [self.encoders[v] for v in sorted(self.encoders)]
        return encoders + [self.decoders[key] for key in sorted(self.decoders)]


class ModelRegistry:
    """Holds the published :class:`Models`; readers take :attr:`models`, one writer at a time publishes.

    Args:
        backend: engine of the networks; eager torch on the CPU if None.
        on_fallback: called when torch stands in for ``backend``.
    """

    def __init__(
        self, backend: Backend | None = None, on_fallback: Callable[[], None] | None = None
    ) -> None:
        self._backend = backend or TorchBackend(device="cpu")
        self._on_fallback = on_fallback
        self._models = Models()
        self._writer = threading.Lock()

    @property
    def models(self) -> Models:
        return self._models

    def prepare(self, bundles: Iterable[Path | VerifiedBundle]) -> list[LoadedBundle]:
        """Build, compile and warm up bundles; nothing is served yet.

        Args:
            bundles: as verified, or directories of those that are to be verified first.

        Raises:
            BundleError (with ``WarmUpError``).
            MixedPairError: a decoder's encoder is neither loaded nor among them.
            VersionConflictError: another bundle of that name and version is loaded.
        """
        loaded = [
            self._load(read_verified(bundle) if isinstance(bundle, Path) else bundle) for bundle in bundles
        ]
        _merged(self._models, loaded, frozenset())
        for bundle in loaded:
            _warm_up(bundle)
        return loaded

    def _load(self, verified: VerifiedBundle) -> LoadedBundle:
        module = verified.build()
        network, backend = build_network(self._backend, module, self._on_fallback)
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
    for bundle in bundles:
        manifest = bundle.manifest
        if manifest.kind == "encoder":
            known = encoders.setdefault(manifest.version, bundle)
        elif manifest.kind == "decoder":
            known = decoders.setdefault((manifest.name, manifest.version), bundle)
        else:
            raise BundleError(f"{bundle.directory}: a bundle of kind {manifest.kind} is not served here")
        if known.sha256 != bundle.sha256:
            raise VersionConflictError(
                f"{manifest.kind} {manifest.name} version {manifest.version} is loaded with other weights"
            )
    merged = Models(MappingProxyType(encoders), MappingProxyType(decoders))
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


def _warm_up(bundle: LoadedBundle) -> None:
    """One small picture, or symbols, through the new network as a request would send it; first calls also
    allocate. Through no other network: users of one that serves would wait for this thread's priority."""
    snr, prefix = np.array([7.0], np.float32), np.array([_WARM_UP_PREFIX], np.int32)
    try:
        if bundle.manifest.kind == "decoder":
            side = _WARM_UP_SIDE // 4
            count = _WARM_UP_PREFIX * side * side
            symbols = np.sin(np.arange(count, dtype=np.float32)).reshape(1, _WARM_UP_PREFIX, side, side)
            decode(bundle.network, symbols, snr, prefix, _WARM_UP_SIDE, _WARM_UP_SIDE)
        else:
            picture = np.full((1, 3, _WARM_UP_SIDE, _WARM_UP_SIDE), 96, np.uint8)
            if not np.isfinite(encode(bundle.network, picture, snr, prefix)).all():
                raise WarmUpError(f"{bundle.directory}: the encoder gives symbols that are not finite")
    except (RuntimeError, ValueError, FloatingPointError) as error:
        raise WarmUpError(f"{bundle.directory}: warm-up failed: {error}") from error
