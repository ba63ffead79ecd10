"""Edges are what the formulas say; an embedding depends on the sample's own tokens and the prototypes."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from adapter_toy_set import CONFIG, toy_knowledge, toy_pairs
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from codec_runtime.adapters.adapter import GraphAdapter
from codec_runtime.adapters.graph import gaussian_edges, nearest_prototypes, with_edges
from codec_runtime.adapters.tokens import TokenError, Tokens, pack
from codec_runtime.adapters.training import new_adapter

PROTOTYPES = toy_knowledge().prototypes


@pytest.fixture
def adapter() -> GraphAdapter:
    """With messages that count: a fresh adapter's are silent."""
    model = new_adapter(CONFIG, seed=1)
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for value in model.parameters():
            value.add_(0.2 * torch.randn(value.shape, generator=generator))
    return model


def test_edges_of_three_tokens_by_hand():
    values = torch.tensor([[[0.0], [1.0], [3.0]]])
    edges = gaussian_edges(values, torch.ones(1, 3, dtype=torch.bool), neighbours=2)[0]
    # Distances 1, 2, 3; median of their squares 4: log w = -d^2 / 8.
    expected = [[0.0, -1 / 8, -9 / 8], [-1 / 8, 0.0, -4 / 8], [-9 / 8, -4 / 8, 0.0]]
    assert torch.allclose(edges, torch.tensor(expected), atol=1e-5)


def test_top_one_keeps_an_edge_that_either_end_keeps():
    values = torch.tensor([[[0.0], [1.0], [3.0]]])
    edges = gaussian_edges(values, torch.ones(1, 3, dtype=torch.bool), neighbours=1)[0]
    present = edges > -math.inf
    assert present.tolist() == [[True, True, False], [True, True, True], [False, True, True]]


@given(st.integers(1, 7), st.integers(1, 5), st.integers(0, 9))
@settings(max_examples=40, deadline=None)
def test_edges_are_symmetric_looped_and_never_reach_padding(tokens, neighbours, seed):
    generator = torch.Generator().manual_seed(seed)
    lengths = [tokens, max(1, tokens // 2)]
    batch = pack([torch.randn(n, 3, generator=generator) for n in lengths], "text", "a")
    edges = gaussian_edges(batch.values, batch.mask, neighbours)
    assert torch.equal(edges, edges.transpose(1, 2))
    assert torch.equal(edges.diagonal(dim1=1, dim2=2), torch.zeros(2, tokens))
    off = ~torch.eye(tokens, dtype=torch.bool)
    assert (edges[1, : lengths[1], lengths[1] :] == -math.inf).all()
    kept = ((edges > -math.inf) & off).sum(2)
    assert (kept[0] >= min(neighbours, tokens - 1)).all()


def test_an_encoders_scale_does_not_change_its_edges():
    pairs = toy_pairs(4)
    values, mask = pairs.images.values, pairs.images.mask
    assert torch.allclose(gaussian_edges(values, mask, 2), gaussian_edges(1000 * values, mask, 2), atol=1e-3)


def test_tokens_that_are_all_alike_have_edges_without_nan():
    edges = gaussian_edges(torch.ones(1, 3, 2), torch.ones(1, 3, dtype=torch.bool), 2)
    assert torch.equal(edges, torch.zeros(1, 3, 3))


def test_prototypes_are_linked_by_cosine():
    nodes = F.normalize(torch.randn(5, CONFIG.dimension, generator=torch.Generator().manual_seed(0)), dim=1)
    cosines, places = nearest_prototypes(nodes, PROTOTYPES, 3)
    expected = (nodes @ PROTOTYPES.t()).sort(descending=True)
    assert torch.equal(places, expected.indices[:, :3])
    assert torch.allclose(cosines, expected.values[:, :3])


def test_aligned_tokens_have_unit_norm_and_padding_is_zero(adapter: GraphAdapter):
    texts = toy_pairs(6).texts
    aligned = adapter(texts, PROTOTYPES)
    assert aligned.tokens.shape == (*texts.mask.shape, CONFIG.dimension)
    norms = aligned.tokens.norm(dim=2)
    assert torch.allclose(norms[texts.mask], torch.ones(int(texts.mask.sum())), atol=1e-5)
    assert not norms[~texts.mask].any()
    assert torch.allclose(aligned.pooled.norm(dim=1), torch.ones(len(texts)), atol=1e-5)
    assert bool(((aligned.confidence >= 0) & (aligned.confidence <= 1 + 1e-6)).all())


def test_changing_the_paired_sample_changes_no_embedding(adapter: GraphAdapter):
    pairs = toy_pairs(8)
    adapter.eval()
    before = adapter(pairs.images, PROTOTYPES).pooled
    adapter(pairs.texts, PROTOTYPES)  # whatever was seen in between leaves nothing behind
    values = pairs.images.values.clone()
    values[1:] = torch.randn(values[1:].shape, generator=torch.Generator().manual_seed(3))
    changed = Tokens(values, pairs.images.mask, "image", "toy-image")
    after = adapter(changed, PROTOTYPES).pooled
    assert torch.allclose(before[0], after[0], atol=1e-6)
    assert not torch.allclose(before[1:], after[1:], atol=1e-2)


def test_an_embedding_has_no_gradient_from_other_samples(adapter: GraphAdapter):
    values = toy_pairs(4).images.values.requires_grad_()
    tokens = Tokens(values, torch.ones(4, 4, dtype=torch.bool), "image", "toy-image")
    adapter(tokens, PROTOTYPES).pooled[0].sum().backward()
    assert values.grad is not None
    assert values.grad[0].abs().sum() > 0
    assert not values.grad[1:].any()


def test_padding_changes_nothing(adapter: GraphAdapter):
    texts = toy_pairs(5).texts
    padded = texts.padded(texts.values.shape[1] + 3)
    assert torch.allclose(adapter(texts, PROTOTYPES).pooled, adapter(padded, PROTOTYPES).pooled, atol=1e-5)


def test_order_of_a_samples_tokens_does_not_matter(adapter: GraphAdapter):
    images = toy_pairs(5).images
    turned = replace(images, values=images.values.flip(1))
    assert torch.allclose(adapter(images, PROTOTYPES).pooled, adapter(turned, PROTOTYPES).pooled, atol=1e-5)


def test_edges_computed_once_are_those_computed_on_the_fly(adapter: GraphAdapter):
    texts = toy_pairs(5).texts
    kept = with_edges(texts, CONFIG.neighbours).take(torch.tensor([3, 1]))
    fresh = texts.take(torch.tensor([3, 1]))
    assert torch.allclose(adapter(kept, PROTOTYPES).pooled, adapter(fresh, PROTOTYPES).pooled, atol=2e-3)


@pytest.mark.parametrize("part", ["neighbours", "links"])
def test_both_kinds_of_edges_have_a_say(adapter: GraphAdapter, part: str):
    texts = toy_pairs(5).texts
    without = GraphAdapter(replace(CONFIG, **{part: 0}))
    without.load_state_dict(adapter.state_dict(), strict=False)
    assert not torch.allclose(adapter(texts, PROTOTYPES).pooled, without(texts, PROTOTYPES).pooled, atol=1e-3)


def test_a_fresh_adapter_leaves_an_encoder_of_its_own_space_where_it_was():
    model = new_adapter(CONFIG, seed=0)
    texts = toy_pairs(5).texts
    own = F.normalize(F.layer_norm(texts.values, (CONFIG.dimension,)), dim=2) * texts.mask[..., None]
    assert torch.allclose(model(texts, PROTOTYPES).tokens, own, atol=1e-5)


def test_several_encoders_of_the_same_samples_share_a_graph(adapter: GraphAdapter):
    pairs = toy_pairs(4)
    texts = pairs.texts.take(torch.arange(0, 8, 2))
    both = adapter([pairs.images, texts], PROTOTYPES)
    assert both.tokens.shape[1] == pairs.images.values.shape[1] + texts.values.shape[1]
    alone = adapter(pairs.images, PROTOTYPES).pooled
    assert not torch.allclose(both.pooled, alone, atol=1e-2)
    with pytest.raises(TokenError, match="same samples"):
        adapter([pairs.images, pairs.texts], PROTOTYPES)


def test_tokens_of_an_unknown_encoder_are_refused(adapter: GraphAdapter):
    with pytest.raises(TokenError, match="other of 24"):
        adapter(replace(toy_pairs(2).images, encoder="other"), PROTOTYPES)
    with pytest.raises(TokenError, match="toy-text of 24"):
        adapter(replace(toy_pairs(2).images, encoder="toy-text"), PROTOTYPES)
