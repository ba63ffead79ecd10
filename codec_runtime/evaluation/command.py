"""`semcom eval codec`: parse the ranges, load bundles, measure, print."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from tqdm import tqdm

from codec_runtime.bundle.store import (
    SHIPPED_WEIGHTS,
    bundle_directory,
    find_bundles,
    load_module,
    read_manifest,
)
from codec_runtime.codecs.jscc import JsccEncoder
from codec_runtime.contract.directives import RATE_DENOMINATOR
from codec_runtime.evaluation.codec import QualityRow, evaluate, rate_name
from codec_runtime.evaluation.metrics import MS_SSIM_MINIMUM_SIDE
from codec_runtime.training.data import list_images, load_image


@dataclass(frozen=True)
class QualityTable:
    """Rows of ``semcom eval codec``; ``tiers`` and the other keys follow docs/architecture.md."""

    rows: list[QualityRow]
    pictures: int

    def as_json(self) -> str:
        rows = [
            {
                "decoder": row.decoder, "tier": "compact", "channel": row.channel,
                "rate": rate_name(row.prefix), "snr_db": row.snr_db, "psnr_db": round(row.psnr_db, 3),
                "psnr_spread": round(row.psnr_spread, 3), "ms_ssim": round(row.ms_ssim, 4),
                "images": row.images,
            }
            for row in self.rows
        ]
        return json.dumps({"rows": rows})

    def as_text(self) -> str:
        titles = ("decoder", "channel", "rate", "SNR dB", "PSNR dB", "spread", "MS-SSIM")
        lines = ["{:<12}{:<18}{:>6}{:>8}{:>9}{:>8}{:>9}".format(*titles)]
        lines += [
            f"{row.decoder:<12}{row.channel:<18}{rate_name(row.prefix):>6}{row.snr_db:>8g}{row.psnr_db:>9.2f}"
            f"{row.psnr_spread:>8.2f}{row.ms_ssim:>9.4f}"
            for row in self.rows
        ]
        return "\n".join([*lines, f"{self.pictures} pictures; spread: standard deviation over pictures"])


def parse_rates(text: str) -> list[int]:
    """``1/16,1/6`` -> prefix lengths ``[6, 16]``.

    Raises:
        ValueError: not a fraction, or not a whole number of latent channels out of 96.
    """
    prefixes = []
    for item in text.split(","):
        try:
            numerator, denominator = (int(part) for part in item.strip().split("/"))
            scaled = numerator * RATE_DENOMINATOR / denominator
        except (ValueError, ZeroDivisionError):
            raise ValueError(f"rate {item.strip()!r}: write a fraction such as 1/16") from None
        if scaled != int(scaled) or scaled < 1:
            raise ValueError(f"rate {item.strip()}: must be k/96 with a whole k, e.g. 1/48, 1/24, 1/16, 1/6")
        prefixes.append(int(scaled))
    return prefixes


def parse_snrs(text: str) -> list[float]:
    """``1,4,7`` -> ``[1.0, 4.0, 7.0]`` (dB)."""
    try:
        return [float(item) for item in text.split(",")]
    except ValueError:
        raise ValueError(f"SNR list {text!r}: write numbers in dB such as 1,4,7") from None


def load_codec(root: Path, decoder: str = "all") -> tuple[JsccEncoder, dict[str, nn.Module]]:
    """Newest encoder below ``root`` and the newest version of each decoder that belongs to it.

    Raises:
        FileNotFoundError: no encoder, or no such decoder.
        ValueError: the encoder is of another architecture.
    """
    manifests = [read_manifest(directory) for directory in find_bundles(root)]
    encoders = [m for m in manifests if m.kind == "encoder"]
    if not encoders:
        raise FileNotFoundError(f"no encoder bundle below {root}")
    newest = max(encoders, key=lambda m: m.version)
    families = {
        m.name: m for m in sorted(manifests, key=lambda m: m.version)
        if m.kind == "decoder" and m.encoder_sha256 == newest.weights_sha256 and decoder in ("all", m.name)
    }
    if not families:
        raise FileNotFoundError(f"no decoder {decoder!r} for encoder version {newest.version} below {root}")
    _, encoder = load_module(bundle_directory(root, "encoder", newest.name, newest.version))
    if not isinstance(encoder, JsccEncoder):
        raise ValueError(f"encoder architecture {newest.architecture} cannot be evaluated here")
    decoders = {
        name: load_module(bundle_directory(root, "decoder", name, m.version))[1]
        for name, m in families.items()
    }
    return encoder, decoders


def load_pictures(folders: Sequence[Path]) -> list[Tensor]:
    """All pictures large enough for MS-SSIM; smaller ones are left out with a line on stderr.

    Raises:
        ValueError: none is large enough.
    """
    pictures = [load_image(path) for path in list_images(folders)]
    kept = [picture for picture in pictures if min(picture.shape[1:]) >= MS_SSIM_MINIMUM_SIDE]
    if len(kept) < len(pictures):
        left = len(pictures) - len(kept)
        print(f"{left} pictures with a side below {MS_SSIM_MINIMUM_SIDE} left out", file=sys.stderr)
    if not kept:
        raise ValueError(f"no picture has sides of at least {MS_SSIM_MINIMUM_SIDE} pixels")
    return kept


def evaluate_command(
    *, folders: Sequence[Path], channel: str, snrs: str, rates: str, decoder: str, seeds: int,
    weights: Path | None,
) -> QualityTable:
    """Run the measurement with a progress bar on stderr."""
    prefixes, snr_values = parse_rates(rates), parse_snrs(snrs)
    encoder, decoders = load_codec(weights or SHIPPED_WEIGHTS, decoder)
    longest = encoder.config.latent_channels
    if max(prefixes) > longest:
        raise ValueError(f"the encoder sends at most {longest} of 96 channels (rate {longest}/96)")
    pictures = load_pictures(folders)
    torch.manual_seed(0)
    with tqdm(total=len(prefixes) * len(snr_values), unit="cell", file=sys.stderr) as bar:
        rows = evaluate(
            encoder, decoders, pictures, channels=(channel,), snrs_db=snr_values, prefixes=prefixes,
            noise_seeds=seeds, on_cell=bar.update,
        )
    return QualityTable(rows, len(pictures))
