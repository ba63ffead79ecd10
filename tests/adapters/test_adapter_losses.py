"""The triplet loss against its definition, and which pairs a batch may take as negatives."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from codec_runtime.adapters.losses import LossConfig, agreement_losses, pair_losses, triplet_losses

PROTOTYPES = F.normalize(torch.eye(4) + 0.1, dim=1)


def _unit(rows: int, seed: int) -> torch.Tensor:
    return F.normalize(torch.randn(rows, 4, generator=torch.Generator().manual_seed(seed)), dim=1)


def test_hardest_negatives_by_hand():
    similarity = torch.tensor([[0.9, 0.8, 0.1], [0.2, 0.5, 0.6], [0.0, 0.3, 0.7]])
    losses = triplet_losses(similarity, torch.eye(3, dtype=torch.bool), 0.2)
    # Row: 0.2 + 0.8 - 0.9, 0.2 + 0.6 - 0.5, 0; column: 0, 0.2 + 0.8 - 0.5, 0.2 + 0.6 - 0.7.
    assert losses.tolist() == pytest.approx([0.1 + 0.0, 0.3 + 0.5, 0.0 + 0.1])


def test_mean_negatives_by_hand():
    similarity = torch.tensor([[0.9, 0.8, 0.1], [0.2, 0.5, 0.6], [0.0, 0.3, 0.7]])
    losses = triplet_losses(similarity, torch.eye(3, dtype=torch.bool), 0.2, "mean")
    assert losses.tolist() == pytest.approx([0.05, 0.15 + 0.25, 0.05])


def test_soft_negatives_are_the_cross_entropy_of_a_softmax_with_margin():
    similarity = torch.randn(4, 4, generator=torch.Generator().manual_seed(2))
    found = triplet_losses(similarity, torch.eye(4, dtype=torch.bool), 0.2, "soft", 0.5)
    logits = (similarity - 0.2 * torch.eye(4)) / 0.5
    target = torch.arange(4)
    both = (F.cross_entropy(side, target, reduction="none") for side in (logits, logits.t()))
    assert torch.allclose(found, sum(both), atol=1e-6)


def test_soft_negatives_come_near_the_hardest_where_they_are_sharp():
    similarity = torch.tensor([[0.9, 0.8, 0.1], [0.2, 0.5, 0.6], [0.0, 0.3, 0.7]])
    soft = 0.001 * triplet_losses(similarity, torch.eye(3, dtype=torch.bool), 0.2, "soft", 0.001)
    assert soft.tolist() == pytest.approx([0.1, 0.8, 0.1], abs=2e-3)


def test_sentences_of_the_same_picture_are_no_negatives():
    pictures = _unit(3, 0)
    first = pictures[torch.tensor([0, 0, 1])]
    second = _unit(3, 1)
    config = LossConfig(agreement="none")
    owners = torch.tensor([0, 0, 1])
    changed = second.clone()
    changed[1] = first[0]  # as near as can be to the other pair of its picture
    before = pair_losses(first, second, owners, PROTOTYPES, config).triplet[0]
    after = pair_losses(first, changed, owners, PROTOTYPES, config).triplet[0]
    assert after == pytest.approx(float(before))


@pytest.mark.parametrize("negatives", ["hardest", "mean", "soft"])
def test_a_batch_of_one_picture_has_no_negatives_and_no_loss(negatives):
    config = LossConfig(negatives=negatives, agreement="none")
    losses = pair_losses(_unit(2, 0), _unit(2, 1), torch.tensor([3, 3]), PROTOTYPES, config)
    assert losses.total.tolist() == [0.0, 0.0]


@pytest.mark.parametrize("kind", ["pair", "text"])
def test_agreement_is_zero_of_equal_assignments_and_positive_otherwise(kind):
    one, other = _unit(5, 0), _unit(5, 1)
    assert agreement_losses(one, one, PROTOTYPES, kind, 0.1).abs().max() < 1e-5
    assert (agreement_losses(one, other, PROTOTYPES, kind, 0.1) > 0).all()


def test_text_agreement_moves_pictures_only():
    pictures, texts = _unit(5, 0).requires_grad_(), _unit(5, 1).requires_grad_()
    agreement_losses(pictures, texts, PROTOTYPES, "text", 0.1).sum().backward()
    assert pictures.grad is not None
    assert pictures.grad.abs().sum() > 0
    assert texts.grad is None


def test_pairs_of_weight_zero_leave_the_mean_but_stay_negatives():
    first, second, owners = _unit(3, 0).requires_grad_(), _unit(3, 1), torch.arange(3)
    losses = pair_losses(first, second, owners, PROTOTYPES, LossConfig(margin=2.0, agreement="none"))
    kept = torch.tensor([1.0, 1.0, 0.0])
    assert float(losses.mean(kept).detach()) == pytest.approx(float(losses.total[:2].mean().detach()))
    assert float(losses.mean(torch.zeros(3)).detach()) == 0.0
    alone = pair_losses(first[:2], second[:2], owners[:2], PROTOTYPES,
                        LossConfig(margin=2.0, agreement="none"))
    assert (losses.total[:2] >= alone.total - 1e-6).all()


def test_total_is_triplet_plus_weighted_agreement():
    config = LossConfig(regularisation=3.0)
    losses = pair_losses(_unit(4, 0), _unit(4, 1), torch.arange(4), PROTOTYPES, config)
    assert torch.allclose(losses.total, losses.triplet + 3.0 * losses.agreement)
