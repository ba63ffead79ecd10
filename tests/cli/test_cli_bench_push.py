"""`semcom bench push`: a small pair through real processes gives every key; a missing pair is named."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from codec_runtime.bundle.store import write_bundle
from codec_runtime.codecs.fast import FastConfig, FastEncoder
from codec_runtime.codecs.registry import build_decoder
from xapp.benchmarks.push import CASES, STEPS, PushBenchmark
from xapp.cli import app

RUNNER = CliRunner()


def test_weights_without_a_pair_are_named(tmp_path: Path) -> None:
    result = RUNNER.invoke(app, ["bench", "push", "--weights", str(tmp_path)])
    assert result.exit_code == 2
    assert "no decoder 'attention'" in " ".join(result.output.split())


def test_the_ratio_compares_transfer_and_verification_with_the_upload() -> None:
    own = {"transfer": 20.0, "verify": 10.0, "load": 500.0, "publish": 0.0004, "record": 5.0, "whole": 535.0}
    steps = dict.fromkeys(CASES, own)
    steps["adapter"] = {**own, "transfer": 12.0}
    result = PushBenchmark(
        rounds=3, bundles="a pair", bytes=dict.fromkeys(CASES, 100),
        targets={"full": 9_000_000, "adapter": 5_000_000, "delta": 9}, steps=steps,
        raw_bytes={"full": 9_000_000, "adapter": 5_000_000}, raw_ms={"full": 20.0, "adapter": 12.0},
        ratios=[1.4, 1.5, 1.9], best_ratio=1.3,
    )
    assert (result.ratio, result.transfer_ratio) == (1.5, 1.0)
    assert result.ms == {
        "full": 30.0, "adapter": 22.0, "delta": 30.0, "raw_http": 20.0, "raw_http_adapter": 12.0
    }
    assert result.as_dict()["ms_per_mb"] == {"push": 2.0, "raw_http": 2.0}
    assert result.as_dict()["fixed_ms"] == {"push": 12.0, "raw_http": 2.0}
    assert "1.50x the raw upload" in result.as_text()
    assert result.as_dict()["steps"]["full"]["publish"] == 0.0004


@pytest.mark.parametrize(("size", "said"), [(8_999_999, False), (9_000_000, True), (13_000_001, False)])
def test_a_pair_of_another_size_than_10_mb_is_said_to_be_none(size: int, said: bool) -> None:
    steps = {case: dict.fromkeys(STEPS, 1.0) for case in CASES}
    sizes = dict.fromkeys(CASES, size)
    result = PushBenchmark(
        rounds=1, bundles="a pair", bytes=sizes, targets=sizes, raw_bytes=sizes, steps=steps,
        raw_ms=dict.fromkeys(CASES, 1.0), ratios=[2.0], best_ratio=2.0,
    )
    assert result.as_dict()["is_10mb"] is said
    assert ("not the case of 10 MB" in result.as_text()) is not said


@pytest.mark.slow
def test_a_small_run_gives_every_documented_key(tmp_path: Path) -> None:
    config = FastConfig(width=16, blocks=3)
    encoder = write_bundle(
        tmp_path / "encoder/anchor/1", kind="encoder", name="anchor", version=1,
        architecture=FastEncoder.architecture, hyperparameters=config.as_dict(),
        state=FastEncoder(config).state_dict(),
    )
    decoder = build_decoder("fast", "attention", config)
    write_bundle(
        tmp_path / "decoder/attention/1", kind="decoder", name="attention", version=1,
        architecture=decoder.architecture, hyperparameters=config.as_dict(), state=decoder.state_dict(),
        encoder_sha256=encoder.weights_sha256,
    )
    result = RUNNER.invoke(app, ["bench", "push", "--fast", "--weights", str(tmp_path), "--json"])
    assert result.exit_code == 0, result.output
    measured = json.loads(result.stdout)
    assert set(measured["bytes"]) == set(CASES)
    assert set(measured["ms"]) == {*CASES, "raw_http", "raw_http_adapter"}
    assert all(set(steps) == set(STEPS) for steps in measured["steps"].values())
    assert measured["bytes"]["delta"] < measured["bytes"]["adapter"] < measured["bytes"]["full"]
    assert measured["ratio_10mb"] > 0
    assert measured["target_bytes"]["full"] == measured["raw_bytes"]
