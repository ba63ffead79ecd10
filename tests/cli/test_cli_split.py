"""`semcom split profile` and `explain`: JSON keys, files, refusals."""

import json

import pytest
from typer.testing import CliRunner

from codec_runtime.contract.split import CostProfile, SplitNode, make_graph
from codec_runtime.split.profile import read_profiles
from xapp.cli import app, split_views


def _run(*arguments):
    return CliRunner().invoke(app, ["split", *arguments])


def _profile(graph, seconds, device_class):
    return CostProfile(graph=graph.digest, network=graph.name, device_class=device_class, seconds=seconds)


def test_explanation_has_the_best_cut_of_all_and_each_in_order(capsys):
    sizes = {"input": 100_000, "relu": 100_000, "conv": 1_000, "linear": 4_000}
    nodes = [SplitNode(name=name, op=name, output_bytes=size) for name, size in sizes.items()]
    nodes.append(SplitNode(name="output", op="output", output_bytes=0))
    graph = make_graph("small", nodes, [(0, 1), (1, 2), (2, 3), (3, 4)])
    device = _profile(graph, (0.0, 0.001, 0.002, 0.5, 0.0), "weak")
    edge = _profile(graph, (0.0, 1e-5, 2e-5, 5e-3, 0.0), "strong")
    link = split_views.link_of(10, 30, 5)
    found = split_views.explain(graph, device, edge, link, split_views.power_of("weak"))
    assert found.cut.device == (0, 1, 2)
    assert found.best == found.candidates[2]
    assert found.best.crossing_bytes == 1_000
    assert found.best.total_s == pytest.approx(0.003 + 0.8e-3 + 4000 * 8 / 30e6 + 0.010 + 0.005)
    assert [row["name"] for row in found.as_json()["candidates"]] == [*sizes, "output"]
    assert found.candidates[-1].net_s == 0
    split_views.show(found)
    assert "best" in capsys.readouterr().out


@pytest.mark.slow
def test_profile_tells_costs_and_the_error_on_networks_left_out(tmp_path):
    file = tmp_path / "profiles.json"
    done = _run("profile", "chain", "branches", "--fuse", "--rounds", "3", "--json", "-o", str(file))
    assert done.exit_code == 0, done.output
    summary = json.loads(done.stdout)
    assert {"host", "cpu", "torch", "dtype", "measured_at", "rows", "left_out"} == summary.keys()
    assert [row["network"] for row in summary["rows"]] == ["chain", "branches"]
    assert all(row["sum_ms"] > 0 and row["threads"] == 1 for row in summary["rows"])
    assert [row["network"] for row in summary["left_out"]] == ["chain", "branches"]
    assert [profile.network for profile in read_profiles(file)] == ["chain", "branches"]

    figure = tmp_path / "cut.svg"
    explained = _run("explain", "chain", "--profiles", str(file), "--figure", str(figure), "--json")
    assert explained.exit_code == 0, explained.output
    content = json.loads(explained.stdout)
    assert content["device"]["source"] == "scaled"
    assert len(content["candidates"]) == 6
    assert content["best"]["total_s"] <= min(row["total_s"] for row in content["candidates"]) * (1 + 1e-6)
    assert b"<svg" in figure.read_bytes()

    shown = _run("explain", "chain", "--profiles", str(file), "--device", "host-1t")
    assert shown.exit_code == 0, shown.output
    assert "best" in shown.stdout
    assert "0.conv2d+relu" in shown.stdout


def test_unknown_names_are_refused_with_what_there_is(tmp_path):
    done = _run("profile", "alexnet")
    assert done.exit_code == 2
    assert "resnet50" in done.output
    done = _run("explain", "chain", "--figure", str(tmp_path / "cut.pdf"))
    assert done.exit_code == 2
    assert ".svg or .png" in done.output
    done = _run("explain", "chain", "--profiles", str(tmp_path / "none.json"))
    assert done.exit_code == 2
    assert "none.json" in done.output
