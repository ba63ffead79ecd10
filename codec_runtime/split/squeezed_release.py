"""A trained bottleneck as it is kept and published: weights, integer tables, measured operating points.

A folder with ``squeezed.json`` (:class:`SqueezedRecord`) and ``squeezed.safetensors``. The tables are derived
when the folder is written and never again, and the figures are measured with those very tables.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import msgspec
from torch import Tensor

from codec_runtime.bundle.creation import read_source
from codec_runtime.bundle.errors import BundleError, SpecError
from codec_runtime.bundle.files import read_bounded, write_atomic
from codec_runtime.bundle.storage import served_state, store_state
from codec_runtime.bundle.tensor_file import tensor_bytes, tensor_file
from codec_runtime.contract.split import CutSpec, SplitGraph
from codec_runtime.split.bottleneck import cut_after
from codec_runtime.split.parts import point_metric
from codec_runtime.split.squeezed import SqueezedSpec

RECORD_FILE = "squeezed.json"
TENSORS_FILE = "squeezed.safetensors"
SHIPPED = Path(__file__).parent / "bottlenecks"
"""Folders of bottlenecks that come with this package, by name."""
_RECORD_LIMIT = 1 << 20


class PointFigures(msgspec.Struct, frozen=True, kw_only=True):
    """What an operating point does, on pictures that it was not trained on.

    Attributes:
        bytes: mean a picture; cap_bytes: that no picture may exceed.
        agreement: with the uncut network's first class, 0..1; kl: from its distribution, nats.
    """

    bytes: float
    cap_bytes: int
    agreement: float
    kl: float


class SqueezedRecord(msgspec.Struct, frozen=True, kw_only=True):
    """What a folder holds.

    Attributes:
        network, after: name of the network and module behind which it is cut.
        network_sha256: of its weights (:func:`network_digest`).
        channels, squeezed, hidden, stride, symbols, tuned: as of :class:`SqueezedSpec`.
        figures: of the operating points, finest first.
        recipe: how it was trained; data_sha256, seed: of that training.
        test_sha256, test_pictures: what the figures were measured on.
    """

    network: str
    after: str
    network_sha256: str
    channels: int
    squeezed: int
    hidden: int
    stride: int
    symbols: int
    tuned: tuple[str, ...]
    figures: tuple[PointFigures, ...]
    recipe: str
    data_sha256: str
    seed: int
    test_sha256: str
    test_pictures: int


@dataclass(frozen=True)
class SqueezedRelease:
    """A record and the tensors of a :class:`codec_runtime.split.squeezed.SqueezedCut`."""

    record: SqueezedRecord
    state: Mapping[str, Tensor]

    def check_network(self, state: Mapping[str, Tensor]) -> None:
        """Raises SpecError: it was trained for other weights than these."""
        found = network_digest(state)
        if found != self.record.network_sha256:
            raise SpecError(
                f"the bottleneck behind {self.record.after} was trained for {self.record.network} with "
                f"weights {self.record.network_sha256[:12]}; these are {found[:12]}"
            )

    def cut(self, graph: SplitGraph) -> CutSpec:
        """Where it lies in a graph of the network. Raises CutError."""
        return cut_after(graph, self.record.after)

    def spec(self, mask: str) -> SqueezedSpec:
        """Of the bundle's hyper-parameter; ``mask``: nodes on the device."""
        record = self.record
        return SqueezedSpec(
            cut=mask, channels=record.channels, squeezed=record.squeezed, hidden=record.hidden,
            stride=record.stride, points=len(record.figures), symbols=record.symbols, tuned=record.tuned,
        )

    def bundled_state(self, place: int) -> dict[str, Tensor]:
        """Its tensors under the names that they have in a bundle."""
        return {f"squeezed.{place}.{name}": tensor for name, tensor in self.state.items()}

    def metrics(self, place: int) -> dict[str, float]:
        """Its figures for the manifest."""
        return {
            point_metric(place, point, name): float(value)
            for point, figures in enumerate(self.record.figures)
            for name, value in msgspec.structs.asdict(figures).items()
        }

    def provenance(self, place: int) -> dict[str, str]:
        """Where it comes from, for the manifest."""
        record = self.record
        return {
            f"squeezed.{place}": f"{record.recipe}; data {record.data_sha256}, seed {record.seed}; "
            f"measured on {record.test_pictures} pictures, {record.test_sha256}"
        }


def network_digest(state: Mapping[str, Tensor]) -> str:
    """sha256 (hex) of a network's floating-point tensors as float32, by name; counters are left out."""
    whole = hashlib.sha256()
    for name in sorted(state):
        tensor = state[name]
        if tensor.is_floating_point() and not name.endswith(".num_batches_tracked"):
            whole.update(name.encode() + str(tuple(tensor.shape)).encode())
            whole.update(tensor_bytes(tensor.detach().float().contiguous()))
    return whole.hexdigest()


def write_release(folder: Path, release: SqueezedRelease) -> None:
    """Make the folder: layers and copies in F16, tables in F32."""
    folder.mkdir(parents=True, exist_ok=True)
    write_atomic(folder / TENSORS_FILE, tensor_file(store_state(release.state, "F16").tensors))
    record = msgspec.json.format(msgspec.json.encode(release.record), indent=1)
    write_atomic(folder / RECORD_FILE, record + b"\n")


def read_release(folder: Path) -> SqueezedRelease:
    """A folder of :func:`write_release`.

    Raises:
        BundleError: a file is missing, damaged or not of the right form; it is named.
    """
    path = folder / RECORD_FILE
    if not path.is_file():
        shipped = ", ".join(sorted(entry.name for entry in SHIPPED.glob("*/"))) if SHIPPED.is_dir() else ""
        raise BundleError(f"{path}: no such file; shipped bottlenecks are {shipped or 'none'}")
    try:
        record = msgspec.json.decode(read_bounded(path, _RECORD_LIMIT), type=SqueezedRecord)
    except (msgspec.MsgspecError, RecursionError) as error:
        raise BundleError(f"{path}: {error}") from error
    tensors = folder / TENSORS_FILE
    return SqueezedRelease(record, served_state(read_source(tensors), {}, str(tensors)))


def find_release(name: str) -> SqueezedRelease:
    """A shipped bottleneck by name, or a folder; errors as of :func:`read_release`."""
    return read_release(SHIPPED / name if (SHIPPED / name).is_dir() else Path(name))
