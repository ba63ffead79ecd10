"""Provisional labels: right ones stay, wrong ones are told and, where the witnesses agree, paired anew."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from codec_runtime.adapters.attacks import flipped_labels
from codec_runtime.adapters.provisional import kinship, provisional_labels
from codec_runtime.adapters.tokens import Tokens
from codec_runtime.adapters.views import TokenViews

SAMPLES, EACH, D = 30, 5, 24


def _world(seed: int, noise: float) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Labels' features (N, D), similarity (N, P) of an adapter that is right up to noise, truth (N,)."""
    generator = torch.Generator().manual_seed(seed)
    samples = F.normalize(torch.randn(SAMPLES, D, generator=generator), dim=1)
    truth = torch.arange(SAMPLES).repeat_interleave(EACH)
    labels = F.normalize(samples[truth] + 0.12 * torch.randn(len(truth), D, generator=generator), dim=1)
    seen = F.normalize(samples + noise * torch.randn(SAMPLES, D, generator=generator), dim=1)
    return labels, labels @ seen.t(), truth


def _tokens(features: torch.Tensor, encoder: str = "toy") -> Tokens:
    return Tokens(features[:, None], torch.ones(len(features), 1, dtype=torch.bool), "text", encoder)


@pytest.mark.parametrize("noise", [0.1, 0.4])
def test_right_labels_stay_as_they_are(noise):
    labels, similarity, truth = _world(1, noise)
    judged = provisional_labels(similarity, truth, kinship(_tokens(labels)), share=0.7)
    assert torch.equal(judged.partner, truth)
    assert float((judged.confidence > 0.5).float().mean()) == 1.0
    assert float(judged.confidence.mean()) > 0.95


@pytest.mark.parametrize("share", [0.2, 0.4, 0.6])
def test_wrong_labels_are_told_and_most_are_paired_anew(share):
    labels, similarity, truth = _world(2, 0.4)
    said = truth[flipped_labels(len(truth), share, 3)]
    wrong = said != truth
    judged = provisional_labels(similarity, said, kinship(_tokens(labels)), share=0.9)
    assert float((judged.confidence[wrong] < 0.5).float().mean()) > 0.75
    assert float((judged.confidence[~wrong] > 0.5).float().mean()) > 0.9
    sure = wrong & (judged.certainty > 0.7)
    assert float(sure.sum() / wrong.sum()) > 0.4
    assert float((judged.partner[sure] == truth[sure]).float().mean()) > 0.85


def test_labels_without_evidence_are_believed_as_much_as_was_guessed():
    given_ = torch.arange(SAMPLES).repeat(2)
    nothing = torch.zeros(len(given_), SAMPLES)
    kin = torch.zeros(len(given_), len(given_))
    judged = provisional_labels(nothing, given_, kin, share=0.8)
    assert torch.allclose(judged.confidence, torch.full((len(given_),), 0.8), atol=0.02)
    assert torch.equal(judged.partner, given_)


def test_kin_are_labels_alike_and_nobody_is_his_own():
    labels, _, truth = _world(3, 0.4)
    kin = kinship(_tokens(labels))
    assert bool((kin.diagonal() == 0).all())
    assert torch.allclose(kin.sum(1), torch.ones(len(labels)))
    of_one_sample = truth[:, None] == truth[None]
    assert float((kin * of_one_sample).sum() / kin.sum()) > 0.8


def test_kin_through_two_encoders_of_different_widths():
    labels, _, _ = _world(4, 0.4)
    both = kinship(TokenViews((_tokens(labels), _tokens(labels[:, : D // 2], "narrow"))))
    assert both.shape == (len(labels), len(labels))
    assert not torch.allclose(both, kinship(_tokens(labels)))


@given(st.integers(1, 12), st.integers(1, 5), st.floats(0, 1), st.integers(0, 4))
@settings(max_examples=40, deadline=None)
def test_a_judgement_is_a_distribution_over_the_users_own_samples(labels, samples, share, seed):
    generator = torch.Generator().manual_seed(seed)
    similarity = 2 * torch.rand(labels, samples, generator=generator) - 1
    said = torch.randint(samples, (labels,), generator=generator)
    kin = kinship(_tokens(torch.randn(labels, 6, generator=generator)))
    judged = provisional_labels(similarity, said, kin, share)
    assert bool((judged.confidence <= judged.certainty + 1e-6).all())
    assert bool(((judged.confidence >= 0) & (judged.certainty <= 1)).all())
    assert bool(((judged.partner >= 0) & (judged.partner < samples)).all())
    assert torch.equal(judged.partner == said, torch.isclose(judged.confidence, judged.certainty))
