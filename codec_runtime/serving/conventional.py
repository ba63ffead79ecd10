"""Conventional coding for devices that hold no decoder of any pair served: JPEG, and HEIC where installed.

A picture becomes a file of at most as many bytes as the channel carries in the complex symbols that the
semantic codec would send: the 5G scheme that the SNR allows (measured thresholds,
:mod:`codec_runtime.evaluation.mcs`) minus its checksums. The largest quality that fits is searched from the
usual one in growing steps, then by bisection, so the number of tries is bounded; where not even the lowest
quality fits, the picture is halved, twice at most. Others wait for the thread meanwhile: the search can be
bounded in time, too.
"""

from __future__ import annotations

import io
import math
import time
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from PIL import Image

from codec_runtime.channel.symbols import bandwidth_ratio
from codec_runtime.codecs.padding import SIZE_MULTIPLE
from codec_runtime.contract.directives import ConventionalCodec
from codec_runtime.evaluation.mcs import Mcs, link_adapted, measured_schemes
from codec_runtime.serving.inference import InferenceInputError

REDUCTIONS: Final = (1, 2, 4)
"""Sides are divided by these, in turn."""

SMALLEST_SIDE: Final = 16

_FORMATS: Final = {"jpeg": "JPEG", "heic": "HEIF"}
_QUALITIES: Final = {"jpeg": (1, 95), "heic": (0, 99)}
_USUAL: Final = {"jpeg": 24, "heic": 36}
"""Qualities at the rates and SNRs that are usual: where a search begins."""
_FIRST_STEP: Final = 4
_OPTIONS: Final[dict[str, dict[str, Any]]] = {
    "jpeg": {"optimize": True},
    # A sixth of the default preset's time for a tenth more bytes: the inference thread has other work.
    "heic": {"enc_params": {"preset": "ultrafast"}},
}


class NothingFitsError(InferenceInputError):
    """No file of this picture fits into what the channel carries; the message says how much that is."""


@dataclass(frozen=True)
class CodedFile:
    """A picture as a complete file.

    Attributes:
        quality: of the codec's own scale.
        height, width: of the picture in the file, smaller than the source where that had to be reduced.
        largest: whether one more step of quality is known not to fit.
    """

    data: bytes
    quality: int
    height: int
    width: int
    largest: bool


@cache
def available_codecs() -> tuple[ConventionalCodec, ...]:
    """Codecs that this process can encode, best first."""
    return ("heic", "jpeg") if find_spec("pillow_heif") is not None else ("jpeg",)


def complex_symbols(prefix: int, height: int, width: int) -> float:
    """Symbols that the semantic codec sends for a picture (its sides padded as the networks need)."""
    padded = [side + -side % SIZE_MULTIPLE for side in (height, width)]
    return bandwidth_ratio(prefix) * 3 * padded[0] * padded[1]


def scheme_for(snr_db: float) -> Mcs | None:
    """The 5G scheme that carries most at an SNR; None below the most robust one's threshold."""
    return link_adapted(measured_schemes(), snr_db)


def byte_budget(prefix: int, snr_db: float, height: int, width: int) -> int:
    """Bytes that the symbols of a prefix carry at an SNR (dB); 0 where no scheme is robust enough."""
    scheme = scheme_for(snr_db)
    if scheme is None:
        return 0
    return max(0, int(scheme.payload_bits(complex_symbols(prefix, height, width)) // 8))


class PictureCoder:
    """One picture under one codec; each file is made at most once.

    Args:
        image: (3, H, W) uint8. codec: of :func:`available_codecs`.

    Raises:
        InferenceInputError: the codec is not installed here.
    """

    def __init__(self, image: npt.NDArray[np.uint8], codec: ConventionalCodec) -> None:
        if codec not in available_codecs():
            raise InferenceInputError(f"codec {codec!r} is not installed here, only {available_codecs()}")
        if codec == "heic":
            _register_heic()
        self._codec = codec
        self._source = Image.fromarray(np.ascontiguousarray(image.transpose(1, 2, 0)))
        self._reduced: dict[int, Image.Image] = {1: self._source}
        self._files: dict[tuple[int, int], bytes] = {}

    def within(self, budget: int, search_s: float = math.inf) -> CodedFile:
        """The picture at the largest resolution, and then the largest quality, that fits into ``budget``
        bytes.

        Args:
            search_s: from then on the best file found is taken.

        Raises:
            NothingFitsError. InferenceInputError: the codec does not take pictures of this shape.
        """
        deadline = time.perf_counter() + search_s
        source, smallest = self._source, 0
        for reduction in REDUCTIONS:
            if reduction > 1 and min(source.size) // reduction < SMALLEST_SIDE:
                break
            quality, largest = self._search(reduction, budget, deadline)
            if quality is not None:
                height, width = source.height // reduction, source.width // reduction
                return CodedFile(self._file(reduction, quality), quality, height, width, largest)
            smallest = len(self._file(reduction, _QUALITIES[self._codec][0]))
        raise NothingFitsError(
            f"no {self._codec} file of a picture of {source.height} x {source.width} fits into the {budget} "
            f"bytes that the channel carries; the smallest has {smallest}"
        )

    def _search(self, reduction: int, budget: int, deadline: float) -> tuple[int | None, bool]:
        """(the largest quality found that fits, whether it is the largest of all); None where none does."""
        lowest, highest = _QUALITIES[self._codec]
        fits, exceeds = lowest - 1, highest + 1
        quality, step = _USUAL[self._codec], _FIRST_STEP
        while exceeds - fits > 1:
            if fits >= lowest and time.perf_counter() >= deadline:
                return fits, False
            if len(self._file(reduction, quality)) <= budget:
                fits = quality
            else:
                exceeds = quality
            if fits < lowest:
                quality = max(lowest, exceeds - step)
            elif exceeds > highest:
                quality = min(highest, fits + step)
            else:
                quality = (fits + exceeds) // 2
            step *= 2
        return (fits if fits >= lowest else None), True

    def _file(self, reduction: int, quality: int) -> bytes:
        key = (reduction, quality)
        if key not in self._files:
            file = io.BytesIO()
            try:
                self._picture(reduction).save(
                    file, _FORMATS[self._codec], quality=quality, **_OPTIONS[self._codec]
                )
            except (OSError, ValueError, RuntimeError) as error:
                size = f"{self._source.height} x {self._source.width}"
                raise InferenceInputError(
                    f"{self._codec} does not take a picture of {size}: {error}"
                ) from error
            self._files[key] = file.getvalue()
        return self._files[key]

    def _picture(self, reduction: int) -> Image.Image:
        if reduction not in self._reduced:
            size = (self._source.width // reduction, self._source.height // reduction)
            self._reduced[reduction] = self._source.resize(size, Image.Resampling.LANCZOS)
        return self._reduced[reduction]


def decode_picture(
    data: bytes, codec: ConventionalCodec, height: int, width: int
) -> npt.NDArray[np.uint8]:
    """What a device does with the file: (H, W, 3) uint8, enlarged where the sender reduced it.

    Raises:
        OSError, SyntaxError: not a file of that codec.
        ModuleNotFoundError: HEIC without pillow-heif.
    """
    if codec == "heic":
        _register_heic()
    with Image.open(io.BytesIO(data), formats=[_FORMATS[codec]]) as file:
        picture = file.convert("RGB")
    if picture.size != (width, height):
        picture = picture.resize((width, height), Image.Resampling.BICUBIC)
    return np.array(picture)


def _register_heic() -> None:
    from pillow_heif import register_heif_opener  # noqa: PLC0415 - of an extra

    register_heif_opener()
