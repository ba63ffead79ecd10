"""Bundle directories: ``<root>/<kind>/<name>/<version>/{manifest.msgpack, weights.safetensors}``.

Writing is reproducible: equal tensors and fields give equal bytes. Reading checks everything before a
tensor is used: sizes, sha256, format, names, shapes, dtypes, finiteness, architecture.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

import msgspec
import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_safetensors
from safetensors.torch import save as save_safetensors
from torch import Tensor, nn

from codec_runtime.bundle.errors import (
    BundleError,
    DtypeError,
    HashMismatchError,
    ManifestError,
    MissingFileError,
    MissingTensorError,
    NonFiniteError,
    PickleRefusedError,
    ShapeMismatchError,
    SizeLimitError,
    TensorFormatError,
    UnknownArchitectureError,
    UnknownTensorError,
)
from codec_runtime.codecs.registry import DECODERS, ENCODERS, CodecConfig, configure
from codec_runtime.contract.bundle import (
    MANIFEST_FILE,
    WEIGHTS_FILE,
    BundleFile,
    BundleKind,
    BundleManifest,
    QualityPoint,
    TensorSpec,
)

MANIFEST_LIMIT = 1 << 20
WEIGHTS_LIMIT = 64 << 20
PICKLE_SUFFIXES = frozenset({".pt", ".pth", ".bin", ".pkl", ".pickle", ".ckpt", ".npy", ".npz"})
_DTYPES: dict[str, torch.dtype] = {"F16": torch.float16, "F32": torch.float32}
_DTYPE_NAMES = {dtype: name for name, dtype in _DTYPES.items()}
SHIPPED_WEIGHTS = Path(__file__).resolve().parent.parent / "weights"
"""Root of the bundles that come with the package."""


def bundle_directory(root: Path, kind: str, name: str, version: int) -> Path:
    """``root/kind/name/version``."""
    return root / kind / name / str(version)


def find_bundles(root: Path) -> list[Path]:
    """Bundle directories below ``root`` (three levels deep), sorted; encoders come after decoders by name."""
    return sorted(path.parent for path in root.glob(f"*/*/*/{MANIFEST_FILE}"))


def write_bundle(
    directory: Path,
    *,
    kind: BundleKind,
    name: str,
    version: int,
    architecture: str,
    hyperparameters: Mapping[str, int | float | str],
    state: Mapping[str, Tensor],
    dtype: Literal["F16", "F32"] = "F16",
    encoder_sha256: str = "",
    parent: int | None = None,
    provenance: Mapping[str, str] | None = None,
    metrics: Mapping[str, float] | None = None,
    quality: Sequence[QualityPoint] = (),
    macs_per_pixel: float = 0.0,
) -> BundleManifest:
    """Write a bundle into ``directory`` (created); see :class:`BundleManifest` for the fields.

    Args:
        state: parameters and buffers by name, finite, any float dtype.
        dtype: storage type; the runtime serves fp32 whichever it is.

    Raises:
        NonFiniteError: a tensor is not finite, or overflows ``dtype``.
    """
    tensors: dict[str, Tensor] = {}
    for key in sorted(state):
        stored = state[key].detach().to("cpu", _DTYPES[dtype]).contiguous()
        if not torch.isfinite(stored).all():
            raise NonFiniteError(f"tensor {key}: NaN or infinity when stored as {dtype}")
        tensors[key] = stored
    weights = save_safetensors(tensors)
    manifest = BundleManifest(
        kind=kind,
        name=name,
        version=version,
        architecture=architecture,
        hyperparameters=dict(sorted(hyperparameters.items())),
        files=[BundleFile(name=WEIGHTS_FILE, sha256=hashlib.sha256(weights).hexdigest(), size=len(weights))],
        tensors={k: TensorSpec(shape=tuple(v.shape), dtype=dtype) for k, v in tensors.items()},
        encoder_sha256=encoder_sha256,
        parent=parent,
        provenance=dict(sorted((provenance or {}).items())),
        metrics=dict(sorted((metrics or {}).items())),
        quality=list(quality),
        parameters=sum(value.numel() for value in tensors.values()),
        macs_per_pixel=macs_per_pixel,
    )
    directory.mkdir(parents=True, exist_ok=True)
    # Weights first: a directory with a manifest is complete.
    write_atomic(directory / WEIGHTS_FILE, weights)
    write_atomic(directory / MANIFEST_FILE, manifest_bytes(manifest))
    return manifest


def write_atomic(path: Path, data: bytes) -> None:
    """Write beside ``path`` and rename, so that readers see all of it or nothing."""
    temporary = path.with_name(f".{path.name}.tmp")
    with temporary.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


def manifest_bytes(manifest: BundleManifest) -> bytes:
    """MessagePack with keys in a fixed order."""
    return msgspec.msgpack.encode(manifest, order="deterministic")


def parse_manifest(data: bytes, origin: str) -> BundleManifest:
    """Decode and check a manifest.

    Raises:
        ManifestError: not MessagePack, a field missing or out of range.
        PickleRefusedError: it names a pickle-based file.
    """
    try:
        manifest = msgspec.msgpack.decode(data, type=BundleManifest)
    except (msgspec.DecodeError, msgspec.ValidationError) as error:
        raise ManifestError(f"{origin}: not a bundle manifest: {error}") from error
    for file in manifest.files:
        if Path(file.name).suffix.lower() in PICKLE_SUFFIXES:
            raise PickleRefusedError(
                f"{origin}: file {file.name} may hold pickled objects, which can run code when loaded; "
                f"only {WEIGHTS_FILE} is read"
            )
    if [file.name for file in manifest.files] != [WEIGHTS_FILE]:
        names = ", ".join(repr(file.name) for file in manifest.files) or "none"
        raise ManifestError(f"{origin}: files must be exactly {WEIGHTS_FILE!r}, got {names}")
    if manifest.version < 1:
        raise ManifestError(f"{origin}: version {manifest.version} is below 1")
    if (manifest.kind == "encoder") != (manifest.encoder_sha256 == "") and manifest.kind in (
        "encoder",
        "decoder",
    ):
        raise ManifestError(
            f"{origin}: encoder_sha256 must be empty for an encoder and present for a decoder"
        )
    return manifest


def read_manifest(directory: Path) -> BundleManifest:
    """The manifest of a bundle directory.

    Raises:
        MissingFileError, SizeLimitError, ManifestError, PickleRefusedError.
    """
    path = directory / MANIFEST_FILE
    return parse_manifest(_read_bounded(path, MANIFEST_LIMIT), str(path))


def verify_state(directory: Path) -> tuple[BundleManifest, dict[str, Tensor]]:
    """Manifest and fp32 tensors of a bundle directory, every check done that needs no architecture.

    Raises:
        BundleError: its subclass and message say which file or tensor is wrong.
    """
    manifest = read_manifest(directory)
    strangers = [p.name for p in directory.iterdir() if p.suffix.lower() in PICKLE_SUFFIXES]
    if strangers:
        raise PickleRefusedError(
            f"{directory / strangers[0]}: pickled objects can run code when loaded; "
            "a bundle holds safetensors only"
        )
    path, expected = directory / WEIGHTS_FILE, manifest.files[0]
    data = _read_bounded(path, WEIGHTS_LIMIT)
    if len(data) != expected.size:
        raise SizeLimitError(f"{path}: {len(data)} bytes, the manifest says {expected.size}")
    digest = hashlib.sha256(data).hexdigest()
    if digest != expected.sha256:
        raise HashMismatchError(f"{path}: sha256 {digest}, the manifest says {expected.sha256}")
    return manifest, _checked_tensors(data, manifest, path)


def _read_bounded(path: Path, limit: int) -> bytes:
    try:
        with path.open("rb") as file:
            data = file.read(limit + 1)
    except FileNotFoundError as error:
        raise MissingFileError(f"{path} does not exist") from error
    except OSError as error:
        raise MissingFileError(f"{path} is not readable: {error}") from error
    if len(data) > limit:
        raise SizeLimitError(f"{path}: larger than the limit of {limit} bytes")
    return data


def _checked_tensors(data: bytes, manifest: BundleManifest, path: Path) -> dict[str, Tensor]:
    try:
        tensors = load_safetensors(data)
    except (SafetensorError, ValueError, KeyError) as error:
        raise TensorFormatError(f"{path}: not safetensors: {error}") from error
    _same_names(set(tensors), set(manifest.tensors), path, "the manifest")
    for key, spec in manifest.tensors.items():
        tensor = tensors[key]
        name = _DTYPE_NAMES.get(tensor.dtype)
        if name is None or name != spec.dtype:
            raise DtypeError(
                f"{path}: tensor {key} is {tensor.dtype}, the manifest says {spec.dtype}; "
                "F16 and F32 are served"
            )
        if tuple(tensor.shape) != tuple(spec.shape):
            raise ShapeMismatchError(
                f"{path}: tensor {key} has shape {tuple(tensor.shape)}, the manifest says {tuple(spec.shape)}"
            )
        if not torch.isfinite(tensor).all():
            raise NonFiniteError(f"{path}: tensor {key} holds NaN or infinity")
    return {key: tensor.float() for key, tensor in tensors.items()}


def _same_names(found: set[str], wanted: set[str], path: Path, by: str) -> None:
    if missing := sorted(wanted - found):
        raise MissingTensorError(
            f"{path}: tensor {missing[0]} is missing ({len(missing)} in all), named by {by}"
        )
    if unknown := sorted(found - wanted):
        raise UnknownTensorError(f"{path}: tensor {unknown[0]} ({len(unknown)} in all) is not known to {by}")


def load_module(directory: Path) -> tuple[BundleManifest, nn.Module]:
    """Build the module of a bundle: fp32, evaluation mode, parameters frozen.

    Raises:
        BundleError: its subclass and message say which file or tensor is wrong.
    """
    manifest, state = verify_state(directory)
    return manifest, build_module(manifest, state, directory)


def build_module(manifest: BundleManifest, state: Mapping[str, Tensor], origin: Path) -> nn.Module:
    """Module of ``manifest.architecture`` with ``state``.

    Raises:
        UnknownArchitectureError, ManifestError, MissingTensorError, UnknownTensorError, ShapeMismatchError.
    """
    registries: dict[str, Mapping[str, type[nn.Module]]] = {"encoder": ENCODERS, "decoder": DECODERS}
    registry = registries.get(manifest.kind, {})
    if manifest.architecture not in registry:
        raise UnknownArchitectureError(
            f"{origin}: no {manifest.kind} architecture {manifest.architecture!r} in this runtime; "
            f"known are {', '.join(sorted(registry)) or 'none'}"
        )
    module = registry[manifest.architecture](_config(manifest, origin))
    wanted = module.state_dict()
    _same_names(set(state), set(wanted), origin, f"architecture {manifest.architecture}")
    for key, tensor in wanted.items():
        if tensor.shape != state[key].shape:
            raise ShapeMismatchError(
                f"{origin}: tensor {key} has shape {tuple(state[key].shape)}, "
                f"{manifest.architecture} needs {tuple(tensor.shape)}"
            )
    module.load_state_dict(state, strict=True)
    return module.eval().requires_grad_(False)


def _config(manifest: BundleManifest, origin: Path) -> CodecConfig:
    # A manifest must not make the runtime allocate gigabytes before its tensors are compared: each value is
    # bounded. (Building on the meta device would not need this, but costs two seconds: it imports torch's
    # compiler.)
    try:
        return configure(manifest.architecture, manifest.hyperparameters)
    except ValueError as error:
        raise ManifestError(f"{origin}: {manifest.architecture}: {error}") from error


__all__ = [
    "SHIPPED_WEIGHTS",
    "BundleError",
    "build_module",
    "bundle_directory",
    "find_bundles",
    "load_module",
    "manifest_bytes",
    "parse_manifest",
    "read_manifest",
    "verify_state",
    "write_atomic",
    "write_bundle",
]
