"""What `semcom bench push` pushes: an encoder-decoder pair, a fine-tuned decoder, and its delta."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

import msgspec
import torch

from codec_runtime.benchmarks.inputs import picture
from codec_runtime.bundle.manifest_file import manifest_bytes
from codec_runtime.bundle.store import (
    BundleContents,
    bundle_contents,
    find_bundles,
    load_module,
    read_manifest,
    read_weights,
)
from codec_runtime.contract.bundle import DELTA_FILE, MANIFEST_FILE, WEIGHTS_FILE, BundleManifest
from codec_runtime.training.finetune import config_for, finetune

_PICTURES, _SIDE = 8, 128


@dataclass(frozen=True)
class Payload:
    """Bundles to be published under ever new versions.

    Attributes:
        encoder, decoder: the pair.
        update: the decoder after a fine-tuning at a site, with its delta from ``decoder``.
    """

    encoder: BundleContents
    decoder: BundleContents
    update: BundleContents


def read_payload(weights: Path, decoder: str, finetune_s: float) -> Payload:
    """The newest encoder below ``weights``, ``decoder`` of it, and an update made here.

    Args:
        decoder: name of the decoder bundle. finetune_s: of training on synthetic pictures, seconds.

    Raises:
        ValueError: there is no such pair. BundleError: it is damaged.
    """
    manifests = [(read_manifest(directory), directory) for directory in find_bundles(weights)]
    decoders = [(m, d) for m, d in manifests if (m.kind, m.name) == ("decoder", decoder)]
    for manifest, place in sorted(decoders, key=lambda item: -item[0].version):
        for encoder, encoder_place in manifests:
            if encoder.kind == "encoder" and encoder.weights_sha256 == manifest.encoder_sha256:
                pair = (_contents(encoder, encoder_place), _contents(manifest, place))
                return Payload(*pair, _tuned(encoder_place, place, pair[1], finetune_s))
    raise ValueError(f"{weights} holds no decoder {decoder!r} with its encoder")


def files_of(
    contents: BundleContents, version: int, *, parent: int | None = None, with_delta: bool = False
) -> tuple[BundleManifest, dict[str, bytes]]:
    """Manifest and files of a bundle to publish as ``version``."""
    delta = contents.manifest.delta if with_delta else None
    manifest = msgspec.structs.replace(contents.manifest, version=version, parent=parent, delta=delta)
    files = {MANIFEST_FILE: manifest_bytes(manifest), WEIGHTS_FILE: contents.weights}
    if with_delta:
        files[DELTA_FILE] = contents.delta
    return manifest, files


def _contents(manifest: BundleManifest, directory: Path) -> BundleContents:
    return BundleContents(manifest, read_weights(directory, manifest))


def _tuned(encoder_place: Path, place: Path, parent: BundleContents, seconds: float) -> BundleContents:
    _, encoder = load_module(encoder_place)
    manifest, decoder = load_module(place)
    pictures = list(torch.from_numpy(picture(1, _PICTURES, _SIDE, _SIDE)))
    finetune(encoder, decoder, pictures, config_for(seconds), deadline=time.monotonic() + seconds)
    return bundle_contents(
        kind="decoder",
        name=manifest.name,
        version=manifest.version + 1,
        architecture=manifest.architecture,
        hyperparameters=manifest.hyperparameters,
        state=decoder.state_dict(),
        encoder_sha256=manifest.encoder_sha256,
        parent=manifest.version,
        parent_weights=parent.weights,
        quality=manifest.quality,
        macs_per_pixel=manifest.macs_per_pixel,
    )
