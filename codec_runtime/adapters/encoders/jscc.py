"""The project's own image encoder as a source of tokens: what a user sends anyway, read as patches."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from codec_runtime.adapters.encoders.interface import patch_tokens, picture_tokens, read_picture
from codec_runtime.adapters.encoders.unavailable import EncoderUnavailableError
from codec_runtime.adapters.tokens import Tokens
from codec_runtime.bundle.store import SHIPPED_WEIGHTS, find_bundles, load_module

_SIDE = 128
_SNR_DB = 10.0
_WITHIN = 2
"""A patch is described by this many parts along a side."""
_BATCH = 16


class JsccEncoder:
    """Mean and mean magnitude of the latent channels in the parts of ``grid`` x ``grid`` patches.

    Args:
        weights: bundle root; the newest version of its encoder ``anchor`` is taken.
        grid: patches along a side.

    Raises:
        EncoderUnavailableError: no such bundle.
    """

    name = "jscc"
    modality = "image"

    def __init__(self, weights: Path = SHIPPED_WEIGHTS, grid: int = 3) -> None:
        versions = [
            place for place in find_bundles(weights) if place.parent.parts[-2:] == ("encoder", "anchor")
        ]
        if not versions:
            raise EncoderUnavailableError(f"{weights} holds no bundle encoder/anchor")
        manifest, network = load_module(max(versions, key=lambda place: int(place.name)))
        self._network = network
        config: Any = network.config
        self._latent = int(config.latent_channels)
        self.features = 2 * self._latent * _WITHIN**2
        self.max_tokens = grid * grid
        settings = f"{manifest.weights_sha256} {grid} {_SIDE} {_SNR_DB} {_WITHIN}"
        self.sha256 = hashlib.sha256(settings.encode()).hexdigest()
        self._grid = grid

    @torch.inference_mode()
    def tokens(self, inputs: Sequence[object]) -> Tokens:
        """Tokens of pictures (files or (3, H, W) uint8), row by row from the top left."""
        return picture_tokens(self, inputs, self._batch, _BATCH)

    def _batch(self, pictures: Sequence[object]) -> Tensor:
        x = torch.stack([read_picture(picture, _SIDE) for picture in pictures]) / 255
        snr, prefix = torch.full((len(x),), _SNR_DB), torch.full((len(x),), self._latent)
        latent = self._network(x, snr, prefix)
        described = torch.cat((latent, latent.abs()), dim=1)
        fine = patch_tokens(described, self._grid * _WITHIN).transpose(1, 2)
        side = self._grid * _WITHIN
        parts = torch.nn.functional.pixel_unshuffle(fine.reshape(len(x), -1, side, side), _WITHIN)
        return parts.flatten(2).transpose(1, 2).contiguous()
