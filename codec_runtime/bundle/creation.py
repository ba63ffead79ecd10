"""A bundle from a safetensors file and a spec that says what the tensors are.

Rules: nothing is written unless every check has passed; a version, once written, never changes (writing it
again with the same content is harmless); the architecture of encoders and decoders must take exactly the
tensors given.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import msgspec
from torch import Tensor, nn

from codec_runtime.bundle.checks import ARCHITECTURES, build_blank, state_problems
from codec_runtime.bundle.errors import DtypeError, SpecError
from codec_runtime.bundle.files import OnBytes, read_bounded
from codec_runtime.bundle.manifest_file import manifest_bytes, parse_manifest, read_manifest
from codec_runtime.bundle.resources import measure_resources
from codec_runtime.bundle.store import (
    WEIGHTS_LIMIT,
    BundleContents,
    bundle_contents,
    bundle_directory,
    read_weights,
    write_contents,
)
from codec_runtime.bundle.tensor_file import (
    parse_header,
    read_tensors,
    refuse_non_finite,
    refuse_pickle_suffix,
)
from codec_runtime.codecs.registry import DECODERS, ENCODERS
from codec_runtime.contract.bundle import (
    MANIFEST_FILE,
    BundleKind,
    BundleManifest,
    CompatibleBundle,
    QualityPoint,
    Storage,
)

SOURCE_LIMIT = 4 * WEIGHTS_LIMIT
"""Bytes of a safetensors file to make a bundle from: the largest fp16 bundle, given in fp64."""
SPEC_LIMIT = 1 << 20


class BundleSpec(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What ``semcom bundle create`` is told, as JSON; fields as of :class:`BundleManifest`.

    Attributes:
        recipe: how the weights were trained, in words.
        data_sha256: hash of the training data, ``none`` if it is not known.
        seed: of the training.
        provenance: further facts, as text.
        macs_per_pixel: of kinds that this runtime cannot measure.
    """

    kind: BundleKind
    name: str
    version: int
    architecture: str
    recipe: str
    data_sha256: str
    seed: int
    hyperparameters: dict[str, int | float | str] = {}
    provenance: dict[str, str] = {}
    metrics: dict[str, float] = {}
    quality: list[QualityPoint] = []
    encoder_sha256: str = ""
    compatible: list[CompatibleBundle] = []
    part: Literal["", "head", "tail"] = ""
    minimum_runtime: str = "0.1.0"
    macs_per_pixel: float = 0.0


@dataclass(frozen=True)
class Created:
    """A bundle on disk; ``written`` is false where the same one was there."""

    directory: Path
    contents: BundleContents
    written: bool

    @property
    def manifest(self) -> BundleManifest:
        return self.contents.manifest


def read_spec(path: Path) -> BundleSpec:
    """The spec of a JSON file.

    Raises:
        SpecError: not JSON, a field missing, unknown or of the wrong type; it is named.
        BundleError: not there, or too large.
    """
    try:
        return msgspec.json.decode(read_bounded(path, SPEC_LIMIT), type=BundleSpec)
    except (msgspec.DecodeError, RecursionError) as error:
        raise SpecError(f"{path}: {error}") from error


def read_source(path: Path, on_bytes: OnBytes | None = None) -> dict[str, Tensor]:
    """Finite tensors of a safetensors file of any origin.

    Raises:
        PickleRefusedError: a pickle or an archive with one, by its name or by its bytes.
        BundleError: its subclass and message name the tensor.
    """
    refuse_pickle_suffix(path)
    data = read_bounded(path, SOURCE_LIMIT, on_bytes)
    header = parse_header(data, str(path))
    tensors = read_tensors(data, header)
    refuse_non_finite(tensors, str(path))
    return tensors


def create_bundle(
    state: Mapping[str, Tensor],
    spec: BundleSpec,
    root: Path,
    *,
    origin: Path,
    storage: Storage = "F16",
    parent: Path | None = None,
    metrics: Mapping[str, float] | None = None,
    on_bytes: OnBytes | None = None,
) -> Created:
    """Check ``state`` against ``spec`` and write ``root/KIND/NAME/VERSION``.

    Args:
        state: parameters and buffers.
        origin: what to call the source in errors.
        storage: F16, F32 or I8 (:mod:`.storage`).
        parent: directory of the bundle that this one was fine-tuned from: it is named in the manifest, and a
            delta is made where that is smaller.
        metrics: measured numbers beside those of the spec.
        on_bytes: progress of packing the delta.

    Raises:
        SpecError: the spec does not fit, or another bundle of that version exists.
        BundleError: a tensor is missing, unknown, of another shape or not finite; it is named.
    """
    for name, tensor in state.items():
        if not tensor.is_floating_point():
            raise DtypeError(f"{origin}: tensor {name} is {tensor.dtype}; parameters are floating point")
    macs, working = spec.macs_per_pixel, 0.0
    module = fitting_module(state, spec, origin)
    if module is not None and spec.architecture in {**ENCODERS, **DECODERS}:
        measured = measure_resources(module, spec.kind)
        macs, working = measured.macs_per_pixel, measured.working_bytes_per_pixel
    before = None if parent is None else _parent(parent, spec)
    contents = bundle_contents(
        kind=spec.kind, name=spec.name, version=spec.version, architecture=spec.architecture,
        hyperparameters=spec.hyperparameters, state=state, dtype=storage, encoder_sha256=spec.encoder_sha256,
        parent=None if before is None else before[0].version,
        parent_weights=None if before is None else before[1],
        provenance={
            **spec.provenance, "recipe": spec.recipe, "data_sha256": spec.data_sha256, "seed": str(spec.seed)
        },
        metrics={**spec.metrics, **(metrics or {})}, quality=spec.quality, macs_per_pixel=macs,
        working_bytes_per_pixel=working, part=spec.part, compatible=spec.compatible,
        minimum_runtime=spec.minimum_runtime, on_bytes=on_bytes,
    )
    encoded = manifest_bytes(contents.manifest)
    parse_manifest(encoded, str(origin))  # what is refused when read is refused before it is written
    directory = bundle_directory(root, spec.kind, spec.name, spec.version)
    if (directory / MANIFEST_FILE).exists():
        if (directory / MANIFEST_FILE).read_bytes() != encoded:
            raise SpecError(
                f"{directory} holds another bundle, and a version never changes: give a higher version"
            )
        read_weights(directory, contents.manifest)
        return Created(directory, contents, written=False)
    write_contents(directory, contents)
    return Created(directory, contents, written=True)


def fitting_module(state: Mapping[str, Tensor], spec: BundleSpec, origin: Path) -> nn.Module | None:
    """The untrained module that ``state`` fits; None for a kind that this runtime has no architectures of.

    Raises:
        UnknownArchitectureError, ManifestError: no such network.
        MissingTensorError, UnknownTensorError, ShapeMismatchError: naming the tensor.
    """
    if spec.kind not in ARCHITECTURES:
        return None
    module = build_blank(spec.kind, spec.architecture, spec.hyperparameters, origin)
    for problem in state_problems(state, module, spec.architecture, origin):
        raise problem
    return module


def wanted_tensors(spec: BundleSpec, origin: Path) -> dict[str, Tensor]:
    """Names and shapes that the spec's architecture wants; empty for a kind without architectures here.

    Raises:
        UnknownArchitectureError, ManifestError: no such network.
    """
    if spec.kind not in ARCHITECTURES:
        return {}
    return build_blank(spec.kind, spec.architecture, spec.hyperparameters, origin).state_dict()


def _parent(directory: Path, spec: BundleSpec) -> tuple[BundleManifest, bytes]:
    manifest = read_manifest(directory)
    if (manifest.kind, manifest.name) != (spec.kind, spec.name):
        raise SpecError(
            f"parent {directory} is {manifest.kind}/{manifest.name}, not {spec.kind}/{spec.name}"
        )
    if manifest.version >= spec.version:
        raise SpecError(f"parent {directory} has version {manifest.version}; {spec.version} must be higher")
    return manifest, read_weights(directory, manifest)
