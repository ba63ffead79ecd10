"""`semcom train publish`: trained weights -> measured bundles with a model card.

The weights are stored in fp16 and measured as stored. The rate-quality surface goes into each decoder's
manifest, since the xApp's policies decide from it: AWGN over :data:`SURFACE_SNRS_DB` x
:data:`SURFACE_PREFIXES`, then slow fading on a coarser grid (a policy reads one channel's points, by name).

Decoders are trained apart from one another against one frozen encoder, and so they are published: a run adds
its decoders to a bundle root that may hold the encoder and other decoders already. What is there is neither
written nor measured again, and a version never changes its weights. The card
(:mod:`codec_runtime.training.model_card`) is of all decoders of the encoder, beside baselines at equal
bandwidth.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
from safetensors.torch import load_file
from torch import Tensor, nn
from tqdm import tqdm

from codec_runtime.bundle.store import (
    BundleContents,
    bundle_contents,
    bundle_directory,
    find_bundles,
    load_module,
    manifest_bytes,
    read_manifest,
    write_atomic,
    write_contents,
)
from codec_runtime.codecs.registry import DECODERS, ENCODERS, configure
from codec_runtime.contract.bundle import MANIFEST_FILE, BundleKind, BundleManifest, QualityPoint
from codec_runtime.evaluation.baselines import PCA_FILE, evaluate_baselines, load_pca, save_pca
from codec_runtime.evaluation.codec import QualityRow, evaluate
from codec_runtime.evaluation.command import decoders_of, load_pictures
from codec_runtime.evaluation.compute_cost import ComputeCost, decoder_cost, encoder_cost
from codec_runtime.training.model_card import (
    CARD_HEIGHT,
    CARD_SNRS_DB,
    CARD_WIDTH,
    Card,
    command_of,
    steps_of,
)

SURFACE_SNRS_DB = (-5.0, 1.0, 4.0, 7.0, 10.0, 13.0, 20.0)
SURFACE_PREFIXES = (2, 4, 6, 8, 12, 16)
FADING_SNRS_DB = (1.0, 7.0, 13.0)
FADING_PREFIXES = (2, 6, 16)
FADING_SEEDS = 4
"""Draws of h for each picture."""

ENCODER_NAME = "anchor"


@dataclass(frozen=True)
class TrainedNetwork:
    """A network of a run: what it is and its weights (fp32)."""

    architecture: str
    hyperparameters: dict[str, Any]
    state: dict[str, Tensor]


@dataclass(frozen=True)
class TrainedRun:
    """A finished folder of ``semcom train codec``.

    Attributes:
        encoder: of the run; decoders: by name, such as ``conv-small``.
        provenance: as bundles carry it.
    """

    folder: Path
    encoder: TrainedNetwork
    decoders: dict[str, TrainedNetwork]
    provenance: dict[str, str]


def read_run(folder: Path) -> TrainedRun:
    """A run with its weights.

    Raises:
        FileNotFoundError: the training is not complete.
        ValueError: the run's record names no encoder.
    """
    record = json.loads((folder / "provenance.json").read_text())
    if record.get("finished") is False:
        raise FileNotFoundError(f"the training in {folder} is not finished")
    if "encoder" not in record.get("networks", {}):
        raise ValueError("provenance.json names no encoder under `networks`: no run of `semcom train codec`")
    found = {}
    for name, described in record["networks"].items():
        path = folder / f"{name}.safetensors"
        if not path.exists():
            raise FileNotFoundError(f"{folder} holds no {path.name}: the training is not complete")
        found[name] = TrainedNetwork(
            described["architecture"], dict(described["hyperparameters"]), load_file(path)
        )
    return TrainedRun(folder, found.pop("encoder"), found, _provenance(record))


def publish(runs: Sequence[Path], test_folders: Sequence[Path], out: Path, version: int) -> None:
    """Write ``encoder/anchor``, the runs' ``decoder/NAME``, the PCA and ``README.md`` below ``out``.

    Args:
        runs: folders of ``semcom train codec`` with the same encoder.
        test_folders: pictures that were not trained on (Kodak for the shipped card).
        version: version of the bundles that are new below ``out``.

    Raises:
        FileNotFoundError: a training is not complete.
        ValueError: a run's record names something unknown; the runs are of different encoders; other weights
            are published under this version, or two runs train a decoder of one name.
    """
    trained = [read_run(folder) for folder in runs]
    # Everything is packed before anything is written: what is refused leaves nothing behind.
    encoder = _packed("encoder", ENCODER_NAME, trained[0].encoder, version, trained[0].provenance)
    digest = encoder.manifest.weights_sha256
    new = {f"encoder/{ENCODER_NAME}": encoder}
    for run in trained:
        own = _packed("encoder", ENCODER_NAME, run.encoder, version, run.provenance)
        if own.manifest.weights_sha256 != digest:
            raise ValueError(f"{run.folder} is of another encoder than {trained[0].folder}")
        for name, network in run.decoders.items():
            packed = _packed("decoder", name, network, version, run.provenance, encoder_sha256=digest)
            other = new.setdefault(f"decoder/{name}", packed)
            if other.manifest.weights_sha256 != packed.manifest.weights_sha256:
                raise ValueError(f"two runs train the decoder {name}; publish one of them")
    missing = _missing(list(new.values()), out)
    pictures = load_pictures(test_folders)
    for contents in missing:
        write_contents(_directory(out, contents.manifest), contents)
    if encoder in missing or not (out / PCA_FILE).exists():
        source = {key: trained[0].provenance[key] for key in ("data", "data_sha256")}
        save_pca(load_pca(trained[0].folder / PCA_FILE.name), out / PCA_FILE, source)
    encoder_manifest = _held(encoder.manifest, out) or encoder.manifest
    decoders = decoders_of(encoder_manifest, [read_manifest(path) for path in find_bundles(out)])
    _measure(encoder_manifest, [m for m in decoders.values() if not m.quality], pictures, out)
    _write_card(encoder_manifest, list(decoders.values()), pictures, out)


def _packed(
    kind: BundleKind, name: str, network: TrainedNetwork, version: int, provenance: dict[str, str],
    *, encoder_sha256: str = "",
) -> BundleContents:
    return bundle_contents(
        kind=kind, name=name, version=version, architecture=network.architecture,
        hyperparameters=network.hyperparameters, state=network.state, encoder_sha256=encoder_sha256,
        provenance=provenance,
        macs_per_pixel=_cost(kind, network.architecture, network.hyperparameters).macs_per_pixel,
    )


def _cost(kind: BundleKind, architecture: str, hyperparameters: Mapping[str, Any]) -> ComputeCost:
    known, cost = (ENCODERS, encoder_cost) if kind == "encoder" else (DECODERS, decoder_cost)
    blank: nn.Module = known[architecture](configure(architecture, dict(hyperparameters)))
    return cost(blank.eval(), CARD_HEIGHT, CARD_WIDTH)


def _held(manifest: BundleManifest, out: Path) -> BundleManifest | None:
    """The newest bundle below ``out`` with the kind, name, weights and encoder of ``manifest``."""
    same = [
        held
        for held in map(read_manifest, find_bundles(out))
        if (held.kind, held.name) == (manifest.kind, manifest.name)
        and held.weights_sha256 == manifest.weights_sha256
        and held.encoder_sha256 == manifest.encoder_sha256
    ]
    return max(same, key=lambda held: held.version, default=None)


def _missing(bundles: Sequence[BundleContents], out: Path) -> list[BundleContents]:
    """Those that are not below ``out`` yet.

    Raises:
        ValueError: a bundle of the same name and version has other weights.
    """
    missing = [contents for contents in bundles if _held(contents.manifest, out) is None]
    for manifest in (contents.manifest for contents in missing):
        if _directory(out, manifest).exists():
            raise ValueError(
                f"{manifest.kind}/{manifest.name}/{manifest.version} is published below {out} with other "
                "weights, and a version never changes: choose another --version"
            )
    return missing


def _measure(
    encoder_manifest: BundleManifest, decoders: Sequence[BundleManifest], pictures: Sequence[Tensor],
    out: Path,
) -> None:
    """Store the surfaces of ``decoders`` in their manifests below ``out``."""
    if not decoders:
        return
    _, encoder = load_module(_directory(out, encoder_manifest))
    modules = {manifest.name: load_module(_directory(out, manifest))[1] for manifest in decoders}
    rows = _surface(encoder, modules, pictures)
    for manifest in decoders:
        points = [_point(row) for row in rows if row.decoder == manifest.name]
        measured = msgspec.structs.replace(manifest, quality=points)
        write_atomic(_directory(out, manifest) / MANIFEST_FILE, manifest_bytes(measured))


def _directory(out: Path, manifest: BundleManifest) -> Path:
    return bundle_directory(out, manifest.kind, manifest.name, manifest.version)


def _surface(encoder: nn.Module, decoders: dict[str, nn.Module], pictures: Sequence[Any]) -> list[QualityRow]:
    """AWGN first: readers that know no channel names take the first."""
    cells = len(SURFACE_PREFIXES) * len(SURFACE_SNRS_DB) + len(FADING_PREFIXES) * len(FADING_SNRS_DB)
    with tqdm(total=cells, unit="cell", file=sys.stderr, desc="surface") as bar:
        rows = evaluate(
            encoder, decoders, pictures, snrs_db=SURFACE_SNRS_DB, prefixes=SURFACE_PREFIXES,
            on_cell=bar.update,
        )
        return rows + evaluate(
            encoder, decoders, pictures, channels=("rayleigh_slow_eq",), snrs_db=FADING_SNRS_DB,
            prefixes=FADING_PREFIXES, noise_seeds=FADING_SEEDS, ms_ssim_seeds=FADING_SEEDS,
            on_cell=bar.update,
        )


def _write_card(
    encoder: BundleManifest, decoders: Sequence[BundleManifest], pictures: Sequence[Tensor], out: Path
) -> None:
    with tqdm(total=3 * len(CARD_SNRS_DB) * len(SURFACE_PREFIXES), desc="baselines", file=sys.stderr) as bar:
        baselines = evaluate_baselines(
            pictures, names=("linear", "jpeg"), modems=("capacity", "ldpc"), pca=load_pca(out / PCA_FILE),
            snrs_db=CARD_SNRS_DB, prefixes=SURFACE_PREFIXES, on_cell=bar.update,
        )
    measured = [read_manifest(_directory(out, manifest)) for manifest in decoders]
    ms = [
        _cost(manifest.kind, manifest.architecture, manifest.hyperparameters).ms_per_image
        for manifest in (encoder, *measured)
    ]
    card = Card(encoder, measured, ms, baselines, len(pictures))
    (out / "README.md").write_text(card.text(SURFACE_PREFIXES, FADING_PREFIXES, FADING_SNRS_DB))


def _provenance(record: dict[str, Any]) -> dict[str, str]:
    recipe = record.get("recipe", "anchor")
    return {
        "recipe": "anchor, then each decoder against the frozen encoder" if recipe == "anchor" else recipe,
        "data_sha256": record["data_sha256"],
        "data": ", ".join(record["folders"]) + f" ({record['pictures']} pictures)",
        "licence_note": "trained on research-use photographs",
        "seed": str(record["train"]["seed"]),
        "train": json.dumps(record["train"], sort_keys=True),
        "command": command_of(record),
        "steps": steps_of(record),
    }


def _point(row: QualityRow) -> QualityPoint:
    return QualityPoint(
        channel=row.channel, prefix=row.prefix, snr_db=row.snr_db, psnr_db=round(row.psnr_db, 4),
        psnr_spread_db=round(row.psnr_spread, 4), ms_ssim=round(row.ms_ssim, 5),
    )
