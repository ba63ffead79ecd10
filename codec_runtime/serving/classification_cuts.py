"""A verified classifier bundle as the parts of its published cuts, tried once."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

import torch
from torch import nn

from codec_runtime.bundle.errors import BundleError
from codec_runtime.bundle.store import VerifiedBundle
from codec_runtime.contract.split import SplitGraph
from codec_runtime.split.bundles import traced_of
from codec_runtime.split.classifiers import classifier_config
from codec_runtime.split.parts import CutParts, parts_of, published_cuts, squeezed_parts
from codec_runtime.split.squeezed import squeezed_cuts


def site_cuts(verified: VerifiedBundle, network: nn.Module) -> tuple[SplitGraph, Mapping[str, CutParts]]:
    """The graph, and parts by cut in the order of the manifest, operating points of squeezed cuts last; all
    share the network's weights.

    The first version of a network takes one to three seconds (of those of docs/split.md), for its graph.

    Raises:
        BundleError (GraphMismatchError, HashMismatchError): graph, cuts or heads are not the manifest's, or
            the network does not give finite logits, one a class.
    """
    manifest = verified.manifest
    traced = traced_of(manifest, network)
    cuts = published_cuts(manifest, traced.graph)
    if not cuts:
        raise BundleError(f"{verified.directory}: no cut is published")
    parts = {cut.id: parts_of(manifest, traced, cut, verified.stored) for cut in cuts}
    _try(verified, network, traced.inputs[0], next(iter(parts.values())))
    for place, squeezed in enumerate(squeezed_cuts(network)):
        points = squeezed_parts(manifest, traced, place, squeezed, verified.stored)
        _try_squeezed(verified, classifier_config(network).classes, traced.inputs[0], points[0])
        parts |= {each.published.cut: each for each in points}
    return traced.graph, MappingProxyType(parts)


def _try(verified: VerifiedBundle, network: nn.Module, picture: torch.Tensor, parts: CutParts) -> None:
    """A grey picture through head and tail and through the network uncut; first calls also allocate."""
    classes = classifier_config(network).classes
    try:
        with torch.inference_mode():
            uncut = network(picture)
            features, answer = parts.head(picture)
            (logits,) = answer if parts.on_device else parts.tail(*features)
    except RuntimeError as error:
        raise BundleError(f"{verified.directory}: the network fails: {error}") from error
    _check_logits(verified, logits, classes)
    if not torch.allclose(logits, uncut, rtol=1e-4, atol=1e-5):
        raise BundleError(f"{verified.directory}: cut in two it does not give what it gives uncut")


def _try_squeezed(verified: VerifiedBundle, classes: int, picture: torch.Tensor, parts: CutParts) -> None:
    """A grey picture all the way: squeezed, as bytes, restored, classified."""
    try:
        with torch.inference_mode():
            features, _ = parts.head(picture)
            sent = parts.coder.encode([tensor.numpy() for tensor in features])
            arrived = parts.coder.decode(sent).tensors
            (logits,) = parts.tail(*map(torch.from_numpy, arrived))
    except (RuntimeError, ValueError) as error:
        raise BundleError(f"{verified.directory}: cut {parts.published.cut} fails: {error}") from error
    _check_logits(verified, logits, classes)


def _check_logits(verified: VerifiedBundle, logits: torch.Tensor, classes: int) -> None:
    if logits.shape != (1, classes) or not bool(torch.isfinite(logits).all()):
        raise BundleError(
            f"{verified.directory}: logits of shape {tuple(logits.shape)}; want (1, {classes}), finite"
        )
