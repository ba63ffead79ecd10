"""Constellations: labels, power, soft demapping, and that learning does not lose information."""

from __future__ import annotations

import math

import pytest
import torch

from codec_runtime.digital.constellation import (
    ORDERS,
    Constellation,
    chosen_order,
    gray,
    start_points,
    train_constellation,
)


@pytest.mark.parametrize("order", ORDERS)
def test_start_has_unit_power_and_neighbours_differ_in_one_bit(order: int) -> None:
    points = start_points(order)
    assert float(points.abs().square().mean()) == pytest.approx(1.0, abs=1e-5)
    distance = (points[:, None] - points[None, :]).abs()
    closest = distance[distance > 1e-6].min()
    for one, other in (distance < 1.01 * closest).nonzero().tolist():
        if one != other:
            assert (one ^ other).bit_count() == 1
    assert sorted(gray(i) for i in range(order)) == list(range(order))


@pytest.mark.parametrize("order", [4, 16, 256])
def test_noiseless_symbols_demap_to_their_bits(order: int) -> None:
    model = Constellation(order)
    bits = torch.randint(2, (200, model.bits), generator=torch.Generator().manual_seed(0))
    llr = model.demap(model.modulate(bits), 1e-4)
    assert torch.equal((llr < 0).long(), bits)


def test_qpsk_log_likelihood_is_that_of_the_formula() -> None:
    model = Constellation(4)
    received = torch.tensor([0.3 - 0.8j])
    llr = model.demap(received, 0.5)[0]
    amplitude = 4 * math.sqrt(0.5) / 0.5
    assert sorted(llr.abs().tolist()) == pytest.approx(sorted([amplitude * 0.3, amplitude * 0.8]), rel=1e-4)


def test_information_is_below_capacity_and_learning_gains_at_low_snr() -> None:
    snr = 6.0
    learned = train_constellation(16, snr, steps=60)
    start = Constellation(16)
    random = [torch.Generator().manual_seed(9) for _ in range(2)]
    before, after = (
        float(model.information(snr, 20000, generator).detach())
        for model, generator in zip((start, learned), random, strict=True)
    )
    assert before < after < math.log2(1 + 10 ** (snr / 10))
    assert float(learned.points().abs().square().mean()) == pytest.approx(1.0, abs=1e-5)


def test_order_follows_the_channel() -> None:
    assert [chosen_order(snr) for snr in (-5, 5, 10, 17, 40)] == [4, 16, 32, 128, 256]
    with pytest.raises(ValueError, match="6 points"):
        start_points(6)
