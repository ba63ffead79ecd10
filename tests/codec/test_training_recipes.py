"""The four recipes: what they update, how often, and what they must leave alone."""

import copy
from itertools import pairwise

import pytest
import torch
from torch import nn
from training_toys import same, state_of, toy_batches, toy_config, toy_decoders, toy_encoder

from codec_runtime.channel.symbols import normalise_power
from codec_runtime.training import trainer as training_loop
from codec_runtime.training.conditions import ConditionConfig, draw
from codec_runtime.training.config import Budget
from codec_runtime.training.events import TrainEvents
from codec_runtime.training.losses import mse
from codec_runtime.training.recipes import RECIPES, train

USERS = ("attention", "conv")


def _train(recipe, names=USERS, encoder_updates=8, decoder_updates=4, **options):
    config = options.pop("config", toy_config())
    return train(
        recipe, options.pop("encoder", toy_encoder()), options.pop("decoders", toy_decoders(*names)),
        toy_batches(), config, encoder_updates=encoder_updates, decoder_updates=decoder_updates, **options,
    )


@pytest.fixture
def counted(monkeypatch):
    """Optimiser steps by id of the network they change."""
    counts: dict[int, int] = {}

    class Counting(training_loop.ModuleOptimiser):
        def __init__(self, module, *arguments):
            super().__init__(module, *arguments)
            self._module = module

        def step(self, rate):
            counts[id(self._module)] = counts.get(id(self._module), 0) + 1
            super().step(rate)

    monkeypatch.setattr(training_loop, "ModuleOptimiser", Counting)
    return counts


@pytest.mark.parametrize("recipe", RECIPES)
def test_every_recipe_makes_the_same_number_of_updates(recipe, counted):
    result = _train(recipe, encoder_updates=10, decoder_updates=5)
    assert {name: counted[id(module)] for name, module in result.decoders.items()} == dict.fromkeys(USERS, 5)
    assert {counted[id(module)] for module in result.encoders.values()} == {10}


@pytest.mark.parametrize("recipe", ["anchor", "simultaneous", "joint-single"])
def test_training_twice_gives_the_same_bits(recipe):
    first, second = _train(recipe), _train(recipe)
    assert all(same(state_of(first.decoders[n]), state_of(second.decoders[n])) for n in USERS)
    assert same(state_of(first.encoders["conv"]), state_of(second.encoders["conv"]))


def test_decoder_stage_changes_no_byte_of_the_encoder():
    seen = []

    class AfterStage(TrainEvents):
        def on_stage_end(self, record):
            seen.append((record.stage, state_of(encoder)))

    encoder = toy_encoder()
    before = state_of(encoder)
    _train("anchor", encoder=encoder, events=AfterStage())
    assert [stage for stage, _ in seen] == ["anchor", "decoder attention", "decoder conv"]
    anchored = seen[0][1]
    assert not same(before, anchored)
    assert all(same(anchored, state) for _, state in seen)


def test_a_users_training_does_not_depend_on_the_other_users():
    together = _train("anchor", ("attention", "conv", "vgg"), anchor=toy_decoders("mirror")["mirror"])
    alone = _train("anchor", ("conv",), anchor=toy_decoders("mirror")["mirror"])
    assert same(state_of(together.decoders["conv"]), state_of(alone.decoders["conv"]))


def test_a_users_training_with_dropout_does_not_depend_on_the_other_users_either():
    decoders = toy_decoders(*USERS, dropout=0.3)
    alone = {"conv": copy.deepcopy(decoders["conv"])}
    anchor = toy_decoders("mirror")["mirror"]
    together = _train("anchor", decoders=decoders, anchor=copy.deepcopy(anchor))
    single = _train("anchor", decoders=alone, anchor=anchor)
    assert same(state_of(together.decoders["conv"]), state_of(single.decoders["conv"]))


def test_joint_single_trains_each_user_apart_and_leaves_the_given_encoder_alone():
    encoder = toy_encoder()
    before = state_of(encoder)
    conv_alone = _train("joint-single", ("conv",), encoder=encoder)
    both = _train("joint-single", USERS, encoder=encoder)
    assert same(before, state_of(encoder))
    assert same(state_of(conv_alone.decoders["conv"]), state_of(both.decoders["conv"]))
    assert same(state_of(conv_alone.encoders["conv"]), state_of(both.encoders["conv"]))
    assert not same(state_of(both.encoders["attention"]), state_of(both.encoders["conv"]))


def test_iterative_trains_one_decoder_a_turn():
    touched, turns = [], []

    class Turns(TrainEvents):
        def on_epoch(self, recipe, epoch, decoder_name):
            turns.append((recipe, epoch, decoder_name))
            now = {name: state_of(module) for name, module in decoders.items()}
            touched.append([name for name in decoders if not same(now[name], self.before[name])])
            self.before = now

    decoders, events = toy_decoders(*USERS), Turns()
    events.before = {name: state_of(module) for name, module in decoders.items()}
    _train("iterative", decoders=decoders, encoder_updates=6, decoder_updates=3, events=events)
    # Two steps a turn, three updates a decoder: the last round has one step a turn.
    assert turns == [("iterative", n + 1, USERS[n % 2]) for n in range(4)]
    assert touched == [[USERS[n % 2]] for n in range(4)]


def test_accumulated_gradients_make_the_update_of_their_mean(monkeypatch):
    """One decoder update of two simultaneous steps equals one of plain gradient descent on both batches."""
    given: list[list[torch.Tensor]] = []

    class Recording(training_loop.ModuleOptimiser):
        def step(self, rate):
            given.append([p.grad.clone() for p in self.parameters])
            self.zero_grad()
            self.updates += 1

    monkeypatch.setattr(training_loop, "ModuleOptimiser", Recording)
    config = toy_config(clip_norm=1e9)
    _train("joint-single", ("conv",), 2, 2, config=config)
    single = [given[1], given[3]]  # encoder, decoder, encoder, decoder
    given.clear()
    _train("joint-single", ("conv",), 2, 1, config=config)
    (accumulated,) = [given[2]]
    for both, first, second in zip(accumulated, *single, strict=True):
        torch.testing.assert_close(both, (first + second) / 2)


@pytest.mark.parametrize(
    ("recipe", "encoder_updates", "decoder_updates", "message"),
    [
        ("iterative", 7, 4, "need 8, not 7"),
        ("simultaneous", 7, 4, "no multiple"),
        ("joint-single", Budget(minutes=1.0), 4, "in steps"),
        ("in-turns", 8, 4, "known are anchor"),
    ],
)
def test_budgets_that_do_not_suit_a_recipe_are_refused(recipe, encoder_updates, decoder_updates, message):
    with pytest.raises(ValueError, match=message):
        _train(recipe, encoder_updates=encoder_updates, decoder_updates=decoder_updates)


def test_a_decoder_named_like_a_network_of_the_recipe_is_refused():
    with pytest.raises(ValueError, match="anchor"):
        _train("anchor", ("anchor",))


def test_no_encoder_updates_keep_the_encoder_and_its_anchor():
    encoder = toy_encoder()
    before = state_of(encoder)
    result = _train("anchor", encoder=encoder, encoder_updates=0)
    assert same(before, state_of(encoder))
    assert [stage.stage for stage in result.stages] == ["decoder attention", "decoder conv"]


def test_a_bypass_starts_where_the_anchors_ended():
    class Bypassed(nn.Module):
        def __init__(self, inner):
            super().__init__()
            self.inner, self.bypass = inner, nn.Conv2d(4, 48, 1)

        def forward(self, received, snr_db, prefix):
            linear = nn.functional.pixel_shuffle(self.bypass(received), 4)
            return self.inner(received, snr_db, prefix) + linear

    decoders = {name: Bypassed(module) for name, module in toy_decoders(*USERS).items()}
    result = _train("anchor", decoders=decoders, decoder_updates=0)
    assert result.anchor is not None
    own = state_of(decoders["conv"].bypass)
    result = _train("anchor", decoders=decoders, decoder_updates=1, config=toy_config(learning_rate=1e-12))
    trained = state_of(decoders["conv"].bypass)
    assert not torch.allclose(own["weight"], trained["weight"])
    torch.testing.assert_close(trained["weight"], result.anchor.bypass.weight.detach(), atol=1e-6, rtol=0)


def test_loss_falls_on_a_smooth_picture():
    seen = []

    class Losses(TrainEvents):
        def on_step(self, progress):
            seen.append(progress.psnr_db)

    config = toy_config(loss="log-mse", learning_rate=3e-2)
    _train("anchor", ("attention",), 60, 0, config=config, events=Losses())
    assert seen[-1] > seen[0] + 3.0


def test_small_enough_steps_of_full_batch_gradient_descent_never_raise_the_loss():
    """Theorem 3: f(x - eta grad f) <= f(x) for eta <= 1/L; smooth case, L from Hessians along the way."""
    torch.manual_seed(0)
    pictures = torch.rand(6, 3, 2, 2, dtype=torch.float64)
    conditions = draw(ConditionConfig((10.0, 10.0), (2,), "awgn"), batch=6, seed=1)

    def loss(flat: torch.Tensor) -> torch.Tensor:
        latent = torch.tanh(pictures.flatten(1) @ flat[:24].view(12, 2))[:, :, None, None]
        received = conditions.transmit(normalise_power(latent, conditions.prefix)).values
        return mse((received.flatten(1) @ flat[24:].view(2, 12)).view_as(pictures), pictures)

    def curvature(at: torch.Tensor) -> float:
        return float(torch.linalg.eigvalsh(torch.autograd.functional.hessian(loss, at)).abs().max())

    def descend(start: torch.Tensor, step: float) -> list[torch.Tensor]:
        path = [start]
        for _ in range(30):
            point = path[-1].clone().requires_grad_()
            (gradient,) = torch.autograd.grad(loss(point), point)
            path.append(path[-1] - step * gradient)
        return path

    weights = torch.randn(48, dtype=torch.float64)
    # L on the region that is walked through: the largest curvature met, with room to spare.
    bound = 2.0 * max(curvature(point) for point in descend(weights, 0.02)[::10])
    losses = [float(loss(point)) for point in descend(weights, 1.0 / bound)]
    assert all(later < earlier for earlier, later in pairwise(losses))
    beyond = [float(loss(point)) for point in descend(weights, 100.0 / bound)]
    assert any(later > earlier for earlier, later in pairwise(beyond))


def test_a_loss_that_is_not_finite_ends_the_training():
    encoder = toy_encoder()
    with torch.no_grad():
        encoder.conv.weight.fill_(float("nan"))
    with pytest.raises(FloatingPointError, match="anchor"):
        _train("anchor", encoder=encoder)


@pytest.mark.parametrize(
    ("changes", "tolerance_db"), [({"precision": "bf16"}, 0.3), ({"channels_last": True}, 0.05)]
)
def test_options_of_speed_reach_the_same_quality(changes, tolerance_db):
    plain, fast = (_train("anchor", config=toy_config(learning_rate=1e-3, **c)).stages for c in ({}, changes))
    for stage, other in zip(plain, fast, strict=True):
        assert other.psnr_db == pytest.approx(stage.psnr_db, abs=tolerance_db)
