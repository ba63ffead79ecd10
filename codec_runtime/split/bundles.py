"""Bundles of classifiers: one signed bundle a version, from which site and devices take their parts.

The bundle (kind ``classifier``) has the whole network's weights, and what belongs to its squeezed cuts. Its
hyper-parameters name the digest of the network's graph and the cuts that are published; its compatibility set
names, for each cut with weights on the device, the head (:mod:`codec_runtime.split.parts`).

Both sides trace the network that the manifest's architecture builds. The digest says that they, and whoever
published it, mean the same graph by the same node numbers.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor, nn

from codec_runtime.bundle.checks import build_blank
from codec_runtime.bundle.creation import BundleSpec, Created, create_bundle
from codec_runtime.bundle.errors import BundleError, SpecError
from codec_runtime.bundle.storage import store_state
from codec_runtime.contract.bundle import BundleManifest, CompatibleBundle, Storage
from codec_runtime.contract.classification import squeezed_name
from codec_runtime.contract.split import CutSpec, make_cut
from codec_runtime.split.capture import CaptureError
from codec_runtime.split.classifiers import MAX_CUTS, classifier_config
from codec_runtime.split.cutting import cut_network, with_weights
from codec_runtime.split.graph import TracedNetwork, trace
from codec_runtime.split.parts import cut_mask, head_file, head_name, head_names
from codec_runtime.split.squeezed import format_specs
from codec_runtime.split.squeezed_release import SqueezedRelease

_GRAPHS_KEPT = 4
PLACES = ("graph", "cuts", "squeezed")
"""Hyper-parameters that say where a network is cut: the network is the same without them."""
_graphs: dict[str, TracedNetwork] = {}
_tracing = threading.Lock()


class GraphMismatchError(BundleError):
    """The architecture traces to another graph here than where the bundle was made: torch differs."""


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
    fixed = {name: value for name, value in manifest.hyperparameters.items() if name not in PLACES}
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
    return replace(blank, module=with_weights(blank.module, network.state_dict(), manifest.name))


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
    squeezed: Sequence[SqueezedRelease] = (),
    storage: Storage = "F16",
    parent: Path | None = None,
) -> Created:
    """Write ``root/classifier/NAME/VERSION``; "all at the site" is published whether named or not.

    Args:
        state: as of :func:`classifier_state`; traced: as of :func:`release_graph`.
        squeezed: bottlenecks trained for this network, whose operating points are published too.
        parent: directory of the version that this one comes from, for a delta.

    Raises:
        SpecError: too many cuts, a bottleneck of another network, or another bundle of that version.
        BundleError, CutError.
    """
    graph = traced.graph
    every = {cut.id: cut for cut in (make_cut(graph, graph.inputs), *cuts)}
    if len(every) > MAX_CUTS:
        raise SpecError(f"classifier {release.name}: {len(every)} cuts; at most {MAX_CUTS} are published")
    spec, whole, squeezing = release.spec(), dict(state), []
    for place, bottleneck in enumerate(squeezed):
        bottleneck.check_network(state)
        squeezing.append(bottleneck.cut(graph))
        _check_crossing(release, state, traced, squeezing[-1], bottleneck.record.after)
        whole |= bottleneck.bundled_state(place)
        spec.metrics.update(bottleneck.metrics(place))
        spec.provenance.update(bottleneck.provenance(place))
    stored = store_state(whole, storage)

    def note_head(name: str, cut: CutSpec, place: int | None = None) -> None:
        names = head_names(cut_network(traced, cut).head, whole, place)
        data = head_file(stored.tensors, stored.quantised, names)
        if data:
            spec.compatible.append(CompatibleBundle(
                kind="classifier", sha256=hashlib.sha256(data).hexdigest(),
                name=head_name(release.name, name), version=release.version,
            ))

    for cut in every.values():
        note_head(cut.id, cut)
    for place, cut in enumerate(squeezing):
        note_head(squeezed_name(cut.id, 0), cut, place)
    specs = [one.spec(cut_mask(cut)) for one, cut in zip(squeezed, squeezing, strict=True)]
    spec.hyperparameters.update(graph=graph.digest, cuts=",".join(map(cut_mask, every.values())))
    if specs:
        spec.hyperparameters["squeezed"] = format_specs(specs)
    return create_bundle(
        whole, spec, root, origin=Path(release.name), storage=storage, parent=parent,
    )


def _check_crossing(
    release: ClassifierRelease, state: Mapping[str, Tensor], traced: TracedNetwork, cut: CutSpec, after: str
) -> None:
    """Raises SpecError: behind a module more is fused to it than was when its bottleneck was trained."""
    network = build_blank("classifier", release.architecture, release.hyperparameters, Path(release.name))
    network.load_state_dict(state)
    given: list[Tensor] = []
    hook = network.get_submodule(after).register_forward_hook(lambda _, __, output: given.append(output))
    (shape,) = (tuple(tensor.shape) for tensor in traced.inputs)
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(0)
        picture = torch.randn(shape)
        network.eval()(picture)
        (crossing,), _ = cut_network(traced, cut).head(picture)
    hook.remove()
    if crossing.shape != given[0].shape or not torch.allclose(crossing, given[0], rtol=1e-3, atol=1e-4):
        raise SpecError(f"classifier {release.name}: its graph is not cut where the module {after} ends")
