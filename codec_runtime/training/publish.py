"""`semcom train publish`: trained weights -> measured bundles with a model card.

The weights are stored in fp16 and measured as stored. The rate-quality surface goes into each decoder's
manifest, since the xApp's policies decide from it: AWGN over :data:`SURFACE_SNRS_DB` x
:data:`SURFACE_PREFIXES`, then slow fading on a coarser grid (a policy reads one channel's points, by name).
The card (:mod:`codec_runtime.training.model_card`) shows the part that papers show, beside baselines at
equal bandwidth.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
from safetensors.torch import load_file
from torch import nn
from tqdm import tqdm

from codec_runtime.bundle.store import (
    bundle_directory,
    load_module,
    manifest_bytes,
    write_atomic,
    write_bundle,
)
from codec_runtime.codecs.registry import DECODERS, ENCODERS, configure
from codec_runtime.contract.bundle import MANIFEST_FILE, BundleManifest, QualityPoint
from codec_runtime.evaluation.baselines import PCA_FILE, evaluate_baselines, load_pca, save_pca
from codec_runtime.evaluation.codec import QualityRow, evaluate
from codec_runtime.evaluation.command import load_pictures
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


@dataclass(frozen=True)
class RunNetworks:
    """What a run folder's ``provenance.json`` says its safetensors files are.

    Attributes:
        encoder: (architecture, hyper-parameters); decoders: the same by name, such as ``conv-small``.
    """

    encoder: tuple[str, dict[str, Any]]
    decoders: dict[str, tuple[str, dict[str, Any]]]


def run_networks(record: dict[str, Any]) -> RunNetworks:
    """Architectures of a run.

    Raises:
        ValueError: the record does not say.
    """
    networks = record.get("networks", {})
    if "encoder" not in networks:
        raise ValueError("provenance.json names no encoder under `networks`: no run of `semcom train codec`")
    found = {n: (d["architecture"], dict(d["hyperparameters"])) for n, d in networks.items()}
    encoder = found.pop("encoder")
    return RunNetworks(encoder, found)


def publish(run: Path, test_folders: Sequence[Path], out: Path, version: int) -> None:
    """Write ``encoder/anchor``, the run's ``decoder/NAME``, the PCA and ``README.md`` below ``out``.

    Args:
        run: folder of ``semcom train codec``.
        test_folders: pictures that were not trained on (Kodak for the shipped card).
        version: version of all bundles.

    Raises:
        FileNotFoundError: the training is not complete.
        ValueError: the run's record names something unknown.
    """
    record = json.loads((run / "provenance.json").read_text())
    if record.get("finished") is False:
        raise FileNotFoundError(f"the training in {run} is not finished")
    networks = run_networks(record)
    provenance = _provenance(record)
    for name in ("encoder", *networks.decoders):
        if not (run / f"{name}.safetensors").exists():
            raise FileNotFoundError(f"{run} holds no {name}.safetensors: the training is not complete")
    pictures = load_pictures(test_folders)
    costs: dict[str, ComputeCost] = {}
    architecture, hyperparameters = networks.encoder
    blank: nn.Module = ENCODERS[architecture](configure(architecture, hyperparameters))
    costs["encoder"] = encoder_cost(blank.eval(), CARD_HEIGHT, CARD_WIDTH)
    encoder_manifest = write_bundle(
        bundle_directory(out, "encoder", "anchor", version), kind="encoder", name="anchor", version=version,
        architecture=architecture, hyperparameters=hyperparameters,
        state=load_file(run / "encoder.safetensors"), provenance=provenance,
        macs_per_pixel=costs["encoder"].macs_per_pixel,
    )
    _, encoder = load_module(bundle_directory(out, "encoder", "anchor", version))
    modules: dict[str, nn.Module] = {}
    manifests: dict[str, BundleManifest] = {}
    for name, (architecture, hyperparameters) in networks.decoders.items():
        directory = bundle_directory(out, "decoder", name, version)
        blank = DECODERS[architecture](configure(architecture, hyperparameters))
        costs[name] = decoder_cost(blank.eval(), CARD_HEIGHT, CARD_WIDTH)
        write_bundle(
            directory, kind="decoder", name=name, version=version, architecture=architecture,
            hyperparameters=hyperparameters, state=load_file(run / f"{name}.safetensors"),
            encoder_sha256=encoder_manifest.weights_sha256, provenance=provenance,
            macs_per_pixel=costs[name].macs_per_pixel,
        )
        manifests[name], modules[name] = load_module(directory)
    rows = _surface(encoder, modules, pictures)
    for name, manifest in manifests.items():
        points = [_point(row) for row in rows if row.decoder == name]
        manifests[name] = msgspec.structs.replace(manifest, quality=points)
        path = bundle_directory(out, "decoder", name, version) / MANIFEST_FILE
        write_atomic(path, manifest_bytes(manifests[name]))
    pca = load_pca(run / PCA_FILE.name)
    save_pca(pca, out / PCA_FILE, {"data": provenance["data"], "data_sha256": provenance["data_sha256"]})
    with tqdm(total=3 * len(CARD_SNRS_DB) * len(SURFACE_PREFIXES), desc="baselines", file=sys.stderr) as bar:
        baselines = evaluate_baselines(
            pictures, names=("linear", "jpeg"), modems=("capacity", "ldpc"), pca=pca,
            snrs_db=CARD_SNRS_DB, prefixes=SURFACE_PREFIXES, on_cell=bar.update,
        )
    card = Card(encoder_manifest, manifests, costs, rows + baselines, provenance, len(pictures))
    (out / "README.md").write_text(card.text(SURFACE_PREFIXES, FADING_PREFIXES, FADING_SNRS_DB))


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
