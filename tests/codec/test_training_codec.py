"""`semcom train codec`: the folder it makes, going on in it, and starting from earlier weights."""

import json
import os
import shutil
import signal
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image
from safetensors.torch import load_file
from typer.testing import CliRunner

from codec_runtime.bundle.store import write_bundle
from codec_runtime.training.checkpoint import CHECKPOINT_FILE, DifferentTrainingError, TrainingInterrupted
from codec_runtime.training.code_version import portable_command
from codec_runtime.training.codec import CodecTraining, DecoderChoice, parse_decoders, train_codec
from codec_runtime.training.config import Budget, TrainConfig
from codec_runtime.training.events import TrainEvents
from codec_runtime.training.starting import read_initial
from xapp.cli import app


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pictures")
    random = np.random.default_rng(1)
    for name in ("a", "b"):
        coarse = random.integers(0, 256, (9, 10, 3), dtype=np.uint8)
        Image.fromarray(coarse).resize((80, 72), Image.Resampling.BICUBIC).save(folder / f"{name}.png")
    return folder


def _training(pictures, out, **changes):
    training = CodecTraining(
        [pictures], out, TrainConfig(crop=32, batch=2, epoch_steps=1, loss="log-mse"), Budget(steps=3),
        Budget(steps=2), decoders=parse_decoders("attention,conv:small"), model={"width": 8, "blocks": 2},
        command="semcom train codec",
    )
    return replace(training, **changes)


def _files(folder):
    return {path.name: path.read_bytes() for path in folder.glob("*.safetensors")}


class _Interrupt(TrainEvents):
    def on_epoch(self, recipe, epoch, decoder_name):
        if (decoder_name, epoch) == ("conv-small", 1):
            os.kill(os.getpid(), signal.SIGINT)


def test_an_interrupted_training_goes_on_to_the_same_files_and_is_not_done_twice(tmp_path, pictures):
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    train_codec(_training(pictures, whole))
    with pytest.raises(TrainingInterrupted, match="decoder conv-small"):
        train_codec(_training(pictures, broken), events=_Interrupt())
    assert (broken / CHECKPOINT_FILE).exists()
    faster = replace(_training(pictures, broken).config, learning_rate=5e-4)
    with pytest.raises(DifferentTrainingError, match=r"train\.learning_rate is 0\.0001 there, 0\.0005 here"):
        train_codec(_training(pictures, broken, config=faster))
    train_codec(_training(pictures, broken), resume=True)
    assert _files(whole).keys() == {
        "encoder.safetensors", "attention.safetensors", "conv-small.safetensors", "pca.safetensors",
    }
    assert _files(broken) == _files(whole)
    record = json.loads((broken / "provenance.json").read_text())
    assert record["finished"]
    assert [(s["stage"], s["decoder"], s["steps"]) for s in record["stages"]] == [
        ("anchor", "attention", 3), ("decoder conv-small", "conv-small", 2),
    ]
    assert record["model"]["width"] == 8
    assert record["networks"]["conv-small"]["hyperparameters"]["tier"] == "small"
    assert record["pictures"] == 2
    assert len(record["data_sha256"]) == 64
    assert record["code"]["version"]
    assert train_codec(_training(pictures, whole)) is None
    with pytest.raises(DifferentTrainingError, match="finished training of other settings"):
        train_codec(_training(pictures, whole, decoder_budget=Budget(steps=3)))


@pytest.mark.slow
def test_another_decoder_is_trained_against_the_encoder_of_an_earlier_run(tmp_path, pictures):
    first, second = tmp_path / "first", tmp_path / "second"
    train_codec(_training(pictures, first))
    again = _training(
        pictures, second, initial=first, encoder_budget=Budget(steps=0), decoders=parse_decoders("vgg"),
        model={},
    )
    train_codec(again)
    assert _files(second)["encoder.safetensors"] == _files(first)["encoder.safetensors"]
    assert _files(second)["attention.safetensors"] == _files(first)["attention.safetensors"]
    record = json.loads((second / "provenance.json").read_text())
    assert record["model"]["width"] == 8  # the initial run's, not the default
    assert record["initial"]["data_sha256"] == record["data_sha256"]
    with pytest.raises(ValueError, match="initial encoder is of another width"):
        train_codec(_training(pictures, tmp_path / "third", initial=first, model={"width": 16}))
    with pytest.raises(ValueError, match="initial encoder is of another width"):
        train_codec(_training(pictures, tmp_path / "fourth", initial=first, model={"blocks": 3}))
    model = {"film_hidden": 4, "coarse_blocks": 1}
    train_codec(_training(pictures, tmp_path / "grown", initial=first, model=model))
    state = load_file(tmp_path / "grown" / "encoder.safetensors")
    assert any("coarse" in key for key in state)


@pytest.mark.slow
def test_bundles_are_weights_to_start_from(tmp_path, pictures):
    run, root = tmp_path / "run", tmp_path / "weights"
    train_codec(_training(pictures, run))
    names = {"encoder": ("encoder", "anchor"), "attention": ("decoder", "attention")}
    sha256 = ""
    record = json.loads((run / "provenance.json").read_text())
    for file, (kind, name) in names.items():
        manifest = write_bundle(
            root / kind / name / "1", kind=kind, name=name, version=1,
            architecture=record["networks"][file]["architecture"],
            hyperparameters=record["networks"][file]["hyperparameters"],
            state=load_file(run / f"{file}.safetensors"), encoder_sha256=sha256, dtype="F32",
        )
        sha256 = sha256 or manifest.weights_sha256
    initial = read_initial(root)
    assert initial.states.keys() == {"encoder", "attention"}
    out = tmp_path / "out"
    train_codec(_training(pictures, out, initial=root, encoder_budget=Budget(steps=0), model={}))
    assert load_file(out / "encoder.safetensors").keys() == load_file(run / "encoder.safetensors").keys()
    assert _files(out)["encoder.safetensors"] == _files(run)["encoder.safetensors"]
    provenance = json.loads((out / "provenance.json").read_text())
    assert provenance["initial"]["bundle"] == "encoder/anchor/1"
    # Without its mirror the encoder is kept too, and the mirror trained as any other decoder.
    shutil.rmtree(root / "decoder")
    encoder_alone = _training(
        pictures, tmp_path / "alone", initial=root, encoder_budget=Budget(steps=0), model={},
        decoders=parse_decoders("attention"),
    )
    result = train_codec(encoder_alone)
    assert [stage.stage for stage in result.stages] == ["decoder attention"]
    assert _files(tmp_path / "alone")["encoder.safetensors"] == _files(run)["encoder.safetensors"]


@pytest.mark.slow
def test_joint_single_writes_an_encoder_for_each_decoder(tmp_path, pictures):
    steps = Budget(steps=2)
    train_codec(
        _training(pictures, tmp_path, recipe="joint-single", encoder_budget=steps, decoder_budget=steps)
    )
    assert {"encoder-attention.safetensors", "encoder-conv-small.safetensors"} <= _files(tmp_path).keys()
    assert "encoder.safetensors" not in _files(tmp_path)


@pytest.mark.slow
def test_networks_of_the_reference_family_do_not_depend_on_which_others_are_trained(tmp_path, pictures):
    for folder, decoders in (("one", "resnet"), ("two", "vgg:small,resnet")):
        train_codec(
            _training(pictures, tmp_path / folder, family="anchor", decoders=parse_decoders(decoders),
                      model={"width": 8, "kernel": 3, "outer_kernel": 5})
        )
    one, two = _files(tmp_path / "one"), _files(tmp_path / "two")
    assert two.keys() == one.keys() | {"vgg-small.safetensors"}
    assert all(two[name] == data for name, data in one.items())


def test_decoders_are_named_by_kind_and_tier():
    assert parse_decoders("attention, conv:small") == (
        DecoderChoice("attention"), DecoderChoice("conv", "small"),
    )
    assert DecoderChoice("conv", "small").name == "conv-small"
    with pytest.raises(ValueError, match="small, medium, large"):
        parse_decoders("conv:tiny")
    with pytest.raises(ValueError, match="twice"):
        parse_decoders("conv,conv:medium")


def test_commands_in_provenance_name_no_folders_of_this_machine():
    command = portable_command(["train", "codec", "--images", "/data/photos", "--out=runs/a", "--seed", "2"])
    assert command == "semcom train codec --images photos --out=a --seed 2"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], "--encoder-steps or --encoder-minutes"),
        (["--encoder-steps", "1", "--decoder-steps", "1", "--loss", "psnr"], "known are mse"),
        (["--encoder-steps", "1", "--decoder-steps", "1", "--channel", "wire"], "mixed, awgn"),
        (["--encoder-steps", "1", "--decoder-steps", "1", "--family", "other"], "no codec family"),
        (["--encoder-steps", "1", "--decoder-steps", "1", "--decoders", "conv,gru"], "gru"),
        (["--encoder-steps", "1", "--decoder-steps", "1", "--network", "width"], "KEY=VALUE"),
        (["--encoder-steps", "1", "--decoder-steps", "1", "--snr", "low"], "LOW:HIGH"),
        (["--encoder-steps", "1", "--decoder-steps", "1", "--resume"], "no unfinished training"),
        (["--encoder-steps", "0", "--decoder-steps", "1"], "--initial"),
        (["--encoder-steps", "1", "--decoder-steps", "1", "--initial", "nowhere"], "nowhere"),
        (["--encoder-minutes", "1", "--decoder-steps", "1", "--recipe", "iterative"], "in steps"),
    ],
)
def test_wrong_options_of_the_command_are_named(tmp_path, pictures, options, message):
    common = ["--images", str(pictures), "--out", str(tmp_path), "--crop", "32", "--device", "cpu"]
    common += ["--width", "8"]
    result = CliRunner().invoke(app, ["train", "codec", *common, *options])
    assert result.exit_code == 2
    assert message in result.output


def test_the_commands_pack_and_train(tmp_path, pictures):
    packed, out = tmp_path / "crops.safetensors", tmp_path / "run"
    runner = CliRunner()
    packing = ["train", "pack", "--images", str(pictures), "--out", str(packed), "--size", "48"]
    assert runner.invoke(app, [*packing, "--count", "6"]).exit_code == 0
    training = [
        "train", "codec", "--images", str(packed), "--out", str(out), "--crop", "32", "--batch", "2",
        "--width", "8", "--blocks", "1", "--encoder-steps", "2", "--decoder-steps", "1", "--device", "cpu",
        "--prefixes", "6", "--channel", "awgn", "--precision", "bf16", "--decoders", "conv",
    ]
    result = runner.invoke(app, training)
    assert result.exit_code == 0, result.output
    record = json.loads((out / "provenance.json").read_text())
    assert record["train"]["optimiser"] == "muon"
    assert record["train"]["conditions"]["prefixes"] == [6]
    assert record["pictures"] == 6
    assert "finished" in runner.invoke(app, training).output


@pytest.mark.slow
def test_curves_are_written_for_tensorboard(tmp_path, pictures):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    training = _training(
        pictures, tmp_path, recipe="simultaneous", encoder_budget=Budget(steps=4),
        config=replace(_training(pictures, tmp_path).config, gradients_every=2),
    )
    train_codec(training, tensorboard=True)
    curves = EventAccumulator(str(tmp_path / "tensorboard"))
    curves.Reload()
    assert {"simultaneous/psnr_db", "gradient_cosine/attention-conv-small"} <= set(curves.Tags()["scalars"])
    assert [event.step for event in curves.Scalars("gradient_cosine/attention-conv-small")] == [0, 2]
