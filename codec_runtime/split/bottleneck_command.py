"""From folders of photographs to a trained bottleneck: what ``semcom train bottleneck`` does."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from codec_runtime.bundle.files import write_atomic
from codec_runtime.bundle.tensor_file import parse_header, read_tensors, tensor_file
from codec_runtime.contract.split import CutSpec
from codec_runtime.digital.feature_codec import FeatureCodec
from codec_runtime.digital.tables import CodingTables
from codec_runtime.split.bottleneck import Bottleneck, BottleneckConfig, cut_after
from codec_runtime.split.bottleneck_data import (
    Views,
    cached_views,
    centre_view,
    through_head,
    training_views,
)
from codec_runtime.split.bottleneck_evaluation import (
    CrossingRow,
    Judge,
    bottleneck_rows,
    bottleneck_tables,
    feature_rows,
    picture_rows,
)
from codec_runtime.split.bottleneck_training import BottleneckTraining, StepReport, train_bottleneck
from codec_runtime.split.bundles import classifier_state
from codec_runtime.split.cutting import SplitNetwork, cut_network, load_part
from codec_runtime.split.graph import TracedNetwork, trace
from codec_runtime.split.networks import build_network
from codec_runtime.split.squeezed import squeezed_state, tuned_key, tuned_modules
from codec_runtime.split.squeezed_release import (
    PointFigures,
    SqueezedRecord,
    SqueezedRelease,
    network_digest,
)
from codec_runtime.training.checkpoint import CHECKPOINT_FILE, stop_on_signal
from codec_runtime.training.data import data_hash, list_images, load_image

RECORD_FILE = "bottleneck.json"


@dataclass(frozen=True)
class BottleneckRequest:
    """What to train, on what.

    Attributes:
        network: of :data:`codec_runtime.split.networks.NETWORKS`; after: module behind which it is cut.
        folders: photographs; most: at most so many of them, evenly chosen; views: of each picture.
        run: folder of checkpoint, cache and results.
    """

    network: str
    after: str
    folders: Sequence[Path]
    run: Path
    squeezed: int = 32
    hidden: int = 128
    stride: int = 1
    points: int = 5
    views: int = 3
    most: int = 1500
    training: BottleneckTraining = field(default_factory=BottleneckTraining)


def split_at(network: str, after: str, batch: int) -> tuple[TracedNetwork, SplitNetwork]:
    """A network cut behind a module, traced for a batch size."""
    traced = trace(network, *build_network(network, batch=batch))
    return traced, cut_network(traced, cut_after(traced.graph, after))


def published_cut(network: str, after: str) -> CutSpec:
    """The same cut of the graph of a single picture: what its id means on the wire."""
    return split_at(network, after, 1)[1].cut


def train_command(request: BottleneckRequest, say: Callable[[str], None]) -> Bottleneck:
    """Train, or go on where the last call stopped."""
    torch.manual_seed(0)
    paths = list_images(request.folders)
    paths = paths[:: max(1, -(-len(paths) // request.most))]
    batch = request.training.batch
    _, split = split_at(request.network, request.after, batch)
    say(f"{len(paths)} pictures, {request.views} views of each; cut {split.cut.id} behind {request.after}")

    def make() -> Views:
        pictures = training_views(paths, request.views, request.training.seed)
        done = 0

        def count() -> None:
            nonlocal done
            done += batch
            if done % (20 * batch) == 0:
                say(f"head: {min(done, len(pictures))} of {len(pictures)} views")

        return through_head(split, pictures, batch, count)

    digest = data_hash(paths)
    cache = f"{request.network}-{request.after}-{request.views}-{request.training.seed}-{digest[:12]}"
    views = cached_views(request.run / f"{cache}.safetensors", make)
    config = BottleneckConfig(
        channels=views.features.shape[1], squeezed=request.squeezed, hidden=request.hidden,
        stride=request.stride, points=request.points,
    )
    record = {
        "network": request.network, "after": request.after, "config": config.as_dict(),
        "training": asdict(request.training), "pictures": len(paths), "views": request.views,
        "data_sha256": digest, "folders": [folder.name for folder in request.folders],
    }
    request.run.mkdir(parents=True, exist_ok=True)
    write_atomic(request.run / RECORD_FILE, json.dumps(record, indent=1).encode())

    def told(at: StepReport) -> None:
        say(f"{at.stage} {at.step}/{at.total} distortion {at.distortion:.4f} kB {at.kilobytes:.3f}")

    with stop_on_signal() as stop:
        return train_bottleneck(
            config, request.training, views, split.tail, request.run, stop=stop, report=told,
            identity={"data": digest, "network": request.network, "after": request.after},
        )


def load_trained(run: Path, stage: str) -> tuple[Bottleneck, dict[str, str], dict[str, Tensor] | None]:
    """A stage's bottleneck, its record (network, after) and the tuned tail's weights after ``tune``.

    Args:
        stage: one that has ended, or ``latest``: bottleneck and tail of the checkpoint.

    Raises:
        FileNotFoundError: the stage has not ended; BundleError: a file is damaged.
    """
    record = json.loads((run / RECORD_FILE).read_bytes())
    bottleneck = Bottleneck(BottleneckConfig(**record["config"]))
    if stage == "latest":
        both = _tensors(run / CHECKPOINT_FILE)
        trained = _under(both, "bottleneck.")
        tail: dict[str, Tensor] | None = _under(both, "tail.")
    else:
        trained = _tensors(run / f"{stage}.safetensors")
        tail = _tensors(run / "tail.safetensors") if stage == "tune" else None
    bottleneck.load_state_dict(trained)
    return bottleneck.eval().requires_grad_(False), {k: str(record[k]) for k in ("network", "after")}, tail


@dataclass(frozen=True)
class Evaluation:
    """A trained bottleneck, the tables made of it, and what both do on pictures that it never saw.

    Attributes:
        tail: weights that learned with it, by the network's names; None where the tail stayed as it was.
        test_sha256: of the pictures.
    """

    run: Path
    bottleneck: Bottleneck
    tail: dict[str, Tensor] | None
    tables: CodingTables
    rows: list[CrossingRow]
    test_sha256: str


def evaluate_run(
    run: Path,
    stage: str,
    folders: Sequence[Path],
    most: int,
    say: Callable[[str], None],
    *,
    baselines: Sequence[str] = ("jpeg", "webp"),
    batch: int = 16,
) -> Evaluation:
    """A trained bottleneck on pictures that it was not trained on.

    Args:
        baselines: how pictures are sent for comparison; each takes 30 runs of the whole network a picture.

    Raises:
        FileNotFoundError: the stage has not ended, or the training's cache of views is gone.
    """
    bottleneck, record, tail = load_trained(run, stage)
    _, split = split_at(record["network"], record["after"], batch)
    paths = list_images(folders)
    paths = paths[:: max(1, -(-len(paths) // most))]
    pictures = torch.stack([centre_view(load_image(path)) for path in paths])
    views = through_head(split, pictures, batch)
    say(f"{len(paths)} pictures through the head")
    untouched = Judge(split, batch, views.logits)
    rows = feature_rows(views, untouched)
    for method in baselines:
        rows += picture_rows(pictures, untouched, method)
        say(f"{method} done")
    cached = sorted(run.glob(f"{record['network']}-*.safetensors"))
    if not cached:
        raise FileNotFoundError(f"{run}: no views of the training, which channels are ranked by")
    stored = _tensors(cached[0])
    if tail is not None:
        load_part(split.tail, tensor_file(tail), str(run))
    tables = bottleneck_tables(bottleneck, Views(stored["features"], stored["logits"]), split, batch)
    cut = bytes.fromhex(published_cut(record["network"], record["after"]).id)
    rows += bottleneck_rows(bottleneck, FeatureCodec(tables, cut), views, Judge(split, batch, views.logits))
    return Evaluation(run, bottleneck, tail, tables, rows, data_hash(paths))


def release_run(evaluation: Evaluation) -> SqueezedRelease:
    """The evaluated bottleneck as what classifiers' bundles take (:mod:`.squeezed_release`).

    The cap of a point is a quarter above its largest stream.
    """
    told = json.loads((evaluation.run / RECORD_FILE).read_bytes())
    config, tables = evaluation.bottleneck.config, evaluation.tables
    network, _ = build_network(told["network"], batch=1)
    state, tail = classifier_state(network), evaluation.tail or {}
    tuned = tuned_modules(network, tail)
    copies = {
        tuned_key(name, tuned): tail.get(name, tensor) for name, tensor in state.items()
        if name.startswith(tuple(f"{module}." for module in tuned))
    }
    points = [row for row in evaluation.rows if row.method == "bottleneck"]
    steps = ", ".join(map(str, told["training"]["steps"]))
    record = SqueezedRecord(
        network=told["network"], after=told["after"], network_sha256=network_digest(state),
        channels=config.channels, squeezed=config.squeezed, hidden=config.hidden, stride=config.stride,
        symbols=tables.frequencies.shape[2], tuned=tuned,
        figures=tuple(
            PointFigures(
                bytes=row.bytes, cap_bytes=math.ceil(1.25 * row.largest), agreement=row.agreement, kl=row.kl
            )
            for row in points
        ),
        recipe=f"distilled from {told['network']}, {told['pictures']} pictures x {told['views']} views, "
        f"steps {steps}",
        data_sha256=told["data_sha256"], seed=told["training"]["seed"],
        test_sha256=evaluation.test_sha256, test_pictures=points[0].pictures,
    )
    return SqueezedRelease(record, {**squeezed_state(evaluation.bottleneck, tables), **copies})


def _under(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name[len(prefix) :]: value for name, value in tensors.items() if name.startswith(prefix)}


def _tensors(path: Path) -> dict[str, Tensor]:
    data = path.read_bytes()
    return read_tensors(data, parse_header(data, str(path)))
