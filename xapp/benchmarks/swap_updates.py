"""What the swap benchmark delivers: signed decoder versions, pushed and activated as the xApp does it."""

from __future__ import annotations

import asyncio
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import msgspec
import torch

from codec_runtime.benchmarks.inputs import fill_weights, uniform
from codec_runtime.bundle.manifest_file import manifest_bytes, read_manifest
from codec_runtime.bundle.store import bundle_directory, find_bundles, verify_state, write_bundle
from codec_runtime.codecs.fast import FastConfig, FastEncoder
from codec_runtime.codecs.registry import build_decoder
from codec_runtime.contract.bundle import MANIFEST_FILE, WEIGHTS_FILE, BundleKind, BundleManifest
from codec_runtime.contract.updates import ActivationReport
from xapp.delivery.push import push
from xapp.delivery.repository import RepositoryFiles, TufRepository
from xapp.runtime_client import RuntimeClient

_TIMEOUT_S = 30.0
_SPREAD = 0.2
"""Of the second set of weights: visible in the pictures, which is what tells the versions apart."""


class SignedVersions:
    """Decoder versions of a TUF repository, all signed before the first is delivered.

    Args:
        repository: a new one.
        variants: (manifest, weights file) of the odd versions and of the even ones.
        first, count: version numbers.
    """

    def __init__(
        self,
        repository: TufRepository,
        variants: dict[int, tuple[BundleManifest, Path]],
        first: int,
        count: int,
    ) -> None:
        self._states: dict[int, tuple[str, RepositoryFiles]] = {}
        self._loop = asyncio.Runner()
        self._client: RuntimeClient | None = None
        self.trusted_root = repository.trusted_root
        for version in range(first, first + count):
            manifest, weights = variants[version % 2]
            manifest = msgspec.structs.replace(manifest, version=version)
            files = {MANIFEST_FILE: manifest_bytes(manifest), WEIGHTS_FILE: weights.read_bytes()}
            bundle = repository.publish(manifest, files)
            state = repository.files()
            _, _, place = state.targets[f"{bundle}/{WEIGHTS_FILE}"]
            place.unlink()  # the same bytes a hundred times would fill a disk
            os.link(weights, place)
            self._states[version] = (bundle, state)

    def deliver(self, url: str, version: int) -> ActivationReport:
        """Push and activate a version; always in the same thread, over a connection that is kept.

        Raises:
            RuntimeUnavailable, RuntimeRefused.
        """
        bundle, state = self._states[version]
        if self._client is None:
            self._client = RuntimeClient(url, timeout_s=_TIMEOUT_S)
        return self._loop.run(push(self._client, state, [bundle])).activation

    def close(self) -> None:
        """End the connection."""
        if self._client is not None:
            self._loop.run(self._client.close())
        self._loop.close()


def write_variants(base: Path, folder: Path) -> dict[int, tuple[BundleManifest, Path]]:
    """Two fine-tuned versions of a decoder: its own weights, which versions of the base's parity get, since
    clients begin on the base; and weights a few per cent off.

    Args:
        base: bundle directory of the decoder. folder: where the weights files go.

    Returns:
        1 and 0, for odd and even versions -> (manifest, weights file).

    Raises:
        BundleError.
    """
    manifest, state = verify_state(base)
    variants = {}
    for parity in (1, 0):
        changed = {}
        for index, (name, tensor) in enumerate(sorted(state.items())):
            spread = 0.0 if parity == manifest.version % 2 else _SPREAD
            factor = 1.0 + spread * (uniform(index, *tensor.shape) - 0.5)
            changed[name] = torch.tensor(tensor.numpy() * factor)
        directory = folder / str(parity)
        written = write_bundle(
            directory, kind=manifest.kind, name=manifest.name, version=manifest.version + 1,
            architecture=manifest.architecture, hyperparameters=manifest.hyperparameters, state=changed,
            encoder_sha256=manifest.encoder_sha256, parent=manifest.version,
        )
        variants[parity] = (written, directory / WEIGHTS_FILE)
    return variants


@dataclass(frozen=True)
class Pair:
    """An encoder and a decoder of it, and where the decoder is."""

    encoder: BundleManifest
    decoder: BundleManifest
    directory: Path


def newest_pair(root: Path, family: str) -> Pair:
    """The newest version of a decoder family below ``root``, with its encoder.

    Raises:
        LookupError: there is none. BundleError: a manifest is damaged.
    """
    manifests = {place: read_manifest(place) for place in find_bundles(root)}
    encoders = {m.weights_sha256: m for m in manifests.values() if m.kind == "encoder"}
    pairs = [
        Pair(encoders[m.encoder_sha256], m, place) for place, m in manifests.items()
        if (m.kind, m.name) == ("decoder", family) and m.encoder_sha256 in encoders
    ]
    if not pairs:
        raise LookupError(f"{root} holds no decoder {family} with its encoder")
    return max(pairs, key=lambda pair: pair.decoder.version)


def prepare_updates(pair: Pair, folder: Path, count: int) -> SignedVersions:
    """``count`` signed versions that follow the pair's decoder, below ``folder``."""
    variants = write_variants(pair.directory, folder / "variants")
    return SignedVersions(TufRepository(folder / "repository"), variants, pair.decoder.version + 1, count)


def write_tiny_pair(root: Path, family: str) -> Path:
    """An encoder and a decoder of width 8 with fixed weights below ``root``, which is returned."""
    config = FastConfig(width=8, blocks=1)
    encoder, decoder = FastEncoder(config), build_decoder("fast", family, config)
    sha256 = ""
    for kind, name, module in (("encoder", "anchor", encoder), ("decoder", family, decoder)):
        fill_weights(module, seed=1)
        manifest = write_bundle(
            bundle_directory(root, kind, name, 1), kind=cast(BundleKind, kind), name=name, version=1,
            architecture=cast(Any, module).architecture, hyperparameters=cast(Any, module).config.as_dict(),
            state=module.state_dict(), encoder_sha256=sha256,
        )
        sha256 = manifest.weights_sha256
    return root
