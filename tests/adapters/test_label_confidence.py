"""P(clean) of labels: losses, the mixture, and what happens where there is nothing to tell apart."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional

from codec_runtime.adapters.attacks import flipped_labels
from codec_runtime.adapters.confidence import (
    MIXTURE_MINIMUM,
    Mixture,
    chance_confidence,
    fit_mixture,
    label_confidence,
    pair_losses,
    probability_clean,
)


def losses_of(clean: int, noisy: int, seed: int = 1) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    right = 0.5 + 0.2 * torch.randn(clean, generator=generator)
    return torch.cat([right, 5.0 + 0.8 * torch.randn(noisy, generator=generator)])


def similarities(pairs: int, errors: float, seed: int = 1) -> tuple[Tensor, Tensor]:
    """((B, B) similarities of noisy copies, (B,) bool: which labels are wrong)."""
    generator = torch.Generator().manual_seed(seed)
    samples = functional.normalize(torch.randn(pairs, 16, generator=generator), dim=1)
    given = flipped_labels(pairs, errors, seed)
    labels = functional.normalize(samples + 0.1 * torch.randn(pairs, 16, generator=generator), dim=1)[given]
    return samples @ labels.T, given != torch.arange(pairs)


def test_mixture_finds_the_populations_it_was_drawn_from():
    found = fit_mixture(losses_of(clean=280, noisy=120))
    assert found is not None
    assert found.clean_mean == pytest.approx(0.5, abs=0.05)
    assert found.noisy_mean == pytest.approx(5.0, abs=0.2)
    assert math.sqrt(found.noisy_variance) == pytest.approx(0.8, abs=0.15)
    assert found.clean_share == pytest.approx(0.7, abs=0.01)


@pytest.mark.parametrize("noisy", [4, 40, 200, 360])
def test_mixture_separates_whatever_the_share_of_errors(noisy):
    losses = losses_of(clean=400 - noisy, noisy=noisy)
    found = fit_mixture(losses)
    assert found is not None
    wrong = torch.arange(400) >= 400 - noisy
    assert ((probability_clean(losses, found) < 0.5) == wrong).float().mean() >= 0.99


@pytest.mark.parametrize("errors", [0.2, 0.4, 0.6])
def test_wrong_labels_are_told_from_right_ones(errors):
    batches = [similarities(128, errors, seed) for seed in (1, 2, 3)]
    confidence = label_confidence([matrix for matrix, _ in batches])
    wrong = torch.cat([mask for _, mask in batches])
    assert ((confidence < 0.5) == wrong).float().mean() >= 0.98


def test_clean_labels_are_all_trusted():
    matrix, _ = similarities(256, 0.0)
    assert (label_confidence([matrix]) > 0.5).all()


def test_small_batches_are_judged_pair_by_pair():
    matrix, wrong = similarities(MIXTURE_MINIMUM // 2, 0.25)
    assert fit_mixture(pair_losses(matrix)) is None
    assert torch.equal(label_confidence([matrix]) < 0.5, wrong)


def test_a_smaller_last_batch_is_judged_as_the_others_are():
    (large, wrong), (small, wrong_small) = similarities(128, 0.4), similarities(40, 0.4, seed=2)
    confidence = label_confidence([large, small])
    assert ((confidence < 0.5) == torch.cat([wrong, wrong_small])).float().mean() >= 0.97


def test_losses_that_are_all_alike_show_no_two_populations():
    assert fit_mixture(torch.full((100,), 3.0)) is None
    assert torch.allclose(label_confidence([torch.zeros(64, 64)]), torch.full((64,), 0.5))


def test_one_hump_shows_no_two_populations():
    assert fit_mixture(torch.randn(400, generator=torch.Generator().manual_seed(4))) is None


def test_a_single_pair_says_nothing():
    assert label_confidence([torch.ones(1, 1)]).tolist() == [0.5]
    assert fit_mixture(torch.ones(1)) is None


def test_chance_confidence_is_one_half_at_chance():
    losses = torch.tensor([math.log(50.0), 0.0, 20.0])
    assert chance_confidence(losses, 50).tolist() == pytest.approx([0.5, 50 / 51, 0.0], abs=1e-4)


def test_pair_losses_are_those_of_both_directions():
    matrix = torch.tensor([[0.9, 0.1], [0.2, 0.4]])
    forth = -math.log(math.exp(0.9) / (math.exp(0.9) + math.exp(0.1)))
    back = -math.log(math.exp(0.9) / (math.exp(0.9) + math.exp(0.2)))
    assert float(pair_losses(matrix, temperature=1.0)[0]) == pytest.approx((forth + back) / 2, rel=1e-6)


@pytest.mark.parametrize(
    "matrix",
    [
        torch.full((3, 3), float("nan")),
        torch.full((2, 2), float("inf")),
        torch.zeros(2, 3),
        torch.zeros(0, 0),
    ],
)
def test_bad_similarities_are_refused(matrix):
    with pytest.raises(ValueError, match=r"similarities"):
        label_confidence([matrix])


def test_nothing_to_judge_and_bad_losses_are_refused():
    with pytest.raises(ValueError, match=r"no mini-batch"):
        label_confidence([])
    with pytest.raises(ValueError, match=r"NaN or infinity \(1 of 40"):
        fit_mixture(torch.cat([torch.zeros(39), torch.tensor([float("nan")])]))
    with pytest.raises(ValueError, match=r"temperature"):
        pair_losses(torch.zeros(2, 2), temperature=0.0)


@settings(max_examples=50, deadline=None)
@given(
    means=st.tuples(st.floats(-5, 5), st.floats(0.01, 10)),
    variances=st.tuples(st.floats(1e-4, 10), st.floats(1e-4, 10)),
    share=st.floats(0.01, 0.99),
)
def test_probability_never_rises_with_the_loss(means, variances, share):
    mixture = Mixture(means[0], variances[0], means[0] + means[1], variances[1], share)
    probability = probability_clean(torch.linspace(-20, 30, 200), mixture)
    assert (probability.diff() <= 1e-6).all()
    assert ((probability >= 0) & (probability <= 1)).all()


@settings(max_examples=30, deadline=None)
@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=80))
def test_any_finite_losses_are_borne(values):
    losses = torch.tensor(values, dtype=torch.float64)
    found = fit_mixture(losses)
    if found is not None:
        assert torch.isfinite(probability_clean(losses, found)).all()
