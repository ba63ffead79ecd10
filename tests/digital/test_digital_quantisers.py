"""Quantisers: what they guarantee at inference, and that clip ranges learn."""

from __future__ import annotations

import pytest
import torch

from codec_runtime.digital.quantisation import ChannelQuantiser, round_soft


@pytest.mark.parametrize("bits", range(2, 9))
def test_values_inside_the_range_are_at_most_half_a_step_off(bits: int) -> None:
    quantiser = ChannelQuantiser(3).eval()
    x = torch.rand(4, 3, 5, 5) * 2 - 1
    indices = quantiser.indices(x, bits)
    assert 0 <= int(indices.min()) <= int(indices.max()) < 2**bits
    assert (quantiser.values(indices, bits) - x).abs().max() <= 1 / (2**bits - 1) + 1e-6
    assert torch.equal(quantiser(x, bits), quantiser.values(indices, bits))


def test_bits_outside_two_to_eight_are_refused() -> None:
    with pytest.raises(ValueError, match="9 bits; want 2 to 8"):
        ChannelQuantiser(1).indices(torch.zeros(1, 1, 1, 1), 9)


def test_fit_clips_outliers_at_few_bits_and_beats_the_full_range() -> None:
    torch.manual_seed(0)
    x = torch.randn(64, 1, 8, 8)
    x[0, 0, 0, 0] = 40.0
    quantiser = ChannelQuantiser(1).eval()
    quantiser.fit(x, bits=3)
    fitted = (quantiser(x, 3) - x).square().mean()
    with torch.no_grad():
        quantiser.low.copy_(x.amin().view(1))
        quantiser.log_width.copy_((x.amax() - x.amin()).log().view(1))
    assert fitted < 0.5 * (quantiser(x, 3) - x).square().mean()


@pytest.mark.parametrize("rounding", ["straight-through", "noise", "soft"])
def test_clip_ranges_learn_through_every_rounding(rounding: str) -> None:
    torch.manual_seed(0)
    quantiser = ChannelQuantiser(2, rounding).train()  # type: ignore[arg-type]
    x = torch.randn(8, 2, 4, 4) * 3
    (quantiser(x, 2) - x).square().mean().backward()
    assert quantiser.low.grad is not None
    assert (quantiser.low.grad.abs() > 0).all()
    assert quantiser.log_width.grad is not None
    assert (quantiser.log_width.grad.abs() > 0).all()


def test_soft_rounding_is_exact_at_integers_and_rises() -> None:
    whole = torch.tensor([-2.0, 0.0, 3.0])
    assert torch.allclose(round_soft(whole), whole, atol=1e-5)
    assert (round_soft(torch.linspace(-2, 2, 401)).diff() > 0).all()
