"""Weights that did not travel: a signed delta, applied to weights that are here already.

A delta is trusted for nothing but its own signed length and hash. Which parent it applies to is read from the
signed custom metadata, the parent's bytes are checked against that hash, and the result counts only if it has
the length and the hash that the metadata signs for the weights file itself. So a site that takes the delta
serves the same bytes as one that takes the whole file, or refuses.

Memory: parent, delta and result, each at most ``WEIGHTS_LIMIT``, and the unpacked planes of the result. The
delta states the size of its result; it is refused, if too large, before a plane is unpacked.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from tuf.api.exceptions import LengthOrHashMismatchError
from tuf.api.metadata import TargetFile  # type: ignore[attr-defined]

from codec_runtime.bundle.delta import rebuild_weights
from codec_runtime.bundle.errors import (
    BundleError,
    CustomMismatchError,
    DeltaError,
    MissingParentError,
    SizeLimitError,
)
from codec_runtime.bundle.manifest_file import read_manifest
from codec_runtime.bundle.store import WEIGHTS_LIMIT, find_bundles, read_weights
from codec_runtime.contract.bundle import BundleManifest

PARENT_FIELD: Final = "parent_sha256"
"""Signed custom metadata of a delta: sha256 (hex) of the weights file that it applies to."""
_SHA256: Final = re.compile(r"[0-9a-f]{64}", re.ASCII)


def bundles_here(roots: Iterable[Path]) -> list[tuple[Path, BundleManifest]]:
    """Directory and manifest of every bundle below ``roots`` whose manifest can be read."""
    found = []
    for directory in (place for root in roots for place in find_bundles(root)):
        try:
            found.append((directory, read_manifest(directory)))
        except BundleError:
            continue  # not served and no parent; what serves was checked when it was loaded
    return found


def parent_weights(roots: Iterable[Path], sha256: str) -> bytes:
    """The weights file of that hash among the bundles below ``roots``.

    Raises:
        MissingParentError: there is none, or it is damaged.
    """
    damage = ""
    for directory, manifest in bundles_here(roots):
        if manifest.weights_sha256 == sha256:
            try:
                return read_weights(directory, manifest)
            except BundleError as error:
                damage = f" ({error})"
    raise MissingParentError(
        f"a delta from the weights {sha256[:12]}... is here, but no sound bundle with them{damage}: "
        "the whole weights are needed"
    )


def rebuilt_weights(weights: TargetFile, delta: TargetFile, delta_file: Path, roots: Iterable[Path]) -> bytes:
    """The bytes of the signed weights file, made from its delta.

    Args:
        weights, delta: what the verified metadata says of the two.
        delta_file: the delta, its own length and hash checked.
        roots: where the parent may be, ``ROOT/KIND/NAME/VERSION``.

    Raises:
        SizeLimitError: the delta is larger than what it stands for, or the result than it is signed.
        CustomMismatchError: the metadata does not say what the delta applies to.
        MissingParentError: that is not here.
        DeltaError: not a delta file, or the result is not the signed weights file.
    """
    check_size(weights, delta)
    parent = (delta.custom or {}).get(PARENT_FIELD)
    if not isinstance(parent, str) or not _SHA256.fullmatch(parent):
        raise CustomMismatchError(f"{delta.path}: signed custom says {PARENT_FIELD} = {parent!r}: no sha256")
    before = parent_weights(roots, parent)
    try:
        result = rebuild_weights(before, delta_file.read_bytes(), delta.path, limit=weights.length)
        weights.verify_length_and_hashes(result)
    except SizeLimitError:
        raise
    except (BundleError, LengthOrHashMismatchError) as error:
        raise DeltaError(f"{delta.path}: does not give the signed {weights.path}: {error}") from error
    return result


def check_size(weights: TargetFile, delta: TargetFile) -> None:
    """Raises: SizeLimitError: a delta that is no gain, or stands for more than a bundle may have."""
    if weights.length > WEIGHTS_LIMIT:
        raise SizeLimitError(f"{weights.path}: {weights.length} bytes, the limit is {WEIGHTS_LIMIT}")
    if delta.length > weights.length:
        raise SizeLimitError(
            f"{delta.path}: {delta.length} bytes, more than the {weights.length} that it stands for"
        )
