"""Prototypes are unit vectors, a function of sentences and seed, and survive as a bundle."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from adapter_toy_set import toy_knowledge
from torch.nn import functional as F

from codec_runtime.adapters.skb import (
    SemanticKnowledgeBase,
    build,
    load_knowledge_base,
    spherical_means,
    write_knowledge_base,
)
from codec_runtime.bundle.errors import BundleError, HashMismatchError
from codec_runtime.bundle.verification import verify_bundle


def _directions(count: int, dimension: int = 6, seed: int = 0) -> torch.Tensor:
    return F.normalize(torch.randn(count, dimension, generator=torch.Generator().manual_seed(seed)), dim=1)


def test_clusters_that_stand_apart_are_found():
    centres = torch.eye(6)[:4]
    points = F.normalize(centres.repeat_interleave(25, 0) + 0.1 * _directions(100), dim=1)
    found = spherical_means(points, 4, seed=0)
    assert float((found @ centres.t()).amax(0).min()) > 0.98


def test_no_round_of_lloyd_lowers_the_mean_cosine():
    points = _directions(200)
    fits = [
        float((points @ spherical_means(points, 8, seed=1, rounds=rounds).t()).amax(1).mean())
        for rounds in (0, 1, 2, 5, 50)
    ]
    assert fits == sorted(fits)
    assert fits[-1] > fits[0]


def test_a_seed_gives_the_same_prototypes_and_another_one_others():
    points = _directions(60)
    assert torch.equal(spherical_means(points, 5, seed=3), spherical_means(points, 5, seed=3))
    assert not torch.equal(spherical_means(points, 5, seed=3), spherical_means(points, 5, seed=4))


def test_sentences_that_are_all_alike_still_give_unit_prototypes():
    alike = _directions(1).expand(10, 6)
    assert torch.allclose(spherical_means(alike, 3, seed=0).norm(dim=1), torch.ones(3))


def test_fewer_dimensions_keep_the_cosines_of_sentences_that_lie_in_them():
    flat = _directions(50, 3) @ torch.linalg.qr(_directions(8, 3, seed=5))[0].t()
    reduced = build(flat, 50, seed=0, dimension=3).prototypes
    assert reduced.shape == (50, 3)
    whole = build(flat, 50, seed=0).prototypes
    assert torch.allclose((reduced @ reduced.t()).sort().values, (whole @ whole.t()).sort().values, atol=1e-4)


def test_too_few_sentences_or_dimensions_are_refused():
    with pytest.raises(ValueError, match="as many sentences"):
        build(_directions(4), 5, seed=0)
    with pytest.raises(ValueError, match="dimensional"):
        build(_directions(9), 5, seed=0, dimension=7)


@pytest.mark.parametrize("prototypes", [
    torch.ones(2, 3), torch.zeros(2, 3), torch.full((2, 3), float("nan")), torch.eye(3)[0], torch.empty(0, 3)
])
def test_what_are_no_unit_vectors_is_refused(prototypes: torch.Tensor):
    with pytest.raises(ValueError, match="prototypes"):
        SemanticKnowledgeBase(prototypes)


def test_bundle_gives_back_the_same_prototypes_bit_by_bit(tmp_path: Path):
    knowledge = toy_knowledge()
    written = write_knowledge_base(tmp_path, knowledge, version=2, source="toy")
    again = load_knowledge_base(tmp_path / "skb" / "semantic" / "2")
    assert torch.equal(again.prototypes, knowledge.prototypes)
    assert (again.version, again.sha256) == (2, written.sha256)
    assert verify_bundle(tmp_path / "skb" / "semantic" / "2").sound
    assert again.same_as(written)
    assert not again.same_as(knowledge)  # of no bundle, so of no known identity


def test_ends_with_different_knowledge_bases_know_it(tmp_path: Path):
    one = write_knowledge_base(tmp_path, toy_knowledge(12), version=1, source="toy")
    other = write_knowledge_base(tmp_path, toy_knowledge(13), version=2, source="toy")
    assert not one.same_as(other)


def test_a_damaged_bundle_is_refused(tmp_path: Path):
    write_knowledge_base(tmp_path, toy_knowledge(), version=1, source="toy")
    weights = tmp_path / "skb" / "semantic" / "1" / "weights.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    with pytest.raises(HashMismatchError):
        load_knowledge_base(weights.parent)
    with pytest.raises(BundleError):
        load_knowledge_base(tmp_path / "skb" / "semantic" / "9")
