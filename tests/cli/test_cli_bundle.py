"""`semcom bundle`: what the commands print, and their exit codes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from typer.testing import CliRunner

from codec_runtime.codecs.fast import FastConfig, FastEncoder
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


def _spec(path: Path, version: int) -> None:
    path.write_text(json.dumps({
        "kind": "encoder", "name": "anchor", "version": version, "architecture": FastEncoder.architecture,
        "hyperparameters": dict(CONFIG.as_dict()), "recipe": "none", "data_sha256": "none", "seed": 1,
    }))


def _run(*words: object, code: int = 0) -> str:
    result = RUNNER.invoke(app, ["bundle", *map(str, words)])
    assert result.exit_code == code, result.output
    return result.output


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


def test_pictures_need_a_partner(inputs: tuple[Path, Path, Path], tmp_path: Path) -> None:
    assert "--with" in _run("create", *inputs, "--images", tmp_path, code=2)
