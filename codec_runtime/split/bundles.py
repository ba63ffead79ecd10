"""Bundles of classifiers: one signed bundle a version, from which site and devices take their parts.

The bundle (kind ``classifier``) has the whole network's weights. Its hyper-parameters name the digest of the
network's graph and the cuts that are published; its compatibility set names, for each cut with weights on the
device, the head: a safetensors file with those of the bundle's stored tensors that the head reads. A head is
no bundle of its own that would have to be pushed: the site cuts it out when a device asks, and the bytes
follow from the bundle's, so the digest in the signed manifest is all that a device needs to trust it.

Both sides trace the network that the manifest's architecture builds. The digest says that they, and whoever
published it, mean the same graph by the same node numbers.
"""

from __future__ import annotations

import copy
import hashlib
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor, fx, nn

from codec_runtime.bundle.checks import build_blank
from codec_runtime.bundle.creation import BundleSpec, Created, create_bundle
from codec_runtime.bundle.errors import BundleError, HashMismatchError, SpecError
from codec_runtime.bundle.storage import served_state, store_state
from codec_runtime.bundle.tensor_file import parse_header, read_tensors, tensor_file
from codec_runtime.contract.bundle import BundleManifest, CompatibleBundle, Storage
from codec_runtime.contract.classification import PublishedCut
from codec_runtime.contract.split import INPUT_OP, CutError, CutSpec, SplitGraph, make_cut
from codec_runtime.split.capture import CaptureError
from codec_runtime.split.classifiers import MAX_CUTS, classifier_config
from codec_runtime.split.cutting import cut_network
from codec_runtime.split.graph import TracedNetwork, trace
from codec_runtime.split.streams import FeatureError, StreamKey, stream_bytes, stream_key

_GRAPHS_KEPT = 4
_graphs: dict[str, TracedNetwork] = {}
_tracing = threading.Lock()


class GraphMismatchError(BundleError):
    """The architecture traces to another graph here than where the bundle was made: torch differs."""


@dataclass(frozen=True)
class CutParts:
    """One published cut, ready to run.

    Attributes:
        published: what the site tells about it; cut: its nodes.
        head: picture -> (features, logits where all is on the device).
        tail: features -> logits; empty where ``on_device``.
        shapes: of the features; pictures: which of them are the input itself.
        on_device: nothing crosses; the device has the answer.
        key: what its streams name.
    """

    published: PublishedCut
    cut: CutSpec
    head: fx.GraphModule
    tail: fx.GraphModule
    shapes: tuple[tuple[int, ...], ...]
    pictures: tuple[bool, ...]
    on_device: bool
    key: StreamKey


def trace_classifier(name: str, network: nn.Module) -> TracedNetwork:
    """The graph of a network of :mod:`codec_runtime.split.classifiers`, fused, at one picture.

    One at a time in a process: torch's export keeps state of its own.

    Raises:
        BundleError: it cannot be captured.
    """
    size = classifier_config(network).size
    try:
        with _tracing:
            return trace(name, network, (torch.zeros(1, 3, size, size),), fuse=True)
    except CaptureError as error:
        raise BundleError(f"classifier {name}: {error}") from error


def blank_graph(manifest: BundleManifest) -> TracedNetwork:
    """The graph of a bundle's network, untrained.

    Kept: versions and cuts of a network share it, and to trace takes seconds.

    Raises:
        GraphMismatchError: it is not the one that the manifest names. BundleError.
    """
    fixed = {name: value for name, value in manifest.hyperparameters.items() if name not in ("graph", "cuts")}
    key = repr((manifest.name, manifest.architecture, sorted(fixed.items())))
    traced = _graphs.get(key)
    if traced is None:
        network = build_blank("classifier", manifest.architecture, fixed, Path(manifest.name))
        traced = trace_classifier(manifest.name, network.eval().requires_grad_(False))
        if len(_graphs) >= _GRAPHS_KEPT:
            _graphs.clear()
        _graphs[key] = traced
    named = str(manifest.hyperparameters.get("graph", ""))
    if traced.graph.digest != named:
        raise GraphMismatchError(
            f"{manifest.name} version {manifest.version}: its graph is {named[:12] or 'not named'}; "
            f"torch {torch.__version__} traces {traced.graph.digest[:12]} here: publish it for this torch"
        )
    return traced


def traced_of(manifest: BundleManifest, network: nn.Module) -> TracedNetwork:
    """The graph of a bundle's network with its weights; errors as of :func:`blank_graph`."""
    blank = blank_graph(manifest)
    return replace(blank, module=_weighted(blank.module, network.state_dict(), manifest.name))


def cut_mask(cut: CutSpec) -> str:
    """A cut's device nodes as the hexadecimal number of ``ClassifierConfig.cuts``."""
    return f"{sum(1 << index for index in cut.device):x}"


def published_cuts(manifest: BundleManifest, graph: SplitGraph) -> list[CutSpec]:
    """The cuts that a manifest's hyper-parameters name, which are of the right form.

    Raises:
        BundleError: one is no legal cut.
    """
    try:
        masks = str(manifest.hyperparameters.get("cuts", "")).split(",")
        return [_cut_of(mask, graph) for mask in masks if mask]
    except CutError as error:
        raise BundleError(f"classifier {graph.name}: published cut: {error}") from error


def parts_of(
    manifest: BundleManifest,
    traced: TracedNetwork,
    cut: CutSpec,
    stored: Mapping[str, Tensor] | None = None,
) -> CutParts:
    """Head and tail of a published cut with the traced network's weights.

    Args:
        stored: the bundle's tensors, where they are: the head is then held to the manifest.

    Raises:
        BundleError: what crosses cannot be sent. HashMismatchError: the head is not the manifest's.
    """
    graph = traced.graph
    crossing = [graph.nodes[index] for index in cut.crossing]
    if others := [node.name for node in crossing if node.dtype != "float32"]:
        raise BundleError(f"cut {cut.id} of {graph.name}: {others[0]} is not float32")
    if len(graph.outputs) != 1:
        raise BundleError(f"classifier {graph.name} has {len(graph.outputs)} outputs; want one")
    shapes = tuple(shape for node in crossing for shape in node.output_shapes)
    try:
        feature_bytes = stream_bytes(shapes)
    except FeatureError as error:
        raise BundleError(f"cut {cut.id} of {graph.name}: {error}") from error
    split = cut_network(traced, cut)
    head_bytes = 0
    if stored is not None:
        data = head_file(stored, manifest.quantised, split.head)
        check_head(manifest, cut.id, data)
        head_bytes = len(data)
    published = PublishedCut(
        network=manifest.name, version=manifest.version, graph=graph.digest, cut=cut.id, device=cut.device,
        feature_bytes=feature_bytes, head_bytes=head_bytes,
    )
    return CutParts(
        published=published, cut=cut, head=split.head, tail=split.tail, shapes=shapes,
        pictures=tuple(node.op == INPUT_OP for node in crossing for _ in node.output_shapes),
        on_device=split.on_device[0], key=stream_key(manifest.weights_sha256, cut.id),
    )


def head_digest(manifest: BundleManifest, cut: str) -> str:
    """sha256 (hex) of a cut's head as the manifest names it; "" for a cut without weights on the device."""
    name = _head_name(manifest.name, cut)
    named = (bundle.sha256 for bundle in manifest.compatible if bundle.name == name)
    return next(named, "")


def head_file(
    stored: Mapping[str, Tensor], quantised: Mapping[str, str], head: fx.GraphModule
) -> bytes:
    """A head's weights as its bundle stores them; empty for one that reads none.

    Raises:
        BundleError: the head reads a constant that is no tensor of the bundle.
    """
    names = list(head.state_dict())
    if strange := [name for name in names if name not in stored]:
        raise BundleError(f"head: {strange[0]} is no tensor of the bundle")
    names += [quantised[name] for name in names if name in quantised]
    return tensor_file({name: stored[name] for name in names}) if names else b""


def check_head(manifest: BundleManifest, cut: str, data: bytes) -> None:
    """Raises: HashMismatchError: the head's bytes are not those that the manifest names."""
    found = hashlib.sha256(data).hexdigest() if data else ""
    named = head_digest(manifest, cut)
    if found != named:
        raise HashMismatchError(
            f"head of cut {cut} of {manifest.name} version {manifest.version}: sha256 "
            f"{found or 'of nothing'}, the manifest says {named or 'none'}"
        )


def loaded_head(manifest: BundleManifest, head: fx.GraphModule, data: bytes, cut: str) -> fx.GraphModule:
    """A head with its weights, once they are those that the manifest names; ``head`` stays as it is.

    Raises:
        BundleError: they are not, or do not fit.
    """
    check_head(manifest, cut, data)
    if not data:
        return copy.deepcopy(head)
    origin = f"head of cut {cut}"
    stored = read_tensors(data, parse_header(data, origin))
    quantised = {name: scale for name, scale in manifest.quantised.items() if name in stored}
    state = served_state(stored, quantised, origin)
    return _weighted(head, state, origin)


def classifier_state(network: nn.Module) -> dict[str, Tensor]:
    """A network's weights for a bundle, which holds floats: counters of training steps become 0."""
    return {
        name: tensor.detach() if tensor.is_floating_point() else torch.zeros(tensor.shape)
        for name, tensor in network.state_dict().items()
    }


@dataclass(frozen=True)
class ClassifierRelease:
    """What to publish.

    Attributes:
        name: of the network, of its bundles; version: of this one.
        architecture, hyperparameters: of :data:`codec_runtime.split.classifiers.CLASSIFIERS`, without graph
            and cuts.
        recipe: how it was trained, in words; data_sha256, seed: as of :class:`BundleSpec`.
    """

    name: str
    version: int
    architecture: str
    hyperparameters: Mapping[str, int | float | str]
    recipe: str
    data_sha256: str = "none"
    seed: int = 0

    def spec(self) -> BundleSpec:
        return BundleSpec(
            kind="classifier", name=self.name, version=self.version, architecture=self.architecture,
            recipe=self.recipe, data_sha256=self.data_sha256, seed=self.seed,
            hyperparameters=dict(self.hyperparameters),
        )


def release_graph(release: ClassifierRelease, state: Mapping[str, Tensor]) -> TracedNetwork:
    """The network of a release with its weights, traced: what cuts are chosen on.

    Raises:
        BundleError: no such architecture, or the weights do not fit.
    """
    origin = Path(release.name)
    network = build_blank("classifier", release.architecture, release.hyperparameters, origin)
    try:
        network.load_state_dict(state)
    except RuntimeError as error:
        raise BundleError(f"classifier {release.name}: {error}") from error
    return trace_classifier(release.name, network.eval().requires_grad_(False))


def publish_classifier(
    release: ClassifierRelease,
    state: Mapping[str, Tensor],
    traced: TracedNetwork,
    cuts: Sequence[CutSpec],
    root: Path,
    *,
    storage: Storage = "F16",
    parent: Path | None = None,
) -> Created:
    """Write ``root/classifier/NAME/VERSION``; "all at the site" is published whether named or not.

    Args:
        state: as of :func:`classifier_state`; traced: as of :func:`release_graph`.
        parent: directory of the version that this one comes from, for a delta.

    Raises:
        SpecError: too many cuts, or another bundle of that version. BundleError, CutError.
    """
    graph = traced.graph
    every = {cut.id: cut for cut in (make_cut(graph, graph.inputs), *cuts)}
    if len(every) > MAX_CUTS:
        raise SpecError(f"classifier {release.name}: {len(every)} cuts; at most {MAX_CUTS} are published")
    stored = store_state(state, storage)
    heads = []
    for cut in every.values():
        data = head_file(stored.tensors, stored.quantised, cut_network(traced, cut).head)
        if data:
            heads.append(CompatibleBundle(
                kind="classifier", sha256=hashlib.sha256(data).hexdigest(),
                name=_head_name(release.name, cut.id), version=release.version,
            ))
    spec = release.spec()
    spec.hyperparameters.update(graph=graph.digest, cuts=",".join(map(cut_mask, every.values())))
    spec.compatible.extend(heads)
    return create_bundle(
        state, spec, root, origin=Path(release.name), storage=storage, parent=parent,
    )


def _weighted(module: fx.GraphModule, state: Mapping[str, Tensor], origin: str) -> fx.GraphModule:
    """A copy of captured operations around the tensors of ``state`` that they read."""
    weighted = copy.deepcopy(module)
    wanted = weighted.state_dict()
    try:
        weighted.load_state_dict({n: state[n] for n in wanted if n in state}, strict=True, assign=True)
    except RuntimeError as error:
        raise BundleError(f"{origin}: {error}") from error
    return weighted.eval().requires_grad_(False)


def _cut_of(mask: str, graph: SplitGraph) -> CutSpec:
    bits = int(mask, 16)
    return make_cut(graph, [index for index in range(bits.bit_length()) if bits >> index & 1])


def _head_name(network: str, cut: str) -> str:
    return f"{network}-head-{cut}"
