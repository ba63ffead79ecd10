"""What a frozen encoder is to the rest: a name, a hash, tokens out."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from codec_runtime.adapters.tokens import Tokens


class FrozenEncoder(Protocol):
    """Inputs to tokens, the same for ever.

    Attributes:
        name: registry name; the adapter keeps one projection per name.
        modality: ``image``, ``text``, ``series``.
        features: F, of a token.
        max_tokens: T at most.
        sha256: hex, of the weights and of what else decides the values. Equal hashes, equal tokens.
    """

    name: str
    modality: str
    features: int
    max_tokens: int
    sha256: str

    def tokens(self, inputs: Sequence[object]) -> Tokens:
        """Tokens of a batch; inputs are picture files, sentences or arrays, as the encoder says."""
        ...


def frozen(network: nn.Module) -> nn.Module:
    """``network`` in evaluation mode and without gradients."""
    return network.eval().requires_grad_(False)


def state_sha256(network: nn.Module, *settings: object) -> str:
    """Hash (hex) of all parameters and buffers by name, and of ``settings``."""
    digest = hashlib.sha256(repr(settings).encode())
    for name, value in sorted(network.state_dict().items()):
        digest.update(name.encode() + b"\0" + value.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def read_picture(source: object, side: int) -> Tensor:
    """(3, side, side) float32 in 0..255; the whole picture, squeezed to a square (bicubic).

    Args:
        source: a file, or a tensor (3, H, W) uint8.
    """
    if isinstance(source, Tensor):
        image = Image.fromarray(source.permute(1, 2, 0).numpy())
    elif isinstance(source, str | Path):
        image = Image.open(source)
    else:
        raise TypeError(f"a picture is a file or a tensor (3, H, W) uint8, not {type(source).__name__}")
    with image:
        square = image.convert("RGB").resize((side, side), Image.Resampling.BICUBIC)
    return torch.from_numpy(np.asarray(square, dtype=np.float32)).permute(2, 0, 1)


def picture_tokens(
    encoder: FrozenEncoder, inputs: Sequence[object], encode: Callable[[Sequence[object]], Tensor], batch: int
) -> Tokens:
    """Tokens of pictures, ``batch`` at a time; ``encode`` gives those of one batch, (B, T, F)."""
    values = torch.cat([encode(inputs[i : i + batch]) for i in range(0, len(inputs), batch)])
    return Tokens(values, torch.ones(values.shape[:2], dtype=torch.bool), encoder.modality, encoder.name)


def patch_tokens(maps: Tensor, grid: int) -> Tensor:
    """Feature maps (B, C, H, W) averaged over ``grid`` x ``grid`` patches: (B, grid^2, C), row by row."""
    return torch.nn.functional.adaptive_avg_pool2d(maps, grid).flatten(2).transpose(1, 2).contiguous()


EncoderFactory = Callable[[], FrozenEncoder]
