"""Many crops in one file: safetensors, one uint8 tensor ``crops`` (N, 3, S, S).

Reading some gigabytes of large photographs to train on small crops takes minutes and more memory than there
is; packed once, crops of 160 pixels leave room to shift crops of 128 in them, and fit a GPU's memory whole.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from codec_runtime.training.data import CropSampler, data_hash, list_images, load_image

PACKED_SUFFIX = ".safetensors"
_MEMORY_SHARE = 0.5
"""Crops are kept on a GPU if they take no more than this share of its free memory."""


def pack(
    folders: Sequence[Path], out: Path, *, size: int, count: int, seed: int = 1,
    on_picture: Callable[[int, int], None] | None = None,
) -> int:
    """Cut about ``count`` random crops from the pictures below ``folders`` into ``out``.

    Each picture gives crops in proportion to the square root of its area (:class:`CropSampler` draws alike),
    at least one; pictures with a side below ``size`` are left out.

    Args:
        size: side of the crops in pixels.
        on_picture: called with (pictures done, pictures in all).

    Returns:
        Number of crops written.

    Raises:
        FileNotFoundError: a folder does not exist, or holds no picture.
        ValueError: no picture is large enough, or one is not readable.
    """
    paths = list_images(folders)
    sides = [_sides(path) for path in paths]
    weights = np.array([(w * h) ** 0.5 if min(w, h) >= size else 0.0 for w, h in sides])
    if not weights.any():
        raise ValueError(f"no picture is at least {size}x{size}")
    shares = np.where(weights > 0, np.maximum(1, np.round(count * weights / weights.sum())), 0).astype(int)
    crops = torch.empty((int(shares.sum()), 3, size, size), dtype=torch.uint8)
    filled = 0
    for index, (path, share) in enumerate(zip(paths, shares, strict=True)):
        if share:
            random = np.random.default_rng((seed, index))
            image = load_image(path)
            for _ in range(share):
                top = random.integers(image.shape[1] - size + 1)
                left = random.integers(image.shape[2] - size + 1)
                crops[filled] = image[:, top : top + size, left : left + size]
                filled += 1
        if on_picture is not None:
            on_picture(index + 1, len(paths))
    out.parent.mkdir(parents=True, exist_ok=True)
    # Shuffled, so that the head of the file is a sample of all of it.
    crops = crops[torch.randperm(filled, generator=torch.Generator().manual_seed(seed))]
    header = {
        "pictures": str(int((shares > 0).sum())), "folders": ",".join(folder.name for folder in folders),
        "pictures_sha256": data_hash(paths), "seed": str(seed),
    }
    save_file({"crops": crops}, out, header)
    return filled


def _sides(path: Path) -> tuple[int, int]:
    from PIL import Image, UnidentifiedImageError  # noqa: PLC0415  (reads headers only)

    try:
        with Image.open(path) as image:
            return image.size
    except (UnidentifiedImageError, OSError) as error:
        raise ValueError(f"{path} is not a readable picture: {error}") from error


def read_packed(path: Path) -> Tensor:
    """(N, 3, S, S) uint8.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it does not hold packed crops.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist; `semcom train pack` writes such a file")
    try:
        with safe_open(path, "pt") as file:
            crops: Tensor = file.get_tensor("crops")
    except SafetensorError as error:
        raise ValueError(f"{path} holds no crops of `semcom train pack`: {error}") from error
    if crops.dtype != torch.uint8 or crops.ndim != 4 or crops.shape[1] != 3 or not len(crops):
        found = f"{crops.dtype} {tuple(crops.shape)}"
        raise ValueError(f"{path}: crops are {found}; uint8 (N, 3, S, S) is needed")
    return crops


def file_hash(path: Path) -> str:
    """sha256 of a file's content."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class PackedCrops:
    """Random crops with horizontal flips from packed ones, gathered on the device that holds them.

    Args:
        crops: (N, 3, S, S) uint8.
        crop: side of the crops given, at most S.
    """

    def __init__(self, crops: Tensor, crop: int, seed: int) -> None:
        if crops.shape[2] < crop or crops.shape[3] < crop:
            found = f"{crops.shape[2]}x{crops.shape[3]}"
            raise ValueError(f"packed crops are {found}, crops of {crop}x{crop} are asked for")
        self._crops, self._crop = crops, crop
        self.restart(seed)

    def restart(self, seed: int) -> None:
        """Draw the following batches from ``seed``."""
        self._random = np.random.default_rng(seed)

    def batch(self, size: int) -> Tensor:
        """(size, 3, crop, crop) float in [0, 1]."""
        count, _, height, width = self._crops.shape
        index = self._random.integers(count, size=size)
        top = self._random.integers(height - self._crop + 1, size=size)
        left = self._random.integers(width - self._crop + 1, size=size)
        span = np.arange(self._crop)
        columns = left[:, None] + np.where(self._random.random(size)[:, None] < 0.5, span[::-1], span)
        where = [
            torch.from_numpy(np.ascontiguousarray(values)).to(self._crops.device)
            for values in (index, top[:, None] + span, columns)
        ]
        pictures, rows, columns_at = where
        channels = torch.arange(3, device=self._crops.device)
        gathered = self._crops[
            pictures[:, None, None, None], channels[None, :, None, None], rows[:, None, :, None],
            columns_at[:, None, None, :],
        ]
        return gathered.float() / 255.0


def on_device_if_it_fits(crops: Tensor, device: torch.device) -> Tensor:
    """The crops on a GPU whose free memory they fill by no more than half; else where they are."""
    if device.type != "cuda":
        return crops
    free, _ = torch.cuda.mem_get_info(device)
    return crops.to(device) if crops.numel() <= _MEMORY_SHARE * free else crops


def open_training_data(
    paths: Sequence[Path], crop: int, seed: int, device: torch.device,
    on_picture: Callable[[int, int], None] | None = None,
) -> tuple[CropSampler | PackedCrops, int, str]:
    """(batches, pictures or packed crops, sha256 of the data) from folders of pictures, or one packed file.

    Raises:
        FileNotFoundError: a path does not exist, or no picture is below it.
        ValueError: folders and packed files are mixed, something is unreadable or smaller than the crop.
    """
    packed = [path for path in paths if path.suffix == PACKED_SUFFIX]
    if packed:
        if len(paths) > 1:
            raise ValueError("give folders of pictures, or one packed file; not both, nor several files")
        crops = on_device_if_it_fits(read_packed(packed[0]), device)
        return PackedCrops(crops, crop, seed), len(crops), file_hash(packed[0])
    files = list_images(paths)
    images = []
    for index, path in enumerate(files):
        images.append(load_image(path))
        if on_picture is not None:
            on_picture(index + 1, len(files))
    return CropSampler(images, crop, seed), len(files), data_hash(files)
