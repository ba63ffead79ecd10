"""Pictures to symbols and back: pure functions on numpy arrays around the networks."""

from __future__ import annotations

from typing import Any, cast

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from codec_runtime.channel.symbols import prefix_mask
from codec_runtime.codecs.padding import SIZE_MULTIPLE, pad_to_multiple
from codec_runtime.serving.backends.interface import CodecNetwork

SNR_LIMITS_DB = (-40.0, 60.0)
_LATENT_STRIDE = 4


class InferenceInputError(ValueError):
    """An input tensor is out of range; the message says which and what would be right."""


def latent_channels(module: nn.Module | CodecNetwork) -> int:
    """c, the longest prefix of a codec module or network."""
    return int(cast(Any, module).config.latent_channels)


def check_conditions(
    batch: int, snr_db: npt.NDArray[np.float32], prefix: npt.NDArray[np.int32], longest: int
) -> None:
    """Raise InferenceInputError unless both are (batch,), SNR is in -40..60 dB and prefix in 1..longest."""
    if snr_db.shape != (batch,) or prefix.shape != (batch,):
        raise InferenceInputError(
            f"snr_db {snr_db.shape} and prefix {prefix.shape} must both have shape ({batch},)"
        )
    low, high = SNR_LIMITS_DB
    if not (np.isfinite(snr_db).all() and (snr_db >= low).all() and (snr_db <= high).all()):
        raise InferenceInputError(f"snr_db must be in {low:g}..{high:g} dB")
    if (prefix < 1).any() or (prefix > longest).any():
        raise InferenceInputError(f"prefix must be in 1..{longest}")


def check_images(
    encoder: nn.Module | CodecNetwork,
    images: npt.NDArray[np.uint8],
    snr_db: npt.NDArray[np.float32],
    prefix: npt.NDArray[np.int32],
) -> None:
    """Raise InferenceInputError unless :func:`encode` takes these arguments."""
    if images.ndim != 4 or images.shape[1] != 3 or min(images.shape) < 1:
        raise InferenceInputError(f"image must have shape [B, 3, H, W], got {list(images.shape)}")
    check_conditions(images.shape[0], snr_db, prefix, latent_channels(encoder))


def check_symbols(
    decoder: nn.Module | CodecNetwork,
    symbols: npt.NDArray[np.float32],
    snr_db: npt.NDArray[np.float32],
    prefix: npt.NDArray[np.int32],
    height: int,
    width: int,
) -> None:
    """Raise InferenceInputError unless :func:`decode` takes these arguments."""
    channels = latent_channels(decoder)
    if symbols.ndim != 4 or min(symbols.shape) < 1 or symbols.shape[1] > channels:
        raise InferenceInputError(
            f"symbols must have shape [B, 1..{channels}, h, w], got {list(symbols.shape)}"
        )
    batch, sent, rows, columns = symbols.shape
    grid = SIZE_MULTIPLE // _LATENT_STRIDE
    if rows % grid or columns % grid:
        raise InferenceInputError(f"symbols: h and w must be multiples of {grid}, got {rows} x {columns}")
    tallest, widest = _LATENT_STRIDE * rows, _LATENT_STRIDE * columns
    if not (0 < height <= tallest and 0 < width <= widest):
        raise InferenceInputError(
            f"height x width {height} x {width} must be within {tallest} x {widest}"
        )
    check_conditions(batch, snr_db, prefix, sent)
    if not np.isfinite(symbols).all():
        raise InferenceInputError("symbols must be finite; NaN or infinity was received")


@torch.inference_mode()
def encode(
    encoder: nn.Module | CodecNetwork,
    images: npt.NDArray[np.uint8],
    snr_db: npt.NDArray[np.float32],
    prefix: npt.NDArray[np.int32],
) -> npt.NDArray[np.float32]:
    """Encode pictures for the channel.

    Args:
        images: (B, 3, H, W) uint8; sides are replicate-padded to multiples of 8.
        snr_db: (B,) channel estimate, dB per complex symbol.
        prefix: (B,) latent channels to send.

    Returns:
        (B, K, h, w) float32, K = max(prefix), h and w a quarter of the padded sides; unit complex power over
        the channels sent, zero beyond a picture's prefix.

    Raises:
        InferenceInputError: a shape or value out of range.
    """
    check_images(encoder, images, snr_db, prefix)
    padded, _ = pad_to_multiple(torch.tensor(images).float() / 255.0)
    latent = encoder(padded, torch.tensor(snr_db), torch.tensor(prefix, dtype=torch.int64))
    symbols: npt.NDArray[np.float32] = latent[:, : int(prefix.max())].contiguous().numpy()
    if not np.isfinite(symbols).all():
        raise FloatingPointError("the encoder gave symbols that are not finite")
    return symbols


@torch.inference_mode()
def decode(
    decoder: nn.Module | CodecNetwork,
    symbols: npt.NDArray[np.float32],
    snr_db: npt.NDArray[np.float32],
    prefix: npt.NDArray[np.int32],
    height: int,
    width: int,
) -> npt.NDArray[np.uint8]:
    """Restore pictures from received symbols.

    Args:
        symbols: (B, K, h, w) float32, K at most c; what lies beyond a picture's prefix is ignored.
        snr_db: (B,) effective SNR at the decoder, dB.
        prefix: (B,) latent channels that were sent, 1..K.
        height, width: crop of the result, at most 4h and 4w.

    Returns:
        (B, 3, height, width) uint8, rounded and clipped.

    Raises:
        InferenceInputError: a shape or value out of range, or symbols that are not finite.
        FloatingPointError: the decoder itself gave values that are not finite.
    """
    check_symbols(decoder, symbols, snr_db, prefix, height, width)
    channels = latent_channels(decoder)
    batch, sent, rows, columns = symbols.shape
    sent_channels = torch.tensor(prefix, dtype=torch.int64)
    received = torch.zeros(batch, channels, rows, columns)
    received[:, :sent] = torch.tensor(symbols)
    received *= prefix_mask(sent_channels, channels)
    restored = decoder(received, torch.tensor(snr_db), sent_channels)[:, :, :height, :width]
    if not torch.isfinite(restored).all():
        raise FloatingPointError("the decoder gave pixels that are not finite")
    pixels: npt.NDArray[np.uint8] = (
        (restored.clamp(0.0, 1.0) * 255.0).round().to(torch.uint8).contiguous().numpy()
    )
    return pixels
