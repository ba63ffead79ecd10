"""An interrupted training goes on where it was, bit for bit, and only with its own settings."""

import os
import signal

import pytest
import torch
from safetensors.torch import save_file
from training_toys import same, state_of, toy_batches, toy_config, toy_decoders, toy_encoder

from codec_runtime.training.checkpoint import (
    Checkpoint,
    DifferentTrainingError,
    Snapshot,
    TrainingInterrupted,
    differences,
)
from codec_runtime.training.events import TrainEvents
from codec_runtime.training.recipes import train

USERS = ("attention", "conv")


class _Kill(TrainEvents):
    """Sends the process a signal at the end of an epoch of a stage."""

    def __init__(self, stage, epoch, number):
        self._wanted, self._number, self._stage = (stage, epoch), number, ""

    def on_stage(self, stage):
        self._stage = stage

    def on_epoch(self, recipe, epoch, decoder_name):
        if (self._stage, epoch) == self._wanted:
            os.kill(os.getpid(), self._number)


def _train(recipe, config, checkpoint=None, events=None):
    return train(
        recipe, toy_encoder(), toy_decoders(*USERS, dropout=0.2), toy_batches(), config,
        encoder_updates=12, decoder_updates=6, checkpoint=checkpoint, events=events,
    )


@pytest.mark.parametrize(
    ("recipe", "stage", "epoch", "changes"),
    [
        ("anchor", "anchor", 1, {"optimiser": "muon"}),
        ("anchor", "decoder attention", 2, {"channels_last": True}),
        pytest.param("anchor", "decoder conv", 1, {}, marks=pytest.mark.slow),
        ("iterative", "iterative", 3, {"gradients_every": 2}),
        ("simultaneous", "simultaneous", 1, {"epoch_steps": 3}),  # amid the accumulation of gradients
        pytest.param("joint-single", "joint conv", 2, {"ema_decay": 0.0}, marks=pytest.mark.slow),
    ],
)
def test_a_resumed_training_ends_with_the_same_bits(tmp_path, monkeypatch, recipe, stage, epoch, changes):
    monkeypatch.setattr("codec_runtime.training.optimisers.MUON_SMALLEST_SIDE", 4)
    config = toy_config(**changes)
    whole = _train(recipe, config)
    checkpoint = Checkpoint(tmp_path / "unfinished.safetensors", {"recipe": recipe})
    with pytest.raises(TrainingInterrupted, match=stage):
        _train(recipe, config, checkpoint, _Kill(stage, epoch, signal.SIGTERM))
    torch.manual_seed(99)
    resumed = _train(recipe, config, checkpoint)
    for name in USERS:
        assert same(state_of(whole.decoders[name]), state_of(resumed.decoders[name]))
        assert same(state_of(whole.encoders[name]), state_of(resumed.encoders[name]))
    assert resumed.gradients == whole.gradients
    assert [s.updates for s in resumed.stages] == [s.updates for s in whole.stages]


def test_checkpoints_are_written_while_training(tmp_path):
    path = tmp_path / "unfinished.safetensors"
    seen = []

    class Look(TrainEvents):
        def on_epoch(self, recipe, epoch, decoder_name):
            seen.append(path.exists())

    _train("anchor", toy_config(epoch_steps=1), Checkpoint(path, {}, every_minutes=0.0), Look())
    assert not seen[0]
    assert all(seen[1:])


def test_signals_act_as_ever_after_the_training(tmp_path):
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    checkpoint = Checkpoint(tmp_path / "unfinished.safetensors", {})
    with pytest.raises(TrainingInterrupted):
        _train("iterative", toy_config(), checkpoint, _Kill("iterative", 2, signal.SIGINT))
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before


def test_a_checkpoint_of_other_settings_is_refused_by_their_names(tmp_path):
    path = tmp_path / "unfinished.safetensors"
    saved = {"train": {"learning_rate": 1e-3, "batch": 4}, "recipe": "anchor"}
    Checkpoint(path, saved).save(Snapshot({"a": torch.ones(2)}, {}))
    assert Checkpoint(path, saved).load() is not None
    other = Checkpoint(path, {**saved, "train": {"learning_rate": 8e-4, "batch": 4}})
    with pytest.raises(DifferentTrainingError, match=r"train\.learning_rate is 0\.001 there, 0\.0008 here"):
        other.load()


def test_a_file_that_is_no_checkpoint_is_refused(tmp_path):
    path = tmp_path / "unfinished.safetensors"
    path.write_bytes(b"\x80\x04pickle?")
    with pytest.raises(ValueError, match="not a training checkpoint"):
        Checkpoint(path, {}).load()
    save_file({"a": torch.ones(1)}, path)
    with pytest.raises(ValueError, match="not a training checkpoint"):
        Checkpoint(path, {}).load()


def test_differences_name_missing_and_changed_values():
    assert differences({"a": 1, "b": {"c": 2}}, {"a": 1, "b": {"c": 3}, "d": 4}) == [
        "b.c is 2 there, 3 here", "d is null there, 4 here",
    ]
