"""Pictures as a classifier sees them, and what a network makes of them at a cut, which is cached."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import Tensor

from codec_runtime.split.cutting import SplitNetwork
from codec_runtime.training.data import load_image
from codec_runtime.training.seeds import derived_seed

SIDE = 224
_RESIZED = (232, 340)


@dataclass(frozen=True)
class Views:
    """Features at a cut (N, C, H, W) float16 and the whole network's logits (N, classes) float16."""

    features: Tensor
    logits: Tensor


def classifier_input(pictures: Tensor) -> Tensor:
    """(B, 3, 224, 224) uint8 -> what EfficientNet-Lite expects, (v - 127) / 128."""
    return (pictures.float() - 127.0) / 128.0


def centre_view(picture: Tensor) -> Tensor:
    """(3, H, W) uint8 -> (3, 224, 224): shorter side to 256, then the middle, as ImageNet is evaluated."""
    return _cropped(picture, 256, 0.5, 0.5)


def random_view(picture: Tensor, seed: int) -> Tensor:
    """A random scale, place and flip; a function of ``seed``."""
    random = np.random.default_rng(seed)
    side = int(random.integers(*_RESIZED))
    view = _cropped(picture, side, float(random.random()), float(random.random()))
    return view.flip(2) if random.random() < 0.5 else view


def _cropped(picture: Tensor, shorter: int, down: float, right: float) -> Tensor:
    height, width = picture.shape[1:]
    scale = shorter / min(height, width)
    size = (max(SIDE, round(width * scale)), max(SIDE, round(height * scale)))
    image = Image.fromarray(picture.permute(1, 2, 0).numpy()).resize(size, Image.Resampling.BICUBIC)
    top, left = round(down * (size[1] - SIDE)), round(right * (size[0] - SIDE))
    array = np.array(image)[top : top + SIDE, left : left + SIDE]
    return torch.from_numpy(array).permute(2, 0, 1).contiguous()


def training_views(paths: Sequence[Path], views: int, seed: int) -> Tensor:
    """(len(paths) * views, 3, 224, 224) uint8: the middle of each picture first, then random views."""
    pictures = [load_image(path) for path in paths]
    made = [centre_view(picture) for picture in pictures]
    for view in range(1, views):
        made += [
            random_view(picture, derived_seed(seed, view, index)) for index, picture in enumerate(pictures)
        ]
    return torch.stack(made)


@torch.no_grad()
def through_head(
    split: SplitNetwork, pictures: Tensor, batch: int, on_step: Callable[[], None] | None = None
) -> Views:
    """What crosses the cut, and the logits, of all pictures; ``batch`` is what the network was traced for."""
    features, logits = [], []
    for start in range(0, len(pictures), batch):
        chosen = pictures[start : start + batch]
        padded = torch.cat((chosen, chosen[-1:].expand(batch - len(chosen), -1, -1, -1)))
        (crossing,), _ = split.head(classifier_input(padded))
        (result,) = split.tail(crossing)
        features.append(crossing[: len(chosen)].half())
        logits.append(result[: len(chosen)].half())
        if on_step is not None:
            on_step()
    return Views(torch.cat(features), torch.cat(logits))


def cached_views(path: Path, make: Callable[[], Views]) -> Views:
    """Views of a file, which is written where it is not there. The caller's name says what is in it."""
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        views = make()
        part = path.with_suffix(".part")
        save_file({"features": views.features, "logits": views.logits}, part)
        part.replace(path)
    stored = load_file(path)
    return Views(stored["features"], stored["logits"])
