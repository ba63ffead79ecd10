"""Photographs as uint8 tensors in memory, and random crops from them."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError
from torch import Tensor

IMAGE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".webp", ".tif", ".tiff"})


def list_images(folders: Sequence[Path]) -> list[Path]:
    """All pictures below the folders, sorted.

    Raises:
        FileNotFoundError: a folder does not exist or no picture is below any of them.
    """
    found: list[Path] = []
    for folder in folders:
        if not folder.is_dir():
            raise FileNotFoundError(f"image folder {folder} does not exist")
        found.extend(p for p in folder.rglob("*") if p.suffix.lower() in IMAGE_SUFFIXES)
    if not found:
        names = ", ".join(str(folder) for folder in folders)
        raise FileNotFoundError(f"no pictures ({', '.join(sorted(IMAGE_SUFFIXES))}) below {names}")
    return sorted(found)


def load_image(path: Path) -> Tensor:
    """(3, H, W) uint8 RGB.

    Raises:
        ValueError: the file is not a readable picture (the message names it).
    """
    try:
        with Image.open(path) as image:
            array = np.array(image.convert("RGB"))
    except (UnidentifiedImageError, OSError) as error:
        raise ValueError(f"{path} is not a readable picture: {error}") from error
    return torch.from_numpy(array).permute(2, 0, 1).contiguous()


def data_hash(paths: Sequence[Path]) -> str:
    """sha256 over names and contents of the pictures: what a checkpoint was trained on."""
    digest = hashlib.sha256()
    for path in paths:
        digest.update(path.name.encode())
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()


class CropSampler:
    """Random square crops with horizontal flips from a list of (3, H, W) uint8 pictures.

    Pictures smaller than the crop are left out; larger ones are drawn in proportion to the square root of
    their area, so that a few big pictures do not crowd out the many small ones.
    """

    def __init__(self, images: Sequence[Tensor], crop: int, seed: int) -> None:
        self._images = [image for image in images if min(image.shape[1:]) >= crop]
        if not self._images:
            raise ValueError(f"no picture is at least {crop}x{crop}")
        self._crop = crop
        self._random = np.random.default_rng(seed)
        weights = np.array([(i.shape[1] * i.shape[2]) ** 0.5 for i in self._images])
        self._weights = weights / weights.sum()

    def restart(self, seed: int) -> None:
        """Draw the following batches from ``seed``."""
        self._random = np.random.default_rng(seed)

    def batch(self, size: int) -> Tensor:
        """(size, 3, crop, crop) float in [0, 1]."""
        crops = []
        for index in self._random.choice(len(self._images), size, p=self._weights):
            image = self._images[index]
            top = self._random.integers(image.shape[1] - self._crop + 1)
            left = self._random.integers(image.shape[2] - self._crop + 1)
            crop = image[:, top : top + self._crop, left : left + self._crop]
            crops.append(crop.flip(2) if self._random.random() < 0.5 else crop)
        return torch.stack(crops).float() / 255.0
