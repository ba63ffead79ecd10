"""Tensors against what the manifest and the architecture say: every difference, named."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from codec_runtime.adapters.architectures import ADAPTERS, KNOWLEDGE_BASES, TEXT_ENCODERS
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
from codec_runtime.split.classifiers import CLASSIFIERS

ARCHITECTURES: Mapping[str, Mapping[str, type[nn.Module]]] = {
    "encoder": {**ENCODERS, **TEXT_ENCODERS}, "decoder": DECODERS, "adapter": ADAPTERS,
    "skb": KNOWLEDGE_BASES, "classifier": CLASSIFIERS,
}
"""Architectures of this runtime by kind. Bundles of another kind can be made, checked and delivered."""

SERVED_KINDS = ("encoder", "decoder", "adapter", "skb", "classifier")
"""Kinds that the runtime loads; the others are sound or not, but are of no use to it yet."""
_RANDOM: Final = frozenset(
    {
        nn.init.kaiming_uniform_, nn.init.normal_, nn.init.uniform_,
        torch.Tensor.normal_, torch.Tensor.uniform_,
    }
)
_BLANKS_KEPT: Final = 32
_blanks: dict[str, tuple[nn.Module, Mapping[str, torch.Size]]] = {}
"""Untrained modules that were built once, and the shapes of their states, by architecture and configuration.
Memory that nobody has written to is not there yet, so they cost little."""


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
    """An untrained module of ``architecture``; what it would draw at random is whatever the memory held.

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
        with _NoRandomNumbers():
            return registry[architecture](configure(architecture, hyperparameters))
    except ValueError as error:
        raise ManifestError(f"{origin}: {architecture}: {error}") from error


def known_blank(
    kind: BundleKind, architecture: str, hyperparameters: Mapping[str, object], origin: Path
) -> nn.Module:
    """As :func:`build_blank`, but one module for all who ask: not to be changed. The bundles of a site are of
    few architectures."""
    return _known_blank(kind, architecture, hyperparameters, origin)[0]


def _known_blank(
    kind: BundleKind, architecture: str, hyperparameters: Mapping[str, object], origin: Path
) -> tuple[nn.Module, Mapping[str, torch.Size]]:
    # repr: 1, 1.0 and True are one key of a dictionary, but not one hyper-parameter
    key = repr((kind, architecture, sorted(hyperparameters.items())))
    known = _blanks.get(key)
    if known is None:
        blank = build_blank(kind, architecture, hyperparameters, origin)
        if len(_blanks) >= _BLANKS_KEPT:
            _blanks.clear()
        known = _blanks[key] = blank, _shapes(blank.state_dict())
    return known


class _NoRandomNumbers(TorchFunctionMode):
    """Leaves tensors as they are that a module fills at random: half of the time of building one that is
    given its parameters next. Of this thread alone."""

    def __torch_function__(
        self, function: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        if function in _RANDOM:
            return args[0] if args else kwargs["tensor"]
        return function(*args, **kwargs)


def architecture_problems(
    shapes: Mapping[str, tuple[int, ...]], manifest: BundleManifest, origin: Path
) -> Iterator[BundleError]:
    """As :func:`state_problems`, of the architecture that ``manifest`` names and the shapes of a state.

    Raises:
        UnknownArchitectureError, ManifestError: there is no such module.
    """
    _, wanted = _known_blank(manifest.kind, manifest.architecture, manifest.hyperparameters, origin)
    yield from _shape_problems(shapes, wanted, manifest.architecture, origin)


def state_problems(
    state: Mapping[str, Tensor], module: nn.Module, architecture: str, origin: Path
) -> Iterator[BundleError]:
    """Names and shapes of ``state`` that ``module`` does not take."""
    yield from _shape_problems(_shapes(state), _shapes(module.state_dict()), architecture, origin)


def _shapes(state: Mapping[str, Tensor]) -> dict[str, torch.Size]:
    return {name: tensor.shape for name, tensor in state.items()}


def _shape_problems(
    shapes: Mapping[str, tuple[int, ...]], wanted: Mapping[str, torch.Size], architecture: str, origin: Path
) -> Iterator[BundleError]:
    yield from name_problems(set(shapes), set(wanted), origin, f"architecture {architecture}")
    for name, shape in wanted.items():
        if name in shapes and shape != shapes[name]:
            yield ShapeMismatchError(
                f"{origin}: tensor {name} has shape {tuple(shapes[name])}, "
                f"{architecture} needs {tuple(shape)}"
            )
