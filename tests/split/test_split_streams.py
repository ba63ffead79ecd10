"""Tensors across a cut as bytes: what comes back, and that nothing else is taken for it."""

from __future__ import annotations

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis.extra.numpy import arrays

from codec_runtime.digital.errors import BitstreamError, WrongModelError
from codec_runtime.split.streams import (
    FeatureError,
    StreamKey,
    decode_tensors,
    encode_tensors,
    stream_bytes,
)

KEY = StreamKey(b"weights!", b"cut-id!!")
SHAPES = st.lists(st.integers(1, 9), min_size=1, max_size=3).map(lambda sides: (1, *sides))
TENSORS = st.lists(
    SHAPES.flatmap(lambda shape: arrays(np.float32, shape, elements=st.floats(-1e6, 1e6, width=32))),
    min_size=1, max_size=3,
)


def _sent(tensors: list[np.ndarray], key: StreamKey = KEY) -> bytes:
    return encode_tensors(tensors, [False] * len(tensors), key)


@settings(max_examples=25, deadline=None)
@given(TENSORS)
def test_values_come_back_within_half_a_step(tensors):
    data = _sent(tensors)
    shapes = [tensor.shape for tensor in tensors]
    assert len(data) == stream_bytes(shapes)
    for tensor, found in zip(tensors, decode_tensors(data, shapes, KEY), strict=True):
        step = (float(tensor.max()) - float(tensor.min())) / 255
        assert found.shape == tensor.shape
        assert np.abs(found - tensor).max() <= 0.5 * step + 1e-6 * np.abs(tensor).max() + 1e-30


@settings(max_examples=25, deadline=None)
@given(TENSORS, st.data())
def test_altered_or_cut_streams_are_refused(tensors, data):
    whole = _sent(tensors)
    shapes = [tensor.shape for tensor in tensors]
    place = data.draw(st.integers(0, len(whole) - 1))
    altered = bytearray(whole)
    altered[place] ^= data.draw(st.integers(1, 255))
    for wrong in (bytes(altered), whole[:place], whole + b"\0"):
        with pytest.raises(BitstreamError):
            decode_tensors(wrong, shapes, KEY)


@settings(max_examples=40, deadline=None)
@given(st.binary(max_size=200))
def test_arbitrary_bytes_are_refused(data):
    with pytest.raises(BitstreamError):
        decode_tensors(data, [(1, 4)], KEY)


def test_pictures_cross_without_loss():
    levels = np.arange(256, dtype=np.float32).repeat(3).reshape(1, 3, 16, 16)
    picture = (levels - 127) / 128
    data = encode_tensors([picture], [True], KEY)
    assert np.array_equal(decode_tensors(data, [picture.shape], KEY)[0], picture)


def test_streams_of_other_weights_cuts_and_places_are_refused():
    one, two = np.zeros((1, 8), np.float32), np.ones((1, 8), np.float32)
    data = _sent([one, two])
    for key in (StreamKey(b"others!!", KEY.cut), StreamKey(KEY.model, b"elsewher")):
        with pytest.raises(WrongModelError):
            decode_tensors(data, [(1, 8)] * 2, key)
    half = len(data) // 2
    with pytest.raises(BitstreamError, match="want tensor 0"):
        decode_tensors(data[half:] + data[:half], [(1, 8)] * 2, KEY)


@pytest.mark.parametrize("tensor", [
    np.full((1, 4), np.nan, np.float32), np.full((1, 4), np.inf, np.float32),
    np.array([[3e38, -3e38]], np.float32), np.zeros((2, 4), np.float32), np.zeros((1, 0), np.float32),
])
def test_what_cannot_be_sent_is_refused(tensor):
    with pytest.raises(FeatureError):
        _sent([tensor])
