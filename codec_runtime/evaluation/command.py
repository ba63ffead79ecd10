"""`semcom eval codec`: parse the ranges, load bundles, measure."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

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
from codec_runtime.channel.modes import channel as channel_named
from codec_runtime.contract.bundle import BundleManifest
from codec_runtime.contract.directives import RATE_DENOMINATOR
from codec_runtime.evaluation.baselines import BASELINES, PCA_FILE, evaluate_baselines, load_pca, row_count
from codec_runtime.evaluation.codec import QualityRow, evaluate, tier_of
from codec_runtime.evaluation.compute_cost import decoder_cost, encoder_cost
from codec_runtime.evaluation.metrics import MS_SSIM_MINIMUM_SIDE
from codec_runtime.evaluation.modems import DIGITAL_CHANNELS, MODEMS
from codec_runtime.evaluation.table import QualityTable
from codec_runtime.training.data import data_hash, list_images, load_image

_Item = TypeVar("_Item", int, float, str)


@dataclass(frozen=True)
class EvaluationRequest:
    """Options of ``semcom eval codec`` as they are typed; lists are comma-separated.

    Attributes:
        folders: pictures.
        channels, snrs, rates: cells of the table.
        decoder: decoder families, ``all``, or ``none`` for a table of baselines only.
        tiers: compute tiers to keep, or ``all``.
        seeds: noise draws of each picture; ms_ssim_seeds: how many of them MS-SSIM is measured on.
        baselines: of :data:`BASELINES`, ``all`` or ``none``; modems: of :data:`MODEMS`.
        design_snrs: SNRs for which an LDPC scheme is chosen and kept (the cliff); empty: none.
        weights: bundle root; None: the shipped weights.
    """

    folders: Sequence[Path]
    channels: str = "awgn"
    snrs: str = "1,4,7,10,13"
    rates: str = "1/16"
    decoder: str = "all"
    tiers: str = "all"
    seeds: int = 10
    ms_ssim_seeds: int = 1
    baselines: str = "none"
    modems: str = "capacity,ldpc"
    design_snrs: str = ""
    weights: Path | None = None

    def command(self) -> str:
        """The command line of this request; folders by their names."""
        words = ["semcom eval codec", *(f"--images {folder.name}" for folder in self.folders)]
        default = EvaluationRequest(())
        flags = {
            "channel": "channels", "snr": "snrs", "rate": "rates", "decoder": "decoder", "tier": "tiers",
            "seeds": "seeds", "ms-ssim-seeds": "ms_ssim_seeds", "baselines": "baselines", "modem": "modems",
            "design-snr": "design_snrs",
        }
        for flag, name in flags.items():
            value = getattr(self, name)
            if value != getattr(default, name):
                words.append(f"--{flag} {value}")
        return " ".join(words)


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
    return _once(prefixes)


def parse_snrs(text: str) -> list[float]:
    """``1,4,7`` -> ``[1.0, 4.0, 7.0]`` (dB)."""
    try:
        return _once([float(item) for item in text.split(",")])
    except ValueError:
        raise ValueError(f"SNR list {text!r}: write numbers in dB such as 1,4,7") from None


def parse_channels(text: str) -> list[str]:
    """``awgn,tdl-a`` -> names, each known to :mod:`codec_runtime.channel.modes`.

    Raises:
        ValueError: an unknown channel; the message names the known ones.
    """
    names = _once([item.strip() for item in text.split(",")])
    for name in names:
        channel_named(name)
    return names


def parse_choice(text: str, known: Sequence[str], what: str) -> list[str]:
    """``jpeg,heic`` -> names out of ``known``; ``all`` and ``none`` are understood.

    Raises:
        ValueError: a name that is not known.
    """
    if text in ("all", "none", ""):
        return list(known) if text == "all" else []
    names = _once([item.strip() for item in text.split(",")])
    if unknown := [name for name in names if name not in known]:
        raise ValueError(f"unknown {what} {unknown[0]!r}; known are {', '.join(known)}, all and none")
    return names


def decoders_of(encoder: BundleManifest, manifests: Sequence[BundleManifest]) -> dict[str, BundleManifest]:
    """The newest version of each decoder among ``manifests`` that belongs to ``encoder``, by name."""
    return {
        m.name: m for m in sorted(manifests, key=lambda m: m.version)
        if m.kind == "decoder" and m.encoder_sha256 == encoder.weights_sha256
    }


def load_codec(
    root: Path, decoder: str = "all", tiers: str = "all"
) -> tuple[nn.Module, dict[str, nn.Module]]:
    """Newest encoder below ``root`` and the newest version of each decoder that belongs to it.

    Args:
        decoder, tiers: decoder names and compute tiers to keep, comma-separated, or ``all``.

    Raises:
        FileNotFoundError: no encoder, or no such decoder.
    """
    manifests = [read_manifest(directory) for directory in find_bundles(root)]
    encoders = [m for m in manifests if m.kind == "encoder"]
    if not encoders:
        raise FileNotFoundError(f"no encoder bundle below {root}")
    newest = max(encoders, key=lambda m: m.version)
    belonging = decoders_of(newest, manifests)
    names = list(belonging) if decoder == "all" else [name.strip() for name in decoder.split(",")]
    if missing := [name for name in names if name not in belonging]:
        raise FileNotFoundError(
            f"no decoder {missing[0]!r} for encoder version {newest.version} below {root}; "
            f"there are {', '.join(belonging) or 'none'}"
        )
    loaded = {
        name: load_module(bundle_directory(root, "decoder", name, belonging[name].version))[1]
        for name in names
    }
    wanted = {tier.strip() for tier in tiers.split(",")}
    decoders = {name: m for name, m in loaded.items() if tiers == "all" or tier_of(m) in wanted}
    if not decoders:
        held = ", ".join(sorted({tier_of(module) for module in loaded.values()})) or "none"
        raise FileNotFoundError(f"no decoder of tier {tiers!r} below {root}; there are {held}")
    _, encoder = load_module(bundle_directory(root, "encoder", newest.name, newest.version))
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


def evaluate_command(request: EvaluationRequest) -> QualityTable:
    """Run the measurement with progress bars on stderr.

    Raises:
        FileNotFoundError, ValueError: an option is wrong; the message says which and what would be right.
    """
    prefixes, snrs = parse_rates(request.rates), parse_snrs(request.snrs)
    channels = parse_channels(request.channels)
    baselines = parse_choice(request.baselines, BASELINES, "baseline")
    modems = parse_choice(request.modems, MODEMS, "modem")
    designs = parse_snrs(request.design_snrs) if request.design_snrs else []
    if request.decoder == "none" and not baselines:
        raise ValueError("nothing to measure: --decoder none needs --baselines")
    digital = [name for name in channels if name in DIGITAL_CHANNELS]
    if baselines and not digital:
        raise ValueError(
            f"baselines are measured over {', '.join(DIGITAL_CHANNELS)}, not {', '.join(channels)}"
        )
    root = request.weights or SHIPPED_WEIGHTS
    codec = None if request.decoder == "none" else load_codec(root, request.decoder, request.tiers)
    if codec is not None:
        longest = int(codec[0].config.latent_channels)  # type: ignore[union-attr,arg-type]
        if max(prefixes) > longest:
            raise ValueError(f"the encoder sends at most {longest} of 96 channels (rate {longest}/96)")
    pca_root = root if (root / PCA_FILE).exists() else SHIPPED_WEIGHTS
    pca = load_pca(pca_root / PCA_FILE) if "linear" in baselines else None
    pictures = load_pictures(request.folders)
    torch.manual_seed(0)
    rows: list[QualityRow] = []
    if codec is not None:
        with tqdm(total=len(channels) * len(prefixes) * len(snrs), unit="cell", file=sys.stderr) as bar:
            rows += evaluate(
                *codec, pictures, channels=channels, snrs_db=snrs, prefixes=prefixes,
                noise_seeds=request.seeds, ms_ssim_seeds=request.ms_ssim_seeds, on_cell=bar.update,
            )
        rows = with_cost(rows, *codec, pictures[0])
    if baselines:
        cells = len(digital) * len(prefixes) * len(snrs)
        total = row_count(baselines, modems, designs, cells)
        with tqdm(total=total, unit="row", desc="baselines", file=sys.stderr) as bar:
            rows += evaluate_baselines(
                pictures, names=baselines, modems=modems, pca=pca, channels=digital, snrs_db=snrs,
                prefixes=prefixes, noise_seeds=request.seeds, ms_ssim_seeds=request.ms_ssim_seeds,
                design_snrs_db=designs, on_cell=bar.update,
            )
    config = {
        "channels": channels, "snrs_db": snrs, "rates": request.rates, "decoder": request.decoder,
        "tiers": request.tiers, "baselines": baselines, "modems": modems, "design_snrs_db": designs,
        "ms_ssim_seeds": request.ms_ssim_seeds, "timing_threads": 1,
        "timing_picture": f"{pictures[0].shape[2]}x{pictures[0].shape[1]}",
    }
    return QualityTable(
        rows, request.command(), config, data_hash(list_images(request.folders)), len(pictures),
        request.seeds,
    )


def with_cost(
    rows: Sequence[QualityRow], encoder: nn.Module, decoders: dict[str, nn.Module], picture: Tensor
) -> list[QualityRow]:
    """Rows with MACs and time of their networks for a picture of the size of ``picture`` (3, H, W)."""
    height, width = picture.shape[1:]
    encoding = encoder_cost(encoder, height, width)
    decoding = {name: decoder_cost(decoder, height, width) for name, decoder in decoders.items()}
    return [
        replace(
            row,
            macs_per_pixel=decoding[row.decoder].macs_per_pixel,
            ms_per_image=decoding[row.decoder].ms_per_image,
            encoder_macs_per_pixel=encoding.macs_per_pixel,
            encoder_ms_per_image=encoding.ms_per_image,
        )
        for row in rows
    ]


def _once(values: list[_Item]) -> list[_Item]:
    """In the order given, each once."""
    return list(dict.fromkeys(values))
