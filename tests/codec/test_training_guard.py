"""The gradient guard: ordinary gradients pass, outliers and NaN are left out and counted."""

import pytest
import torch
from torch import nn

from codec_runtime.training.guard import GradientGuard


def _guarded(norms, clip_norm=1e6):
    weight = nn.Parameter(torch.zeros(4))
    guard = GradientGuard([weight], clip_norm)
    kept = []
    for norm in norms:
        weight.grad = torch.full((4,), norm / 2.0)
        guard.apply()
        kept.append(weight.grad.norm().item())
    return guard, kept


def test_ordinary_gradients_pass_unchanged_and_large_ones_are_clipped():
    guard, kept = _guarded([1.0, 2.0, 3.0], clip_norm=2.5)
    assert kept == pytest.approx([1.0, 2.0, 2.5], rel=1e-5)
    assert guard.left_out == 0


def test_outlier_after_settling_is_left_out_and_does_not_lift_the_average_much():
    guard, kept = _guarded([1.0] * 60 + [1000.0, 1.0, 7.0, 1000.0])
    assert kept[60] == 0.0
    assert kept[61:63] == pytest.approx([1.0, 7.0])
    assert kept[63] == 0.0
    assert guard.left_out == 2


@pytest.mark.parametrize("wrong", [float("nan"), float("inf")])
def test_gradient_that_is_not_finite_is_left_out_at_any_time(wrong):
    guard, kept = _guarded([wrong, 1.0, wrong, 2.0])
    assert kept == [0.0, pytest.approx(1.0), 0.0, pytest.approx(2.0)]
    assert guard.left_out == 2


def test_state_survives_a_round_trip():
    guard, _ = _guarded([1.0] * 60)
    again = GradientGuard([nn.Parameter(torch.zeros(4))], 1.0)
    again.load(guard.tensors())
    assert torch.equal(again.tensors(), guard.tensors())
