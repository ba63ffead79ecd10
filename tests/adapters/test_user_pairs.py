"""A user's local step is a function of its arguments, and confidence points at wrong pairs."""

from __future__ import annotations

from dataclasses import replace

import torch
from adapter_toy_set import CONFIG, toy_knowledge, toy_pairs
from hypothesis import given, settings
from hypothesis import strategies as st

from codec_runtime.adapters.attacks import flipped_labels
from codec_runtime.adapters.pairs import PairSet
from codec_runtime.adapters.training import TrainingConfig, new_adapter
from codec_runtime.adapters.user_pairs import UserPairs, distinct_batches

TRAINING = TrainingConfig(batch=64, learning_rate=3e-3)


def _user(wrong: int = 0) -> UserPairs:
    train = toy_pairs(100, seed=1)
    owner = train.owner.clone()
    owner[:wrong] = (owner[:wrong] + 37) % 100
    said = PairSet(train.images, train.texts, owner)
    return UserPairs(said, toy_pairs(40, seed=2), toy_knowledge().prototypes, CONFIG, TRAINING)


def _fresh() -> dict[str, torch.Tensor]:
    return new_adapter(CONFIG, 0).state_dict()


@given(st.lists(st.integers(0, 5), min_size=1, max_size=30), st.integers(1, 7), st.integers(0, 3))
@settings(max_examples=40, deadline=None)
def test_batches_hold_every_pair_once_and_no_picture_twice(owner, size, seed):
    groups = distinct_batches(torch.tensor(owner), size, seed)
    assert sorted(torch.cat(groups).tolist()) == list(range(len(owner)))
    for group in groups:
        pictures = [owner[pair] for pair in group.tolist()]
        assert len(pictures) == len(set(pictures)) <= size


def test_a_local_epoch_is_a_function_of_its_arguments():
    user, start = _user(), _fresh()
    kept = {name: value.clone() for name, value in start.items()}
    chosen = torch.ones(user.pairs, dtype=torch.bool)
    first, loss = user.train_epoch(start, chosen, seed=3)
    user.train_epoch(first, chosen, seed=4)  # what came between leaves nothing behind
    again, same = user.train_epoch(start, chosen, seed=3)
    assert loss == same > 0
    assert all(torch.equal(value, again[name]) for name, value in first.items())
    assert all(torch.equal(value, kept[name]) for name, value in start.items())
    assert any(not torch.equal(value, kept[name]) for name, value in first.items())


def test_training_raises_the_score_and_without_chosen_pairs_nothing_moves():
    user, weights = _user(), _fresh()
    none, loss = user.train_epoch(weights, torch.zeros(user.pairs, dtype=torch.bool), seed=0)
    assert loss == 0.0
    assert all(torch.equal(value, weights[name]) for name, value in none.items())
    before = user.score(weights)
    for seed in range(6):
        weights, _ = user.train_epoch(weights, torch.ones(user.pairs, dtype=torch.bool), seed)
    assert user.score(weights) > before + 80


def test_wrong_pairs_get_the_lower_confidence():
    user, weights = _user(), _fresh()
    for seed in range(6):
        weights, _ = user.train_epoch(weights, torch.ones(user.pairs, dtype=torch.bool), seed)
    said = user.given[flipped_labels(user.pairs, 0.6, seed=3)]
    wrong = said != user.given
    misled = replace(user, train=user.train.said_to_be(said))
    judged = misled.judge(weights, seed=0)
    assert judged.confidence.shape == (user.pairs,)
    assert float(judged.confidence[wrong].mean()) < float(judged.confidence[~wrong].mean()) - 0.2
    again = misled.judge(weights, seed=0)
    assert torch.equal(judged.confidence, again.confidence)


def test_pairs_are_learned_with_the_partner_that_they_are_taken_for():
    user, start = _user(), _fresh()
    everything = torch.ones(user.pairs)
    as_given, _ = user.train_epoch(start, everything, 3)
    same, _ = user.train_epoch(start, everything, 3, user.given)
    other, _ = user.train_epoch(start, everything, 3, user.given.flip(0))
    assert all(torch.equal(value, same[name]) for name, value in as_given.items())
    assert any(not torch.equal(value, other[name]) for name, value in as_given.items())
