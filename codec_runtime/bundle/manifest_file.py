"""``manifest.msgpack`` as bytes: written with keys in a fixed order, read with every field checked."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import msgspec

import codec_runtime
from codec_runtime.bundle.errors import ManifestError, PickleRefusedError, RuntimeTooOldError
from codec_runtime.bundle.files import read_bounded
from codec_runtime.bundle.tensor_file import PICKLE_SUFFIXES, TENSOR_LIMIT
from codec_runtime.contract.bundle import (
    DELTA_FILE,
    MANIFEST_FILE,
    SCHEMA,
    WEIGHTS_FILE,
    BundleManifest,
)

MANIFEST_LIMIT = 1 << 20
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}", re.ASCII)
_SHA256 = re.compile(r"[0-9a-f]{64}", re.ASCII)
_VERSION = re.compile(r"(\d{1,6})\.(\d{1,6})\.(\d{1,6})", re.ASCII)


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
    for problem in manifest_problems(manifest):
        raise ManifestError(f"{origin}: {problem}")
    return manifest


def read_manifest(directory: Path) -> BundleManifest:
    """The manifest of a bundle directory.

    Raises:
        MissingFileError, SizeLimitError, ManifestError, PickleRefusedError.
    """
    path = directory / MANIFEST_FILE
    return parse_manifest(read_bounded(path, MANIFEST_LIMIT), str(path))


def manifest_problems(manifest: BundleManifest) -> Iterator[str]:
    """What is wrong with a manifest that has the right types, most telling first."""
    yield from _identity_problems(manifest)
    yield from _relation_problems(manifest)
    yield from _content_problems(manifest)


def _identity_problems(manifest: BundleManifest) -> Iterator[str]:
    if not 1 <= manifest.schema <= SCHEMA:
        yield f"schema {manifest.schema}; this runtime reads 1..{SCHEMA}: update it"
    if [file.name for file in manifest.files] != [WEIGHTS_FILE]:
        names = ", ".join(repr(file.name) for file in manifest.files) or "none"
        yield f"files must be exactly {WEIGHTS_FILE!r}, got {names}"
    if not _NAME.fullmatch(manifest.name):
        yield f"name {manifest.name[:80]!r}: 1..64 characters of [A-Za-z0-9_-] are needed"
    if manifest.version < 1:
        yield f"version {manifest.version} is below 1"
    if manifest.part and manifest.kind != "classifier":
        yield f"part {manifest.part!r} is of a classifier, not of kind {manifest.kind}"
    if not _VERSION.fullmatch(manifest.minimum_runtime):
        yield f"minimum_runtime {manifest.minimum_runtime[:32]!r} is not major.minor.patch"


def _relation_problems(manifest: BundleManifest) -> Iterator[str]:
    if manifest.parent is not None and not 1 <= manifest.parent < manifest.version:
        yield f"parent {manifest.parent} must be a version below {manifest.version}"
    if manifest.kind in ("encoder", "decoder") and (manifest.kind == "encoder") != (
        manifest.encoder_sha256 == ""
    ):
        yield "encoder_sha256 must be empty for an encoder and present for a decoder"
    if manifest.kind == "adapter" and manifest.schema > 1 and not manifest.compatible:
        yield "an adapter must name its base in compatible"
    for bundle in manifest.compatible:
        if not _SHA256.fullmatch(bundle.sha256):
            yield f"compatible {bundle.kind} {bundle.name}: {bundle.sha256[:80]!r} is no sha256 in hex"
    if manifest.delta is not None:
        digests = (manifest.delta.sha256, manifest.delta.parent_sha256)
        if manifest.delta.name != DELTA_FILE or not all(_SHA256.fullmatch(d) for d in digests):
            yield f"delta must be {DELTA_FILE!r} with two sha256 in hex"
        if manifest.parent is None:
            yield "a delta needs a parent"


def _content_problems(manifest: BundleManifest) -> Iterator[str]:
    if len(manifest.tensors) > TENSOR_LIMIT:
        yield f"{len(manifest.tensors)} tensors, the limit is {TENSOR_LIMIT}"
    if min(manifest.parameters, manifest.memory_bytes) < 0:
        yield "parameters and memory_bytes count from 0"
    for tensor, scale in manifest.quantised.items():
        if tensor not in manifest.tensors or scale not in manifest.tensors or tensor == scale:
            yield f"quantised {tensor}: it and its scale {scale} must be tensors"


def refuse_newer(manifest: BundleManifest, origin: str, runtime: str = codec_runtime.__version__) -> None:
    """Raises RuntimeTooOldError if the bundle needs a newer runtime than ``runtime``."""
    if _release(manifest.minimum_runtime) > _release(runtime):
        raise RuntimeTooOldError(
            f"{origin}: needs runtime {manifest.minimum_runtime} or newer, this is {runtime}: update it first"
        )


def _release(version: str) -> tuple[int, ...]:
    match = _VERSION.match(version)
    return tuple(int(part) for part in match.groups()) if match else (0, 0, 0)
