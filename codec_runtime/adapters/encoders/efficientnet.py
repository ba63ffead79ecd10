"""EfficientNet-Lite0 with its published ImageNet weights, read at two depths: patch tokens of pictures."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from codec_runtime.adapters.encoders.interface import (
    frozen,
    patch_tokens,
    picture_tokens,
    read_picture,
    state_sha256,
)
from codec_runtime.adapters.encoders.unavailable import EncoderUnavailableError
from codec_runtime.adapters.tokens import Tokens
from codec_runtime.split.networks.efficientnet import WeightsUnavailableError, efficientnet_lite0

_SIDE = 224
_EARLY_BLOCKS = 11
_BATCH = 16
_FEATURES = {"early": 112, "late": 320}


class EfficientNetEncoder:
    """Average activations of ``grid`` x ``grid`` patches.

    Args:
        depth: ``early`` (behind the eleventh of the sixteen blocks, 112 features) or ``late`` (the last
            block, 320).
        grid: patches along a side.

    Raises:
        EncoderUnavailableError: the packages with network and weights are not installed.
    """

    modality = "image"

    def __init__(self, depth: str, grid: int = 3) -> None:
        if depth not in _FEATURES:
            raise ValueError(f"depth {depth!r}: early or late is needed")
        try:
            self._network: Any = frozen(efficientnet_lite0())
        except WeightsUnavailableError as error:
            raise EncoderUnavailableError(str(error)) from error
        self.name = f"efficientnet-{depth}"
        self.features = _FEATURES[depth]
        self.max_tokens = grid * grid
        self.sha256 = state_sha256(self._network, depth, grid, _SIDE)
        self._early = depth == "early"
        self._grid = grid

    @torch.inference_mode()
    def tokens(self, inputs: Sequence[object]) -> Tokens:
        """Tokens of pictures (files or (3, H, W) uint8), row by row from the top left."""
        return picture_tokens(self, inputs, self._batch, _BATCH)

    def _batch(self, pictures: Sequence[object]) -> Tensor:
        network = self._network
        x = (torch.stack([read_picture(picture, _SIDE) for picture in pictures]) - 127) / 128
        x = network._swish(network._bn0(network._conv_stem(x)))
        for block in network._blocks[: _EARLY_BLOCKS if self._early else None]:
            x = block(x)
        return patch_tokens(x, self._grid)
