"""Encoders are frozen: right numbers, the same ones every time, a hash that says which."""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from codec_runtime.adapters.encoders import ENCODERS, EncoderUnavailableError, FrozenEncoder, load_encoder
from codec_runtime.adapters.encoders.kpi import KpiEncoder
from codec_runtime.adapters.encoders.minilm import MiniLm, mean_direction
from codec_runtime.adapters.encoders.small_text import SHIPPED, SmallText, word_buckets
from codec_runtime.adapters.pairs import read_captions
from codec_runtime.adapters.tokens import TokenError
from codec_runtime.bundle.verification import verify_bundle

DATA = Path(os.environ.get("SEMCOM_DATA", Path(__file__).parents[3] / "shared" / "data"))
FLICKR = DATA / "images" / "flickr8k_1k"
SENTENCES = [
    "A child in a pink dress is climbing up a set of stairs in an entry way .",
    "Two dogs run.",
    "Zwei Hunde: déjà vu #7!",
]
# transformers 5.23 on the same file: of each sentence the word pieces, the first six features of the first
# token, the last six of the last, and every 64th of the normalised mean.
GOLDEN = [
    (20, [-0.44588, 0.22742, 0.28631, 0.03859, -0.03497, -0.32196],
     [-0.60997, 0.44117, 0.22123, 0.10546, 0.08665, 0.06994],
     [-0.05159, -0.0422, 0.02942, -0.01356, 0.05709, 0.0014]),
    (6, [0.07545, 0.18158, 0.40432, 0.24598, 0.10532, -0.0304],
     [-0.01575, 0.27432, 0.1888, 0.10969, 0.29178, 0.1349],
     [0.00393, -0.02262, -0.0334, 0.09278, 0.02385, -0.00655]),
    (13, [-0.21518, 0.41731, 0.24879, 0.24015, 0.05818, 0.0114],
     [-0.14978, 0.34909, 0.81546, 0.34249, 0.28457, 0.23695],
     [-0.1037, -0.01795, -0.02162, -0.00734, 0.00243, -0.07625]),
]


@cache
def _loaded(name: str) -> FrozenEncoder:
    return load_encoder(name)


def _encoder(name: str) -> FrozenEncoder:
    try:
        return _loaded(name)
    except EncoderUnavailableError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def minilm() -> MiniLm:
    return _encoder("minilm")


def _inputs(modality: str, count: int) -> list[object]:
    generator = np.random.default_rng(0)
    if modality == "image":
        shape = (count, 3, 90, 120)
        return list(torch.from_numpy(generator.integers(0, 256, shape, dtype=np.uint8)))
    if modality == "text":
        return [SENTENCES[i % 3] for i in range(count)]
    return [generator.normal([-90, -11, 10, 8], 2, (40, 4)).astype(np.float32) for _ in range(count)]


def test_minilm_computes_what_the_reference_does(minilm: MiniLm):
    tokens = minilm.tokens(SENTENCES)
    means = mean_direction(tokens)
    for row, (length, first, last, mean) in enumerate(GOLDEN):
        assert int(tokens.mask[row].sum()) == length
        assert tokens.values[row, 0, :6].tolist() == pytest.approx(first, abs=2e-5)
        assert tokens.values[row, length - 1, -6:].tolist() == pytest.approx(last, abs=2e-5)
        assert means[row, ::64].tolist() == pytest.approx(mean, abs=2e-5)


def test_minilm_finds_the_sentence_that_means_the_same(minilm: MiniLm):
    said = minilm.sentences(["A dog runs over grass.", "Two women sit in a café.", "A puppy is on the lawn."])
    assert float(said[0] @ said[2]) > float(said[0] @ said[1]) + 0.2


def test_long_sentences_are_cut(minilm: MiniLm):
    assert minilm.tokens(["word " * 100]).values.shape[1] == minilm.max_tokens


@pytest.mark.parametrize("name", sorted(ENCODERS))
def test_tokens_are_as_declared_and_repeat(name: str):
    encoder = _encoder(name)
    inputs = _inputs(encoder.modality, 3)
    tokens = encoder.tokens(inputs)
    assert tokens.values.dtype == torch.float32
    assert (len(tokens), tokens.features) == (3, encoder.features)
    assert tokens.values.shape[1] <= encoder.max_tokens
    assert (tokens.encoder, tokens.modality) == (encoder.name, encoder.modality) == (name, encoder.modality)
    assert not tokens.values.requires_grad
    assert torch.equal(tokens.values, encoder.tokens(inputs).values)
    alone = encoder.tokens(inputs[1:2])
    length = int(alone.mask.sum())
    assert torch.allclose(alone.values[0], tokens.values[1, :length], atol=2e-5)


@pytest.mark.parametrize("name", ["efficientnet-early", "jscc", "small-text", "kpi"])
def test_loading_again_gives_the_same_hash_and_leaves_torchs_generator_alone(name: str):
    first = _encoder(name)
    torch.manual_seed(5)
    before = torch.get_rng_state()
    assert load_encoder(name).sha256 == first.sha256
    assert len(bytes.fromhex(first.sha256)) == 32
    assert torch.equal(before, torch.get_rng_state())


def test_depths_of_one_network_are_different_encoders():
    early, late = _encoder("efficientnet-early"), _encoder("efficientnet-late")
    assert early.sha256 != late.sha256
    assert (early.features, late.features) == (112, 320)


def test_a_picture_file_and_its_pixels_give_the_same_tokens(tmp_path: Path):
    encoder = _encoder("jscc")
    pixels = _inputs("image", 1)[0]
    Image.fromarray(pixels.permute(1, 2, 0).numpy()).save(tmp_path / "a.png")
    assert torch.equal(encoder.tokens([tmp_path / "a.png"]).values, encoder.tokens([pixels]).values)


def test_an_unknown_encoder_is_refused_with_those_there_are():
    with pytest.raises(KeyError, match="minilm"):
        load_encoder("clip")


def test_small_text_is_a_sound_bundle_below_five_megabytes(tmp_path: Path):
    assert verify_bundle(SHIPPED).sound
    assert sum(file.stat().st_size for file in SHIPPED.iterdir()) < 5 << 20
    with pytest.raises(EncoderUnavailableError, match="not there"):
        SmallText(tmp_path / "1")


def test_small_text_points_where_minilm_does(minilm: MiniLm):
    sentences = ["A man rides a bike.", "A dog plays in the snow.", "Children swim in a pool."]
    own, wanted = mean_direction(SmallText().tokens(sentences)), minilm.sentences(sentences)
    assert (own @ wanted.t()).argmax(1).tolist() == [0, 1, 2]


def test_words_are_hashed_alike_whatever_their_case_and_marks():
    assert word_buckets("The dog, runs!", 100, 9) == word_buckets("the DOG runs", 100, 9)
    assert all(1 <= bucket < 100 for bucket in word_buckets("a b c d e f g", 100, 9))
    assert len(word_buckets("...", 100, 9)) == 1


def test_kpi_tokens_of_a_constant_series_hold_its_level_alone():
    level = torch.tensor([-92.0, -11.5, 10.0, 7.5]).expand(16, 4)
    values = KpiEncoder().tokens([level]).values.reshape(2, 4, 8)
    assert values[..., 1:].abs().max() < 1e-5
    assert values.abs().max() < 1e-5  # these are the middles of the ranges


@pytest.mark.parametrize("window", [torch.zeros(4, 4), torch.zeros(16, 3), torch.full((16, 4), float("nan"))])
def test_kpi_windows_that_do_not_fit_are_refused(window: torch.Tensor):
    with pytest.raises(TokenError):
        KpiEncoder().tokens([window])


@pytest.mark.skipif(not FLICKR.is_dir(), reason=f"{FLICKR} is not there")
def test_real_captions_are_five_a_picture():
    captions = read_captions(FLICKR)
    assert (len(captions.pictures), len(captions.sentences)) == (1000, 5000)
    assert torch.bincount(captions.owner).unique().tolist() == [5]
