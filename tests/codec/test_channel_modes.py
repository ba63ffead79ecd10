"""What holds for every channel: its name, its shape, its draws, its gradient."""

import pytest
import torch
from channel_draws import seeded, unit_power
from hypothesis import given, settings
from hypothesis import strategies as st

from codec_runtime.channel.modes import CHANNELS, IMPAIRMENTS, channel
from codec_runtime.channel.symbols import (
    from_symbols,
    symbol_counts,
    symbol_mask,
    to_complex,
    to_real,
    to_symbols,
)

QUICK = tuple(name for name in CHANNELS if not name.startswith("tdl"))
"""Sionna takes seconds to import: the same tests for tdl-* are in test_channel_tdl.py."""

names = st.sampled_from([*QUICK, "rayleigh_mmse+burst", "rayleigh_slow+clip"])
prefixes = st.lists(st.integers(1, 6), min_size=1, max_size=4)
seeds = st.integers(0, 2**31)


def test_the_named_modes_are_those_of_the_tables():
    assert set(CHANNELS) == {
        "awgn", "rayleigh_slow", "rayleigh_slow_eq", "rayleigh_fast_magnitude", "rayleigh_mmse",
        "tdl-a", "tdl-b", "tdl-c", "tdl-d", "tdl-e",
        "awgn+snr+3", "awgn+snr-3", "awgn+burst", "awgn+clip",
    }


@pytest.mark.parametrize("name", ["", "AWGN", "rayleigh", "awgn+", "awgn+nan", "clip", "awgn+clip+burst"])
def test_an_unknown_name_is_refused_with_the_known_ones(name):
    with pytest.raises(ValueError, match=r"unknown channel .*rayleigh_slow_eq.*\+clip"):
        channel(name)


@given(prefix=prefixes, seed=seeds)
@settings(max_examples=30, deadline=None)
def test_batched_symbols_are_those_of_each_image_alone(prefix, seed):
    sent, lengths = unit_power(prefix, 4, 6, seed)
    symbols = to_symbols(sent, lengths)
    for index, channels in enumerate(prefix):
        expected = to_complex(sent[index, :channels])
        assert torch.equal(symbols[index, : channels * 8], expected)
        assert torch.count_nonzero(symbols[index, channels * 8 :]) == 0
        assert torch.equal(sent[index, :channels].flatten(), to_real(expected))
    assert torch.equal(from_symbols(symbols, lengths, sent.shape), sent)
    assert torch.equal(symbol_mask(lengths, sent.shape).sum(dim=1), symbol_counts(lengths, 4, 4))


def test_half_precision_values_become_symbols_of_single_precision():
    sent, prefix = unit_power([2], 4, 2)
    symbols = to_symbols(sent.bfloat16(), prefix)
    assert symbols.dtype == torch.complex64
    assert torch.equal(symbols, to_symbols(sent.bfloat16().float(), prefix))


def test_an_odd_number_of_values_in_an_image_is_refused():
    with pytest.raises(ValueError, match="even number"):
        to_symbols(torch.zeros(2, 4, 3, 3), torch.tensor([2, 3]))
    assert to_symbols(torch.zeros(2, 4, 3, 3), torch.tensor([2, 4])).shape == (2, 18)


@given(name=names, prefix=prefixes, seed=seeds)
@settings(max_examples=40, deadline=None)
def test_nothing_is_received_beyond_the_prefix_and_every_value_is_finite(name, prefix, seed):
    sent, lengths = unit_power(prefix, 4, 6, seed)
    received = channel(name)(sent, torch.full((len(prefix),), 5.0), lengths, seeded(seed))
    assert received.values.shape == sent.shape
    assert received.snr_db.shape == (len(prefix),)
    for image, channels in zip(received.values, prefix, strict=True):
        assert torch.count_nonzero(image[channels:]) == 0
    assert torch.isfinite(received.values).all()
    assert torch.isfinite(received.snr_db).all()
    assert (received.overhead > 0) == name.startswith("rayleigh_mmse")


@given(name=names, prefix=prefixes, seed=seeds)
@settings(max_examples=40, deadline=None)
def test_a_seed_fixes_every_draw_and_another_gives_another(name, prefix, seed):
    sent, lengths = unit_power(prefix, 4, 6, seed)
    snr = torch.full((len(prefix),), 5.0)
    first, same, other = (channel(name)(sent, snr, lengths, seeded(s)) for s in (seed, seed, seed + 1))
    assert torch.equal(first.values, same.values)
    assert torch.equal(first.snr_db, same.snr_db)
    assert not torch.equal(first.values, other.values)


@given(name=names, prefix=st.lists(st.integers(1, 6), min_size=2, max_size=4), seed=seeds)
@settings(max_examples=40, deadline=None)
def test_no_symbol_mixes_two_images(name, prefix, seed):
    sent, lengths = unit_power(prefix, 4, 6, seed)
    snr = torch.full((len(prefix),), 5.0)
    changed = sent.clone()
    changed[0] = changed[0].flip(-1) * 0.5
    before, after = (channel(name)(x, snr, lengths, seeded(seed)) for x in (sent, changed))
    assert torch.equal(before.values[1:], after.values[1:])
    assert torch.equal(before.snr_db[1:], after.snr_db[1:])
    assert not torch.equal(before.values[0], after.values[0])


@pytest.mark.parametrize("name", QUICK)
def test_the_gradient_reaches_what_was_sent_and_nothing_else(name):
    sent, prefix = unit_power([2, 6], 8, 6)
    sent.requires_grad_()
    received = channel(name)(sent, torch.tensor([5.0, 15.0]), prefix, seeded(1))
    received.values.square().sum().backward()
    assert torch.isfinite(sent.grad).all()
    assert torch.count_nonzero(sent.grad[0, 2:]) == 0
    for image, channels in zip(sent.grad, (2, 6), strict=True):
        # A burst erases a tenth of the gradient with the symbols.
        assert torch.count_nonzero(image[:channels]) >= 0.85 * channels * 64


@pytest.mark.parametrize("name", ["rayleigh_slow", "rayleigh_fast_magnitude", "rayleigh_mmse"])
def test_the_channel_is_linear_in_what_is_sent_for_given_draws(name):
    sent, prefix = unit_power([6], 8, 6)
    snr = torch.tensor([5.0])
    nothing, once, twice = (
        channel(name)(scale * sent, snr, prefix, seeded(1)).values for scale in (0.0, 1.0, 2.0)
    )
    assert torch.allclose(twice - nothing, 2 * (once - nothing), atol=1e-4)


@pytest.mark.parametrize("impairment", IMPAIRMENTS)
def test_any_model_takes_any_impairment(impairment):
    sent, prefix = unit_power([6], 8, 6)
    received = channel(f"rayleigh_mmse+{impairment}")(sent, torch.tensor([5.0]), prefix, seeded(1))
    assert received.overhead == pytest.approx(12 / 156)
