"""Which adapters and knowledge bases a site keeps loaded. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from pathlib import Path

from codec_runtime.contract.bundle import BundleManifest
from codec_runtime.serving.registry import Models


def retired_alignment(
    models: Models,
    arriving: Iterable[BundleManifest],
    in_force: Collection[tuple[str, int]],
    most: int,
    store: Path,
) -> set[Path]:
    """Directories of what makes room for new adapters.

    Of a name that gets a new version, the oldest fine-tuned adapters beyond ``most`` that nobody is assigned.
    Knowledge bases stay: devices that hold an old one fall back to it, and they are small.

    Args:
        arriving: manifests of new bundles. in_force: (name, version) of the adapters that users are assigned.
        store: where installed bundles are; shipped ones stay.
    """
    retired: set[Path] = set()
    for name in {manifest.name for manifest in arriving if manifest.kind == "adapter"}:
        versions = {v: bundle for (n, v), bundle in sorted(models.adapters.items()) if n == name}
        spare = [
            bundle.directory for v, bundle in versions.items()
            if bundle.manifest.parent is not None and (name, v) not in in_force
            and bundle.directory.is_relative_to(store)
        ]
        retired.update(spare[: max(0, len(versions) + 1 - most)])
    return retired
