"""Pilot-based MMSE estimation and equalisation against closed form."""

import math

import pytest
import torch
from channel_draws import seeded, unit_power
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from codec_runtime.channel.mmse import PilotConfig, RayleighMmse, one_tap, pilot_estimate, unit_gain
from codec_runtime.channel.rayleigh import rayleigh_coefficient
from codec_runtime.channel.symbols import symbol_mask, to_symbols


@pytest.mark.parametrize("pilots", [1, 4, 12])
@pytest.mark.parametrize("variance", [0.01, 1.0, 4.0])
def test_estimation_error_has_variance_sigma2_over_p_plus_sigma2(pilots, variance):
    h = rayleigh_coefficient((1, 100_000), seeded(1))
    estimate, stated = pilot_estimate(h, torch.tensor([variance]), pilots, seeded(2))
    expected = variance / (pilots + variance)
    assert stated.item() == pytest.approx(expected)
    error = h - estimate
    assert error.abs().square().mean().item() == pytest.approx(expected, rel=0.02)
    # Orthogonality: the error of an MMSE estimate does not correlate with the estimate ...
    correlation = (error * estimate.conj()).mean().abs().item()
    assert correlation < 4 * math.sqrt(expected / h.numel())
    # ... whose power is what is left of the unit prior: exponential with mean P / (P + sigma^2).
    assert stats.kstest(estimate.abs().square().numpy()[0], "expon", args=(0, 1 - expected)).pvalue > 0.01


def test_one_tap_equaliser_has_the_bias_and_error_it_states():
    symbols = rayleigh_coefficient((200_000,), seeded(1))
    h, variance = torch.tensor(0.6 - 0.3j), torch.tensor(0.2)
    received = h * symbols + variance.sqrt() * rayleigh_coefficient((200_000,), seeded(2))
    equalised, error = one_tap(received, h, torch.tensor(0.0), variance)
    stated = error[0].item()
    assert stated == pytest.approx(0.2 / (0.45 + 0.2))
    assert (equalised - symbols).abs().square().mean().item() == pytest.approx(stated, rel=0.02)
    assert (equalised * symbols.conj()).mean().real.item() == pytest.approx(1 - stated, rel=0.02)


def test_one_block_without_bias_is_division_by_the_estimate():
    received = rayleigh_coefficient((1, 64), seeded(1))
    estimate = torch.tensor([[0.6 - 0.3j]])
    equalised, error = one_tap(received, estimate, torch.tensor(0.05), torch.tensor(0.1))
    symbols, snr_db = unit_gain(equalised, error, torch.ones(1, 64, dtype=torch.bool))
    assert torch.allclose(symbols, received / estimate, rtol=1e-4)
    assert snr_db.item() == pytest.approx(10 * math.log10(0.45 / 0.15), abs=1e-4)


@pytest.mark.parametrize("snr_db", [0.0, 10.0])
@pytest.mark.parametrize("block", [156, 10**9])
def test_believed_snr_is_the_one_measured_and_the_gain_is_one(snr_db, block):
    images = 1000
    sent, prefix = unit_power([4] * images, 16, 4)
    model = RayleighMmse(PilotConfig(pilots=2, block=block))
    received = model(sent, torch.full((images,), snr_db), prefix, seeded(3))
    believed = 10 ** (-received.snr_db / 10)
    # Single images scatter about their belief (the receiver has estimates only), and the deepest fades
    # would rule a plain mean, so both are weighted with the believed SNR.
    error = to_symbols(received.values - sent, prefix).abs().square().mean(dim=1)
    assert (error / believed).mean().item() == pytest.approx(1.0, abs=0.05)
    weight = 1 / (1 + believed)
    gain = (to_symbols(received.values, prefix) * to_symbols(sent, prefix).conj()).mean(dim=1).real
    assert ((gain * weight).sum() / weight.sum()).item() == pytest.approx(1.0, abs=0.05)


def test_pilots_are_counted_as_overhead():
    sent, prefix = unit_power([6], 8)
    model = RayleighMmse(PilotConfig(pilots=3, block=60))
    assert model(sent, torch.tensor([5.0]), prefix, seeded(1)).overhead == pytest.approx(0.05)
    assert PilotConfig().overhead == pytest.approx(12 / 156)


@given(pilots=st.integers(-3, 3), block=st.integers(-3, 3))
def test_a_block_without_pilots_or_data_is_refused(pilots, block):
    if pilots >= 1 and block >= 1:
        assert PilotConfig(pilots, block).overhead == pilots / block
    else:
        with pytest.raises(ValueError, match="at least 1"):
            PilotConfig(pilots, block)


@given(seed=st.integers(0, 2**31), snr_db=st.floats(-20, 40))
@settings(max_examples=12, deadline=None)
def test_more_pilots_never_lower_the_mean_believed_snr_much(seed, snr_db):
    sent, prefix = unit_power([4] * 64, 16, 4)
    snr = torch.full((64,), snr_db)
    few, many = (
        RayleighMmse(PilotConfig(pilots, 16))(sent, snr, prefix, seeded(seed)).snr_db.mean().item()
        for pilots in (1, 64)
    )
    assert many > few - 0.5


def test_unit_gain_looks_at_the_symbols_sent_only():
    prefix = torch.tensor([1])
    mask = symbol_mask(prefix, (1, 4, 4, 4))
    error = torch.where(mask, 0.25, 0.99)
    symbols, snr_db = unit_gain(torch.ones(1, 32, dtype=torch.complex64), error, mask)
    assert snr_db.item() == pytest.approx(10 * math.log10(3), abs=1e-4)
    assert symbols[0, 0].real.item() == pytest.approx(4 / 3)
