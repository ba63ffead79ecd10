"""Files of a bundle before they are signed: all that it needs, and a delta only as the manifest states it."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

from codec_runtime.contract.bundle import DELTA_FILE, MANIFEST_FILE, WEIGHTS_FILE, BundleManifest


def check_files(manifest: BundleManifest, files: Mapping[str, bytes]) -> None:
    """Whether ``files`` (content by name) may be signed as the bundle of ``manifest``.

    A stated delta may be left out: the whole weights then travel everywhere.

    Raises:
        ValueError: one is missing or superfluous, or the delta is another one or no smaller than the weights.
    """
    required = {MANIFEST_FILE, WEIGHTS_FILE}
    if not required <= set(files) <= {*required, DELTA_FILE}:
        raise ValueError(f"a bundle is {MANIFEST_FILE} + {WEIGHTS_FILE}, not {sorted(files)}")
    delta = files.get(DELTA_FILE)
    if delta is None:
        return
    path = f"{manifest.kind}/{manifest.name}/{manifest.version}/{DELTA_FILE}"
    if manifest.delta is None:
        raise ValueError(f"{path}: the manifest states no delta")
    found = hashlib.sha256(delta).hexdigest()
    if found != manifest.delta.sha256:
        raise ValueError(
            f"{path}: sha256 {found[:12]}..., the manifest states {manifest.delta.sha256[:12]}..."
        )
    if len(delta) >= len(files[WEIGHTS_FILE]):
        raise ValueError(f"{path}: {len(delta)} bytes are no less than {WEIGHTS_FILE} has")
