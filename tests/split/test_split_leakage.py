"""Distance correlation of what crosses with the picture: its scale, on networks, as a limit of a plan."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from codec_runtime.split.graph import trace
from codec_runtime.split.leakage import distance_correlation, node_leakage
from codec_runtime.split.networks.branches import Branches
from xapp.cli import app


def test_scale_is_1_for_a_moved_copy_and_near_0_for_independent_samples_of_many_dimensions() -> None:
    torch.manual_seed(0)
    samples = torch.randn(64, 300)
    turned = samples @ torch.linalg.qr(torch.randn(300, 300)).Q * 3.0 + 7.0
    assert distance_correlation(samples, turned) == pytest.approx(1.0, abs=1e-4)
    assert distance_correlation(samples, torch.randn(64, 300)) < 0.3
    assert distance_correlation(samples, torch.zeros(64, 4)) == 0.0
    partly = distance_correlation(samples, samples + 2.0 * torch.randn(64, 300))
    assert 0.1 < partly < 0.9
    with pytest.raises(ValueError, match="3 and 3 samples"):
        distance_correlation(samples[:3], samples[:3])


def test_dependence_that_is_not_linear_is_found() -> None:
    angle = torch.linspace(0, 6.28, 100)[:, None]
    circle = torch.cat([angle.cos(), angle.sin()], 1)
    assert abs(float(torch.corrcoef(torch.stack([circle[:, 0], circle[:, 0] ** 2]))[0, 1])) < 0.05
    assert distance_correlation(circle[:, :1], circle[:, :1] ** 2) > 0.4


def test_every_node_that_yields_a_tensor_has_a_number_and_the_input_gives_all_away() -> None:
    torch.manual_seed(0)
    pictures = torch.randn(12, 3, 32, 32)
    traced = trace("branches", Branches(8, 5).eval(), (pictures,), fuse=True)
    found = node_leakage(traced, pictures)
    yielding = [node.name for node in traced.graph.nodes if node.op != "output"]
    assert set(found) == set(yielding)
    assert found[traced.graph.nodes[0].name] == pytest.approx(1.0)
    assert all(0.0 <= value <= 1.0 for value in found.values())


def test_a_plan_keeps_the_limit_and_says_what_it_needs(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    for index in range(10):
        noise = np.random.default_rng(index).integers(0, 256, (24, 24, 3)).astype(np.uint8)
        Image.fromarray(noise).save(tmp_path / "images" / f"{index}.png")
    file = tmp_path / "leakage.json"

    def run(*arguments: object) -> tuple[int, str]:
        done = CliRunner().invoke(app, ["split", *map(str, arguments)])
        return done.exit_code, done.output

    code, output = run("leakage", "chain", "--images", tmp_path / "images", "-o", file, "--json")
    assert code == 0, output
    told = json.loads(output)["leakage"]
    plan = ("plan", "chain", "--device", "sensor-small", "--uplink", "50", "--json")
    code, output = run(*plan)
    assert code == 0, output
    most = max(told[name] for name in json.loads(output)["best"]["crossing"])
    code, output = run(*plan, "--max-leakage", most - 1e-3, "--leakage", file)
    assert code == 0, output
    assert all(told[name] < most for name in json.loads(output)["best"]["crossing"])
    assert run(*plan, "--max-leakage", 0.5)[0] == 2
    assert "--leakage" in run(*plan, "--max-leakage", 0.5)[1]
    code, output = run("plan", "resnet50", "--max-leakage", 0.5, "--leakage", file)
    assert (code, "of chain, no node of which is in resnet50" in output.replace("\n", " ")) == (2, True)
