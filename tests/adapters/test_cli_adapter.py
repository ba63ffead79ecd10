"""`semcom train adapter` and `semcom eval adapter` on generated pictures, with encoders that ship."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from codec_runtime.adapters.skb import build, write_knowledge_base
from codec_runtime.bundle.verification import verify_bundle
from xapp.cli import app

COLOURS = {"red": (220, 30, 30), "green": (20, 200, 40), "blue": (30, 40, 230), "grey": (120, 120, 120)}
ENCODERS = ["--image-encoder", "jscc", "--text-encoder", "small-text"]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    (folder / "images").mkdir(parents=True)
    rows = ["image,caption"]
    generator = np.random.default_rng(0)
    for number in range(24):
        colour = list(COLOURS)[number % 4]
        pixels = np.clip(np.array(COLOURS[colour]) + generator.normal(0, 20, (32, 32, 3)), 0, 255)
        Image.fromarray(pixels.astype(np.uint8)).save(folder / "images" / f"{number}.png")
        rows += [f"{number}.png,A {colour} wall number {number}", f'{number}.png,"Paint, {colour}"']
    (folder / "captions.txt").write_text("\n".join(rows) + "\n")
    return folder


def _train(data: Path, root: Path, *more: str):
    knowledge = build(torch.randn(40, 384, generator=torch.Generator().manual_seed(0)), 16, seed=0)
    write_knowledge_base(root, knowledge, version=1, source="noise")
    return CliRunner().invoke(app, [
        "train", "adapter", "--data", str(data), "--out", str(root), "--cache", str(root / "cache"), "--json",
        "--test", "10", "--epochs", "2", "--batch", "14", "--knowledge", str(root / "skb" / "semantic" / "1"),
        *ENCODERS, *more,
    ])


def test_what_is_trained_is_a_sound_bundle_that_eval_measures_alike(data: Path, tmp_path: Path):
    root = tmp_path / "run"
    trained = _train(data, root)
    assert trained.exit_code == 0, trained.output
    result = json.loads(trained.stdout.splitlines()[-1])
    place = root / "adapter" / "shared" / "1"
    assert verify_bundle(place).sound
    assert len(json.loads((root / "adapter_curve.json").read_text())["curve"]) == result["epochs"] == 2
    measured = CliRunner().invoke(app, [
        "eval", "adapter", "--data", str(data), "--bundle", str(place), "--cache", str(root / "cache"),
        "--knowledge", str(root / "skb" / "semantic" / "1"), *ENCODERS, "--json",
    ])
    assert measured.exit_code == 0, measured.output
    row = json.loads(measured.stdout.splitlines()[-1])
    assert row["pictures"] == 10
    assert row["rsum"] == pytest.approx(result["rsum"], abs=40)  # the bundle stores fp16, the set is tiny
    again = _train(data, root)
    assert again.exit_code == 2
    assert "higher version" in again.output


def test_other_encoders_than_those_trained_with_are_refused(data: Path, tmp_path: Path):
    root = tmp_path / "run"
    assert _train(data, root).exit_code == 0
    wrong = CliRunner().invoke(app, [
        "eval", "adapter", "--data", str(data), "--bundle", str(root / "adapter" / "shared" / "1"),
        "--knowledge", str(root / "skb" / "semantic" / "1"), "--image-encoder", "kpi", "--text-encoder",
        "small-text",
    ])
    assert wrong.exit_code == 2
    assert "another kpi" in wrong.output


@pytest.mark.parametrize(("option", "value", "told"), [
    ("--image-encoder", "clip", "no encoder"), ("--image-encoder", "kpi", "image is needed"),
    ("--test", "24", "left on both sides"),
])
def test_what_does_not_fit_is_told(data: Path, tmp_path: Path, option: str, value: str, told: str):
    result = _train(data, tmp_path / "run", option, value)
    assert result.exit_code == 2
    assert told in " ".join(result.output.split())
