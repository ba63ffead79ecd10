"""Recalls by hand, ties against the searcher, and who is worst off."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from codec_runtime.adapters.evaluation import Retrieval, fairness, recalls, retrieval


def test_perfect_embeddings_score_600():
    points = torch.eye(12)
    assert retrieval(points, points, torch.arange(12)).rsum == 600.0


def test_ranks_by_hand():
    similarity = torch.tensor([[0.9, 0.5, 0.1], [0.8, 0.7, 0.6]])
    true = torch.tensor([[True, False, False], [False, False, True]])
    assert recalls(similarity, true) == [50.0, 100.0, 100.0]


def test_any_of_an_images_texts_will_do():
    images = torch.eye(2)
    texts = torch.stack((images[0], images[1], images[1]))  # the second text of image 0 looks like image 1
    result = retrieval(images, texts, torch.tensor([0, 0, 1]))
    assert result.image_to_text_1 == 50.0  # image 1: its own text ties with a wrong one
    assert result.text_to_image_1 == pytest.approx(100 * 2 / 3)


def test_constant_embeddings_find_nothing():
    same = F.normalize(torch.ones(20, 4), dim=1)
    assert retrieval(same, same, torch.arange(20)).rsum == 0.0


@given(st.integers(2, 30), st.integers(0, 20))
@settings(max_examples=30, deadline=None)
def test_recalls_rise_with_rank_and_do_not_depend_on_the_order_of_answers(count, seed):
    generator = torch.Generator().manual_seed(seed)
    images, texts = (F.normalize(torch.randn(count, 4, generator=generator), dim=1) for _ in range(2))
    owner = torch.randperm(count, generator=generator)
    result = retrieval(images, texts, owner)
    assert 0 <= result.image_to_text_1 <= result.image_to_text_5 <= result.image_to_text_10 <= 100
    assert 0 <= result.text_to_image_1 <= result.text_to_image_5 <= result.text_to_image_10 <= 100
    order = torch.randperm(count, generator=generator)
    assert retrieval(images, texts[order], owner[order]) == result
    assert result.as_dict()["rsum"] == pytest.approx(result.rsum)


@pytest.mark.parametrize("owner", [[0, 0], [0, 2]])
def test_images_without_text_and_texts_without_image_are_refused(owner: list[int]):
    with pytest.raises(ValueError, match="needs"):
        retrieval(torch.eye(2), torch.eye(2), torch.tensor(owner))


def test_the_worst_user_is_named():
    good, bad = Retrieval(*[90.0] * 6), Retrieval(*[10.0] * 6)
    summary = fairness({"a": good, "c": bad, "b": bad})
    assert (summary.mean, summary.worst, summary.worst_user) == (pytest.approx(220.0), 60.0, "b")
    with pytest.raises(ValueError, match="no user"):
        fairness({})
