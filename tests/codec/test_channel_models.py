"""The channel against closed form."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from codec_runtime.channel.awgn import awgn, noise_variance
from codec_runtime.channel.rayleigh import rayleigh_gain, rayleigh_slow_equalised
from codec_runtime.channel.symbols import bandwidth_ratio, normalise_power, to_complex, to_real


@given(
    prefix=st.integers(1, 16),
    scale=st.floats(1e-3, 1e3),
    seed=st.integers(0, 2**31),
)
@settings(max_examples=40, deadline=None)
def test_sent_symbols_have_unit_complex_power_and_nothing_beyond_the_prefix(prefix, scale, seed):
    generator = torch.Generator().manual_seed(seed)
    latent = scale * torch.randn(2, 16, 8, 8, generator=generator)
    sent = normalise_power(latent, torch.tensor([prefix, 16]))
    assert torch.count_nonzero(sent[0, prefix:]) == 0
    for image, channels in zip(sent, (prefix, 16), strict=True):
        symbols = to_complex(image[:channels])
        assert symbols.abs().square().mean().item() == pytest.approx(1.0, rel=1e-4)


@pytest.mark.parametrize("snr_db", [-5.0, 1.0, 7.0, 13.0, 20.0])
def test_awgn_measured_snr_is_within_a_twentieth_of_a_db(snr_db):
    generator = torch.Generator().manual_seed(3)
    prefix = torch.tensor([16])
    sent = normalise_power(torch.randn(1, 16, 256, 256, generator=generator), prefix)
    noise = awgn(sent, torch.tensor([snr_db]), prefix, generator) - sent
    noise_power = to_complex(noise).abs().square().mean().item()
    assert 10 * math.log10(1.0 / noise_power) == pytest.approx(snr_db, abs=0.05)


def test_awgn_adds_nothing_on_channels_that_are_not_sent():
    prefix = torch.tensor([4])
    sent = normalise_power(torch.randn(1, 16, 8, 8), prefix)
    received = awgn(sent, torch.tensor([0.0]), prefix)
    assert torch.count_nonzero(received[:, 4:]) == 0


def test_rayleigh_power_gain_is_exponential_with_mean_one():
    gains = rayleigh_gain(200_000, torch.Generator().manual_seed(5)).sort().values
    assert gains.mean().item() == pytest.approx(1.0, abs=0.01)
    empirical = torch.arange(1, len(gains) + 1) / len(gains)
    distance = (empirical - (1 - torch.exp(-gains))).abs().max().item()
    assert distance < 1.63 / math.sqrt(len(gains))  # Kolmogorov-Smirnov, 1% level


def test_equalised_fading_equals_awgn_at_the_effective_snr():
    prefix, gain = torch.tensor([16]), torch.tensor([0.25])
    sent = normalise_power(torch.randn(1, 16, 256, 256), prefix)
    received, effective = rayleigh_slow_equalised(
        sent, torch.tensor([10.0]), prefix, gain, torch.Generator().manual_seed(1)
    )
    assert effective.item() == pytest.approx(10.0 + 10.0 * math.log10(0.25), abs=1e-4)
    noise_power = to_complex(received - sent).abs().square().mean().item()
    assert noise_power == pytest.approx(noise_variance(effective).item(), rel=0.02)


def test_complex_and_real_views_are_inverse():
    values = torch.randn(64)
    assert torch.equal(to_real(to_complex(values)), values)


def test_odd_number_of_values_is_refused():
    with pytest.raises(ValueError, match="even number"):
        to_complex(torch.randn(7))


def test_bandwidth_ratio_of_six_channels_is_one_sixteenth():
    assert bandwidth_ratio(6) == pytest.approx(1 / 16)
