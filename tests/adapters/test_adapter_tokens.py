"""Tokens refuse what would poison a batch; the cache gives back what was computed and nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from codec_runtime.adapters.encoders.interface import FrozenEncoder
from codec_runtime.adapters.pairs import PairSet, batches, read_captions, split_pictures
from codec_runtime.adapters.token_cache import cache_file, cached_tokens, inputs_sha256
from codec_runtime.adapters.tokens import TokenError, Tokens, concatenate, pack


def _batch(lengths: list[int], features: int = 3, encoder: str = "a") -> Tokens:
    return pack([torch.randn(length, features) for length in lengths], "text", encoder)


class _Counting:
    """An encoder of text: one token a word, its length and a constant. Counts what it computes."""

    name, modality, features, max_tokens = "counting", "text", 2, 8

    def __init__(self, sha256: str = "1" * 64) -> None:
        self.sha256, self.computed = sha256, 0

    def tokens(self, inputs) -> Tokens:
        self.computed += len(inputs)
        rows = [torch.tensor([[float(len(word)), 1.0] for word in str(text).split()]) for text in inputs]
        return pack(rows, self.modality, self.name)


def test_tokens_in_a_row_are_averaged_and_none_is_made_of_nothing():
    tokens = pack([torch.tensor([[1.0], [3.0], [5.0]]), torch.tensor([[4.0]])], "text", "a")
    grouped = tokens.grouped(2)
    assert grouped.values[:, :, 0].tolist() == [[2.0, 5.0], [4.0, 0.0]]
    assert grouped.mask.tolist() == [[True, True], [True, False]]
    assert tokens.grouped(1) is tokens


@pytest.mark.parametrize("wrong", [
    lambda t: Tokens(t.values[0], t.mask, "text", "a"),
    lambda t: Tokens(t.values, t.mask[:, :1], "text", "a"),
    lambda t: Tokens(t.values, t.mask.float(), "text", "a"),
    lambda t: Tokens(t.values.double(), t.mask, "text", "a"),
    lambda t: Tokens(t.values, torch.zeros_like(t.mask), "text", "a"),
    lambda t: Tokens(t.values * float("nan"), t.mask, "text", "a"),
    lambda t: Tokens(t.values * float("inf"), t.mask, "text", "a"),
])
def test_malformed_tokens_are_refused(wrong):
    with pytest.raises(TokenError, match="a"):
        wrong(_batch([2, 3]))


@given(st.lists(st.lists(st.integers(1, 6), min_size=1, max_size=4), min_size=1, max_size=4))
@settings(max_examples=30, deadline=None)
def test_concatenation_keeps_every_token_and_adds_none(lengths):
    parts = [_batch(some) for some in lengths]
    whole = concatenate(parts)
    assert whole.mask.sum(1).tolist() == [length for some in lengths for length in some]
    given_values = torch.cat([part.values[part.mask] for part in parts])
    assert torch.equal(whole.values[whole.mask], given_values)
    assert not whole.values[~whole.mask].any()


def test_batches_of_different_encoders_do_not_mix():
    with pytest.raises(TokenError, match="one batch"):
        concatenate([_batch([2]), _batch([2], encoder="b")])
    with pytest.raises(TokenError, match="one batch"):
        concatenate([_batch([2]), _batch([2], features=4)])


def test_taking_samples_drops_places_that_none_of_them_uses():
    tokens = _batch([1, 5, 2])
    taken = tokens.take(torch.tensor([2, 0]))
    assert taken.values.shape == (2, 2, 3)
    assert taken.mask.sum(1).tolist() == [2, 1]
    assert torch.equal(taken.values[0], tokens.values[2, :2])


def test_truncation_keeps_the_first_tokens():
    tokens = _batch([1, 5, 2])
    assert tokens.truncated(3).mask.sum(1).tolist() == [1, 3, 2]
    with pytest.raises(TokenError, match="do not fit"):
        tokens.padded(4)


def test_cached_tokens_are_computed_once(tmp_path: Path):
    texts, encoder = ["a bb", "ccc dd e", "f"], _Counting()
    first = cached_tokens(encoder, texts, tmp_path)
    again = cached_tokens(encoder, texts, tmp_path)
    assert encoder.computed == 3
    assert torch.equal(first.values, again.values)
    assert torch.equal(first.mask, again.mask)
    assert first.values.dtype == torch.float16


def test_another_encoder_or_other_data_is_never_served_from_the_cache(tmp_path: Path):
    encoder: FrozenEncoder = _Counting()
    cached_tokens(encoder, ["a bb"], tmp_path)
    other = _Counting(sha256="2" * 64)
    cached_tokens(other, ["a bb"], tmp_path)
    cached_tokens(other, ["a b b"], tmp_path)
    assert other.computed == 2
    assert inputs_sha256(["ab", "c"]) != inputs_sha256(["a", "bc"])


@pytest.mark.parametrize("damage", [lambda data: data[:-5], lambda _: b"", lambda data: b"\xff" * len(data)])
def test_a_damaged_cache_file_is_computed_anew(tmp_path: Path, damage):
    encoder, texts = _Counting(), ["a bb", "c"]
    good = cached_tokens(encoder, texts, tmp_path)
    path = cache_file(tmp_path, encoder, inputs_sha256(texts))
    path.write_bytes(damage(path.read_bytes()))
    assert torch.equal(cached_tokens(encoder, texts, tmp_path).values, good.values)
    assert encoder.computed == 4


def test_pairs_of_chosen_images_are_renumbered():
    pairs = PairSet(_batch([1, 1, 1]), _batch([1, 2, 3, 4]), torch.tensor([0, 2, 2, 1]))
    chosen = pairs.of_images(torch.tensor([2, 1]))
    assert chosen.owner.tolist() == [0, 0, 1]
    assert chosen.texts.mask.sum(1).tolist() == [2, 3, 4]
    with pytest.raises(ValueError, match="owners"):
        PairSet(_batch([1]), _batch([1]), torch.tensor([1]))


@given(st.integers(1, 50), st.integers(1, 20), st.integers(0, 3))
@settings(max_examples=30, deadline=None)
def test_an_epoch_visits_a_pair_at_most_once_and_leaves_out_less_than_half_a_batch(pairs, size, seed):
    seen = torch.cat(list(batches(pairs, size, torch.Generator().manual_seed(seed))))
    assert len(set(seen.tolist())) == len(seen)
    assert pairs - len(seen) < size / 2 or len(seen) == pairs


def test_split_is_disjoint_complete_and_reproducible():
    learn, test = split_pictures(10, 3, seed=1)
    assert sorted([*learn.tolist(), *test.tolist()]) == list(range(10))
    assert split_pictures(10, 3, seed=1)[1].tolist() == test.tolist()
    with pytest.raises(ValueError, match="test on"):
        split_pictures(10, 10, seed=1)


def test_captions_name_the_picture_that_is_missing(tmp_path: Path):
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "a.jpg").write_bytes(b"")
    (tmp_path / "captions.txt").write_text('image,caption\na.jpg,"One, two."\na.jpg,Three\n')
    captions = read_captions(tmp_path)
    assert captions.sentences == ("One, two.", "Three")
    assert captions.owner.tolist() == [0, 0]
    (tmp_path / "captions.txt").write_text("image,caption\nb.jpg,Four\n")
    with pytest.raises(ValueError, match=r"b\.jpg"):
        read_captions(tmp_path)
    (tmp_path / "captions.txt").write_text("file,text\n")
    with pytest.raises(ValueError, match="header"):
        read_captions(tmp_path)
