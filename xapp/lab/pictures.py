"""Photographs, the users' cameras that pan over them, and content drift.

Everything is uint8 RGB, (H, W, 3). Nothing is downloaded: the default set is read from the files that the
scikit-image wheel installs.
"""

from __future__ import annotations

import importlib.util
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from codec_runtime.training.data import IMAGE_SUFFIXES

logger = logging.getLogger(__name__)

Picture = NDArray[np.uint8]
DriftKind = Literal["thermal", "night"]

BUNDLED_PHOTOGRAPHS = (
    "astronaut.png",
    "chelsea.png",
    "coffee.png",
    "rocket.jpg",
    "motorcycle_left.png",
    "camera.png",
)
"""Photographs of natural scenes in the scikit-image wheel (the rest are microscopy, textures, drawings or
not shipped)."""

_PAN_ROOM = 1.25
_LARGEST_SHORT_SIDE = 512


@dataclass(frozen=True)
class Crop:
    """A square window: picture name, top-left corner and side in pixels."""

    picture: str
    top: int
    left: int
    size: int


class PictureLibrary:
    """Photographs by name, scaled so that a window of ``size`` pixels has room to pan.

    Attributes:
        names: sorted names of the pictures.
        unreadable: files that could not be read and were left out.
    """

    def __init__(self, pictures: dict[str, Picture], size: int, unreadable: int = 0) -> None:
        if not pictures:
            raise ValueError("no photographs: the library needs at least one")
        self._pictures = {name: _fit(picture, size) for name, picture in pictures.items()}
        self.names = sorted(self._pictures)
        self.size = size
        self.unreadable = unreadable

    def shape(self, name: str) -> tuple[int, int]:
        """Height and width of a picture after scaling, pixels."""
        height, width = self._pictures[name].shape[:2]
        return height, width

    def crop(self, window: Crop) -> Picture:
        """(size, size, 3) uint8.

        Raises:
            KeyError: there is no such picture (another image folder than that of the run?).
            ValueError: the window is not inside the picture.
        """
        if window.picture not in self._pictures:
            raise KeyError(f"no picture {window.picture!r}; there are {', '.join(self.names)}")
        picture = self._pictures[window.picture]
        bottom, right = window.top + window.size, window.left + window.size
        if min(window.top, window.left) < 0 or bottom > picture.shape[0] or right > picture.shape[1]:
            raise ValueError(f"{window} is outside the picture of {picture.shape[0]}x{picture.shape[1]}")
        return np.array(picture[window.top : bottom, window.left : right], dtype=np.uint8)


def load_library(images: str, size: int) -> PictureLibrary:
    """Read a folder of photographs, or the bundled ones when ``images`` is empty.

    Unreadable files are left out, counted and named in the log.

    Raises:
        FileNotFoundError: the folder does not exist, or nothing in it could be read.
    """
    if images:
        folder = Path(images)
        if not folder.is_dir():
            raise FileNotFoundError(f"image folder {folder} does not exist")
        paths = {str(p.relative_to(folder)): p for p in sorted(folder.rglob("*")) if _is_picture(p)}
    else:
        folder = _bundled_folder()
        paths = {name: folder / name for name in BUNDLED_PHOTOGRAPHS}
    pictures: dict[str, Picture] = {}
    for name, path in paths.items():
        try:
            pictures[name] = _read(path)
        except (OSError, ValueError, Image.DecompressionBombError) as error:
            logger.warning("photograph left out", extra={"file": str(path), "error": str(error)})
    if not pictures:
        raise FileNotFoundError(f"no readable photograph below {folder} ({len(paths)} tried)")
    return PictureLibrary(pictures, size, unreadable=len(paths) - len(pictures))


def _is_picture(path: Path) -> bool:
    return path.is_file() and path.suffix.lower() in IMAGE_SUFFIXES


def _bundled_folder() -> Path:
    spec = importlib.util.find_spec("skimage")
    if spec is None or spec.origin is None:
        raise FileNotFoundError(
            "the default photographs come with scikit-image: install it or give --images DIR"
        )
    return Path(spec.origin).parent / "data"


def _read(path: Path) -> Picture:
    with Image.open(path) as image:
        if image.width * image.height == 0:
            raise ValueError("empty picture")
        # Large photographs are decoded at a reduced scale where the format can (JPEG).
        image.draft("RGB", (2 * _LARGEST_SHORT_SIDE, 2 * _LARGEST_SHORT_SIDE))
        return np.asarray(image.convert("RGB"), dtype=np.uint8)


def _fit(picture: Picture, size: int) -> Picture:
    height, width = picture.shape[:2]
    short = min(height, width)
    smallest = int(np.ceil(_PAN_ROOM * size))
    target = min(max(short, smallest), max(_LARGEST_SHORT_SIDE, smallest))
    if target == short:
        return picture
    scale = target / short
    wanted = (max(target, round(width * scale)), max(target, round(height * scale)))
    return np.asarray(Image.fromarray(picture).resize(wanted, Image.Resampling.LANCZOS), dtype=np.uint8)


class Camera:
    """One user's camera: a photograph and a window that pans slowly around a fixed spot of it.

    Args:
        library: photographs.
        user: number of the user; consecutive users of a class look at different photographs.
        seed: of the spot and the pan.
        speed_mps: a moving user pans up to twice as fast.
    """

    def __init__(self, library: PictureLibrary, user: int, seed: int, speed_mps: float = 0.0) -> None:
        random = np.random.default_rng([seed, 202, user])
        # Users of one class are four apart: // 4 spreads a class over the photographs.
        self._name = library.names[(user // 4 + user) % len(library.names)]
        self._size = library.size
        room = np.array(library.shape(self._name)) - library.size
        self._reach = np.minimum(room / 2.0, 0.3 * library.size)
        self._centre = random.uniform(self._reach, room - self._reach)
        self._phase = random.uniform(0.0, 2.0 * np.pi, 2)
        self._period_s = random.uniform(60.0, 120.0, 2) / (1.0 + min(speed_mps / 10.0, 1.0))
        self._room = room

    def window(self, elapsed_s: float) -> Crop:
        """Where the camera looks at ``elapsed_s`` seconds after the start; always inside the picture."""
        offset = self._reach * np.sin(2.0 * np.pi * elapsed_s / self._period_s + self._phase)
        top, left = np.clip(np.rint(self._centre + offset), 0, self._room).astype(int)
        return Crop(self._name, int(top), int(left), self._size)


_IRONBOW = np.array(
    [(0, 0, 10), (40, 0, 110), (130, 0, 150), (200, 40, 90), (235, 105, 15), (250, 190, 30), (255, 255, 230)],
    dtype=np.float64,
)


def ironbow_palette() -> Picture:
    """(256, 3) the black-violet-red-orange-white palette of thermal cameras."""
    knots = np.linspace(0.0, 255.0, len(_IRONBOW))
    levels = np.arange(256.0)
    return np.stack([np.interp(levels, knots, _IRONBOW[:, c]) for c in range(3)], axis=1).astype(np.uint8)


def luminance(picture: Picture) -> NDArray[np.float64]:
    """(H, W) luma of ITU-R BT.601, 0..255."""
    luma: NDArray[np.float64] = picture.astype(np.float64) @ np.array([0.299, 0.587, 0.114])
    return luma


def drift(picture: Picture, kind: DriftKind | None, seed: int = 0) -> Picture:
    """Content drift of a picture, same shape.

    Args:
        picture: (H, W, 3).
        kind: ``thermal``: a thermal camera's automatic contrast and ironbow false colours of the luminance;
            ``night``: dark, blue and noisy; None: unchanged.
        seed: of the sensor noise of ``night``.

    Raises:
        ValueError: unknown kind.
    """
    if kind is None:
        return picture
    if kind == "thermal":
        luma = luminance(picture)
        low, high = np.percentile(luma, (1.0, 99.0))
        level = np.clip((luma - low) * (255.0 / max(high - low, 32.0)), 0.0, 255.0).astype(np.uint8)
        return np.asarray(ironbow_palette()[level], dtype=np.uint8)
    if kind == "night":
        random = np.random.default_rng([seed, 303])
        dark = 255.0 * (picture / 255.0) ** 1.8 * np.array([0.30, 0.36, 0.55])
        noisy = dark + random.normal(0.0, 4.0, picture.shape)
        return np.asarray(np.clip(np.rint(noisy), 0, 255), dtype=np.uint8)
    raise ValueError(f"unknown content drift {kind!r}: thermal or night")
