"""Head and tail of a published cut, and the head's file that a device fetches and trusts.

A *head* is a safetensors file with those of the bundle's stored tensors that the device needs. It is no
bundle of its own that would have to be pushed: the site cuts it out when a device asks, and the bytes follow
from the bundle's, so the digest in the signed manifest is all that a device needs to trust it.

Of a squeezed cut each operating point is a part of its own (``CutParts``) under the name ``ID-pN``; all have
one head file, with the layer that squeezes and the coding tables in it.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import msgspec
from torch import Tensor, nn

from codec_runtime.bundle.errors import BundleError, HashMismatchError, SpecError
from codec_runtime.bundle.storage import served_state
from codec_runtime.bundle.tensor_file import parse_header, read_tensors, tensor_file
from codec_runtime.contract.bundle import BundleManifest
from codec_runtime.contract.classification import PublishedCut, plain_id, squeezed_name
from codec_runtime.contract.split import INPUT_OP, CutError, CutSpec, SplitGraph, make_cut
from codec_runtime.digital.feature_codec import FeatureCodec
from codec_runtime.split.coders import Coder, EightBitCoder, SqueezedCoder
from codec_runtime.split.cutting import cut_network, with_weights
from codec_runtime.split.graph import TracedNetwork
from codec_runtime.split.squeezed import SqueezedCut, SqueezedSpec, parse_specs
from codec_runtime.split.streams import FeatureError, stream_bytes, stream_key


@dataclass(frozen=True)
class CutParts:
    """One published cut, or one operating point of it, ready to run.

    Attributes:
        published: what the site tells about it; cut: its nodes.
        head: picture -> (features, logits where all is on the device).
        tail: features -> logits; empty where ``on_device``.
        on_device: nothing crosses; the device has the answer.
        coder: features <-> bytes.
        head_tensors: of the bundle, that a device needs.
    """

    published: PublishedCut
    cut: CutSpec
    head: nn.Module
    tail: nn.Module
    on_device: bool
    coder: Coder
    head_tensors: tuple[str, ...]


class SqueezedHead(nn.Module):
    """The head of a cut, and what squeezes its features."""

    def __init__(self, head: nn.Module, squeezed: SqueezedCut) -> None:
        super().__init__()
        self.head, self.squeezed = head, squeezed

    def forward(self, picture: Tensor) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
        (features,), _ = self.head(picture)
        return (self.squeezed.squeeze(features),), ()


class SqueezedTail(nn.Module):
    """What restores squeezed features of an operating point, and the tail of the cut."""

    def __init__(self, squeezed: SqueezedCut, tail: nn.Module, point: int) -> None:
        super().__init__()
        self.squeezed, self.tail, self._point = squeezed, tail, point

    def forward(self, squeezed: Tensor) -> tuple[Tensor, ...]:
        logits: tuple[Tensor, ...] = self.tail(self.squeezed.restore(squeezed, self._point))
        return logits


def cut_mask(cut: CutSpec) -> str:
    """A cut's device nodes as the hexadecimal number of ``ClassifierConfig.cuts``."""
    return f"{sum(1 << index for index in cut.device):x}"


def published_cuts(manifest: BundleManifest, graph: SplitGraph) -> list[CutSpec]:
    """The cuts that a manifest's hyper-parameters name, which are of the right form.

    Raises:
        BundleError: one is no legal cut.
    """
    masks = str(manifest.hyperparameters.get("cuts", "")).split(",")
    return [_cut_of(mask, graph) for mask in masks if mask]


def squeezed_specs(manifest: BundleManifest) -> tuple[SqueezedSpec, ...]:
    """The squeezed cuts that a manifest's hyper-parameters name.

    Raises:
        SpecError: they are not of the right form.
    """
    try:
        return parse_specs(str(manifest.hyperparameters.get("squeezed", "")))
    except ValueError as error:
        raise SpecError(f"classifier {manifest.name} version {manifest.version}: {error}") from error


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
    split = cut_network(traced, cut)
    shapes = crossing_shapes(graph, cut)
    try:
        feature_bytes = stream_bytes(shapes)
    except FeatureError as error:
        raise BundleError(f"cut {cut.id} of {graph.name}: {error}") from error
    names = head_names(split.head, {}, None)
    published = PublishedCut(
        network=manifest.name, version=manifest.version, graph=graph.digest, cut=cut.id, device=cut.device,
        feature_bytes=feature_bytes, head_bytes=_head_bytes(manifest, cut.id, names, stored),
    )
    pictures = tuple(
        graph.nodes[index].op == INPUT_OP for index in cut.crossing for _ in graph.nodes[index].output_shapes
    )
    coder = EightBitCoder(shapes, pictures, stream_key(manifest.weights_sha256, cut.id))
    return CutParts(published, cut, split.head, split.tail, split.on_device[0], coder, names)


def squeezed_parts(
    manifest: BundleManifest,
    traced: TracedNetwork,
    place: int,
    squeezed: SqueezedCut,
    stored: Mapping[str, Tensor] | None = None,
) -> list[CutParts]:
    """The operating points of a squeezed cut, by number.

    Args:
        place: of the cut in the manifest's list; squeezed: with its weights. stored: as of :func:`parts_of`.

    Raises:
        BundleError: layers, tables and figures of the manifest do not fit cut or each other.
        HashMismatchError.
    """
    spec = squeezed.spec
    cut = _cut_of(spec.cut, traced.graph)
    split = cut_network(traced, cut)
    tuned = squeezed.tuned_state()
    tail = split.tail
    if tuned:
        tail = with_weights(tail, {**tail.state_dict(), **tuned}, f"tail of cut {cut.id}")
    names = head_names(split.head, _bundled(place, squeezed), place)
    head_bytes = _head_bytes(manifest, squeezed_name(cut.id, 0), names, stored)
    head = SqueezedHead(split.head, squeezed).eval()
    return [
        CutParts(published, cut, head, SqueezedTail(squeezed, tail, coder.point).eval(), False, coder, names)
        for published, coder in _points(manifest, traced.graph, place, squeezed, cut, head_bytes)
    ]


def head_names(head: nn.Module, bundled: Iterable[str], place: int | None) -> tuple[str, ...]:
    """Tensors of the bundle that a device needs of a cut.

    Args:
        bundled: names of the bundle's tensors; place: of the squeezed cut in the manifest's list, or None.
    """
    squeezing = () if place is None else (f"squeezed.{place}.reduce.", f"squeezed.{place}.tables.")
    return (*head.state_dict(), *(name for name in bundled if squeezing and name.startswith(squeezing)))


def crossing_shapes(graph: SplitGraph, cut: CutSpec) -> tuple[tuple[int, ...], ...]:
    """Of the tensors that cross.

    Raises:
        BundleError: one is not float32, or the network has several outputs.
    """
    crossing = [graph.nodes[index] for index in cut.crossing]
    if others := [node.name for node in crossing if node.dtype != "float32"]:
        raise BundleError(f"cut {cut.id} of {graph.name}: {others[0]} is not float32")
    if len(graph.outputs) != 1:
        raise BundleError(f"classifier {graph.name} has {len(graph.outputs)} outputs; want one")
    return tuple(shape for node in crossing for shape in node.output_shapes)


def device_parts(manifest: BundleManifest, blank: TracedNetwork, cut: str, data: bytes) -> CutParts:
    """What a device runs of a cut, its head with the weights of a head file; the tail stays untrained.

    Args:
        blank: the network's graph; cut: name of a published cut or operating point.

    Raises:
        BundleError: the file is not the one that the manifest names, or does not fit, or the manifest does
            not name the cut.
    """
    check_head(manifest, cut, data)
    origin = f"head of cut {cut}"
    stored = read_tensors(data, parse_header(data, origin)) if data else {}
    quantised = {name: scale for name, scale in manifest.quantised.items() if name in stored}
    state = served_state(stored, quantised, origin)
    for spec in published_cuts(manifest, blank.graph):
        if spec.id == cut:
            parts = parts_of(manifest, blank, spec)
            return replace(parts, head=with_weights(parts.head, state, origin))
    for place, squeezed_spec in enumerate(squeezed_specs(manifest)):
        if _cut_of(squeezed_spec.cut, blank.graph).id == plain_id(cut):
            for parts in _device_points(manifest, blank, place, squeezed_spec, state, origin):
                if parts.published.cut == cut:
                    return parts
    raise BundleError(f"cut {cut[:32]!r} is not signed with {manifest.name} version {manifest.version}")


def head_digest(manifest: BundleManifest, cut: str) -> str:
    """sha256 (hex) of a cut's head as the manifest names it; "" for a cut without weights on the device."""
    name = head_name(manifest.name, cut)
    named = (bundle.sha256 for bundle in manifest.compatible if bundle.name == name)
    return next(named, "")


def head_name(network: str, cut: str) -> str:
    """What a manifest calls a cut's head; one for all operating points of a cut."""
    inner = plain_id(cut)
    return f"{network}-head-{inner}" if inner == cut else f"{network}-head-{inner}-squeezed"


def head_file(stored: Mapping[str, Tensor], quantised: Mapping[str, str], tensors: Sequence[str]) -> bytes:
    """A head's weights as its bundle stores them; empty for one that reads none.

    Raises:
        BundleError: the head reads a constant that is no tensor of the bundle.
    """
    names = list(tensors)
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


def point_metric(place: int, point: int, name: str) -> str:
    """Name of a measured figure of an operating point in a manifest: ``bytes``, ``cap_bytes``,
    ``agreement``, ``kl``."""
    return f"squeezed.{place}.{point}.{name}"


def _points(
    manifest: BundleManifest,
    graph: SplitGraph,
    place: int,
    squeezed: SqueezedCut,
    cut: CutSpec,
    head_bytes: int,
) -> Iterator[tuple[PublishedCut, SqueezedCoder]]:
    spec, origin = squeezed.spec, f"squeezed cut {cut.id} of {manifest.name} version {manifest.version}"
    shapes = crossing_shapes(graph, cut)
    if len(shapes) != 1 or len(shapes[0]) != 4 or shapes[0][:2] != (1, spec.channels):
        raise BundleError(f"{origin}: {list(shapes)} crosses; want one tensor of {spec.channels} channels")
    height, width = (-(-side // spec.stride) for side in shapes[0][2:])
    if (height * spec.stride, width * spec.stride) != shapes[0][2:]:
        raise BundleError(f"{origin}: {shapes[0]} is no multiple of stride {spec.stride}")
    try:
        tables = squeezed.tables.coding_tables()
    except ValueError as error:
        raise BundleError(f"{origin}: {error}") from error
    shape = (1, spec.squeezed, height, width)
    key = stream_key(manifest.weights_sha256, cut.id)
    codec = FeatureCodec(tables, key.cut, model=key.model, max_values=math.prod(shape))
    for point in range(spec.points):
        expected, cap, agreement = (
            manifest.metrics.get(point_metric(place, point, name), math.nan)
            for name in ("bytes", "cap_bytes", "agreement")
        )
        if not (1 <= expected <= cap <= 1 << 24 and 0 <= agreement <= 1):
            raise BundleError(
                f"{origin}: point {point}: bytes {expected}, cap_bytes {cap}, agreement {agreement}; want "
                "1 <= bytes <= cap_bytes and agreement in 0..1"
            )
        published = PublishedCut(
            network=manifest.name, version=manifest.version, graph=graph.digest,
            cut=squeezed_name(cut.id, point), device=cut.device, feature_bytes=round(expected),
            head_bytes=head_bytes, cap_bytes=int(cap), agreement=float(agreement),
        )
        yield published, SqueezedCoder(codec, point, shape, int(cap))


def _device_points(
    manifest: BundleManifest,
    blank: TracedNetwork,
    place: int,
    spec: SqueezedSpec,
    state: Mapping[str, Tensor],
    origin: str,
) -> list[CutParts]:
    """Operating points on a device: without the trained copies, which only the tail has."""
    squeezed = SqueezedCut(msgspec.structs.replace(spec, tuned=()), nn.Module())
    own, prefix = squeezed.state_dict(), f"squeezed.{place}."
    split = cut_network(blank, _cut_of(spec.cut, blank.graph))
    names = head_names(split.head, _bundled(place, squeezed), place)
    for name in names:
        if name.startswith(prefix):
            given, inner = state.get(name), name.removeprefix(prefix)
            if given is None or given.shape != own[inner].shape:
                raise BundleError(f"{origin}: tensor {name} is missing or of another shape")
            own[inner] = given
    squeezed.load_state_dict(own)
    squeezed.eval().requires_grad_(False)
    head = SqueezedHead(with_weights(split.head, state, origin), squeezed).eval()
    return [
        CutParts(published, split.cut, head, nn.Identity(), False, coder, names)
        for published, coder in _points(manifest, blank.graph, place, squeezed, split.cut, 0)
    ]


def _bundled(place: int, squeezed: SqueezedCut) -> list[str]:
    return [f"squeezed.{place}.{name}" for name in squeezed.state_dict()]


def _head_bytes(
    manifest: BundleManifest, cut: str, names: Sequence[str], stored: Mapping[str, Tensor] | None
) -> int:
    if stored is None:
        return 0
    data = head_file(stored, manifest.quantised, names)
    check_head(manifest, cut, data)
    return len(data)


def _cut_of(mask: str, graph: SplitGraph) -> CutSpec:
    bits = int(mask, 16)
    try:
        return make_cut(graph, [index for index in range(bits.bit_length()) if bits >> index & 1])
    except CutError as error:
        raise BundleError(f"classifier {graph.name}: published cut: {error}") from error

