"""The first calls of a new network, made before users meet it.

The first one packs the weights, which takes longer than computing a small picture; the first of each size
makes kernels for it and allocates. So a network is warmed up with a picture of the size that users send.
"""

from __future__ import annotations

import threading
from collections import Counter, deque
from pathlib import Path

import numpy as np

from codec_runtime.bundle.errors import BundleError
from codec_runtime.contract.bundle import BundleKind
from codec_runtime.serving.backends.interface import CodecNetwork
from codec_runtime.serving.inference import decode, encode

PictureSize = tuple[int, int]
"""Height and width in pixels, multiples of 8: what the networks compute."""
_DEFAULT: PictureSize = (64, 64)
_REMEMBERED = 64
_LARGEST = 65_536
"""Pixels: a larger picture takes so long itself that what comes on top hardly counts, and warming up with it
would take as long."""
_PREFIX = 4


class WarmUpError(BundleError):
    """The module loads but does not compute finite pictures of the right shape."""


class PictureSizes:
    """Sizes of the pictures last computed; any thread may call."""

    def __init__(self) -> None:
        self._sizes: deque[PictureSize] = deque(maxlen=_REMEMBERED)
        self._lock = threading.Lock()

    def note(self, size: PictureSize) -> None:
        """A picture was computed."""
        if size[0] * size[1] <= _LARGEST:
            with self._lock:
                self._sizes.append(size)

    def usual(self) -> PictureSize:
        """The most frequent one, 64 x 64 if there was none."""
        with self._lock:
            counted = Counter(self._sizes)
        return max(counted, key=lambda size: counted[size], default=_DEFAULT)


def warm_up(network: CodecNetwork, kind: BundleKind, size: PictureSize, origin: Path) -> None:
    """One picture, or symbols, through the new network as a request would send it. Through no other network:
    users of one that serves would wait for this thread's priority.

    Raises:
        WarmUpError: it does not compute, or its results are not finite; ``origin`` is named.
    """
    height, width = size
    snr, prefix = np.array([7.0], np.float32), np.array([_PREFIX], np.int32)
    try:
        if kind == "decoder":
            shape = (1, _PREFIX, height // 4, width // 4)
            symbols = np.sin(np.arange(np.prod(shape), dtype=np.float32)).reshape(shape)
            decode(network, symbols, snr, prefix, height, width)
        else:
            picture = np.full((1, 3, height, width), 96, np.uint8)
            encode(network, picture, snr, prefix)
    except (RuntimeError, ValueError, FloatingPointError) as error:
        raise WarmUpError(f"{origin}: warm-up failed: {error}") from error
