"""Each experiment from pictures to JSON, at a size that shows that it runs and not what it finds."""

import json
from dataclasses import replace

import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from codec_runtime.bundle.store import SHIPPED_WEIGHTS
from codec_runtime.evaluation.command import load_codec
from codec_runtime.experiments.conflict import ConflictSettings, run_conflict
from codec_runtime.experiments.forgetting import ForgettingSettings, run_forgetting
from codec_runtime.experiments.rates import FAST, RateSettings, run_rates
from codec_runtime.experiments.schemes import SchemeSettings, run_schemes
from codec_runtime.experiments.trial import (
    Measurement,
    Trial,
    TrialSettings,
    build_networks,
    measure,
    run_trial,
)
from xapp.cli import app

SIDE = 176
DECODERS = ("attention", "conv", "resnet", "vgg")


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pictures")
    generator = torch.Generator().manual_seed(1)
    for index in range(2):
        coarse = torch.rand(1, 3, 22, 22, generator=generator)
        smooth = torch.nn.functional.interpolate(coarse, size=(SIDE, SIDE), mode="bilinear")[0]
        pixels = (smooth * 255).to(torch.uint8).permute(1, 2, 0).numpy()
        Image.fromarray(pixels).save(folder / f"{index}.png")
    return str(folder)


@pytest.fixture
def trial(pictures):
    return TrialSettings(
        images=(pictures,), width=8, blocks=2, encoder_updates=4, decoder_updates=1, epoch_steps=1, crop=32,
        batch=2, warmup_steps=1,
    )


@pytest.fixture
def measurement(pictures):
    return Measurement(images=(pictures,), snrs_db=(1.0, 13.0), pictures=1)


@pytest.mark.slow
def test_schemes_make_the_same_updates_and_are_measured_alike(trial, measurement, tmp_path):
    settings = SchemeSettings(
        replace(trial, decoders=("attention", "conv"), encoder_updates=2), measurement, channels=("awgn",),
        seeds=(1,),
    )
    result = run_schemes(settings, tmp_path, command="semcom experiment schemes")
    assert {row["recipe"] for row in result["rows"]} == {
        "anchor", "iterative", "iterative-final", "simultaneous", "joint-single",
    }
    assert len(result["rows"]) == 5 * 2 * 2  # recipes x decoders x SNRs
    assert result["verdict"]["awgn"]["complete"]
    for cell in result["budget"]:
        made = [(name, count) for stage in cell["updates"] for name, count in stage.items()]
        assert {count for name, count in made if name.startswith("encoder")} == {2}, cell["recipe"]
        assert {count for name, count in made if name in ("attention", "conv")} == {1}, cell["recipe"]
    json.dumps(result)


def test_schemes_go_on_where_they_were_interrupted(trial, measurement, tmp_path, monkeypatch):
    settings = SchemeSettings(
        replace(trial, decoders=("conv",), encoder_updates=1), measurement, recipes=("anchor",),
        channels=("awgn",), seeds=(1,),
    )
    first = run_schemes(settings, tmp_path, command="")

    def forbidden(trial: Trial) -> dict:
        raise AssertionError(f"{trial.recipe} was trained again")

    monkeypatch.setattr("codec_runtime.experiments.schemes.run_trial", forbidden)
    assert run_schemes(settings, tmp_path, command="")["rows"] == first["rows"]


def test_iterative_training_is_measured_right_after_each_users_last_turn(trial, measurement):
    settings = replace(trial, decoder_updates=2, encoder_updates=4, decoders=("conv", "attention"))
    cell = run_trial(Trial("iterative", 1, "awgn", settings, measurement))
    own = {(r["decoder"], r["snr_db"]): r["psnr_db"] for r in cell["rows"] if r["recipe"] == "iterative"}
    final = {(r["decoder"], r["snr_db"]): r["psnr_db"] for r in cell["rows"] if r["recipe"] != "iterative"}
    assert own.keys() == final.keys()
    assert own["attention", 1.0] == final["attention", 1.0]  # the last user: nothing came after its turn
    assert own["conv", 1.0] != final["conv", 1.0]


def test_forgetting_follows_the_rotation_and_the_anchor_forgets_nothing(trial, measurement, tmp_path):
    measurement = replace(measurement, snrs_db=(7.0,))
    settings = ForgettingSettings(trial, measurement, rounds=1, seeds=(1,))
    result = run_forgetting(settings, tmp_path, command="semcom experiment forgetting")
    since = {
        (row["decoder"], row["others"]): row["trained_since"]
        for row in result["rows"] if row["recipe"] == "iterative"
    }
    assert set(since) == {(user, others) for user in DECODERS for others in range(4)}
    assert since["attention", 3] == ["conv", "resnet", "vgg"]
    assert since["resnet", 2] == ["vgg", "attention"]
    anchor = [row for row in result["losses"] if row["recipe"] == "anchor"]
    assert len(anchor) == 3 + 2 + 1
    assert all(row["psnr_loss_db"] == 0.0 and row["ms_ssim_loss"] == 0.0 for row in anchor)
    assert any(row["psnr_loss_db"] != 0.0 for row in result["losses"] if row["recipe"] == "iterative")


def test_conflict_has_a_cosine_of_each_pair_at_each_measurement(trial, tmp_path):
    settings = ConflictSettings(replace(trial, gradients_every=2), seeds=(1,))
    result = run_conflict(settings, tmp_path, command="semcom experiment conflict")
    assert len(result["pairs"]) == 2 * 6  # recipes x pairs of four users
    assert all(-1.0 <= row["cosine"] <= 1.0 for row in result["rows"])
    assert {row["step"] for row in result["rows"]} == {0, 2}


def test_conflict_that_would_measure_nothing_is_refused(trial, tmp_path):
    with pytest.raises(ValueError, match="gradients_every"):
        run_conflict(ConflictSettings(trial), tmp_path, command="")


def test_rates_compare_one_model_with_a_model_for_each(pictures, measurement, tmp_path):
    trial = replace(
        FAST, images=(pictures,), width=8, blocks=1, encoder_updates=2, decoder_updates=2, crop=32, batch=2
    )
    settings = RateSettings(trial, replace(measurement, prefixes=(2, 16)))
    result = run_rates(settings, tmp_path, command="semcom experiment rates")
    assert [(row["rate"], row["snr_db"]) for row in result["rows"]] == [
        ("1/48", 1.0), ("1/48", 13.0), ("1/6", 1.0), ("1/6", 13.0),
    ]
    assert all(abs(row["difference_db"]) < 3.0 for row in result["rows"])  # all near the PCA start
    assert result["rows"][3]["multi_psnr_db"] > result["rows"][0]["multi_psnr_db"] + 3.0


@pytest.mark.slow
def test_rates_train_the_published_model_on_at_each_rate_and_leave_it_alone(pictures, measurement, tmp_path):
    trial = replace(
        FAST, images=(pictures,), encoder_updates=2, decoder_updates=2, crop=32, batch=2, warmup_steps=1,
        learning_rate=1e-4,
    )
    settings = RateSettings(trial, replace(measurement, prefixes=(6,)), weights=str(SHIPPED_WEIGHTS))
    result = run_rates(settings, tmp_path, command="semcom experiment rates")
    encoder, decoders = load_codec(SHIPPED_WEIGHTS, "attention")
    published = measure(encoder, decoders, Trial("anchor", 1, "awgn", trial, settings.measurement))
    assert [row["multi_psnr_db"] for row in result["rows"]] == [
        pytest.approx(row["psnr_db"], abs=1e-3) for row in published
    ]
    assert all(0.0 < abs(row["difference_db"]) < 0.5 for row in result["rows"])
    assert result["config"]["weights"] == SHIPPED_WEIGHTS.name
    assert "weights" in result["data_sha256"]


def test_a_prefix_longer_than_the_latent_is_refused(pictures, measurement, tmp_path):
    settings = RateSettings(
        replace(FAST, images=(pictures,), latent_channels=6), replace(measurement, prefixes=(16,))
    )
    with pytest.raises(ValueError, match="prefix 16"):
        run_rates(settings, tmp_path, command="")


def test_networks_come_back_in_the_mode_they_were_in(trial, measurement):
    networks = build_networks(trial, 1)
    networks.encoder.train()
    networks.decoders["resnet"].eval()
    run = Trial("anchor", 1, "awgn", trial, measurement)
    measure(networks.encoder, {"resnet": networks.decoders["resnet"]}, run)
    assert networks.encoder.training
    assert not networks.decoders["resnet"].training


def test_unknown_family_is_named(trial):
    with pytest.raises(ValueError, match="slow"):
        build_networks(replace(trial, family="slow"), 1)


@pytest.mark.parametrize("name", ["schemes", "rates", "report"])
def test_every_experiment_explains_itself(name):
    result = CliRunner().invoke(app, ["experiment", name, "--help"])
    assert result.exit_code == 0
    assert "Usage" in result.output


def test_missing_folder_of_an_experiment_is_named(tmp_path):
    result = CliRunner().invoke(
        app, ["experiment", "conflict", "--images", str(tmp_path / "nowhere"), "--work", str(tmp_path)]
    )
    assert result.exit_code == 2
    assert "nowhere" in result.output


def test_encoder_updates_that_four_users_cannot_share_are_refused(pictures, tmp_path):
    result = CliRunner().invoke(
        app,
        ["experiment", "conflict", "--images", pictures, "--encoder-updates", "10", "--work", str(tmp_path)],
    )
    assert result.exit_code == 2
    assert "multiple of 4" in result.output


@pytest.mark.slow
@pytest.mark.parametrize("name", ["schemes", "forgetting", "conflict", "rates"])
def test_fast_run_of_each_command_leaves_a_result_that_names_no_place(name, pictures, tmp_path):
    test = [] if name == "conflict" else ["--test", pictures]
    result = CliRunner().invoke(
        app, ["experiment", name, "--images", pictures, *test, "--fast", "--work", str(tmp_path)]
    )
    assert result.exit_code == 0, result.output
    text = (tmp_path / f"fast-{name}.json").read_text()
    content = json.loads(text)
    assert {"command", "config", "data_sha256", "seeds", "rows"} <= set(content)
    assert content["command"].startswith(f"semcom experiment {name} --images pictures")
    assert "/" not in json.dumps(content["config"])
    assert str(tmp_path) not in text
