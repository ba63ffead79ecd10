"""`semcom eval split` and `semcom bench split`."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from xapp.cli import app


def _write_traces(folder: Path) -> Path:
    lines = ["Timestamp,SNR,RSRP,CQI,DL_bitrate,UL_bitrate"]
    lines += [
        f"2020.01.01_10.00.{second:02d},10,-90,{3 + second % 9},{9000 + 10 * second},50"
        for second in range(40)
    ]
    (folder / "Download__a.csv").write_text("\n".join(lines))
    return folder


@pytest.mark.slow
def test_eval_split_prints_rows_and_draws_them(tmp_path):
    plot = tmp_path / "plots" / "split.png"
    done = CliRunner().invoke(
        app,
        [
            "eval",
            "split",
            "--traces",
            str(_write_traces(tmp_path)),
            "--seconds",
            "30",
            "--json",
            "--plot",
            str(plot),
        ],
    )
    assert done.exit_code == 0, done.output
    result = json.loads(done.stdout)
    deciders = [row["decider"] for row in result["rows"]]
    assert {"device", "edge", "static", "neurosurgeon", "dads-light", "dads-heavy", "ours", "oracle"} <= set(
        deciders
    )
    assert {"mean_ms", "p95_ms", "energy_j", "moves_per_hour"} <= set(result["rows"][0])
    assert len(result["rows_by_class"]) == 8 * len(deciders)
    assert result["sharing"][0]["against"] == "optimum"
    assert plot.read_bytes().startswith(b"\x89PNG")


def test_eval_split_names_a_folder_without_traces(tmp_path):
    done = CliRunner().invoke(app, ["eval", "split", "--traces", str(tmp_path)])
    assert done.exit_code == 2
    assert "no *.csv" in done.output


@pytest.mark.slow
def test_bench_split_tells_decision_times_and_references():
    done = CliRunner().invoke(
        app, ["bench", "split", "--json", "--decisions", "20", "--rounds", "1", "--users", "80"]
    )
    assert done.exit_code == 0, done.output
    result = json.loads(done.stdout)
    assert result["nodes"] == 177
    assert result["decision_ms_p99"] >= result["decision_ms_p50"] > 0
    assert result["decision_1000_users_ms"] > 0
    assert {"scipy_max_flow", "scipy_max_flow_prepared"} <= set(result["reference_ms"])


def test_bench_split_refuses_fewer_users_than_classes():
    done = CliRunner().invoke(app, ["bench", "split", "--users", "3"])
    assert done.exit_code == 2
    assert "users" in done.output
