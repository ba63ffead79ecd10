"""The learned prior, the integers derived from it, and the range coder on them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from coding_toys import SPREADS, STEPS, toy_codec, toy_features, toy_model, toy_tables
from hypothesis import given, settings
from hypothesis import strategies as st

from codec_runtime.digital.entropy_model import FactorisedPrior
from codec_runtime.digital.errors import PayloadError
from codec_runtime.digital.range_coder import decode_symbols, encode_symbols
from codec_runtime.digital.tables import TOTAL, CodingTables, integer_frequencies


def test_cumulative_does_not_decrease_and_probabilities_sum_to_one() -> None:
    torch.manual_seed(3)
    prior = FactorisedPrior(4)
    grid = torch.linspace(-300, 300, 601).expand(4, -1)
    assert (prior.logits(grid).diff(dim=1) >= 0).all()
    total = prior.probability(grid[:, :-1], grid[:, 1:]).sum(1)
    assert torch.allclose(total, torch.ones(4), atol=1e-4)


def test_fitted_prior_costs_little_more_than_the_entropy_of_the_source() -> None:
    features = torch.from_numpy(toy_features(64, seed=99))[None]
    for point, step in enumerate(STEPS):
        _, bits = toy_model()(features, point)
        ideal = sum(
            0.5 * np.log2(2 * np.pi * np.e * (spread**2 + step**2 / 12)) - np.log2(step) for spread in SPREADS
        )
        assert float(bits.detach()) / 64**2 < 1.06 * ideal + 0.5


@given(st.lists(st.floats(0, 1), min_size=2, max_size=60))
@settings(max_examples=60, deadline=None)
def test_integer_frequencies_sum_exactly_and_leave_no_symbol_out(masses: list[float]) -> None:
    frequencies = integer_frequencies(np.array([*masses, 1.0]))
    assert frequencies.sum() == TOTAL
    assert frequencies.min() >= 1


def test_tables_survive_a_bundle_with_the_same_digest_and_refuse_what_contradicts() -> None:
    tables = toy_tables()
    assert CodingTables.from_state(tables.state()).digest == tables.digest
    state = tables.state()
    state["frequencies"][0, 0, 0] += 1
    with pytest.raises(ValueError, match="sum to 65536"):
        CodingTables.from_state(state)
    state = tables.state()
    state["order"][0, 0] = 1
    with pytest.raises(ValueError, match="permutation"):
        CodingTables.from_state(state)
    state = tables.state()
    del state["step"]
    with pytest.raises(ValueError, match="without tensor step"):
        CodingTables.from_state(state)


def test_fixed_integers_give_fixed_bytes() -> None:
    """The coder's bytes for given integers are part of the format."""
    tables = [np.array([1, 65000, 535], np.int32), np.array([32768, 32768], np.int32)]
    runs = [np.array([1, 1, 2, 0, 1], np.int32), np.array([0, 1, 1, 0, 1], np.int32)]
    data = encode_symbols(runs, tables)
    assert data.hex() == "3015c8f9"
    assert (decode_symbols(data, 5, tables) == np.stack(runs)).all()


def test_coded_size_is_that_of_the_tables_within_two_words() -> None:
    codec = toy_codec(chunks=1)
    features = toy_features(24, seed=5)
    ideal = codec.channel_bits(features, 0).sum() / 8
    assert 0 <= len(codec.encode(features, 0).data) - ideal - codec.overhead_bytes(5) + 8 <= 8


@given(st.binary(max_size=64), st.integers(1, 200))
@settings(max_examples=150, deadline=None)
def test_arbitrary_bytes_decode_to_symbols_of_the_table_or_are_refused(data: bytes, count: int) -> None:
    table = toy_tables().frequencies[0, 0, : toy_tables().widths[0, 0]]
    try:
        decoded = decode_symbols(data, count, [table])
    except PayloadError:
        return
    assert decoded.shape == (1, count)
    assert decoded.min() >= 0
    assert decoded.max() < len(table)
