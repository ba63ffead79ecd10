"""`semcom bench swap`: what counts in which kind of phase, and a trial run end to end."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest
import torch
from safetensors.torch import load_file
from typer.testing import CliRunner

from codec_runtime.benchmarks.codec import BenchError
from codec_runtime.benchmarks.swap import Kind, Phase, Plan, SwapBenchmark
from codec_runtime.benchmarks.swap_control import spend
from codec_runtime.benchmarks.swap_load import Exchange
from codec_runtime.bundle.manifest_file import manifest_bytes, read_manifest
from codec_runtime.contract.bundle import MANIFEST_FILE, WEIGHTS_FILE
from xapp.benchmarks.swap_updates import write_tiny_pair, write_variants
from xapp.cli import app

PLAN = Plan(
    swaps=2, seconds=20.0, phase_s=10.0, clients=1, side=32, first_version=2, encoder_version=1,
    decoder="conv",
)


def _measured(exchanges: list[Exchange]) -> SwapBenchmark:
    phases = [Phase("none", 0.0, 10.0), Phase("swaps", 10.0, 20.0)]
    return SwapBenchmark(PLAN, "torch", [0.001, 0.003], [5.0, 7.0], [9.0, 9.0], exchanges, phases, 0.5)


def _exchange(begun: float, took: float, **what: str) -> Exchange:
    return Exchange(begun_s=begun, ended_s=begun + took, version=2, **what)


def test_exchanges_count_in_the_phase_that_holds_them_whole() -> None:
    result = _measured([
        _exchange(1.0, 0.010), _exchange(9.995, 0.010), _exchange(10.1, 0.020), _exchange(12.0, 0.020),
        _exchange(13.0, 5.0, failed="OSError"), _exchange(14.0, 0.020, mixed="version 3 answered"),
    ])
    assert result.latencies("none") == pytest.approx([10.0])
    assert result.latencies("swaps") == pytest.approx([20.0, 20.0, 20.0])
    told = result.as_dict()
    assert (told["swaps"], told["failed"], told["mixed_version"]) == (2, 1, 1)
    assert (told["publish_ms_max"], told["p99_ratio"], told["rss_growth_mb"]) == (0.003, 2.0, 0.5)
    assert told["first_problem"] == "OSError"
    assert "1 failed, 1 mixed versions" in result.as_text()


def test_the_first_exchanges_after_a_phase_with_swaps_count_in_neither() -> None:
    result = _measured([_exchange(0.1, 0.010), _exchange(1.0, 0.020), _exchange(12.0, 0.030)])
    assert result.latencies("none") == pytest.approx([20.0])


def test_the_interval_of_the_ratio_covers_what_phases_differ_by() -> None:
    phases = [Phase("swaps" if k % 2 else "none", 10.0 * k, 10.0 * k + 10.0) for k in range(8)]
    took = [0.01, 0.01, 0.01, 0.01, 0.01, 0.02, 0.01, 0.02]  # two of the four phases with swaps are slower
    exchanges = [_exchange(10.0 * k + 1.0, seconds) for k, seconds in enumerate(took)]
    result = SwapBenchmark(PLAN, "torch", [0.001], [5.0], [9.0], exchanges, phases, 0.5)
    low, high = result.as_dict()["p99_ratio_ci95"]
    assert low < result.as_dict()["p99_ratio"] <= high
    assert (low, high) == (pytest.approx(1.0, abs=1e-6), pytest.approx(2.0, abs=1e-6))
    assert result.as_dict()["seconds"] == {"swaps": 40.0, "none": 40.0}


def test_the_control_is_told_apart_from_the_swaps() -> None:
    kinds: list[Kind] = ["none", "swaps", "none", "control"]
    phases = [Phase(kind, 10.0 * k, 10.0 * k + 10.0) for k, kind in enumerate(kinds)]
    took = [0.01, 0.03, 0.01, 0.02]
    exchanges = [_exchange(10.0 * k + 1.0, seconds) for k, seconds in enumerate(took)]
    plan = replace(PLAN, control_ms=220.0)
    result = SwapBenchmark(plan, "torch", [0.001], [5.0], [9.0], exchanges, phases, 0.5)
    told = result.as_dict()
    assert told["p99_ratio"] == 3.0
    assert told["control"] == {"cpu_ms": 220.0, "p99_ratio": 2.0, "p99_ratio_ci95": [2.0, 2.0]}
    assert told["seconds"] == {"swaps": 10.0, "none": 20.0, "control": 10.0}
    assert "spent on nothing: p99 ratio 2.000" in result.as_text()


def test_the_control_takes_the_cpu_time_it_is_told() -> None:
    began, used = time.monotonic(), time.thread_time()
    spend(0.03, share=0.5)
    assert time.thread_time() - used >= 0.03
    assert time.monotonic() - began >= 0.06


def test_too_short_a_run_says_so_instead_of_a_ratio() -> None:
    with pytest.raises(BenchError, match="more --seconds"):
        _measured([_exchange(1.0, 0.01)]).as_dict()


def test_a_decoder_that_is_not_there_is_named() -> None:
    result = CliRunner().invoke(app, ["bench", "swap", "--decoder", "brain"])
    assert result.exit_code != 0
    assert "holds no decoder brain" in result.output


@pytest.mark.parametrize("base", [1, 2])
def test_versions_of_the_parity_of_the_base_have_its_weights(tmp_path: Path, base: int) -> None:
    root = write_tiny_pair(tmp_path, "conv")
    place = root / "decoder" / "conv" / "1"
    manifest = msgspec.structs.replace(read_manifest(place), version=base)
    (place / MANIFEST_FILE).write_bytes(manifest_bytes(manifest))
    own = load_file(place / WEIGHTS_FILE)
    variants = write_variants(place, tmp_path / "variants")
    for parity, (_, weights) in variants.items():
        same = all(torch.equal(tensor, own[name]) for name, tensor in load_file(weights).items())
        assert same == (parity == base % 2)


@pytest.mark.slow
def test_trial_run_fails_no_request_and_mixes_no_version() -> None:
    result = CliRunner().invoke(app, ["bench", "swap", "--fast", "--control", "20", "--json"])
    assert result.exit_code == 0, result.output
    told = json.loads(result.stdout)
    assert (told["swaps"], told["failed"], told["mixed_version"]) == (4, 0, 0)
    assert told["versions_seen"] >= 3
    assert told["exchanges"]["all"] > told["exchanges"]["swaps"] > 0
    assert told["control"].keys() == {"cpu_ms", "p99_ratio", "p99_ratio_ci95"}
    assert {"publish_ms_max", "p99_ratio", "rss_growth_mb"} <= told.keys()
