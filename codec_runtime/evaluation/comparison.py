"""The same crop of the same picture under each scheme: what the numbers look like.

The whole picture is sent (as in the tables) and a square is cut out of each result, so that no scheme profits
from a small picture. The numbers beside a crop are of the whole picture.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from PIL import Image
from torch import Tensor, nn

from codec_runtime.channel.symbols import bandwidth_ratio
from codec_runtime.codecs.linear import PatchPca
from codec_runtime.evaluation.baselines import linear_transmit
from codec_runtime.evaluation.codec import transmit
from codec_runtime.evaluation.image_codecs import IMAGE_CODECS, CodedPicture
from codec_runtime.evaluation.metrics import ms_ssim, psnr_db
from codec_runtime.evaluation.modems import transmissions

Scheme = Callable[[Tensor, int, float, int], Tensor]
"""(picture (3, H, W) uint8, prefix, SNR in dB, noise seed) -> restored (3, H, W) uint8."""


def separate_scheme(codec: str) -> Scheme:
    """An image codec with the link-adapted 5G LDPC scheme over AWGN; the mean colour where nothing fits."""

    def send(image: Tensor, prefix: int, snr_db: float, seed: int) -> Tensor:
        coded = CodedPicture(IMAGE_CODECS[codec], image, measure_ms_ssim=False)
        choices = transmissions("ldpc", "awgn", snr_db)
        if not choices:
            return coded.lost().picture
        return coded.within(choices[0].payload_bits(bandwidth_ratio(prefix) * image.numel())).picture

    return send


def linear_scheme(pca: PatchPca) -> Scheme:
    """The linear analogue codec over AWGN."""

    def send(image: Tensor, prefix: int, snr_db: float, seed: int) -> Tensor:
        return linear_transmit(pca, image, prefix, snr_db, channel="awgn", index=0, seed=seed)

    return send


@dataclass(frozen=True)
class Crop:
    """One scheme's crop; ``psnr_db`` and ``ms_ssim`` are of the whole picture, None for the original."""

    scheme: str
    png: bytes
    psnr_db: float | None = None
    ms_ssim: float | None = None


@dataclass(frozen=True)
class Comparison:
    """Crops of one picture at one SNR, the original first."""

    picture: str
    snr_db: float
    prefix: int
    crops: tuple[Crop, ...]


def busiest_square(image: Tensor, side: int, *, step: int = 32) -> tuple[int, int]:
    """(top, left) of the square of a (3, H, W) uint8 picture with the most luma variance.

    Detail is where schemes differ. A square larger than the picture starts at the corner.
    """
    luma = image.float().mean(dim=0)
    height, width = luma.shape
    places = [
        (top, left)
        for top in range(0, max(1, height - side + 1), step)
        for left in range(0, max(1, width - side + 1), step)
    ]
    return max(places, key=lambda p: float(luma[p[0] : p[0] + side, p[1] : p[1] + side].var()))


def picture_png(image: Tensor) -> bytes:
    """(3, h, w) uint8 -> PNG."""
    buffer = io.BytesIO()
    Image.fromarray(image.permute(1, 2, 0).contiguous().numpy()).save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def compare(
    name: str,
    image: Tensor,
    encoder: nn.Module,
    decoders: Mapping[str, nn.Module],
    schemes: Mapping[str, Scheme],
    *,
    snr_db: float,
    prefix: int,
    side: int = 160,
    seed: int = 0,
) -> Comparison:
    """Send one (3, H, W) uint8 picture over AWGN with every decoder and every other scheme."""
    top, left = busiest_square(image, side)

    def cut(picture: Tensor) -> bytes:
        return picture_png(picture[:, top : top + side, left : left + side])

    restored = {
        decoder: picture[0]
        for decoder, picture in transmit(
            encoder, decoders, image, channel="awgn", snr_db=snr_db, prefix=prefix, seed=seed
        ).items()
    }
    for scheme, send in schemes.items():
        restored[scheme] = send(image, prefix, snr_db, seed)
    crops = [Crop("original", cut(image))]
    for scheme, picture in restored.items():
        quality, similarity = _quality(picture, image)
        crops.append(Crop(scheme, cut(picture), quality, similarity))
    return Comparison(name, snr_db, prefix, tuple(crops))


def _quality(restored: Tensor, image: Tensor) -> tuple[float, float]:
    with torch.inference_mode():
        return (
            float(psnr_db(restored[None], image[None])),
            float(ms_ssim(restored[None], image[None])),
        )


def spread_out(names: Sequence[str], count: int) -> list[int]:
    """Indices of ``count`` of ``names``, evenly spread, so that a report shows more than the first scenes."""
    count = min(count, len(names))
    return [round((index + 0.5) * len(names) / count - 0.5) for index in range(count)]
