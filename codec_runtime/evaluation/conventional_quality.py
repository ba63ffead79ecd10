"""Rate-quality surfaces of the conventional codecs as the runtime serves them: what the xApp decides from.

Every picture is cut to squares of the size asked for, coded into the byte budget of each (prefix, SNR) by
:mod:`codec_runtime.serving.conventional`, decoded and measured. A picture of which nothing fits counts as its
mean colour. The link is error-free at the scheme's threshold (AWGN).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from statistics import fmean, pstdev

import numpy as np
import PIL
import torch
from numpy.typing import NDArray

from codec_runtime.contract.bundle import QualityPoint
from codec_runtime.contract.conventional import ConventionalQuality
from codec_runtime.contract.directives import ConventionalCodec
from codec_runtime.evaluation.metrics import ms_ssim, psnr_db
from codec_runtime.serving.conventional import (
    NothingFitsError,
    PictureCoder,
    available_codecs,
    byte_budget,
    decode_picture,
)

Picture = NDArray[np.uint8]


def squares(pictures: Sequence[Picture], side: int, most: int) -> list[Picture]:
    """Centre squares (3, side, side) of (3, H, W) pictures, at most ``most``; smaller pictures are left out.

    Raises:
        ValueError: none is large enough.
    """
    cut: list[Picture] = []
    for picture in pictures:
        _, height, width = picture.shape
        if min(height, width) >= side and len(cut) < most:
            top, left = (height - side) // 2, (width - side) // 2
            cut.append(np.ascontiguousarray(picture[:, top : top + side, left : left + side]))
    if not cut:
        raise ValueError(f"no picture has {side} x {side} pixels")
    return cut


def measure(picture: Picture, restored: Picture) -> tuple[float, float]:
    """PSNR in dB and MS-SSIM of (3, H, W) pictures."""
    pair = torch.from_numpy(restored)[None], torch.from_numpy(picture)[None]
    return float(psnr_db(*pair)), float(ms_ssim(*pair))


def transmit(picture: Picture, coder: PictureCoder, codec: ConventionalCodec, budget: int) -> Picture:
    """(3, H, W) as the receiver shows it."""
    _, height, width = picture.shape
    try:
        coded = coder.within(budget)
    except NothingFitsError:
        colour = picture.mean(axis=(1, 2), keepdims=True).round().astype(np.uint8)
        return np.ascontiguousarray(np.broadcast_to(colour, picture.shape))
    restored = decode_picture(coded.data, codec, height, width)
    return np.ascontiguousarray(restored.transpose(2, 0, 1))


def measure_codec(
    codec: ConventionalCodec,
    pictures: Sequence[Picture],
    prefixes: Sequence[int],
    snrs_db: Sequence[float],
    on_point: Callable[[], None] | None = None,
) -> list[QualityPoint]:
    """A point for each (prefix, SNR); equal byte budgets are coded once."""
    coders = [PictureCoder(picture, codec) for picture in pictures]
    known: dict[int, tuple[float, float, float]] = {}
    points = []
    for prefix in prefixes:
        for snr in snrs_db:
            budget = byte_budget(prefix, snr, *pictures[0].shape[1:])
            if budget not in known:
                measured = [
                    measure(picture, transmit(picture, coder, codec, budget))
                    for picture, coder in zip(pictures, coders, strict=True)
                ]
                psnrs = [psnr for psnr, _ in measured]
                known[budget] = fmean(psnrs), pstdev(psnrs), fmean(similar for _, similar in measured)
            psnr, spread, similarity = known[budget]
            points.append(
                QualityPoint(
                    channel="awgn", prefix=prefix, snr_db=float(snr), psnr_db=round(psnr, 3),
                    psnr_spread_db=round(spread, 3), ms_ssim=round(similarity, 4),
                )
            )
            if on_point is not None:
                on_point()
    return points


def measure_conventional(
    pictures: Sequence[Picture],
    *,
    command: str,
    side: int = 168,
    most: int = 24,
    prefixes: Sequence[int] = (2, 4, 6, 8, 12, 16),
    snrs_db: Sequence[float] = tuple(range(-4, 21, 2)),
    on_point: Callable[[], None] | None = None,
) -> ConventionalQuality:
    """Surfaces of every codec that is installed.

    Args:
        pictures: (3, H, W) uint8. command: as it was called, for the record.

    Raises:
        ValueError: no picture is large enough.
    """
    cut = squares(pictures, side, most)
    digest = hashlib.sha256(b"".join(picture.tobytes() for picture in cut)).hexdigest()
    codecs = available_codecs()
    provenance = {
        "pictures": str(len(cut)),
        "side": str(side),
        "pictures_sha256": digest,
        "pillow": PIL.__version__,
        "link": "measured 5G schemes over AWGN, error-free at their threshold",
    }
    if "heic" in codecs:
        from pillow_heif import __version__ as heif_version  # noqa: PLC0415 - of an extra

        provenance["pillow_heif"] = heif_version
    return ConventionalQuality(
        command=command,
        provenance=provenance,
        quality={codec: measure_codec(codec, cut, prefixes, snrs_db, on_point) for codec in codecs},
    )
