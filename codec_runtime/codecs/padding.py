"""Any image size: pad to what the networks need, record the size, crop again."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

SIZE_MULTIPLE = 8
"""Image sides are padded to a multiple of this: the fast family's patch, twice the anchor family's stride."""


def pad_to_multiple(images: Tensor) -> tuple[Tensor, tuple[int, int]]:
    """Replicate-pad (B, 3, H, W) on the right and bottom to multiples of 8; returns the original (H, W)."""
    height, width = images.shape[2:]
    padded = F.pad(images, (0, -width % SIZE_MULTIPLE, 0, -height % SIZE_MULTIPLE), mode="replicate")
    return padded, (height, width)
