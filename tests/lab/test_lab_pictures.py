"""Photographs come from disk alone; cameras pan within them; drift changes colours reproducibly."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from lab_doubles import SIDE, small_library
from PIL import Image

from xapp.lab.pictures import (
    BUNDLED_PHOTOGRAPHS,
    Camera,
    Crop,
    drift,
    ironbow_palette,
    load_library,
    luminance,
)


def test_every_bundled_photograph_is_in_the_wheel() -> None:
    library = load_library("", SIDE)
    assert library.names == sorted(BUNDLED_PHOTOGRAPHS)
    assert library.unreadable == 0


def test_unreadable_files_of_a_folder_are_left_out_and_counted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    Image.new("RGB", (60, 40), (200, 10, 10)).save(tmp_path / "small.png")
    (tmp_path / "broken.jpg").write_bytes(b"not a picture")
    (tmp_path / "notes.txt").write_text("no picture either, and not tried")
    library = load_library(str(tmp_path), SIDE)
    assert library.names == ["small.png"]
    assert library.unreadable == 1
    assert "left out" in caplog.text
    # Scaled up so that the window has room to pan.
    assert min(library.shape("small.png")) >= 1.25 * SIDE


def test_a_folder_without_readable_pictures_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "broken.png").write_bytes(b"")
    with pytest.raises(FileNotFoundError, match="no readable photograph"):
        load_library(str(tmp_path), SIDE)
    with pytest.raises(FileNotFoundError, match="does not exist"):
        load_library(str(tmp_path / "absent"), SIDE)


def test_cameras_stay_in_the_picture_and_pan_slowly() -> None:
    library = small_library()
    for user in range(8):
        camera = Camera(library, user, seed=5, speed_mps=14.0)
        windows = [camera.window(t / 2.0) for t in range(400)]
        assert all(library.crop(w).shape == (SIDE, SIDE, 3) for w in windows)
        assert len({w.picture for w in windows}) == 1
        steps = [abs(a.top - b.top) + abs(a.left - b.left) for a, b in pairwise(windows)]
        assert 0 < max(steps) <= 8


def test_users_of_one_class_look_at_different_photographs() -> None:
    library = load_library("", SIDE)
    drones = [Camera(library, user, 1).window(0.0).picture for user in (1, 5, 9, 13, 17)]
    assert len(set(drones)) == 5


def test_a_window_outside_its_picture_is_refused() -> None:
    with pytest.raises(ValueError, match="outside"):
        small_library().crop(Crop("p0", 100, 0, SIDE))
    with pytest.raises(KeyError, match="no picture"):
        small_library().crop(Crop("other", 0, 0, SIDE))


def test_thermal_drift_shows_the_luminance_in_palette_colours() -> None:
    picture = small_library().crop(Crop("p0", 0, 0, SIDE))
    hot = drift(picture, "thermal")
    palette = {tuple(colour) for colour in ironbow_palette().tolist()}
    assert {tuple(colour) for colour in hot.reshape(-1, 3).tolist()} <= palette
    assert np.corrcoef(luminance(hot).ravel(), luminance(picture).ravel())[0, 1] > 0.9


def test_night_drift_is_darker_bluish_and_repeats_with_its_seed() -> None:
    picture = small_library().crop(Crop("p0", 0, 0, SIDE))
    night = drift(picture, "night", seed=4)
    assert luminance(night).mean() < 0.5 * luminance(picture).mean()
    assert night[..., 2].mean() > night[..., 0].mean()
    assert (drift(picture, "night", seed=4) == night).all()
    assert (drift(picture, "night", seed=5) != night).any()


def test_no_drift_leaves_the_picture_alone() -> None:
    picture = small_library().crop(Crop("p0", 0, 0, SIDE))
    assert drift(picture, None) is picture
