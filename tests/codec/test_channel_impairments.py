"""Robustness modes: what each changes, and that it changes nothing else."""

import math

import pytest
import torch
from channel_draws import seeded, unit_power
from hypothesis import given, settings
from hypothesis import strategies as st

from codec_runtime.channel.gaussian import circular_normal
from codec_runtime.channel.impairments import BurstErasure, ClippedAmplifier, soft_limiter
from codec_runtime.channel.modes import channel
from codec_runtime.channel.received import Received, require_finite
from codec_runtime.channel.symbols import to_symbols

CPU = torch.device("cpu")


@pytest.mark.parametrize(("name", "offset"), [("awgn+snr+3", 3.0), ("awgn+snr-3", -3.0)])
def test_a_wrong_snr_estimate_changes_the_belief_and_not_the_symbols(name, offset):
    sent, prefix = unit_power([6, 2], 8)
    snr = torch.tensor([4.0, 9.0])
    right, wrong = (channel(n)(sent, snr, prefix, seeded(1)) for n in ("awgn", name))
    assert torch.equal(right.values, wrong.values)
    assert torch.equal(wrong.snr_db, snr + offset)


@given(
    share=st.floats(0, 1),
    prefixes=st.lists(st.integers(1, 8), min_size=1, max_size=4),
    seed=st.integers(0, 2**31),
)
@settings(max_examples=40, deadline=None)
def test_a_burst_erases_one_run_of_each_image_and_leaves_the_rest(share, prefixes, seed):
    sent, prefix = unit_power(prefixes, 4, 8)
    snr = torch.full((len(prefixes),), 5.0)
    whole = to_symbols(channel("awgn")(sent, snr, prefix, seeded(seed)).values, prefix)
    burst = BurstErasure(channel("awgn"), share)(sent, snr, prefix, seeded(seed))
    symbols = to_symbols(burst.values, prefix)
    for image, channels in enumerate(prefixes):
        count = channels * 8
        erased = (symbols[image, :count] == 0).nonzero().flatten()
        assert len(erased) == round(float(torch.tensor(share) * count))
        if len(erased):
            assert int(erased[-1] - erased[0]) == len(erased) - 1
        kept = symbols[image] != 0
        assert torch.equal(symbols[image][kept], whole[image][kept])
    assert torch.equal(burst.snr_db, snr)


def test_bursts_of_a_batch_start_anywhere():
    sent, prefix = unit_power([2] * 2000, 4, 2)
    received = channel("awgn+burst")(sent, torch.zeros(2000), prefix, seeded(1)).values
    first = (to_symbols(received, prefix) == 0).float().argmax(dim=1)
    counts = torch.bincount(first, minlength=15)
    assert len(counts) == 15  # 16 symbols, 2 of them erased
    assert counts.min().item() > 2000 / 15 - 5 * math.sqrt(2000 / 15)


@pytest.mark.parametrize("ratio_db", [-3.0, 0.0, 3.0, 6.0])
def test_clipped_gaussian_symbols_have_the_power_of_the_closed_form(ratio_db):
    symbols = circular_normal((400_000,), CPU, seeded(1))
    limited = soft_limiter(symbols, ratio_db)
    limit2 = 10 ** (ratio_db / 10)
    assert limited.abs().square().mean().item() == pytest.approx(1 - math.exp(-limit2), rel=0.01)
    # Bussgang: the part that still follows the input has this gain.
    root = math.sqrt(limit2)
    gain = 1 - math.exp(-limit2) + math.sqrt(math.pi) / 2 * root * math.erfc(root)
    assert (limited * symbols.conj()).mean().real.item() == pytest.approx(gain, rel=0.01)


@given(ratio_db=st.floats(-20, 20), seed=st.integers(0, 2**31))
@settings(max_examples=30, deadline=None)
def test_the_limiter_keeps_phase_and_small_envelopes(ratio_db, seed):
    symbols = circular_normal((256,), CPU, seeded(seed))
    symbols[0] = 0
    limited = soft_limiter(symbols, ratio_db)
    limit = 10 ** (ratio_db / 20)
    assert limited.abs().max().item() <= limit * (1 + 1e-5)
    small = symbols.abs() <= limit
    assert torch.equal(limited[small], symbols[small])
    assert ((limited * symbols.conj()).angle().abs() < 1e-5).all()


def test_clipping_happens_before_the_noise():
    sent, prefix = unit_power([4], 64, 4)
    quiet, loud = (
        ClippedAmplifier(channel("awgn"), 0.0)(sent, torch.tensor([snr]), prefix, seeded(1)).values
        for snr in (200.0, 3.0)
    )
    assert to_symbols(quiet, prefix).abs().max().item() <= 1 + 1e-5
    noise = to_symbols(loud - quiet, prefix).abs().square().mean().item()
    assert -10 * math.log10(noise) == pytest.approx(3.0, abs=0.2)
    assert to_symbols(loud, prefix).abs().max().item() > 1.5


def test_zero_symbols_have_a_finite_gradient_through_the_limiter():
    symbols = torch.zeros(4, dtype=torch.complex64, requires_grad=True)
    soft_limiter(symbols, 0.0).abs().square().sum().backward()
    assert torch.isfinite(torch.view_as_real(symbols.grad)).all()


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_symbols_that_are_not_finite_are_refused_by_image_and_count(bad):
    sent, prefix = unit_power([2, 2, 2], 4, 2)
    received = channel("awgn")(sent, torch.zeros(3), prefix, seeded(1))
    require_finite(received)
    require_finite(received.values)
    received.values[1, 0, :2, 0] = bad
    for broken in (received, received.values):
        with pytest.raises(ValueError, match=r"image 1 .* 2 of 32"):
            require_finite(broken)


def test_an_snr_that_is_not_finite_is_refused():
    sent, _ = unit_power([2, 2], 4, 2)
    with pytest.raises(ValueError, match=r"SNR .* image 1"):
        require_finite(Received(sent, torch.tensor([1.0, math.nan])))


@pytest.mark.parametrize("share", [-0.1, 1.1, math.nan])
def test_a_share_outside_zero_to_one_is_refused(share):
    with pytest.raises(ValueError, match=r"0\.\.1"):
        BurstErasure(channel("awgn"), share)
