"""Where a picture is cut: what the device computes and what it sends. Immutable; a picture keeps its own."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray

from codec_runtime.contract.bundle import BundleManifest
from codec_runtime.contract.classification import PublishedCut
from codec_runtime.split.classifiers import PICTURE_OFFSET, PICTURE_SCALE
from codec_runtime.split.coders import Coder, EightBitCoder
from codec_runtime.split.parts import CutParts
from codec_runtime.split.streams import stream_key

Floats = NDArray[np.float32]
LARGEST_PICTURE: Final = 512


@dataclass(frozen=True)
class Computed:
    """What the device made of a picture: a stream for the site, or the logits (classes,) themselves."""

    stream: bytes = b""
    logits: Floats | None = None


@dataclass(frozen=True)
class Plan:
    """A cut to follow.

    Attributes:
        cut: as published. size: edge of the picture. coder: makes what is sent.
        head: the cut with its head's weights; None where the picture itself is sent.
    """

    cut: PublishedCut
    size: int
    coder: Coder
    head: CutParts | None = field(default=None, repr=False)

    @property
    def identity(self) -> tuple[str, int, str]:
        return self.cut.network, self.cut.version, self.cut.cut

    def compute(self, picture: NDArray[np.uint8]) -> Computed:
        """The device's share.

        Args:
            picture: (3, size, size).

        Raises:
            ValueError: another shape, or features that cannot be sent.
        """
        given = network_input(picture, self.size)
        if self.head is None:
            return Computed(self.coder.encode([given]))
        with torch.inference_mode():
            features, answer = self.head.head(torch.from_numpy(given))
        if self.head.on_device:
            return Computed(logits=answer[0].reshape(-1).numpy())
        return Computed(self.coder.encode([tensor.numpy() for tensor in features]))


def network_input(picture: NDArray[np.uint8], size: int) -> Floats:
    """(3, size, size) of 0..255 -> (1, 3, size, size), (v - 127) / 128.

    Raises:
        ValueError: another shape or type.
    """
    if picture.shape != (3, size, size) or picture.dtype != np.uint8:
        raise ValueError(f"picture of {picture.dtype} {picture.shape}; want uint8 (3, {size}, {size})")
    values: Floats = (picture.astype(np.float32) - np.float32(PICTURE_OFFSET)) / np.float32(PICTURE_SCALE)
    return values[None]


def picture_plan(manifest: BundleManifest, cuts: list[PublishedCut]) -> Plan | None:
    """The plan of sending the picture to a version; None if the site does not publish that or says nonsense.

    Needs nothing that would have to be trusted: no code and no weights come with it.

    Args:
        manifest: as the site tells it, unverified. cuts: that it publishes of this version.
    """
    cut = next((cut for cut in cuts if len(cut.device) == 1 and cut.feature_bytes), None)
    size: Any = manifest.hyperparameters.get("size")
    try:
        key = None if cut is None else stream_key(manifest.weights_sha256, cut.cut)
    except ValueError:
        return None
    if cut is None or key is None or not isinstance(size, int) or not 1 <= size <= LARGEST_PICTURE:
        return None
    return Plan(cut, size, EightBitCoder(((1, 3, size, size),), (True,), key))
