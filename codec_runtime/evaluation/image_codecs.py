"""Classical image codecs at the largest quality that fits into a number of bits.

JPEG and JPEG 2000 are pillow's (libjpeg-turbo, OpenJPEG); HEIC is pillow-heif's (x265), which stands in for
BPG. Files are counted whole, headers and all; JPEG 2000 is a bare codestream.
"""

from __future__ import annotations

import io
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from codec_runtime.evaluation.metrics import ms_ssim, psnr_db

JPEG2000_STEP = 1.03
"""Ratio of the target sizes of neighbouring JPEG 2000 levels."""


@dataclass(frozen=True)
class ImageCodec:
    """An encoder with integer levels, larger files at higher ones.

    Attributes:
        first, last: levels.
        save: (picture, file, level) -> None.
    """

    first: int
    last: int
    save: Callable[[Image.Image, io.BytesIO, int], None]


def _save_jpeg(picture: Image.Image, file: io.BytesIO, level: int) -> None:
    picture.save(file, "JPEG", quality=level, optimize=True)


def _save_jpeg2000(picture: Image.Image, file: io.BytesIO, level: int) -> None:
    ratio = JPEG2000_STEP**-level
    picture.save(
        file, "JPEG2000", no_jp2=True, irreversible=True, quality_mode="rates", quality_layers=[ratio]
    )


def _save_heic(picture: Image.Image, file: io.BytesIO, level: int) -> None:
    from pillow_heif import register_heif_opener  # noqa: PLC0415 (extra `lab`)

    register_heif_opener()
    picture.save(file, "HEIF", quality=level)


IMAGE_CODECS: Mapping[str, ImageCodec] = {
    "jpeg": ImageCodec(1, 95, _save_jpeg),
    # 24 bits a pixel over 1.03^level: compression ratios 1,000 to 2.
    "jpeg2000": ImageCodec(-round(math.log(1000, JPEG2000_STEP)), -24, _save_jpeg2000),
    "heic": ImageCodec(0, 99, _save_heic),
}


@dataclass(frozen=True)
class Restored:
    """A picture after coding, (3, H, W) uint8, with its PSNR in dB and MS-SSIM (NaN: not measured)."""

    picture: Tensor
    psnr_db: float
    ms_ssim: float


class CodedPicture:
    """One picture under one codec; each level is encoded and measured at most once.

    Args:
        image: (3, H, W) uint8.
        measure_ms_ssim: otherwise MS-SSIM is NaN (and sides may be below 161).
    """

    def __init__(self, codec: ImageCodec, image: Tensor, measure_ms_ssim: bool = True) -> None:
        self._codec = codec
        self._image = image
        self._picture = Image.fromarray(image.permute(1, 2, 0).numpy())
        self._files: dict[int, bytes] = {}
        self._restored: dict[int, Restored] = {}
        self._lost: Restored | None = None
        self._measure_ms_ssim = measure_ms_ssim
        self.encode_ms: list[float] = []
        self.decode_ms: list[float] = []

    def level_within(self, bits: float) -> int | None:
        """The highest level whose file is at most ``bits``; None where not even the lowest is.

        Between levels known to fit and not to fit, the next to try is interpolated in the logarithm of size.
        """
        low = max((k for k, f in self._files.items() if 8 * len(f) <= bits), default=self._codec.first - 1)
        high = min(
            (k for k, f in self._files.items() if 8 * len(f) > bits and k > low),
            default=self._codec.last + 1,
        )
        while high - low > 1:
            level = (low + high) // 2
            if low in self._files and high in self._files:
                below, above = (math.log(8 * len(self._files[k])) for k in (low, high))
                part = (math.log(bits) - below) / max(above - below, 1e-9)
                level = min(max(low + round(part * (high - low)), low + 1), high - 1)
            if 8 * self._size(level) <= bits:
                low = level
            else:
                high = level
        return low if low in self._files else None

    def within(self, bits: float) -> Restored:
        """The picture at that level, or :meth:`lost` where nothing fits."""
        level = self.level_within(bits)
        if level is None:
            return self.lost()
        if level not in self._restored:
            started = time.perf_counter()
            with Image.open(io.BytesIO(self._files[level])) as file:
                pixels = np.array(file.convert("RGB"))
            self.decode_ms.append(1e3 * (time.perf_counter() - started))
            self._restored[level] = self._measured(torch.from_numpy(pixels).permute(2, 0, 1))
        return self._restored[level]

    def lost(self) -> Restored:
        """What a receiver without the file shows: the mean colour (which costs nothing, in its favour)."""
        if self._lost is None:
            colour = self._image.float().mean(dim=(1, 2), keepdim=True).round().to(torch.uint8)
            self._lost = self._measured(colour.expand_as(self._image).contiguous())
        return self._lost

    def _size(self, level: int) -> int:
        if level not in self._files:
            buffer = io.BytesIO()
            started = time.perf_counter()
            self._codec.save(self._picture, buffer, level)
            self.encode_ms.append(1e3 * (time.perf_counter() - started))
            self._files[level] = buffer.getvalue()
        return len(self._files[level])

    def _measured(self, picture: Tensor) -> Restored:
        similar = float(ms_ssim(picture[None], self._image[None])) if self._measure_ms_ssim else math.nan
        return Restored(picture, float(psnr_db(picture[None], self._image[None])), similar)


def coding_times_ms(pictures: Sequence[CodedPicture]) -> tuple[float | None, float | None]:
    """Median time of an encoding and of a decoding among all that were made, ms (None: none was)."""
    encodings = [ms for picture in pictures for ms in picture.encode_ms]
    decodings = [ms for picture in pictures for ms in picture.decode_ms]
    return median(encodings) if encodings else None, median(decodings) if decodings else None
