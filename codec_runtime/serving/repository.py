"""The model repository of the Open Inference Protocol over bundles: what is there, what may go. Pure.

Beside ``encode`` and ``decode``, which is what requests are sent to, the repository lists every bundle as
``<kind>.<name>``, one entry a version: READY if it is served, UNAVAILABLE if it is only installed.

Loading is an activation and obeys its rules. Unloading is narrower than what an operator may wish for: it
takes a fine-tuned decoder version that no directive names, that is not the last of its family and not the
only one of some device, since anything else would fail requests.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

from codec_runtime.bundle.errors import RefusalError
from codec_runtime.bundle.trust import split_bundle_path
from codec_runtime.contract.bundle import MANIFEST_FILE
from codec_runtime.serving.registry import Models

BundleKey = tuple[str, str, int]
"""kind, name, version."""


class UnloadRefusedError(RuntimeError):
    """The version may not go, and the message says why (HTTP 409)."""


def bundle_model(kind: str, name: str) -> str:
    """``decoder.attention``."""
    return f"{kind}.{name}"


def split_bundle_model(model: str) -> tuple[str, str] | None:
    """``decoder.attention`` -> (kind, name); None if it is no such name."""
    kind, point, name = model.partition(".")
    try:
        split_bundle_path(f"{kind}/{name}/1")
    except RefusalError:
        return None
    return (kind, name) if point else None


def bundle_key(path: str) -> BundleKey | None:
    """``decoder/attention/2`` -> its key, None if it is no such path."""
    try:
        return split_bundle_path(path)
    except RefusalError:
        return None


def bundles_of_targets(targets: Iterable[str]) -> set[BundleKey]:
    """Bundles whose manifest is among the target paths of an inbox."""
    keys = (bundle_key(t.removesuffix(f"/{MANIFEST_FILE}")) for t in targets if t.endswith(MANIFEST_FILE))
    return {key for key in keys if key is not None}


def loaded_bundles(models: Models) -> set[BundleKey]:
    """Keys of what is served."""
    return {(b.manifest.kind, b.manifest.name, b.manifest.version) for b in models.all()}


def repository_index(
    served: Mapping[str, Collection[int]], models: Models, installed: Iterable[BundleKey]
) -> list[dict[str, str]]:
    """Entries of ``/v2/repository/index``.

    Args:
        served: versions of the models that take requests, by name.
        models: what is loaded; installed: what is on disk beside the shipped bundles.
    """
    ready = [(model, version) for model, versions in served.items() for version in sorted(versions)]
    loaded = loaded_bundles(models)
    ready += [(bundle_model(kind, name), version) for kind, name, version in sorted(loaded)]
    idle = [(bundle_model(kind, name), version) for kind, name, version in sorted(set(installed) - loaded)]
    return [_entry(model, version, "READY", "") for model, version in ready] + [
        _entry(model, version, "UNAVAILABLE", "installed, not loaded") for model, version in idle
    ]


def _entry(name: str, version: int, state: str, reason: str) -> dict[str, str]:
    return {"name": name, "version": str(version), "state": state, "reason": reason}


def check_unload(
    models: Models, in_force: Collection[tuple[str, int]], family: str, version: int
) -> None:
    """Whether a loaded decoder may go.

    Args:
        in_force: (family, version) of the decoders that some user is told to use.

    Raises:
        UnloadRefusedError.
    """
    bundle = f"decoder {family} version {version}"
    if (family, version) in in_force:
        raise UnloadRefusedError(f"{bundle}: directives name it; move its users to another version first")
    if models.decoder(family, version).manifest.parent is None:
        raise UnloadRefusedError(f"{bundle}: a base version stays; it serves users without a directive")
    if sum(name == family for name, _ in models.decoders) < 2:
        raise UnloadRefusedError(f"{bundle}: it is the last version of its family")
