"""Bundle directories: ``<root>/<kind>/<name>/<version>/{manifest.msgpack, weights.safetensors}``, and
``delta.safetensors`` where a difference from the parent is smaller.

Writing is reproducible: equal tensors and fields give equal bytes. Reading checks everything before a
tensor is used: sizes, sha256, format, names, shapes, dtypes, finiteness, architecture.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from safetensors.torch import save as save_safetensors
from torch import Tensor, nn

from codec_runtime.bundle.checks import (
    ARCHITECTURES,
    architecture_problems,
    known_blank,
    tensor_problems,
)
from codec_runtime.bundle.delta import encode_delta
from codec_runtime.bundle.errors import (
    BundleError,
    HashMismatchError,
    PickleRefusedError,
    SizeLimitError,
)
from codec_runtime.bundle.files import Content, OnBytes, read_bounded, write_atomic
from codec_runtime.bundle.manifest_file import (
    MANIFEST_LIMIT,
    manifest_bytes,
    parse_manifest,
    read_manifest,
    refuse_newer,
)
from codec_runtime.bundle.storage import check_scales, served_state, store_state
from codec_runtime.bundle.tensor_file import (
    DTYPE_NAMES,
    PICKLE_SUFFIXES,
    all_finite,
    parse_header,
    read_tensors,
    refuse_non_finite,
)
from codec_runtime.codecs.copies import frozen_copy
from codec_runtime.contract.bundle import (
    DELTA_FILE,
    MANIFEST_FILE,
    SCHEMA,
    WEIGHTS_FILE,
    BundleFile,
    BundleKind,
    BundleManifest,
    CompatibleBundle,
    DeltaFile,
    QualityPoint,
    Storage,
    TensorSpec,
)

WEIGHTS_LIMIT = 64 << 20
SHIPPED_WEIGHTS = Path(__file__).resolve().parent.parent / "weights"
"""Root of the bundles that come with the package."""


def bundle_directory(root: Path, kind: str, name: str, version: int) -> Path:
    """``root/kind/name/version``."""
    return root / kind / name / str(version)


def find_bundles(root: Path) -> list[Path]:
    """Bundle directories below ``root`` (three levels deep), sorted; encoders come after decoders by name."""
    folders = [str(root)]
    for _ in range(3):
        folders = [place for folder in folders for place in _folders(folder)]
    found = (folder for folder in folders if os.path.exists(f"{folder}/{MANIFEST_FILE}"))
    return [Path(folder) for folder in sorted(found, key=lambda folder: folder.split("/"))]


def _folders(directory: str) -> list[str]:
    try:
        with os.scandir(directory) as entries:
            return [entry.path for entry in entries if entry.is_dir()]
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        return []


@dataclass(frozen=True)
class BundleContents:
    """The bytes of a bundle's files; ``delta`` is empty where none is worth it."""

    manifest: BundleManifest
    weights: bytes
    delta: bytes = b""


def bundle_contents(
    *,
    kind: BundleKind,
    name: str,
    version: int,
    architecture: str,
    hyperparameters: Mapping[str, int | float | str],
    state: Mapping[str, Tensor],
    dtype: Storage = "F16",
    encoder_sha256: str = "",
    parent: int | None = None,
    parent_weights: bytes | None = None,
    provenance: Mapping[str, str] | None = None,
    metrics: Mapping[str, float] | None = None,
    quality: Sequence[QualityPoint] = (),
    macs_per_pixel: float = 0.0,
    working_bytes_per_pixel: float = 0.0,
    part: Literal["", "head", "tail"] = "",
    compatible: Sequence[CompatibleBundle] = (),
    minimum_runtime: str = "0.1.0",
    on_bytes: OnBytes | None = None,
) -> BundleContents:
    """A bundle in memory; see :class:`BundleManifest` for the fields.

    Args:
        state: parameters and buffers by name, finite, any float dtype.
        dtype: storage type; the runtime serves fp32 whichever it is.
        parent_weights: the parent's weights file: a delta from it is made and kept where it is smaller.
        on_bytes: progress of packing the delta.

    Raises:
        NonFiniteError: a tensor is not finite, or overflows ``dtype``.
        SizeLimitError: the weights file exceeds :data:`WEIGHTS_LIMIT`.
        BundleError: a tensor cannot be stored, or the parent's weights are damaged.
    """
    stored = store_state(state, dtype)
    weights = save_safetensors(stored.tensors)
    if len(weights) > WEIGHTS_LIMIT:
        raise SizeLimitError(f"{kind}/{name}/{version}: {len(weights)} bytes, the limit is {WEIGHTS_LIMIT}")
    digest = hashlib.sha256(weights).hexdigest()
    delta, delta_file = b"", None
    if parent_weights is not None:
        encoded = encode_delta(parent_weights, weights, on_bytes)
        if len(encoded) < len(weights):
            delta = encoded
            delta_file = DeltaFile(
                name=DELTA_FILE, sha256=hashlib.sha256(delta).hexdigest(), size=len(delta),
                parent_sha256=hashlib.sha256(parent_weights).hexdigest(),
            )
    parameters = sum(tensor.numel() for tensor in state.values())
    manifest = BundleManifest(
        kind=kind,
        name=name,
        version=version,
        architecture=architecture,
        hyperparameters=dict(sorted(hyperparameters.items())),
        files=[BundleFile(name=WEIGHTS_FILE, sha256=digest, size=len(weights))],
        tensors={
            k: TensorSpec(shape=tuple(v.shape), dtype=DTYPE_NAMES[v.dtype]) for k, v in stored.tensors.items()
        },
        encoder_sha256=encoder_sha256,
        parent=parent,
        provenance=dict(sorted((provenance or {}).items())),
        metrics=dict(sorted((metrics or {}).items())),
        quality=list(quality),
        parameters=parameters,
        macs_per_pixel=macs_per_pixel,
        minimum_runtime=minimum_runtime,
        schema=SCHEMA,
        part=part,
        compatible=sorted(compatible, key=lambda bundle: (bundle.kind, bundle.sha256)),
        storage=dtype,
        quantised=stored.quantised,
        losses=stored.losses,
        delta=delta_file,
        memory_bytes=4 * parameters,
        working_bytes_per_pixel=working_bytes_per_pixel,
    )
    return BundleContents(manifest, weights, delta)


def write_contents(directory: Path, contents: BundleContents) -> None:
    """Write the files of a bundle into ``directory`` (created)."""
    directory.mkdir(parents=True, exist_ok=True)
    # The manifest last: a directory with a manifest is complete.
    if contents.delta:
        write_atomic(directory / DELTA_FILE, contents.delta)
    write_atomic(directory / WEIGHTS_FILE, contents.weights)
    write_atomic(directory / MANIFEST_FILE, manifest_bytes(contents.manifest))


def write_bundle(
    directory: Path,
    *,
    kind: BundleKind,
    name: str,
    version: int,
    architecture: str,
    hyperparameters: Mapping[str, int | float | str],
    state: Mapping[str, Tensor],
    dtype: Storage = "F16",
    encoder_sha256: str = "",
    parent: int | None = None,
    provenance: Mapping[str, str] | None = None,
    metrics: Mapping[str, float] | None = None,
    quality: Sequence[QualityPoint] = (),
    macs_per_pixel: float = 0.0,
) -> BundleManifest:
    """Write a bundle into ``directory`` (created); arguments and errors as of :func:`bundle_contents`."""
    contents = bundle_contents(
        kind=kind, name=name, version=version, architecture=architecture, hyperparameters=hyperparameters,
        state=state, dtype=dtype, encoder_sha256=encoder_sha256, parent=parent, provenance=provenance,
        metrics=metrics, quality=quality, macs_per_pixel=macs_per_pixel,
    )
    write_contents(directory, contents)
    return contents.manifest


def read_weights(directory: Path, manifest: BundleManifest, on_bytes: OnBytes | None = None) -> bytes:
    """The weights file of a bundle, of the size and sha256 that the manifest says.

    Raises:
        MissingFileError, SizeLimitError, HashMismatchError.
    """
    return read_stated(directory, manifest.files[0], on_bytes)


def read_stated(directory: Path, stated: BundleFile | DeltaFile, on_bytes: OnBytes | None = None) -> bytes:
    """A file of the bundle as the manifest states it; errors as of :func:`read_weights`."""
    path = directory / stated.name
    data = read_bounded(path, WEIGHTS_LIMIT, on_bytes)
    _check_stated(path, stated, len(data), lambda: hashlib.sha256(data).hexdigest())
    return data


def _check_stated(path: Path, stated: BundleFile | DeltaFile, size: int, digest: Callable[[], str]) -> None:
    if size != stated.size:
        raise SizeLimitError(f"{path}: {size} bytes, the manifest says {stated.size}")
    found = digest()
    if found != stated.sha256:
        raise HashMismatchError(f"{path}: sha256 {found}, the manifest says {stated.sha256}")


def refuse_pickle_beside(directory: Path) -> None:
    """Raises PickleRefusedError if the bundle directory holds a pickle-based file."""
    strangers = [p.name for p in directory.iterdir() if p.suffix.lower() in PICKLE_SUFFIXES]
    if strangers:
        raise PickleRefusedError(
            f"{directory / strangers[0]}: pickled objects can run code when loaded; "
            "a bundle holds safetensors only"
        )


def verify_state(
    directory: Path, on_bytes: OnBytes | None = None
) -> tuple[BundleManifest, dict[str, Tensor]]:
    """Manifest and fp32 tensors of a bundle directory, every check done that needs no architecture.

    Raises:
        BundleError: its subclass and message say which file or tensor is wrong.
    """
    manifest = read_manifest(directory)
    refuse_newer(manifest, str(directory))
    refuse_pickle_beside(directory)
    path = directory / WEIGHTS_FILE
    stored = checked_tensors(read_weights(directory, manifest, on_bytes), manifest, path)
    return manifest, served_state(stored, manifest.quantised, str(path))


def checked_tensors(data: Content, manifest: BundleManifest, path: Path) -> dict[str, Tensor]:
    """Tensors of a weights file as stored, once they are what the manifest says and finite.

    Raises:
        BundleError.
    """
    header = parse_header(data, str(path))
    _raise_first(tensor_problems(header, manifest, path))
    tensors = read_tensors(data, header)
    if not all_finite(data, header):
        refuse_non_finite(tensors, str(path))
    return tensors


@dataclass(frozen=True)
class VerifiedBundle:
    """A bundle as it was when it was checked: what is loaded from this is what was hashed.

    Attributes:
        manifest: of it. stored: its tensors by name, as in its file. directory: where its files are.
    """

    manifest: BundleManifest
    stored: Mapping[str, Tensor]
    directory: Path

    def build(self) -> nn.Module:
        """The module, as :func:`build_module` makes it."""
        state = served_state(self.stored, self.manifest.quantised, str(self.directory / WEIGHTS_FILE))
        return build_module(self.manifest, state, self.directory)


def verify_bytes(
    manifest_file: bytes, weights: Content, sha256: str, directory: Path
) -> VerifiedBundle:
    """The bundle of two files in memory, every check done but building the module.

    Args:
        weights: the weights file; sha256: of it, hex, computed from these bytes.
        directory: where the files are, or will be; what errors name.

    Raises:
        BundleError: its subclass and message say which file or tensor is wrong.
    """
    path = directory / WEIGHTS_FILE
    for place, data, limit in (
        (directory / MANIFEST_FILE, manifest_file, MANIFEST_LIMIT), (path, weights, WEIGHTS_LIMIT)
    ):
        if len(data) > limit:
            raise SizeLimitError(f"{place}: larger than the limit of {limit} bytes")
    manifest = parse_manifest(manifest_file, str(directory / MANIFEST_FILE))
    refuse_newer(manifest, str(directory))
    _check_stated(path, manifest.files[0], len(weights), lambda: sha256)
    stored = checked_tensors(weights, manifest, path)
    served = check_scales(stored, manifest.quantised, str(path))
    if manifest.kind in ARCHITECTURES:
        shapes = {name: manifest.tensors[name].shape for name in served}  # which are those of ``stored``
        _raise_first(architecture_problems(shapes, manifest, directory))
    return VerifiedBundle(manifest, stored, directory)


def read_verified(directory: Path) -> VerifiedBundle:
    """The bundle of a directory.

    Raises:
        BundleError: as of :func:`verify_bytes`.
    """
    refuse_pickle_beside(directory)
    manifest_file = read_bounded(directory / MANIFEST_FILE, MANIFEST_LIMIT)
    weights = read_bounded(directory / WEIGHTS_FILE, WEIGHTS_LIMIT)
    return verify_bytes(manifest_file, weights, hashlib.sha256(weights).hexdigest(), directory)


def load_module(directory: Path) -> tuple[BundleManifest, nn.Module]:
    """Build the module of a bundle: fp32, evaluation mode, parameters frozen.

    Raises:
        BundleError: its subclass and message say which file or tensor is wrong.
    """
    manifest, state = verify_state(directory)
    return manifest, build_module(manifest, state, directory)


def build_module(manifest: BundleManifest, state: Mapping[str, Tensor], origin: Path) -> nn.Module:
    """Module of ``manifest.architecture`` with ``state``, whose tensors become its parameters: fp32,
    evaluation mode, frozen.

    Raises:
        UnknownArchitectureError, ManifestError, MissingTensorError, UnknownTensorError, ShapeMismatchError.
    """
    shapes = {name: values.shape for name, values in state.items()}
    _raise_first(architecture_problems(shapes, manifest, origin))
    blank = known_blank(manifest.kind, manifest.architecture, manifest.hyperparameters, origin)
    return frozen_copy(blank, state)


def _raise_first(problems: Iterable[BundleError]) -> None:
    for problem in problems:
        raise problem


__all__ = [
    "MANIFEST_LIMIT",
    "SHIPPED_WEIGHTS",
    "WEIGHTS_LIMIT",
    "BundleContents",
    "BundleError",
    "VerifiedBundle",
    "build_module",
    "bundle_contents",
    "bundle_directory",
    "checked_tensors",
    "find_bundles",
    "load_module",
    "manifest_bytes",
    "parse_manifest",
    "read_manifest",
    "read_stated",
    "read_verified",
    "read_weights",
    "refuse_pickle_beside",
    "verify_bytes",
    "verify_state",
    "write_atomic",
    "write_bundle",
    "write_contents",
]
