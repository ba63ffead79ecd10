"""What changed between two bundles, tensor by tensor, and what each way of sending it weighs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from torch import Tensor

from codec_runtime.bundle.delta import encode_delta
from codec_runtime.bundle.files import OnBytes
from codec_runtime.bundle.manifest_file import manifest_bytes, read_manifest
from codec_runtime.bundle.storage import served_state, storage_loss
from codec_runtime.bundle.store import checked_tensors, read_weights
from codec_runtime.bundle.tensor_file import DTYPE_NAMES, tensor_bytes, tensor_file
from codec_runtime.contract.bundle import WEIGHTS_FILE, BundleManifest

Change = Literal["same", "changed", "stored otherwise", "reshaped", "added", "removed"]


@dataclass(frozen=True)
class TensorChange:
    """One tensor of either bundle.

    Attributes:
        change: ``stored otherwise``: of another dtype; the served values may differ too.
        stored: dtype and shape in B, in A for a removed one.
        size: bytes stored in B, 0 for a removed one.
        max_change: max |B - A| of the served fp32 values; 0 where they cannot be compared.
        relative_change: ||B - A|| / ||A||.
    """

    name: str
    change: Change
    stored: str
    size: int
    max_change: float
    relative_change: float


@dataclass(frozen=True)
class Sizes:
    """Bytes that take a site from A to B; the manifest goes with each.

    Attributes:
        full: B's weights file; for an adapter, its base's (A) and its own.
        adapter: only the tensors that changed, whole; for an adapter, its weights file.
        delta: B's delta from A; 0 for an adapter on its base, which has no parent there.
        manifest: B's manifest.
    """

    full: int
    adapter: int
    delta: int
    manifest: int


@dataclass(frozen=True)
class Difference:
    """From bundle ``a`` to bundle ``b``; ``fields``: manifest fields that differ, (A, B) as text."""

    a: BundleManifest
    b: BundleManifest
    tensors: list[TensorChange]
    sizes: Sizes
    fields: dict[str, tuple[str, str]]


def diff_bundles(first: Path, second: Path, on_bytes: OnBytes | None = None) -> Difference:
    """Compare two bundle directories.

    Args:
        on_bytes: progress of packing the delta, which takes the longest.

    Raises:
        BundleError: one of them is damaged.
    """
    a, b = read_manifest(first), read_manifest(second)
    before_file, after_file = read_weights(first, a), read_weights(second, b)
    before = checked_tensors(before_file, a, first / WEIGHTS_FILE)
    after = checked_tensors(after_file, b, second / WEIGHTS_FILE)
    changes = _changes(before, after, a, b)
    manifest = len(manifest_bytes(b))
    if b.kind == "adapter" and a.kind != "adapter":
        sizes = Sizes(len(before_file) + len(after_file), len(after_file), 0, manifest)
    else:
        moved = {change.name for change in changes if change.change != "same"} & after.keys()
        adapter = tensor_file({name: after[name] for name in moved})
        delta = encode_delta(before_file, after_file, on_bytes)
        sizes = Sizes(len(after_file), len(adapter), len(delta), manifest)
    return Difference(a, b, changes, sizes, _fields(a, b))


def _changes(
    before: Mapping[str, Tensor], after: Mapping[str, Tensor], a: BundleManifest, b: BundleManifest
) -> list[TensorChange]:
    served_a = served_state(before, a.quantised, "A")
    served_b = served_state(after, b.quantised, "B")
    rows = []
    for name in sorted(before.keys() | after.keys()):
        old, new = before.get(name), after.get(name)
        shown = new if new is not None else old
        assert shown is not None
        change, largest, relative = _kind(old, new), 0.0, 0.0
        if name in served_a and name in served_b and change in ("changed", "stored otherwise"):
            loss = storage_loss(served_a[name], served_b[name])
            largest, relative = loss.max_error, loss.relative_error
        rows.append(
            TensorChange(
                name, change, f"{DTYPE_NAMES[shown.dtype]} {list(shown.shape)}",
                0 if new is None else new.numel() * new.element_size(), largest, relative,
            )
        )
    return rows


def _kind(old: Tensor | None, new: Tensor | None) -> Change:
    if old is None or new is None:
        return "added" if old is None else "removed"
    if old.shape != new.shape:
        return "reshaped"
    if old.dtype != new.dtype:
        return "stored otherwise"
    return "same" if tensor_bytes(old) == tensor_bytes(new) else "changed"


_COMPARED = (
    "kind", "name", "version", "parent", "architecture", "hyperparameters", "storage", "part",
    "encoder_sha256", "minimum_runtime", "parameters", "macs_per_pixel", "provenance", "metrics",
)


def _fields(a: BundleManifest, b: BundleManifest) -> dict[str, tuple[str, str]]:
    found: dict[str, tuple[str, str]] = {}
    for field in _COMPARED:
        one, other = getattr(a, field), getattr(b, field)
        if isinstance(one, dict) and isinstance(other, dict):
            for key in sorted(one.keys() | other.keys()):
                if one.get(key) != other.get(key):
                    found[f"{field}.{key}"] = (str(one.get(key, "")), str(other.get(key, "")))
        elif one != other:
            found[field] = (str(one), str(other))
    return found
