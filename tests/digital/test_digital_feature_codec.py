"""The codec of features: exact round trips, the cap, its fallbacks, and what is counted."""

from __future__ import annotations

import numpy as np
import pytest
from coding_toys import CUT, toy_codec, toy_features, toy_tables
from hypothesis import given, settings
from hypothesis import strategies as st

from codec_runtime.digital.errors import CapError
from codec_runtime.digital.feature_codec import FeatureCodec
from codec_runtime.digital.importance import channel_importance, importance_order
from codec_runtime.digital.tables import CodingTables


def test_values_come_back_within_half_a_step_except_beyond_the_tables() -> None:
    features = toy_features(10, seed=3)
    decoded = toy_codec().decode(toy_codec().encode(features, 0).data)
    step = toy_tables().step[0][:, None, None]
    lowest = toy_tables().lowest[0][:, None, None] * step
    highest = lowest + (toy_tables().widths[0][:, None, None] - 1) * step
    clipped = np.clip(features, lowest, highest)
    assert (np.abs(decoded.features - clipped) <= step / 2 + 1e-5).all()


def test_channels_that_a_point_does_not_send_are_filled() -> None:
    codec = toy_codec()
    decoded = codec.decode(codec.encode(toy_features(), 1).data)
    assert decoded.channels == 4
    assert (decoded.features[0] == 0.0).all()


@given(
    st.integers(100, 900), st.sampled_from([0, 1]), st.sampled_from([0.05, 1.0, 8.0]), st.integers(0, 99)
)
@settings(max_examples=80, deadline=None)
def test_no_content_exceeds_the_cap_and_every_stream_decodes(
    cap: int, point: int, spread: float, seed: int
) -> None:
    codec = toy_codec()
    features = toy_features(10, seed, spread)
    encoded = codec.encode(features, point, cap_bytes=cap)
    assert len(encoded.data) <= cap
    decoded = codec.decode(encoded.data)
    assert decoded.channels == encoded.channels
    assert codec.counts.entropy_coded + codec.counts.fixed_length == 1
    assert codec.counts.over_cap == int(encoded.fixed_bits > 0 or encoded.channels < toy_tables().sent[point])


def test_too_small_a_cap_is_refused_with_what_would_do() -> None:
    with pytest.raises(CapError, match=r"cap of 50 bytes: one channel at 2 bits needs \d+"):
        toy_codec().encode(toy_features(), 0, cap_bytes=50)


def test_fixed_length_grows_with_the_cap_and_its_size_ignores_the_content() -> None:
    wild = toy_features(16, seed=1, spread=50.0)
    lengths = []
    for cap in (420, 600, 760, 920):
        codec = toy_codec()
        encoded = codec.encode(wild, 0, cap_bytes=cap)
        lengths.append(encoded.fixed_bits)
        assert codec.counts.fixed_length == 1
        other = toy_codec().encode(toy_features(16, seed=2, spread=90.0), 0, cap_bytes=cap)
        assert len(other.data) == len(encoded.data)
    assert lengths == [2, 3, 4, 5]


def test_bad_features_are_refused() -> None:
    codec = toy_codec(max_values=1000)
    with pytest.raises(ValueError, match="not finite"):
        codec.encode(np.full((5, 2, 2), np.nan, np.float32), 0)
    with pytest.raises(ValueError, match="want \\(5, H, W\\)"):
        codec.encode(np.zeros((4, 2, 2), np.float32), 0)
    with pytest.raises(ValueError, match="no operating point 2"):
        codec.encode(np.zeros((5, 2, 2), np.float32), 2)
    with pytest.raises(ValueError, match="1280 values"):
        codec.encode(np.zeros((5, 16, 16), np.float32), 0)


def test_a_codec_from_stored_tables_reads_the_other_ones_streams() -> None:
    stored = FeatureCodec(CodingTables.from_state(toy_tables().state()), CUT)
    encoded = toy_codec().encode(toy_features(), 0)
    assert np.array_equal(stored.decode(encoded.data).features, toy_codec().decode(encoded.data).features)


def test_importance_follows_what_the_loss_reads() -> None:
    import torch

    torch.manual_seed(0)
    weights = torch.tensor([0.1, 3.0, 0.0, 1.0])
    batches = [torch.randn(8, 4, 3, 3) for _ in range(3)]
    found = channel_importance(batches, lambda x: (x * weights[None, :, None, None]).square().sum())
    assert importance_order(found).tolist() == [1, 3, 0, 2]
    with pytest.raises(ValueError, match="no features"):
        channel_importance([], lambda x: x.sum())
