"""A verified classifier bundle as the parts of its published cuts, tried once."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

import torch
from torch import nn

from codec_runtime.bundle.errors import BundleError
from codec_runtime.bundle.store import VerifiedBundle
from codec_runtime.contract.split import SplitGraph
from codec_runtime.split.bundles import CutParts, parts_of, published_cuts, traced_of
from codec_runtime.split.classifiers import classifier_config


def site_cuts(verified: VerifiedBundle, network: nn.Module) -> tuple[SplitGraph, Mapping[str, CutParts]]:
    """The graph, and parts by cut id in the order of the manifest; all share the network's weights.

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
    if logits.shape != (1, classes) or not bool(torch.isfinite(logits).all()):
        raise BundleError(
            f"{verified.directory}: logits of shape {tuple(logits.shape)}; want (1, {classes}), finite"
        )
    if not torch.allclose(logits, uncut, rtol=1e-4, atol=1e-5):
        raise BundleError(f"{verified.directory}: cut in two it does not give what it gives uncut")
