"""`semcom split plan`: JSON keys, limits, many users, refusals."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from xapp.cli import app

NETWORK = "efficientnet-lite0"


def _run(*arguments):
    return CliRunner().invoke(app, ["split", "plan", *map(str, arguments)])


def _plan(*arguments):
    done = _run(NETWORK, "--json", *arguments)
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)


def test_best_cut_costs_what_its_stages_say_and_no_alternative_is_cheaper():
    plan = _plan("--device", "phone-low", "--uplink", 3, "--per-joule", 0)
    best = plan["best"]
    assert best["total_s"] == pytest.approx(best["device_s"] + best["net_s"] + best["edge_s"])
    assert best["cost"] == pytest.approx(best["total_s"])
    assert plan["gap"] <= 1e-4
    assert best["keeps_limits"]
    assert len(plan["alternatives"]) == 8
    assert all(other["cost"] >= best["cost"] * (1 - 1e-6) for other in plan["alternatives"])


def test_the_edge_class_decides_what_is_left_to_it():
    for edge in ("edge-cpu-32", "edge-t4", "edge-server"):
        weak = _plan("--device", "sensor-small", "--uplink", 50, "--edge", edge)["best"]
        assert weak["crossing"]
        assert weak["edge_s"] < weak["device_s"] + weak["net_s"]
    strong = _plan("--device", "drone", "--uplink", 0.1)["best"]
    assert (strong["crossing"], strong["bytes_up"]) == ([], 0.0)


def test_limits_are_kept_and_those_that_cannot_be_are_refused():
    free = _plan("--device", "wearable", "--uplink", 20)["best"]
    private = _plan("--device", "wearable", "--uplink", 20, "--min-depth", 12)["best"]
    assert private["cost"] >= free["cost"]
    small = _plan("--device", "wearable", "--uplink", 20, "--memory", 4)["best"]
    assert small["memory_bytes"] <= 4e6
    refused = _run(NETWORK, "--device", "wearable", "--deadline", 1)
    assert refused.exit_code == 2
    assert "deadline" in refused.output


def test_many_users_share_one_server(tmp_path: Path):
    file = tmp_path / "users.json"
    rows = [
        {"user": "a", "device": "sensor-small"},
        {"user": "b", "device": "phone-low", "uplink_mbps": 40},
        {"user": "c", "device": "drone", "deadline_ms": 100},
    ]
    file.write_text(json.dumps(rows))
    plan = _plan("--users", file)
    assert [row["user"] for row in plan["users"]] == ["a", "b", "c"]
    assert sum(row["share"] for row in plan["users"]) == pytest.approx(1.0)
    assert plan["lower_bound"] <= plan["cost"] * (1 + 1e-9)
    assert plan["stable"]
    assert plan["users"][2]["keeps_limits"]


@pytest.mark.parametrize(
    ("content", "told"),
    [("[]", "1..10000"), ("[{}]", "user"), ('[{"user": "a", "speed": 1}]', "speed"), ("no", "users.json"),
     ('[{"user": "a", "uplink_mbps": 0}]', "rates"), ('[{"user": "a", "device": "toaster"}]', "toaster")],
)
def test_users_that_cannot_be_planned_for_are_refused_by_name(tmp_path: Path, content: str, told: str):
    file = tmp_path / "users.json"
    file.write_text(content)
    done = _run(NETWORK, "--users", file)
    assert done.exit_code == 2
    assert told in done.output


def test_tables_name_what_crosses(tmp_path: Path):
    one = _run(NETWORK, "--device", "camera", "--alternatives", 2)
    assert one.exit_code == 0, one.output
    assert "best" in one.stdout
    file = tmp_path / "users.json"
    file.write_text('[{"user": "a"}]')
    many = _run(NETWORK, "--users", file)
    assert "a (" in many.stdout
    for arguments in (("--edge", "cloud"), ("--device", "toaster")):
        refused = _run(NETWORK, *arguments)
        assert refused.exit_code == 2
        assert arguments[1] in refused.output
