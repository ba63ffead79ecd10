"""Several requests to one network as one call of it, each with its own SNR, prefix and crop.

Only what belongs together may be given together (:attr:`EncodeWork.key`, :attr:`DecodeWork.key`): the same
loaded bundle, the same picture size. Should the call fail, each request is computed alone, so that one that
the network cannot compute does not fail its neighbours.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from codec_runtime.codecs.padding import SIZE_MULTIPLE
from codec_runtime.serving import inference
from codec_runtime.serving.alignment_compute import AlignWork, align
from codec_runtime.serving.inference import InferenceInputError
from codec_runtime.serving.registry import LoadedBundle
from codec_runtime.serving.warm_up import PictureSize

Array = npt.NDArray[Any]


@dataclass(frozen=True, eq=False)
class EncodeWork:
    """Pictures to encode; arrays and results as of :func:`codec_runtime.serving.inference.encode`."""

    encoder: LoadedBundle
    images: Array
    snr_db: Array
    prefix: Array

    @property
    def key(self) -> Hashable:
        return ("encode", id(self.encoder), self.images.shape[2:])

    @property
    def pictures(self) -> int:
        return int(self.images.shape[0])

    @property
    def pixels(self) -> int:
        return self.pictures * int(self.images.shape[2] * self.images.shape[3])

    @property
    def size(self) -> PictureSize:
        """What the network computes."""
        height, width = self.images.shape[2:]
        return height + -height % SIZE_MULTIPLE, width + -width % SIZE_MULTIPLE

    def check(self) -> None:
        """Raises: InferenceInputError: what this request alone is to blame for."""
        inference.check_images(self.encoder.network, self.images, self.snr_db, self.prefix)


@dataclass(frozen=True, eq=False)
class DecodeWork:
    """Symbols to restore; arrays and results as of :func:`codec_runtime.serving.inference.decode`."""

    decoder: LoadedBundle
    symbols: Array
    snr_db: Array
    prefix: Array
    height: int
    width: int

    @property
    def key(self) -> Hashable:
        return ("decode", id(self.decoder), self.symbols.shape[2:])

    @property
    def pictures(self) -> int:
        return int(self.symbols.shape[0])

    @property
    def pixels(self) -> int:
        return self.pictures * 16 * int(self.symbols.shape[2] * self.symbols.shape[3])

    @property
    def size(self) -> PictureSize:
        """What the network computes."""
        return 4 * self.symbols.shape[2], 4 * self.symbols.shape[3]

    def check(self) -> None:
        """Raises: InferenceInputError: what this request alone is to blame for."""
        inference.check_symbols(
            self.decoder.network, self.symbols, self.snr_db, self.prefix, self.height, self.width
        )


@dataclass(frozen=True, eq=False)
class OtherWork:
    """Any other computation of a request; with others of its key one after another, without key alone."""

    run: Callable[[], Array]
    pictures: int = 1
    pixels: int = 0
    key: Hashable | None = None


Work = EncodeWork | DecodeWork | AlignWork | OtherWork


def compute(works: Sequence[Work]) -> list[Array | Exception]:
    """Results in the order of ``works`` (of one key), an exception where one cannot be computed:
    InferenceInputError, FloatingPointError or RuntimeError."""
    try:
        return list(_together(works))
    except (InferenceInputError, FloatingPointError, RuntimeError) as error:
        if len(works) == 1:
            return [error]
    except Exception as error:  # whatever an engine or an image library raises: it is the request's answer
        if len(works) == 1:
            return [RuntimeError(f"{type(error).__name__}: {error}")]
    return [result for work in works for result in compute([work])]


def _together(works: Sequence[Work]) -> list[Array]:
    lead = works[0]
    if isinstance(lead, EncodeWork):
        return _encode(lead.encoder, [work for work in works if isinstance(work, EncodeWork)])
    if isinstance(lead, DecodeWork):
        return _decode(lead.decoder, [work for work in works if isinstance(work, DecodeWork)])
    if isinstance(lead, AlignWork):
        return align([work for work in works if isinstance(work, AlignWork)])
    return [work.run() for work in works if isinstance(work, OtherWork)]


def _encode(encoder: LoadedBundle, works: list[EncodeWork]) -> list[Array]:
    symbols = inference.encode(
        encoder.network, _joined([work.images for work in works]),
        _joined([work.snr_db for work in works]), _joined([work.prefix for work in works]),
    )
    parts = _parted(symbols, works)
    # A picture is sent with its own request's longest prefix, whatever its neighbours have.
    return [part[:, : int(work.prefix.max())] for part, work in zip(parts, works, strict=True)]


def _decode(decoder: LoadedBundle, works: list[DecodeWork]) -> list[Array]:
    channels = max(work.symbols.shape[1] for work in works)
    padded = [
        np.pad(work.symbols, ((0, 0), (0, channels - work.symbols.shape[1]), (0, 0), (0, 0)))
        if work.symbols.shape[1] < channels else work.symbols
        for work in works
    ]
    height, width = max(work.height for work in works), max(work.width for work in works)
    images = inference.decode(
        decoder.network, _joined(padded), _joined([work.snr_db for work in works]),
        _joined([work.prefix for work in works]), height, width,
    )
    parts = _parted(images, works)
    return [part[:, :, : work.height, : work.width] for part, work in zip(parts, works, strict=True)]


def _joined(arrays: list[Array]) -> Array:
    return arrays[0] if len(arrays) == 1 else np.concatenate(arrays)


def _parted(array: Array, works: Sequence[EncodeWork | DecodeWork]) -> list[Array]:
    return np.split(array, np.cumsum([work.pictures for work in works])[:-1])
