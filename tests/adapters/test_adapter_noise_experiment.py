"""The experiment under label errors: who has what, what is stored, what the verdict says."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from adapter_toy_set import CONFIG, toy_pairs
from adapter_toy_users import SETTINGS, TRAINING, toy_problem, toy_tokens
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from codec_runtime.experiments import adapter_noise
from codec_runtime.experiments.adapter_noise import (
    AdapterNoiseSettings,
    cells_of,
    run_adapter_noise,
    told,
    verdict_of,
)
from codec_runtime.experiments.adapter_users import error_shares, non_iid, with_errors
from codec_runtime.experiments.adapter_views import adapter_noise_figures
from codec_runtime.experiments.tables import fill
from xapp.cli import app

TOY = AdapterNoiseSettings(
    images=("generated",), users=SETTINGS, adapter=CONFIG, training=TRAINING, methods=("ours", "fedgnn"),
    errors=("0", "60", "mixed"), other_methods=("transfer",), other_errors=("0",), mixes=(math.inf,),
    mix_errors="60", rounds=1, epochs=1, source_epochs=0, seeds=(1,),
)


@pytest.fixture
def generated(monkeypatch: pytest.MonkeyPatch) -> None:
    tokens = toy_tokens()
    monkeypatch.setattr(adapter_noise, "tokens_of", lambda folder, users: tokens)


@given(
    st.integers(2, 6), st.integers(1, 8), st.sampled_from([0.1, 0.5, math.inf]), st.integers(0, 5)
)
@settings(max_examples=30, deadline=None)
def test_users_get_equal_parts_and_no_picture_twice(users, each, alpha, seed):
    clusters = torch.arange(users * each + 3) % 4
    parts = non_iid(clusters, users, each, alpha, seed)
    together = torch.cat(parts).tolist()
    assert [len(part) for part in parts] == [each] * users
    assert len(set(together)) == len(together)
    again = non_iid(clusters, users, each, alpha, seed)
    assert all(torch.equal(one, other) for one, other in zip(parts, again, strict=True))


def test_a_smaller_alpha_makes_users_less_alike():
    clusters = torch.arange(1000) % 10

    def dominance(alpha: float) -> float:
        parts = non_iid(clusters, 10, 60, alpha, seed=1)
        return sum(float(torch.bincount(clusters[part]).max()) / len(part) for part in parts) / 10

    assert dominance(0.1) > dominance(0.5) > dominance(math.inf)


def test_too_few_pictures_are_refused():
    with pytest.raises(ValueError, match=r"10 users of 60 pictures need 600; there are 50"):
        non_iid(torch.zeros(50, dtype=torch.long), 10, 60, 0.5, 0)


@pytest.mark.parametrize("share", [0.0, 0.2, 0.6])
def test_wrong_labels_are_mismatched_pairs_and_every_picture_keeps_its_number(share):
    pairs = toy_pairs(60)
    said, wrong = with_errors(pairs, share, seed=3)
    assert torch.equal(said.owner != pairs.owner, wrong)
    assert share * len(pairs) - 5 <= int(wrong.sum()) <= share * len(pairs)
    assert torch.equal(torch.bincount(said.owner), torch.bincount(pairs.owner))


def test_half_of_the_users_have_mild_errors_in_the_mixed_setting():
    assert error_shares("mixed", 10) == [0.2] * 5 + [0.6] * 5
    assert error_shares("40", 2) == [0.4, 0.4]
    for errors in ("a lot", "140"):
        with pytest.raises(ValueError, match=rf"label errors '{errors}'"):
            error_shares(errors, 10)


def test_users_share_test_pictures_and_nothing_else():
    problem = toy_problem("60", source_epochs=0)
    first, _, third = problem.users
    assert first.own.test is third.own.test
    known = {tuple(row) for row in first.own.train.images.values.flatten(1).tolist()}
    assert not known & {tuple(row) for row in third.own.train.images.values.flatten(1).tolist()}
    assert not known & {tuple(row) for row in first.own.held_out.images.values.flatten(1).tolist()}
    assert 0.4 < int(first.wrong.sum()) / len(first.own.train) <= 0.6


@pytest.mark.usefixtures("generated")
def test_a_run_writes_the_promised_keys_and_a_second_run_computes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    result = run_adapter_noise(TOY, tmp_path, command="semcom experiment adapter-noise")
    assert json.loads(json.dumps(result, allow_nan=False))["rsum"] == result["rsum"]
    assert set(result["rsum"]) == {"0", "60", "mixed"}
    assert set(result["rsum"]["60"]["ours"]) == {"mean", "spread", "seeds"}
    assert set(result["rsum"]["0"]) == {"ours", "fedgnn", "transfer"}
    assert result["config"]["mixes"] == ["iid"]
    assert result["data_sha256"]["images"] == "a" * 64
    mixed = next(row for row in result["rows"] if row["errors"] == "mixed")
    assert set(mixed["groups"]) == {"20", "60"}
    assert [step["round"] for step in mixed["curve"]] == [0, 1]
    monkeypatch.setattr(adapter_noise, "run_method", None)
    assert run_adapter_noise(TOY, tmp_path, command="semcom experiment adapter-noise") == result
    page = fill("# A\n<!-- table adapter_noise -->\nold\n<!-- end -->\n", {"adapter_noise": result})
    assert "| fedgnn |" in page
    assert "old" not in page
    assert "NOT above" in page  # one seed proves nothing
    assert {"adapter-noise-levels", "adapter-noise-rounds-60"} <= set(adapter_noise_figures(result))


def test_a_first_seed_of_everything_comes_before_a_second():
    cells = cells_of(replace(TOY, seeds=(1, 2)))
    assert [cell.seed for cell in cells] == [1] * (len(cells) // 2) + [2] * (len(cells) // 2)
    assert len({cell.name for cell in cells}) == len(cells)
    with pytest.raises(KeyError, match=r"no update method 'theirs'"):
        cells_of(replace(TOY, methods=("theirs",)))


def test_mixed_errors_are_for_ours_and_the_federated_baselines():
    cells = cells_of(replace(TOY, methods=("ours", "local", "fedgnn"), errors=("60", "mixed"), mixes=()))
    assert [cell.method for cell in cells if cell.errors == "mixed"] == ["ours", "fedgnn"]
    assert [cell.method for cell in cells if cell.errors == "60"] == ["ours", "local", "fedgnn"]


def _level(ours: float, baseline: float, spread: float | None = 5.0) -> dict[str, dict[str, float | None]]:
    entry = {"ours": ours, "fedavg": baseline - 20, "fedgnn": baseline}
    return {name: {"mean": mean, "spread": spread} for name, mean in entry.items()}


def test_the_verdict_wants_margins_beyond_the_spread_and_a_small_loss():
    good = {"0": _level(200, 190), "60": _level(185, 120)}
    verdict = verdict_of(good)
    assert verdict["above_everywhere"] is True
    assert verdict["within_10_per_cent"] is True
    assert verdict["lost_at_60"] == pytest.approx(0.075)
    bad = {"0": _level(200, 197), "60": _level(170, 120)}
    verdict = verdict_of(bad)
    assert verdict["above_baselines"]["0"]["fedgnn"]["above"] is False
    assert verdict["above_everywhere"] is verdict["within_10_per_cent"] is False
    assert any("NOT above fedgnn" in line for line in told(bad, verdict))
    assert any("NOT within 10 %" in line for line in told(bad, verdict))
    assert verdict_of({"0": _level(200, 100, None)})["above_everywhere"] is False


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--methods", "theirs"], "no update method 'theirs'"),
        (["--light", "jscc"], "encoders 'jscc': one of pictures and one of sentences"),
        (["--seeds", "one"], "seeds 'one': write whole numbers"),
        ([], "captions.txt is not there"),
    ],
)
def test_the_command_says_what_is_wrong(tmp_path: Path, options: list[str], message: str):
    arguments = ["experiment", "adapter-noise", "--data", str(tmp_path), "--work", str(tmp_path / "work")]
    found = CliRunner().invoke(app, [*arguments, *options])
    assert found.exit_code == 2
    assert message in found.output
