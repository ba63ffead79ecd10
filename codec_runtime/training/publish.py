"""`semcom train publish`: trained weights -> measured bundles with a model card.

The weights are stored in fp16 and measured as stored. The rate-quality surface (AWGN) over
:data:`SURFACE_SNRS_DB` x :data:`SURFACE_PREFIXES` goes into each decoder's manifest, since the xApp's
policies decide from it; the card shows the part that papers show, beside baselines at equal bandwidth.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import torch
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
from codec_runtime.codecs.cost import macs
from codec_runtime.codecs.jscc import AttentionDecoder, ConvDecoder, JsccConfig, JsccEncoder
from codec_runtime.codecs.linear import PatchPca
from codec_runtime.contract.bundle import MANIFEST_FILE, BundleManifest, QualityPoint
from codec_runtime.evaluation.baselines import evaluate_baselines
from codec_runtime.evaluation.codec import QualityRow, evaluate, rate_name
from codec_runtime.evaluation.command import load_pictures

SURFACE_SNRS_DB = (-5.0, 1.0, 4.0, 7.0, 10.0, 13.0, 20.0)
SURFACE_PREFIXES = (2, 4, 6, 8, 12, 16)
CARD_SNRS_DB = (1.0, 4.0, 7.0, 10.0, 13.0)
_COST_SIDE = 256

_INTRODUCTION = """\
One encoder, two decoders of different architecture trained against it (the encoder frozen). The first k
of 16 latent channels are sent: bandwidth ratio R = k/96 complex symbols per source value, k chosen per
transmission. fp16 safetensors; measured as stored."""

_READING = """\
PSNR in dB after 8-bit rounding / MS-SSIM, mean over pictures, one noise draw each. *linear* is the
untrained PCA analogue codec with water-filling (the floor); *jpeg-capacity* is JPEG sent error-free at the
Shannon capacity of the same number of symbols, which no real modem reaches: the reference for separate
coding, kindly treated."""

_CLOSING = """\
Made by `semcom train publish --images <Kodak folder>`; the rows of the two decoders come out again with
`semcom eval codec --images <Kodak folder> --rate 1/16 --snr 1,4,7,10,13`."""


def publish(run: Path, test_folders: Sequence[Path], out: Path, version: int) -> None:
    """Write ``encoder/anchor``, ``decoder/attention``, ``decoder/conv`` below ``out`` and ``README.md``.

    Args:
        run: folder of ``semcom train codec``.
        test_folders: pictures that were not trained on (Kodak for the shipped card).
        version: version of all three bundles.

    Raises:
        FileNotFoundError: the training is not complete.
    """
    record = json.loads((run / "provenance.json").read_text())
    model = JsccConfig(**record["model"])
    provenance = {
        "recipe": "anchor, then each decoder against the frozen encoder",
        "data_sha256": record["data_sha256"],
        "data": ", ".join(record["folders"]) + f" ({record['pictures']} pictures)",
        "licence_note": "trained on research-use photographs",
        "seed": str(record["train"]["seed"]),
        "train": json.dumps(record["train"], sort_keys=True),
        "command": _command(record),
        "steps": _steps(record),
    }
    pictures = load_pictures(test_folders)
    encoder_manifest = write_bundle(
        bundle_directory(out, "encoder", "anchor", version), kind="encoder", name="anchor", version=version,
        architecture=JsccEncoder.architecture, hyperparameters=dict(model.as_dict()),
        state=load_file(run / "encoder.safetensors"), provenance=provenance,
        macs_per_pixel=_encoder_macs(JsccEncoder(model)),
    )
    _, encoder = load_module(bundle_directory(out, "encoder", "anchor", version))
    kinds: dict[str, type[AttentionDecoder] | type[ConvDecoder]] = {
        "attention": AttentionDecoder, "conv": ConvDecoder,
    }
    modules: dict[str, nn.Module] = {}
    manifests: dict[str, BundleManifest] = {}
    for name, kind in kinds.items():
        directory = bundle_directory(out, "decoder", name, version)
        write_bundle(
            directory, kind="decoder", name=name, version=version, architecture=kind.architecture,
            hyperparameters=dict(model.as_dict()), state=load_file(run / f"{name}.safetensors"),
            encoder_sha256=encoder_manifest.weights_sha256, provenance=provenance,
            macs_per_pixel=_decoder_macs(kind(model)),
        )
        manifests[name], modules[name] = load_module(directory)
    total = len(SURFACE_PREFIXES) * len(SURFACE_SNRS_DB)
    with tqdm(total=total, unit="cell", file=sys.stderr, desc="surface") as bar:
        rows = evaluate(
            encoder, modules, pictures, snrs_db=SURFACE_SNRS_DB, prefixes=SURFACE_PREFIXES,
            on_cell=bar.update,
        )
    for name, manifest in manifests.items():
        points = [_point(row) for row in rows if row.decoder == name]
        manifests[name] = msgspec.structs.replace(manifest, quality=points)
        path = bundle_directory(out, "decoder", name, version) / MANIFEST_FILE
        write_atomic(path, manifest_bytes(manifests[name]))
    pca = PatchPca(**load_file(run / "pca.safetensors"))
    baselines = evaluate_baselines(pca, pictures, snrs_db=CARD_SNRS_DB, prefixes=SURFACE_PREFIXES)
    card = model_card(encoder_manifest, manifests, rows + baselines, provenance, len(pictures))
    (out / "README.md").write_text(card)


def model_card(
    encoder: BundleManifest, decoders: dict[str, BundleManifest], rows: Sequence[QualityRow],
    provenance: dict[str, str], pictures: int,
) -> str:
    """Markdown: what the weights are, what they were trained on, and how good they are."""
    lines = [
        "# Model card: compact anchor JSCC codec",
        "",
        *_INTRODUCTION.splitlines(),
        "",
        "| bundle | architecture | parameters | MACs per pixel |",
        "|---|---|---|---|",
        *(
            f"| {m.kind}/{m.name}/{m.version} | {m.architecture} | {m.parameters:,} "
            f"| {m.macs_per_pixel:,.0f} |"
            for m in (encoder, *decoders.values())
        ),
        "",
        f"Training data: {provenance['data']}, sha256 `{provenance['data_sha256'][:16]}`; research-use",
        "photographs, so the weights are for research use.",
        f"Seed {provenance['seed']}. Steps made in that time: {provenance['steps']}.",
        f"Command: `{provenance['command']}`",
        "",
        f"## Quality on {pictures} test pictures (Kodak), AWGN",
        "",
        *_READING.splitlines(),
    ]
    names = [*decoders, "linear", "jpeg-capacity"]
    cells = {(row.decoder, row.prefix, row.snr_db): row for row in rows}
    lines += ["", below_floor(cells, list(decoders))]
    for prefix in SURFACE_PREFIXES:
        lines += ["", f"### R = {rate_name(prefix)} (k = {prefix})", ""]
        lines.append("| scheme | " + " | ".join(f"{snr:g} dB" for snr in CARD_SNRS_DB) + " |")
        lines.append("|---" * (len(CARD_SNRS_DB) + 1) + "|")
        for name in names:
            values = (cells[(name, prefix, snr)] for snr in CARD_SNRS_DB)
            shown = " | ".join(f"{row.psnr_db:.2f} / {row.ms_ssim:.3f}" for row in values)
            lines.append(f"| {name} | {shown} |")
    lines += [
        "",
        *_CLOSING.splitlines(),
        "",
    ]
    return "\n".join(lines)


def below_floor(cells: Mapping[tuple[str, int, float], QualityRow], decoders: Sequence[str]) -> str:
    """One line that says where a decoder is no better than the linear floor (PSNR)."""
    worse = [
        f"{name} at R = {rate_name(prefix)}, {snr:g} dB"
        for name in decoders
        for prefix in SURFACE_PREFIXES
        for snr in CARD_SNRS_DB
        if cells[(name, prefix, snr)].psnr_db <= cells[("linear", prefix, snr)].psnr_db
    ]
    if not worse:
        return "Above the linear floor in every cell."
    return f"Below the linear floor in PSNR: {'; '.join(worse)}. Everywhere else above it."


def _point(row: QualityRow) -> QualityPoint:
    return QualityPoint(
        channel=row.channel, prefix=row.prefix, snr_db=row.snr_db, psnr_db=round(row.psnr_db, 4),
        psnr_spread_db=round(row.psnr_spread, 4), ms_ssim=round(row.ms_ssim, 5),
    )


def _command(record: dict[str, Any]) -> str:
    folders = " ".join(f"--images {folder}" for folder in record["folders"])
    command = (
        f"semcom train codec {folders} --anchor-minutes {record['anchor_minutes']:g} "
        f"--decoder-minutes {record['decoder_minutes']:g} --seed {record['train']['seed']} "
        f"--learning-rate {record['train']['learning_rate']:g}"
    )
    if record.get("initial"):
        return f"{_command(record['initial'])} --out first; then {command} --initial first"
    return command


def _steps(record: dict[str, Any]) -> str:
    """Steps of each stage, first run first: a budget in minutes says little about the training."""
    made = ", ".join(f"{s['stage']} ({s['decoder']}) {s['steps']}" for s in record["stages"])
    return f"{_steps(record['initial'])}, then {made}" if record.get("initial") else made


def _encoder_macs(encoder: JsccEncoder) -> float:
    picture = torch.zeros(1, 3, _COST_SIDE, _COST_SIDE)
    return macs(encoder, picture, torch.tensor([7.0]), torch.tensor([6])) / _COST_SIDE**2


def _decoder_macs(decoder: AttentionDecoder | ConvDecoder) -> float:
    side = _COST_SIDE // 4
    latent = torch.zeros(1, decoder.config.latent_channels, side, side)
    return macs(decoder, latent, torch.tensor([7.0]), torch.tensor([6])) / _COST_SIDE**2
