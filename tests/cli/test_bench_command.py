"""`semcom bench`: options that contradict each other are named, a small run gives every documented key."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from codec_runtime.benchmarks.codec_worker import WorkerSpec, codec_pair
from codec_runtime.bundle.store import SHIPPED_WEIGHTS, find_bundles
from xapp.cli import app

RUNNER = CliRunner()
CASES = {"encode_768x512", "decode_768x512", "encode_b16_128", "decode_b16_128"}


@pytest.mark.parametrize("command", ["bench codec", "bench golden"])
def test_help_explains_the_command(command: str) -> None:
    result = RUNNER.invoke(app, [*command.split(), "--help"])
    assert result.exit_code == 0
    assert "Usage" in result.output


@pytest.mark.parametrize(("options", "named"), [
    (["--family", "fast", "--weights", "x"], "--family"),
    (["--width", "32"], "--width"),
    (["--images", "/nowhere/picture.png"], "picture.png"),
])
def test_options_that_make_no_sense_are_named(options: list[str], named: str) -> None:
    result = RUNNER.invoke(app, ["bench", "codec", *options])
    assert result.exit_code == 2
    assert named in result.output


def test_missing_vectors_are_named(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr("codec_runtime.benchmarks.golden.golden_cases", lambda: iter(()))
    result = RUNNER.invoke(app, ["bench", "golden", str(tmp_path / "absent.json")])
    assert result.exit_code == 2
    assert "absent.json" in result.output


def test_golden_command_fails_when_a_network_is_gone(tmp_path: Path, monkeypatch) -> None:
    vectors = Path(__file__).parents[1] / "codec" / "golden_vectors.json"
    monkeypatch.setattr("codec_runtime.benchmarks.golden.golden_cases", lambda: iter(()))
    result = RUNNER.invoke(app, ["bench", "golden", str(vectors)])
    assert result.exit_code == 1
    assert "jscc-anchor-encoder" in result.output


def test_shipped_weights_can_be_measured_beside_bundles_that_are_no_codec() -> None:
    spec = WorkerSpec(
        weights=str(SHIPPED_WEIGHTS), family="", decoder="conv", config={}, engine="eager", compiled=False,
        precision="", threads=1,
    )
    encoder, decoder = codec_pair(spec)
    assert type(encoder).__name__ == "FastEncoder"
    assert type(decoder).__name__ == "FastConvDecoder"
    assert any(path.parts[-3] == "entropy-model" for path in find_bundles(SHIPPED_WEIGHTS))


@pytest.mark.slow
def test_unknown_family_is_named_by_the_process_that_measures() -> None:
    result = RUNNER.invoke(app, ["bench", "codec", "--family", "quick", "--runs", "1"])
    assert result.exit_code == 2
    assert "quick" in result.output
    assert "anchor" in result.output


@pytest.mark.slow
def test_a_small_run_gives_every_documented_key() -> None:
    arguments = ["--family", "fast", "--width", "8", "--runs", "2", "--precision", "fp32", "--json"]
    result = RUNNER.invoke(app, ["bench", "codec", *arguments])
    assert result.exit_code == 0, result.output
    measured = json.loads(result.stdout)
    assert set(measured["speedup_vs_eager_fp32"]) == set(measured["ms"]) == CASES
    assert all(value > 0 for value in measured["speedup_vs_eager_fp32"].values())
    assert max(measured["relative_error"].values()) <= 1e-5
    assert abs(measured["psnr_difference_db"]) < 0.001
    assert measured["backend"] in ("torch", "openvino")
    assert isinstance(measured["cpu_features"], list)
