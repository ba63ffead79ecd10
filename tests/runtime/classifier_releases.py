"""Small classifiers as signed bundles, and their answers uncut."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import msgspec
import numpy as np
import torch
from runtime_site import Repository, Site, serve, write_decoder, write_encoder

from codec_runtime.bundle.store import load_module, read_manifest
from codec_runtime.contract import paths
from codec_runtime.contract.bundle import BundleManifest
from codec_runtime.contract.classification import PublishedCut
from codec_runtime.contract.split import make_cut
from codec_runtime.contract.updates import ActivationReport, ActivationRequest, SiteStatus
from codec_runtime.split.bundles import (
    ClassifierRelease,
    classifier_state,
    publish_classifier,
    release_graph,
    traced_of,
)
from codec_runtime.split.classifiers import ChainClassifier, WideClassifierConfig
from codec_runtime.split.parts import CutParts, parts_of, published_cuts

CHAIN = WideClassifierConfig(size=32, classes=7, width=4)
CHAIN_NODES = 6
Array = np.ndarray[Any, Any]


def write_chain(root: Path, version: int, device_nodes: Sequence[int] = range(1, 7)) -> BundleManifest:
    """``root/classifier/chain/VERSION``, cut behind so many nodes; 6 leave nothing to the site."""
    torch.manual_seed(100 + version)
    network = ChainClassifier(CHAIN)
    with torch.no_grad():
        network[0].weight.mul_(4.0)
        network[7].weight.mul_(20.0)  # answers that differ from picture to picture and between versions
    release = ClassifierRelease(
        name="chain", version=version, architecture="chain", recipe="random, for tests",
        hyperparameters={"size": CHAIN.size, "classes": CHAIN.classes, "width": CHAIN.width},
    )
    state = classifier_state(network)
    traced = release_graph(release, state)
    cuts = [make_cut(traced.graph, range(count)) for count in device_nodes]
    return publish_classifier(release, state, traced, cuts, root, storage="F32").manifest


@functools.cache
def whole(root: Path, version: int) -> torch.nn.Module:
    return load_module(root / "classifier" / "chain" / str(version))[1]


@functools.cache
def parts(root: Path, version: int) -> dict[str, CutParts]:
    """Heads and tails of a release by cut id, made from its whole weights."""
    manifest = read_manifest(root / "classifier" / "chain" / str(version))
    traced = traced_of(manifest, whole(root, version))
    return {cut.id: parts_of(manifest, traced, cut) for cut in published_cuts(manifest, traced.graph)}


def uncut(root: Path, version: int, picture: Array) -> Array:
    """(classes,) logits of the whole network of a release for a picture (3, size, size) uint8."""
    with torch.no_grad():
        logits: Array = whole(root, version)(torch.from_numpy(normalised(picture))).numpy()[0]
    return logits


def normalised(picture: Array) -> Array:
    return ((picture.astype(np.float32) - 127) / 128)[None]


def photograph(seed: int, size: int = CHAIN.size) -> Array:
    """(3, size, size) uint8 with large structures."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (3, 4, 4)).repeat(size // 4, 1).repeat(size // 4, 2)
    return np.clip(coarse + rng.integers(-20, 21, (3, size, size)), 0, 255).astype(np.uint8)


def write_releases(root: Path, second: Sequence[int]) -> Path:
    """Versions 1, cut everywhere, and 2, cut behind ``second``, below ``root``, which is returned."""
    write_chain(root, 1)
    write_chain(root, 2, second)
    return root


@contextmanager
def classifying_site(folder: Path) -> Iterator[tuple[Site, Repository]]:
    """A site with an encoder and a decoder that trusts ``folder/root.json``, and who signs for it."""
    write_decoder(folder / "weights", write_encoder(folder / "weights"))
    root = folder / "root.json"
    repository = Repository(root)
    with serve(folder / "weights", folder / "state", trusted_root=str(root)) as site:
        yield site, repository


def push(
    site: Site, repository: Repository, root: Path, *versions: int, network: str = "chain"
) -> list[ActivationReport]:
    """Publish releases of ``root`` and activate one after another."""
    for version in versions:
        repository.add_bundle(root, f"classifier/{network}/{version}")

    def put(area: str, name: str, data: bytes) -> None:
        assert httpx.put(f"{site.url}{paths.INBOX}/{area}/{name}", content=data).status_code == 204

    repository.publish(put)
    return [activate(site, f"classifier/{network}/{version}") for version in versions]


def activate(site: Site, *bundles: str) -> ActivationReport:
    body = msgspec.msgpack.encode(ActivationRequest(bundles=list(bundles)))
    reply = httpx.post(site.url + paths.ACTIVATIONS, content=body, timeout=60)
    return msgspec.msgpack.decode(reply.content, type=ActivationReport)


def published(site: Site) -> list[PublishedCut]:
    reply = httpx.get(site.url + paths.SITE)
    return msgspec.msgpack.decode(reply.content, type=SiteStatus).classifiers
