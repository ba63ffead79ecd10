"""What a trained codec is held against at equal bandwidth ratio: linear PCA, and JPEG at channel capacity."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from statistics import fmean, pstdev

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from codec_runtime.channel.symbols import bandwidth_ratio
from codec_runtime.codecs.jscc import pad_to_multiple
from codec_runtime.codecs.linear import LinearCodec, PatchPca
from codec_runtime.evaluation.codec import QualityRow
from codec_runtime.evaluation.metrics import ms_ssim, psnr_db, to_uint8


def capacity_bits(prefix: int, snr_db: float, source_values: int) -> float:
    """Bits that error-free ideal coding carries: R * n complex symbols times log2(1 + SNR) (AWGN)."""
    return bandwidth_ratio(prefix) * source_values * math.log2(1.0 + 10.0 ** (snr_db / 10.0))


def jpeg_within(image: Tensor, bits: float) -> Tensor:
    """Best JPEG (4:2:0, optimised tables) of a (3, H, W) uint8 picture that fits into ``bits``.

    Where even quality 1 does not fit, the receiver shows the mean colour (which costs nothing here, in
    JPEG's favour).
    """
    picture = Image.fromarray(image.permute(1, 2, 0).numpy())
    low, high, best = 1, 95, None
    while low <= high:
        quality = (low + high) // 2
        buffer = io.BytesIO()
        picture.save(buffer, "JPEG", quality=quality, optimize=True)
        if 8 * buffer.tell() <= bits:
            best, low = buffer.getvalue(), quality + 1
        else:
            high = quality - 1
    if best is None:
        colour = image.float().mean(dim=(1, 2), keepdim=True).round().to(torch.uint8)
        return colour.expand_as(image)
    with Image.open(io.BytesIO(best)) as restored:
        return torch.from_numpy(np.array(restored)).permute(2, 0, 1)


def linear_transmit(pca: PatchPca, image: Tensor, prefix: int, snr_db: float, seed: int) -> Tensor:
    """(3, H, W) uint8 -> (3, H, W) uint8 through the linear analogue codec over AWGN."""
    padded, (height, width) = pad_to_multiple(image[None].float() / 255.0)
    generator = torch.Generator().manual_seed(seed)
    restored = LinearCodec(pca, prefix).transmit(padded, snr_db, generator)
    return to_uint8(restored[0, :, :height, :width])


def evaluate_baselines(
    pca: PatchPca, images: Sequence[Tensor], *, snrs_db: Sequence[float], prefixes: Sequence[int]
) -> list[QualityRow]:
    """Rows named ``linear`` and ``jpeg-capacity`` for the same cells as the codec's table (AWGN)."""
    rows = []
    for prefix in prefixes:
        for snr in snrs_db:
            restored = {
                "linear": [linear_transmit(pca, image, prefix, snr, i) for i, image in enumerate(images)],
                "jpeg-capacity": [
                    jpeg_within(image, capacity_bits(prefix, snr, image.numel())) for image in images
                ],
            }
            for name, pictures in restored.items():
                psnrs = [float(psnr_db(p[None], i[None])) for p, i in zip(pictures, images, strict=True)]
                similar = [float(ms_ssim(p[None], i[None])) for p, i in zip(pictures, images, strict=True)]
                rows.append(
                    QualityRow(name, "awgn", prefix, snr, fmean(psnrs), pstdev(psnrs), fmean(similar),
                               len(images))
                )
    return rows
