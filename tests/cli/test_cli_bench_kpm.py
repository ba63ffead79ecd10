"""`semcom bench kpm-decode`: documented keys, sizes that make no sense are named, disagreement stops it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from xapp.benchmarks import kpm_decode
from xapp.benchmarks.kpm_decode import BenchError, KpmDecodeBenchmark, bench_kpm_decode, cpu_name, interleaved
from xapp.benchmarks.kpm_reference import kpm_syntax
from xapp.cli import app
from xapp.ric.kpm.versions import KPM_VERSIONS, kpm_layout

RUNNER = CliRunner()


def test_a_small_run_gives_every_documented_key() -> None:
    pytest.importorskip("asn1tools", reason="asn1tools is one of the references")
    pytest.importorskip("pycrate_asn1c", reason="pycrate is one of the references")
    command = "bench kpm-decode --users 2 --measurements 10 --rounds 2 --json"
    result = RUNNER.invoke(app, command.split())
    assert result.exit_code == 0, result.output
    printed = json.loads(result.stdout)
    assert (printed["users"], printed["measurements"]) == (2, 10)
    assert set(printed["speedup"]) == {"asn1tools", "pycrate"}
    assert set(printed["ms"]) == {"ours", "asn1tools", "pycrate"}
    assert all(value > 0 for value in printed["ms"].values())
    assert printed["e2ap_envelope_us"] > 0
    assert set(printed["versions"]) == {"python", "asn1tools", "pycrate"}


@pytest.mark.parametrize("size", [("0", "8"), ("32", "101")])
def test_sizes_out_of_range_are_named(size: tuple[str, str]) -> None:
    result = RUNNER.invoke(app, ["bench", "kpm-decode", "--users", size[0], "--measurements", size[1]])
    assert result.exit_code == 2
    assert "1..1000 and 1..100 are legal" in " ".join(result.output.split())


def test_decoders_that_disagree_are_not_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("asn1tools", reason="asn1tools is one of the references")
    monkeypatch.setattr(kpm_decode, "unlabelled_reports", lambda value: [])
    with pytest.raises(BenchError, match="asn1tools decodes other values"):
        bench_kpm_decode(2, 2, rounds=1)


def test_every_decoder_takes_its_turn_in_every_round() -> None:
    seen: list[str] = []
    calls = {name: (lambda name=name: seen.append(name)) for name in ("a", "b")}
    rounds = []
    times = interleaved(calls, 3, lambda: rounds.append(len(seen)))
    assert [(len(values.wall), len(values.cpu)) for values in times.values()] == [(3, 3), (3, 3)]
    assert len(rounds) == 3
    assert {"a", "b"} <= set(seen[4 : rounds[0]])  # behind the four trial calls


def test_speed_ups_are_ratios_of_the_times() -> None:
    result = KpmDecodeBenchmark(
        users=1,
        measurements=1,
        rounds=3,
        bytes=100,
        ms={"ours": 0.5, "asn1tools": 20.0, "pycrate": 40.0},
        wall_ms={"ours": 1.0, "asn1tools": 30.0, "pycrate": 50.0},
        spread={"ours": 0.1, "asn1tools": 0.1, "pycrate": 0.1},
        e2ap_envelope_us=20.0,
    )
    assert result.speedup == {"asn1tools": 40.0, "pycrate": 80.0}
    assert result.speedup_wall == {"asn1tools": 30.0, "pycrate": 50.0}
    assert "40.0x" in result.as_text()


@pytest.mark.parametrize("version", KPM_VERSIONS)
def test_reference_syntax_follows_the_layout_of_the_version(version: str) -> None:
    text = kpm_syntax(version)  # type: ignore[arg-type]
    layout = kpm_layout(version)  # type: ignore[arg-type]
    assert f"TimeStamp ::= OCTET STRING (SIZE ({layout.timestamp_octets}))" in text
    assert ("logicalOR Flag" in text) is not layout.matching_cond_choice
    assert ("testExpr TestCondExpression OPTIONAL" in text) is not layout.test_mandatory
    assert ("indicationMessage-Format3 IndicationMessage-Format3, ..." in text) is layout.markers_moved


def test_cpu_is_named_from_what_linux_tells(tmp_path: Path) -> None:
    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text("processor\t: 0\nmodel name\t: A CPU @ 2 GHz\n")
    assert cpu_name(cpuinfo) == "A CPU @ 2 GHz"
    assert isinstance(cpu_name(tmp_path / "absent"), str)
