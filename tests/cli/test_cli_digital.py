"""`semcom eval digital` and `semcom eval bottleneck`: rows, keys, refusals."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from codec_runtime.split.networks import build_network
from codec_runtime.split.squeezed import SqueezedCut
from codec_runtime.split.squeezed_release import read_release
from xapp.cli import app


def _run(*arguments):
    return CliRunner().invoke(app, list(map(str, arguments)))


def _pictures(folder: Path, count: int, side: int = 192) -> Path:
    folder.mkdir()
    rows, columns = np.mgrid[0:side, 0:side]
    for index in range(count):
        waves = np.stack([np.sin(rows / (5 + index + c)) + np.cos(columns / (9 + c)) for c in range(3)], 2)
        Image.fromarray((127.5 + 60 * waves).clip(0, 255).astype(np.uint8)).save(folder / f"{index}.png")
    return folder


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_eval_digital_has_a_row_for_each_way_of_sending(tmp_path: Path):
    images = _pictures(tmp_path / "images", 4)
    trained = _run(
        "train", "digital", "--images", images, "--run", tmp_path / "run", "--steps", 1, "--warm-steps", 1,
        "--batch", 1, "--rate-pictures", 4,
    )  # fmt: skip
    assert trained.exit_code == 0, trained.output
    tables = ("--tables", trained.stdout.strip().splitlines()[-1])
    done = _run(
        "eval", "digital", "--images", images, *tables, "--baselines", "jpeg", "--pictures", 1, "--json"
    )
    assert done.exit_code == 0, done.output
    rows = json.loads(done.stdout)["rows"]
    assert {"mode", "bytes", "psnr_db", "ms_ssim"} <= rows[0].keys()
    modes = {row["mode"] for row in rows}
    assert any("jpeg" in mode for mode in modes)
    assert len(modes) >= 3


@pytest.mark.slow
def test_the_shipped_tables_belong_to_the_shipped_encoder(tmp_path: Path):
    images = _pictures(tmp_path / "images", 1, 192)
    done = _run("eval", "digital", "--images", images, "--baselines", "none", "--json")
    assert done.exit_code == 0, done.output
    entropy = [row for row in json.loads(done.stdout)["rows"] if row["mode"] == "entropy"]
    assert len(entropy) >= 5
    assert max(row["psnr_db"] for row in entropy) > 20


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_eval_bottleneck_compares_a_trained_one_with_image_codecs(tmp_path: Path):
    images, run = _pictures(tmp_path / "images", 12, 224), tmp_path / "run"
    trained = _run(
        "train", "bottleneck", "--images", images, "--run", run, "--network", "chain", "--after", "4",
        "--squeezed", 4, "--steps", "2,1,1", "--batch", 4, "--views", 1, "--most", 12,
    )  # fmt: skip
    assert trained.exit_code == 0, trained.output
    done = _run("eval", "bottleneck", "--images", images, "--run", run, "--most", 4, "--figure",
                tmp_path / "curve.png", "--json")  # fmt: skip
    assert done.exit_code == 0, done.output
    assert (tmp_path / "curve.png").read_bytes().startswith(b"\x89PNG")
    rows = json.loads(done.stdout)["rows"]
    assert {"method", "setting", "bytes", "agreement", "kl"} <= rows[0].keys()
    assert {"jpeg", "webp"} <= {row["method"] for row in rows}
    assert all(0.0 <= row["agreement"] <= 1.0 for row in rows)
    released = _run(
        "eval", "bottleneck", "--images", images, "--run", run, "--most", 4, "--stage", "tune",
        "--baselines", "none", "--release", tmp_path / "kept", "--json",
    )  # fmt: skip
    assert released.exit_code == 0, released.output
    measured = [row for row in json.loads(released.stdout)["rows"] if row["method"] == "bottleneck"]
    kept = read_release(tmp_path / "kept")
    assert [figures.bytes for figures in kept.record.figures] == pytest.approx(
        [row["bytes"] for row in measured], abs=1e-3
    )
    assert all(figures.cap_bytes >= 1.25 * figures.bytes for figures in kept.record.figures)
    assert kept.record.tuned == ("7",)
    network, _ = build_network("chain", batch=1)
    holder = SqueezedCut(kept.spec("3"), network)
    holder.load_state_dict(kept.state)
    assert not torch.equal(holder.tuned_state()["7.weight"], network.state_dict()["7.weight"])
    assert holder.tables.coding_tables().points == len(measured)


def test_missing_pictures_and_runs_are_refused_by_name(tmp_path: Path):
    done = _run("eval", "digital", "--images", tmp_path, "--tables", tmp_path / "none")
    assert done.exit_code == 2
    assert "none" in done.output
    done = _run("eval", "bottleneck", "--images", tmp_path, "--run", tmp_path / "run")
    assert done.exit_code == 2
    assert "run" in done.output
