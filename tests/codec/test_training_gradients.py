"""Gradient conflict between users (Theorem 1)."""

import copy

import pytest
import torch
from torch import nn
from training_toys import same, state_of, toy_batches, toy_config, toy_decoders, toy_encoder

from codec_runtime.channel.symbols import normalise_power
from codec_runtime.training.conditions import ConditionConfig, draw
from codec_runtime.training.events import AllEvents, TrainEvents
from codec_runtime.training.gradients import encoder_gradient_cosines, encoder_gradients
from codec_runtime.training.losses import mse
from codec_runtime.training.recipes import train

CONDITIONS = ConditionConfig((5.0, 5.0), (4,), "awgn")


def test_identical_decoders_agree_and_nothing_is_changed():
    encoder, decoders = toy_encoder(), toy_decoders("attention")
    decoders["twin"] = copy.deepcopy(decoders["attention"])
    before = state_of(encoder), state_of(decoders["twin"])
    batch, conditions = toy_batches().batch(2), draw(CONDITIONS, 2, seed=1)
    cosines = encoder_gradient_cosines(encoder, decoders, batch, conditions, mse)
    assert cosines == {("attention", "twin"): pytest.approx(1.0, abs=1e-6)}
    assert same(before[0], state_of(encoder))
    assert same(before[1], state_of(decoders["twin"]))
    assert all(p.grad is None for p in encoder.parameters())


class _Scale(nn.Module):
    """Encoder of two parameters: latent = a * x + b; decoder of one sign: restored = s * y."""

    def __init__(self, *values: float) -> None:
        super().__init__()
        self.values = nn.Parameter(torch.tensor(values))


class _Encoder(_Scale):
    def forward(self, images, snr_db, prefix):
        latent = self.values[0] * images[:, :2, ::4, ::4] + self.values[1]
        return normalise_power(latent, prefix)


class _Decoder(_Scale):
    def forward(self, received, snr_db, prefix):
        mean = received.mean(dim=1, keepdim=True).expand(-1, 3, -1, -1)
        return self.values[0] * nn.functional.interpolate(mean, scale_factor=4)


def test_gradients_and_cosines_are_those_of_autograd_by_hand():
    encoder, decoders = _Encoder(1.0, 0.3), {"plus": _Decoder(0.5), "minus": _Decoder(-2.0)}
    batch = toy_batches().batch(2)
    conditions = draw(ConditionConfig((5.0, 5.0), (2,), "awgn"), 2, seed=1)
    by_hand = {}
    for name, decoder in decoders.items():
        sent = encoder(batch, conditions.snr_db, conditions.prefix)
        received = conditions.transmit(sent)
        loss = (decoder(received.values, received.snr_db, conditions.prefix) - batch).square().mean()
        (by_hand[name],) = torch.autograd.grad(loss, [encoder.values])
    found = encoder_gradients(encoder, decoders, batch, conditions, mse)
    for name, gradient in by_hand.items():
        torch.testing.assert_close(found[name], gradient)
    first, second = by_hand["plus"], by_hand["minus"]
    cosine = float(first @ second / (first.norm() * second.norm()))
    measured = encoder_gradient_cosines(encoder, decoders, batch, conditions, mse)
    assert measured[("plus", "minus")] == pytest.approx(cosine, abs=1e-6)


def test_stepping_along_one_users_gradient_changes_the_others_loss_as_their_product_says():
    """Eq. 27: L_j(theta - eta g_i) - L_j(theta) = -eta <g_i, g_j> to first order."""
    encoder, decoders = _Encoder(1.0, 0.3), {"i": _Decoder(0.5), "j": _Decoder(-2.0)}
    batch = toy_batches().batch(2).double()
    for module in (encoder, *decoders.values()):
        module.double()
    conditions = draw(ConditionConfig((5.0, 5.0), (2,), "awgn"), 2, seed=1)
    gradients = encoder_gradients(encoder, decoders, batch, conditions, mse)

    def loss_of_j():
        received = conditions.transmit(encoder(batch, conditions.snr_db, conditions.prefix))
        restored = decoders["j"](received.values, received.snr_db, conditions.prefix)
        return mse(restored, batch).item()

    before, rate = loss_of_j(), 1e-5
    with torch.no_grad():
        encoder.values -= rate * gradients["i"]
    product = float(gradients["i"] @ gradients["j"])
    assert (loss_of_j() - before) / rate == pytest.approx(-product, rel=1e-3)


class _Listen(TrainEvents):
    def __init__(self):
        self.seen = []

    def on_gradients(self, step, cosines):
        self.seen.append((step, dict(cosines)))


@pytest.mark.parametrize("recipe", ["iterative", "simultaneous"])
def test_conflict_is_measured_every_few_steps_and_does_not_disturb(recipe):
    def run(every):
        listener = _Listen()
        result = train(
            recipe, toy_encoder(), toy_decoders("attention", "conv", "vgg", dropout=0.2), toy_batches(),
            toy_config(gradients_every=every), encoder_updates=6, decoder_updates=2,
            events=AllEvents(TrainEvents(), listener),
        )
        return result, listener

    quiet, _ = run(0)
    measured, listener = run(4)
    assert [step for step, _ in listener.seen] == [0, 4]
    assert list(listener.seen[0][1]) == [("attention", "conv"), ("attention", "vgg"), ("conv", "vgg")]
    assert all(-1.0 <= value <= 1.0 for _, cosines in listener.seen for value in cosines.values())
    assert measured.gradients == listener.seen
    assert same(state_of(quiet.encoders["conv"]), state_of(measured.encoders["conv"]))
    assert same(state_of(quiet.decoders["vgg"]), state_of(measured.decoders["vgg"]))
