"""Weights that did not travel: a signed delta, applied to weights that are here already.

A delta is trusted for nothing but its own signed length and hash. Which parent it applies to is read from the
signed custom metadata, the parent's bytes are checked against that hash, and the result counts only if it has
the length and the hash that the metadata signs for the weights file itself. So a site that takes the delta
serves the same bytes as one that takes the whole file, or refuses.

Memory: parent, delta and result, each at most ``WEIGHTS_LIMIT``, and the unpacked planes of the result. The
delta states the size of its result; it is refused, if too large, before a plane is unpacked.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tuf.api.exceptions import LengthOrHashMismatchError
from tuf.api.metadata import TargetFile  # type: ignore[attr-defined]

from codec_runtime.bundle.arrivals import same_file
from codec_runtime.bundle.delta import rebuild_weights
from codec_runtime.bundle.errors import (
    BundleError,
    CustomMismatchError,
    DeltaError,
    MissingParentError,
    SizeLimitError,
)
from codec_runtime.bundle.files import read_bounded
from codec_runtime.bundle.manifest_file import MANIFEST_LIMIT, parse_manifest
from codec_runtime.bundle.store import WEIGHTS_LIMIT, find_bundles, read_weights
from codec_runtime.contract.bundle import MANIFEST_FILE, BundleManifest

PARENT_FIELD: Final = "parent_sha256"
"""Signed custom metadata of a delta: sha256 (hex) of the weights file that it applies to."""
_SHA256: Final = re.compile(r"[0-9a-f]{64}", re.ASCII)


@dataclass(frozen=True)
class BundleHere:
    """A bundle's directory, its manifest, the sha256 (hex) of the manifest's file, and what file that was."""

    directory: Path
    manifest: BundleManifest
    manifest_sha256: str
    file: os.stat_result


class BundlesHere:
    """The bundles below ``roots``, ``ROOT/KIND/NAME/VERSION``; a manifest is read again only if its file is
    another one."""

    def __init__(self, roots: Iterable[Path]) -> None:
        self._roots = list(roots)
        self._known: dict[Path, BundleHere] = {}

    def all(self) -> list[BundleHere]:
        """Every bundle whose manifest can be read."""
        known, found = self._known, dict[Path, BundleHere]()
        for directory in (place for root in self._roots for place in find_bundles(root)):
            # One that cannot be read is not served and no parent; what serves was checked when it was loaded.
            with contextlib.suppress(BundleError, FileNotFoundError):
                file = os.stat(f"{directory}/{MANIFEST_FILE}")
                entry = known.get(directory)
                if entry is None or not same_file(entry.file, file):
                    data = read_bounded(directory / MANIFEST_FILE, MANIFEST_LIMIT)
                    manifest = parse_manifest(data, str(directory / MANIFEST_FILE))
                    entry = BundleHere(directory, manifest, hashlib.sha256(data).hexdigest(), file)
                found[directory] = entry
        self._known = found
        return list(found.values())


def parent_weights(here: BundlesHere, sha256: str) -> bytes:
    """The weights file of that hash among the bundles that are here.

    Raises:
        MissingParentError: there is none, or it is damaged.
    """
    damage = ""
    for bundle in here.all():
        if bundle.manifest.weights_sha256 == sha256:
            try:
                return read_weights(bundle.directory, bundle.manifest)
            except BundleError as error:
                damage = f" ({error})"
    raise MissingParentError(
        f"a delta from the weights {sha256[:12]}... is here, but no sound bundle with them{damage}: "
        "the whole weights are needed"
    )


def rebuilt_weights(weights: TargetFile, delta: TargetFile, delta_file: bytes, here: BundlesHere) -> bytes:
    """The bytes of the signed weights file, made from its delta.

    Args:
        weights, delta: what the verified metadata says of the two.
        delta_file: the bytes of the delta, their own length and hash checked.
        here: among which the parent may be.

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
    before = parent_weights(here, parent)
    try:
        result = rebuild_weights(before, delta_file, delta.path, limit=weights.length)
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
