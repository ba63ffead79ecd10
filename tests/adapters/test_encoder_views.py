"""Samples through several encoders: together, one at a time, and without a leak between them."""

from __future__ import annotations

import pytest
import torch
from adapter_toy_set import CONFIG, toy_knowledge, toy_pairs
from adapter_toy_users import toy_problem

from codec_runtime.adapters.methods import load_method
from codec_runtime.adapters.pairs import PairSet
from codec_runtime.adapters.tokens import TokenError, Tokens
from codec_runtime.adapters.training import embed, new_adapter
from codec_runtime.adapters.views import TokenViews, seen_together, views_of, with_view_edges

PROTOTYPES = toy_knowledge().prototypes


def _other(tokens: Tokens) -> Tokens:
    return Tokens(tokens.values[:, :, :16], tokens.mask, "image", "toy-text")


def test_an_embedding_is_the_mean_over_the_tokens_of_all_views():
    images = toy_pairs(20).images
    second = _other(images)
    adapter = new_adapter(CONFIG, 0)
    both = with_view_edges(seen_together(images, second), CONFIG.neighbours)
    together = embed(adapter, both, PROTOTYPES)
    with torch.no_grad():
        parts = [adapter(part, PROTOTYPES).tokens.sum(1) for part in (images, second)]
    assert torch.allclose(together, torch.nn.functional.normalize(sum(parts), dim=1), atol=5e-3)


def test_a_view_that_is_there_already_is_not_there_twice():
    images = toy_pairs(6).images
    assert seen_together(images, images) is images
    both = seen_together(images, _other(images))
    assert len(views_of(seen_together(both, images))) == 2
    assert both.encoder == "toy-image+toy-text"


def test_views_are_of_the_same_samples():
    pairs = toy_pairs(6)
    with pytest.raises(TokenError, match=r"views of \[6, 12\] samples"):
        TokenViews((pairs.images, pairs.texts))
    with pytest.raises(TokenError, match=r"views of \[\] samples"):
        TokenViews(())


def test_pairs_are_seen_through_everything_and_through_each_encoder_alone():
    pairs = toy_pairs(6)
    assert pairs.looks() == [pairs]
    both = PairSet(seen_together(pairs.images, _other(pairs.images)), pairs.texts, pairs.owner)
    seen = [look.images.encoder for look in both.looks()]
    assert seen == ["toy-image+toy-text", "toy-image", "toy-text"]
    assert {look.texts.encoder for look in both.looks()} == {"toy-text"}


def test_ours_sees_the_common_encoder_beside_its_own_and_the_baseline_does_not():
    problem = toy_problem(source_epochs=0)
    (ours,), (alone,) = (load_method(name).federations(problem) for name in ("ours", "no_common"))
    seen = [{name: model.train.images.encoder for name, model in of.models.items()} for of in (ours, alone)]
    assert seen[0]["u1"] == "toy-turned+toy-image"
    assert seen[0]["u0"] == seen[1]["u0"] == "toy-image"
    assert seen[1]["u1"] == "toy-turned"
    (fedgnn,) = load_method("fedgnn").federations(problem)
    assert fedgnn.models["u1"].train.images.encoder == "toy-turned"
