"""PSNR and MS-SSIM of restored pictures, after the 8-bit rounding that a display would see."""

from __future__ import annotations

import torch
from pytorch_msssim import ms_ssim as _ms_ssim
from torch import Tensor

MS_SSIM_MINIMUM_SIDE = 161
"""Five scales with an 11-tap window need sides above 160 pixels (Wang et al., 2003)."""


def to_uint8(images: Tensor) -> Tensor:
    """Float images in about [0, 1] -> uint8, rounded and clipped."""
    return (images.clamp(0.0, 1.0) * 255.0).round().to(torch.uint8)


def psnr_db(restored: Tensor, reference: Tensor) -> Tensor:
    """Peak signal-to-noise ratio of each image.

    Args:
        restored, reference: (B, 3, H, W) uint8.

    Returns:
        (B,) float, dB; identical images give 100 dB rather than infinity.
    """
    error = (restored.float() - reference.float()).square().mean(dim=(1, 2, 3))
    return (10.0 * torch.log10(255.0**2 / error.clamp_min(255.0**2 * 1e-10))).float()


def ms_ssim(restored: Tensor, reference: Tensor) -> Tensor:
    """Multi-scale SSIM of each image, (B, 3, H, W) uint8 -> (B,) in 0..1.

    Raises:
        ValueError: a side is below :data:`MS_SSIM_MINIMUM_SIDE`.
    """
    if min(restored.shape[2:]) < MS_SSIM_MINIMUM_SIDE:
        raise ValueError(
            f"MS-SSIM needs sides of at least {MS_SSIM_MINIMUM_SIDE} pixels, got {tuple(restored.shape[2:])}"
        )
    value: Tensor = _ms_ssim(restored.float(), reference.float(), data_range=255.0, size_average=False)
    return value
