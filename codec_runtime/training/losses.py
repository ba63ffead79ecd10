"""Distortions that training minimises, of (B, 3, H, W) restored and original pictures in about [0, 1]."""

from __future__ import annotations

from collections.abc import Callable

import torch
from pytorch_msssim import ms_ssim as _ms_ssim
from torch import Tensor

Loss = Callable[[Tensor, Tensor], Tensor]

_COARSEST = 16
"""Subsampling of the last of five scales."""
_WINDOW = 11
_SMALLEST_WINDOW = 3


def mse(restored: Tensor, images: Tensor) -> Tensor:
    """Mean squared error over pictures, colours and pixels: the seed paper's loss."""
    return (restored - images).square().mean()


def distortion_db(restored: Tensor, images: Tensor) -> Tensor:
    """Mean of 10 log10 MSE: minimising it maximises the mean PSNR, in which every image counts alike."""
    error = (restored - images).square().mean(dim=(1, 2, 3))
    return 10.0 * torch.log10(error + 1e-6).mean()


def ms_ssim_loss(restored: Tensor, images: Tensor) -> Tensor:
    """1 - MS-SSIM (Wang et al., 2003) with a window as wide as the pictures allow.

    Raises:
        ValueError: the pictures are too small for five scales.
    """
    window = ms_ssim_window(min(images.shape[2:]))
    similarity: Tensor = _ms_ssim(restored, images, data_range=1.0, win_size=window)
    return 1.0 - similarity.mean()


def ms_ssim_window(side: int) -> int:
    """Largest odd window up to 11 whose five scales fit a side: (window - 1) * 2^4 < side.

    Eleven, the published one, needs 161 pixels; crops of 128 get 7.

    Raises:
        ValueError: not even a window of 3 fits (below 33 pixels).
    """
    largest = (side - 1) // _COARSEST + 1
    window = min(_WINDOW, largest - (1 - largest % 2))
    if window < _SMALLEST_WINDOW:
        needed = (_SMALLEST_WINDOW - 1) * _COARSEST + 1
        raise ValueError(f"MS-SSIM has five scales: sides of at least {needed} pixels are needed, got {side}")
    return window


LOSSES: dict[str, Loss] = {"mse": mse, "log-mse": distortion_db, "ms-ssim": ms_ssim_loss}


def loss_named(name: str) -> Loss:
    """The loss of a name.

    Raises:
        ValueError: it is not one of :data:`LOSSES`.
    """
    if name not in LOSSES:
        raise ValueError(f"unknown loss {name!r}; known are {', '.join(LOSSES)}")
    return LOSSES[name]
