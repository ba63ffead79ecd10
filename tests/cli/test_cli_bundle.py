"""`semcom bundle`: what the commands print, and their exit codes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from typer.testing import CliRunner

from codec_runtime.bundle.manifest_file import read_manifest
from codec_runtime.codecs.fast import FastConfig, FastEncoder
from codec_runtime.codecs.registry import build_decoder
from xapp.cli import app

RUNNER = CliRunner()
CONFIG = FastConfig(width=8, blocks=1)


@pytest.fixture
def inputs(tmp_path: Path) -> tuple[Path, Path, Path]:
    """Weights, spec and root."""
    torch.manual_seed(1)
    save_file(FastEncoder(CONFIG).state_dict(), tmp_path / "w.safetensors")
    _spec(tmp_path / "spec.json", 1)
    return tmp_path / "w.safetensors", tmp_path / "spec.json", tmp_path / "root"


def _spec(path: Path, version: int, **changed: object) -> None:
    path.write_text(json.dumps({
        "kind": "encoder", "name": "anchor", "version": version, "architecture": FastEncoder.architecture,
        "hyperparameters": dict(CONFIG.as_dict()), "recipe": "none", "data_sha256": "none", "seed": 1,
        **changed,
    }))


def _run(*words: object, code: int = 0) -> str:
    result = RUNNER.invoke(app, ["bundle", *map(str, words)])
    assert result.exit_code == code, result.output
    return result.stdout if code == 0 else result.output


def test_create_inspect_verify_diff(inputs: tuple[Path, Path, Path], tmp_path: Path) -> None:
    weights, spec, root = inputs
    first = json.loads(_run("create", weights, spec, root, "--json"))
    assert first["written"]
    state = FastEncoder(CONFIG).state_dict()
    save_file({**state, "head.bias": state["head.bias"] + 0.01}, tmp_path / "w2.safetensors")
    _spec(tmp_path / "spec2.json", 2)
    shown = _run("create", tmp_path / "w2.safetensors", tmp_path / "spec2.json", root,
                 "--parent", first["directory"], "--storage", "I8")
    assert "encoder/anchor/2" in shown
    second = root / "encoder" / "anchor" / "2"
    assert "storage I8" in _run("inspect", second, "--tensors")
    manifest = json.loads(_run("inspect", second, "--json"))
    assert (manifest["storage"], manifest["parent"]) == ("I8", 1)
    assert _run("verify", root).count("sound") == 2
    difference = json.loads(_run("diff", first["directory"], second, "--json"))
    assert difference["bytes"].keys() == {"full", "adapter", "delta", "manifest"}
    assert "stored otherwise" in _run("diff", first["directory"], second)


def test_verify_fails_on_a_damaged_bundle_and_says_why(inputs: tuple[Path, Path, Path]) -> None:
    directory = Path(json.loads(_run("create", *inputs, "--json"))["directory"])
    (directory / "weights.safetensors").write_bytes(b"x")
    report = json.loads(_run("verify", directory, "--json", code=1))["bundles"][0]
    assert not report["sound"]
    assert "SizeLimitError" in {finding["error"] for finding in report["findings"]}
    assert "REFUSED" in _run("verify", directory, code=1)
    assert "MissingFileError" in _run("verify", inputs[0].parent / "nothing", code=1)


@pytest.mark.parametrize("name", ["w.pt", "innocent.safetensors"])
def test_import_refuses_a_pickle_and_says_how_to_convert(
    inputs: tuple[Path, Path, Path], tmp_path: Path, name: str
) -> None:
    torch.save({"x": torch.ones(1)}, tmp_path / name)
    output = _run("import", tmp_path / name, *inputs[1:], code=2)
    assert "PickleRefusedError" in output
    assert "weights_only=True" in output
    assert not inputs[2].exists()


def test_import_renames_what_create_refuses(inputs: tuple[Path, Path, Path], tmp_path: Path) -> None:
    other = tmp_path / "other.safetensors"
    state = FastEncoder(CONFIG).state_dict()
    save_file({f"net.{name.replace('head', 'first')}": v for name, v in state.items()}, other)
    assert "MissingTensorError" in _run("create", other, *inputs[1:], code=2)
    assert "first" in _run("import", other, *inputs[1:], "--rename", r"^net\.=", code=2)
    _run("import", other, *inputs[1:], "--rename", "first=head")
    assert "sound" in _run("verify", inputs[2])


@pytest.mark.slow
def test_pictures_measure_what_storing_costs(inputs: tuple[Path, Path, Path], tmp_path: Path) -> None:
    weights, _, root = inputs
    encoder = Path(json.loads(_run("create", *inputs, "--json"))["directory"])
    torch.manual_seed(2)
    decoder: Any = build_decoder("fast", "conv", CONFIG)
    save_file(decoder.state_dict(), tmp_path / "conv.safetensors")
    _spec(tmp_path / "conv.json", 1, kind="decoder", name="conv", architecture=decoder.architecture,
          hyperparameters=dict(decoder.config.as_dict()))
    (tmp_path / "pictures").mkdir()
    for index in range(2):
        picture = np.random.default_rng(index).integers(0, 255, (176, 176, 3), np.uint8)
        Image.fromarray(picture).save(tmp_path / "pictures" / f"{index}.png")
    measured = ("--images", tmp_path / "pictures", "--storage", "I8", "--json")
    created = json.loads(_run("create", tmp_path / "conv.safetensors", tmp_path / "conv.json", root,
                              "--with", encoder, *measured))
    metrics = read_manifest(Path(created["directory"])).metrics
    assert metrics["storage_psnr_loss_db"] != 0.0
    assert -1.0 < metrics["storage_psnr_loss_db"] <= metrics["storage_psnr_loss_db_max"] < 1.0
    _spec(tmp_path / "spec2.json", 2)
    created = json.loads(_run("create", weights, tmp_path / "spec2.json", root,
                              "--with", created["directory"], *measured))
    assert "storage_psnr_loss_db" in read_manifest(Path(created["directory"])).metrics
    assert "--images" in _run("create", *inputs, "--with", encoder, "--images", tmp_path / "none", code=2)


def test_pictures_need_a_partner(inputs: tuple[Path, Path, Path], tmp_path: Path) -> None:
    assert "--with" in _run("create", *inputs, "--images", tmp_path, code=2)
