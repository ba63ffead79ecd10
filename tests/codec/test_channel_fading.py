"""Flat Rayleigh fading against its distributions."""

import math

import pytest
import torch
from channel_draws import seeded, unit_power
from scipy import stats

from codec_runtime.channel.modes import channel
from codec_runtime.channel.rayleigh import rayleigh_coefficient, rayleigh_gain
from codec_runtime.channel.symbols import to_symbols

LEVEL = 0.01
QUIET_DB = 60.0


def fading_seen(name, images, side, channels=2):
    """y / x of every symbol sent over a channel without noise to speak of, (images, S) complex."""
    sent, prefix = unit_power([channels] * images, side, channels)
    # Symbols of modulus one, so that dividing does not blow up what noise there is.
    symbols = to_symbols(sent, prefix)
    flat = torch.cat((symbols.real, symbols.imag), 1) / torch.cat((symbols.abs(), symbols.abs()), 1)
    sent = flat.view(sent.shape)
    received = channel(name)(sent, torch.full((images,), QUIET_DB), prefix, seeded(11))
    return to_symbols(received.values, prefix) / to_symbols(sent, prefix), received


def test_power_gain_is_exponential_magnitude_rayleigh_and_phase_uniform():
    h = rayleigh_coefficient((20_000,), seeded(2))
    assert stats.kstest(h.abs().square().numpy(), "expon").pvalue > LEVEL
    assert stats.kstest(h.abs().numpy(), "rayleigh", args=(0, math.sqrt(0.5))).pvalue > LEVEL
    phase = (h.angle() / (2 * math.pi) + 0.5).numpy()
    assert stats.kstest(phase, "uniform").pvalue > LEVEL


def test_gain_and_coefficient_of_one_generator_state_belong_together():
    h = rayleigh_coefficient((50,), seeded(2))
    assert torch.allclose(rayleigh_gain(50, seeded(2)), h.abs().square())


def test_slow_fading_turns_a_whole_image_by_one_complex_normal_coefficient():
    h, received = fading_seen("rayleigh_slow", 4000, 2)
    spread = (h - h.mean(dim=1, keepdim=True)).abs().max().item()
    assert spread < 10 * 10 ** (-QUIET_DB / 20)
    mean = h.mean(dim=1)
    assert stats.kstest(mean.abs().square().numpy(), "expon").pvalue > LEVEL
    assert stats.kstest((mean.angle() / (2 * math.pi) + 0.5).numpy(), "uniform").pvalue > LEVEL
    assert received.snr_db.tolist() == [QUIET_DB] * 4000


def test_fast_fading_is_a_rayleigh_magnitude_for_each_symbol_without_phase():
    h, received = fading_seen("rayleigh_fast_magnitude", 2, 100)
    magnitude = h.real.flatten().numpy()
    assert h.imag.abs().max().item() < 10 * 10 ** (-QUIET_DB / 20)
    assert stats.kstest(magnitude, "rayleigh", args=(0, math.sqrt(0.5))).pvalue > LEVEL
    neighbours = torch.corrcoef(torch.stack((h.real[:, :-1].flatten(), h.real[:, 1:].flatten())))[0, 1]
    assert abs(neighbours.item()) < 4 / math.sqrt(h.numel())
    assert received.snr_db.tolist() == [QUIET_DB] * 2


@pytest.mark.parametrize("name", ["awgn", "rayleigh_slow", "rayleigh_slow_eq", "rayleigh_fast_magnitude"])
@pytest.mark.parametrize("snr_db", [-5.0, 7.0, 20.0])
def test_measured_snr_is_within_a_twentieth_of_a_db(name, snr_db):
    sent, prefix = unit_power([8], 256, 8)
    snr = torch.tensor([snr_db])
    received = channel(name)(sent, snr, prefix, seeded(4))
    # What the same draws give with next to no noise is the faded signal.
    clean = channel(name)(sent, torch.tensor([200.0]), prefix, seeded(4)).values
    noise = to_symbols(received.values - clean, prefix).abs().square().mean().item()
    assert -10 * math.log10(noise) == pytest.approx(received.snr_db.item(), abs=0.05)
    if name != "rayleigh_slow_eq":
        assert received.snr_db.item() == snr_db


def test_fading_channels_have_unit_mean_power():
    sent, prefix = unit_power([2] * 4000, 4, 2)
    for name in ("rayleigh_slow", "rayleigh_fast_magnitude"):
        received = channel(name)(sent, torch.full((4000,), 200.0), prefix, seeded(5)).values
        power = to_symbols(received, prefix).abs().square().mean().item()
        assert power == pytest.approx(1.0, abs=4 / math.sqrt(4000))
