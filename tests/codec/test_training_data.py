"""Pictures, crops and packed crops."""

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from codec_runtime.training.data import CropSampler, data_hash, list_images, load_image
from codec_runtime.training.packed import PackedCrops, open_training_data, pack, read_packed

CPU = torch.device("cpu")


@pytest.fixture
def pictures(tmp_path):
    folder = tmp_path / "pictures"
    folder.mkdir()
    for index, (width, height) in enumerate(((40, 48), (80, 96), (20, 20))):
        # Red is the column, green the row, blue the picture: a crop tells where it is from.
        rows, columns = np.mgrid[0:height, 0:width]
        array = np.stack((columns, rows, np.full_like(rows, index)), axis=2).astype(np.uint8)
        Image.fromarray(array).save(folder / f"{index}.png")
    return folder


def test_missing_folder_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere"):
        list_images([tmp_path / "nowhere"])


def test_unreadable_picture_is_named(tmp_path):
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"not a picture")
    with pytest.raises(ValueError, match=r"broken\.png"):
        load_image(broken)
    with pytest.raises(ValueError, match=r"broken\.png"):
        pack([tmp_path], tmp_path / "out.safetensors", size=32, count=1)


def test_data_hash_depends_on_the_content(tmp_path):
    path = tmp_path / "a.png"
    path.write_bytes(b"1")
    first = data_hash([path])
    path.write_bytes(b"2")
    assert data_hash([path]) != first


def _intact(crop):
    """Whether a crop in 0..255 is a piece of a picture of the fixture, mirrored or not."""
    columns, rows = crop[0], crop[1]
    step = columns[0, 1] - columns[0, 0]
    return (
        abs(float(step)) == 1.0
        and torch.equal(columns, columns[:1].expand_as(columns))
        and torch.equal(columns[0].diff(), step.expand(columns.shape[1] - 1))
        and torch.equal(rows[:, 0].diff(), torch.ones(rows.shape[0] - 1))
        and torch.equal(rows, rows[:, :1].expand_as(rows))
    )


def test_packed_crops_are_pieces_of_the_pictures_that_are_large_enough(tmp_path, pictures):
    out = tmp_path / "crops.safetensors"
    written = pack([pictures], out, size=32, count=12)
    crops = read_packed(out)
    assert crops.shape == (written, 3, 32, 32)
    assert all(_intact(crop.float()) for crop in crops)
    of = [int(crop[2, 0, 0]) for crop in crops]
    assert (of.count(0), of.count(1), of.count(2)) == (4, 8, 0)  # square root of the area; 20x20 is too small
    assert pack([pictures], tmp_path / "again.safetensors", size=32, count=12) == written
    assert torch.equal(crops, read_packed(tmp_path / "again.safetensors"))


@pytest.mark.parametrize("kind", ["folder", "packed"])
def test_batches_are_mirrored_pieces_and_a_function_of_the_seed(tmp_path, pictures, kind):
    source = pictures
    if kind == "packed":
        source = tmp_path / "crops.safetensors"
        pack([pictures], source, size=32, count=12)
    batches, count, digest = open_training_data([source], 24, 1, CPU)
    batches.restart(5)
    first = batches.batch(32)
    assert first.shape == (32, 3, 24, 24)
    assert all(_intact((crop * 255.0).round()) for crop in first)
    mirrored = sum(bool(crop[0, 0, 1] < crop[0, 0, 0]) for crop in first)
    assert 4 < mirrored < 28
    batches.restart(5)
    assert torch.equal(first, batches.batch(32))
    assert not torch.equal(first, batches.batch(32))
    assert count == (3 if kind == "folder" else 12)
    assert len(digest) == 64


def test_crops_larger_than_the_packed_ones_are_refused():
    with pytest.raises(ValueError, match="32x32, crops of 40x40"):
        PackedCrops(torch.zeros(1, 3, 32, 32, dtype=torch.uint8), 40, 1)


def test_crops_larger_than_every_picture_are_refused(tmp_path, pictures):
    with pytest.raises(ValueError, match="128x128"):
        CropSampler([torch.zeros(3, 64, 64, dtype=torch.uint8)], 128, 1)
    with pytest.raises(ValueError, match="128x128"):
        pack([pictures], tmp_path / "out.safetensors", size=128, count=4)


@pytest.mark.parametrize("tensors", [{"other": torch.zeros(1)}, {"crops": torch.zeros(2, 3, 8, 8)}])
def test_a_file_without_packed_crops_is_refused(tmp_path, tensors):
    path = tmp_path / "crops.safetensors"
    save_file(tensors, path)
    with pytest.raises(ValueError, match=r"crops\.safetensors"):
        read_packed(path)


def test_folders_and_packed_files_do_not_mix(tmp_path, pictures):
    with pytest.raises(ValueError, match="not both"):
        open_training_data([pictures, tmp_path / "crops.safetensors"], 32, 1, CPU)


def test_a_packed_file_that_does_not_exist_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="semcom train pack"):
        open_training_data([tmp_path / "crops.safetensors"], 32, 1, CPU)
