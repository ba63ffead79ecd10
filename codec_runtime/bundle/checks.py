"""Tensors against what the manifest and the architecture say: every difference, named."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from torch import Tensor, nn

from codec_runtime.bundle.errors import (
    BundleError,
    DtypeError,
    ManifestError,
    MissingTensorError,
    ShapeMismatchError,
    UnknownArchitectureError,
    UnknownTensorError,
)
from codec_runtime.bundle.tensor_file import TensorHeader
from codec_runtime.codecs.registry import DECODERS, ENCODERS, configure
from codec_runtime.contract.bundle import BundleKind, BundleManifest

ARCHITECTURES: Mapping[str, Mapping[str, type[nn.Module]]] = {"encoder": ENCODERS, "decoder": DECODERS}
"""Architectures of this runtime by kind. Bundles of another kind can be made, checked and delivered; none of
them is served yet."""


def tensor_problems(header: TensorHeader, manifest: BundleManifest, path: Path) -> Iterator[BundleError]:
    """Names, dtypes and shapes of a weights file that differ from its manifest."""
    yield from name_problems(set(header.entries), set(manifest.tensors), path, "the manifest")
    for name, spec in manifest.tensors.items():
        entry = header.entries.get(name)
        if entry is None:
            continue
        served = ("I8",) if name in manifest.quantised else ("F16", "F32")
        if entry.dtype != spec.dtype or entry.dtype not in served:
            yield DtypeError(
                f"{path}: tensor {name} is {entry.dtype}, the manifest says {spec.dtype}; "
                "F16 and F32 are served, I8 where the manifest names a scale"
            )
        if entry.shape != tuple(spec.shape):
            yield ShapeMismatchError(
                f"{path}: tensor {name} has shape {entry.shape}, the manifest says {tuple(spec.shape)}"
            )


def name_problems(found: set[str], wanted: set[str], path: Path, by: str) -> Iterator[BundleError]:
    """Missing and unknown tensors, the first of each named."""
    if missing := sorted(wanted - found):
        yield MissingTensorError(
            f"{path}: tensor {missing[0]} is missing ({len(missing)} in all), named by {by}"
        )
    if unknown := sorted(found - wanted):
        yield UnknownTensorError(f"{path}: tensor {unknown[0]} ({len(unknown)} in all) is not known to {by}")


def build_blank(
    kind: BundleKind, architecture: str, hyperparameters: Mapping[str, object], origin: Path
) -> nn.Module:
    """An untrained module of ``architecture``.

    Raises:
        UnknownArchitectureError: not of this runtime.
        ManifestError: a hyper-parameter is unknown or out of range.
    """
    registry = ARCHITECTURES.get(kind, {})
    if architecture not in registry:
        raise UnknownArchitectureError(
            f"{origin}: no {kind} architecture {architecture!r} in this runtime; "
            f"known are {', '.join(sorted(registry)) or 'none'}"
        )
    # A manifest must not make the runtime allocate gigabytes before its tensors are compared: each value is
    # bounded. (Building on the meta device would not need this, but costs two seconds: it imports torch's
    # compiler.)
    try:
        return registry[architecture](configure(architecture, hyperparameters))
    except ValueError as error:
        raise ManifestError(f"{origin}: {architecture}: {error}") from error


def state_problems(
    state: Mapping[str, Tensor], module: nn.Module, architecture: str, origin: Path
) -> Iterator[BundleError]:
    """Names and shapes of ``state`` that ``module`` does not take."""
    wanted = module.state_dict()
    yield from name_problems(set(state), set(wanted), origin, f"architecture {architecture}")
    for name, tensor in wanted.items():
        if name in state and tensor.shape != state[name].shape:
            yield ShapeMismatchError(
                f"{origin}: tensor {name} has shape {tuple(state[name].shape)}, "
                f"{architecture} needs {tuple(tensor.shape)}"
            )
