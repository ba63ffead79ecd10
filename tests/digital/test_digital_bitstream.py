"""The container: whatever happens to its bytes, it decodes exactly or is refused by name."""

from __future__ import annotations

import struct

import numpy as np
import pytest
from coding_toys import CUT, toy_codec, toy_features, toy_tables
from hypothesis import given, settings
from hypothesis import strategies as st

from codec_runtime.digital.bitstream import HEADER_BYTES, Header, pack, parse
from codec_runtime.digital.crc32c import crc32c
from codec_runtime.digital.errors import (
    BitstreamError,
    ChecksumError,
    FieldError,
    NotABitstreamError,
    PayloadError,
    TruncatedError,
    VersionError,
    WrongModelError,
)

FEATURES = toy_features(9, seed=7)
WILD = toy_features(9, seed=7, spread=50.0)
STREAMS = (toy_codec().encode(FEATURES, 0).data, toy_codec().encode(WILD, 0, cap_bytes=215).data)


def header(**changes: object) -> Header:
    fields = {
        "point": 0, "model": toy_tables().digest, "cut": CUT, "channels": 5, "height": 9, "width": 9,
        "chunks": 4,
    }
    return Header(**{**fields, **changes})  # type: ignore[arg-type]


def test_checksum_is_that_of_the_standard_however_it_is_split() -> None:
    assert crc32c(b"123456789") == 0xE3069283
    assert crc32c(bytes(32)) == 0x8A9136AA
    data = np.random.default_rng(0).bytes(700)
    assert all(crc32c(data[k:], crc32c(data[:k])) == crc32c(data) for k in (1, 3, 255, 256, 300))


def test_both_forms_are_covered_by_what_follows() -> None:
    assert [parse(data).header.fixed_bits > 0 for data in STREAMS] == [False, True]


@given(st.sampled_from(STREAMS), st.data())
@settings(max_examples=250, deadline=None)
def test_an_altered_stream_decodes_to_the_same_or_is_refused(stream: bytes, data: st.DataObject) -> None:
    altered = bytearray(stream)
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, len(stream) - 1))
        altered[place] = data.draw(st.integers(0, 255))
    codec = toy_codec()
    try:
        decoded = codec.decode(bytes(altered))
    except BitstreamError:
        assert bytes(altered) != stream
        return
    assert np.array_equal(decoded.features, codec.decode(stream).features)


def test_every_truncation_is_refused_whole_and_degrades_partially() -> None:
    codec = toy_codec()
    for stream, features in zip(STREAMS, (FEATURES, WILD), strict=True):
        whole = codec.decode(stream)
        errors = []
        for length in range(len(stream)):
            with pytest.raises((NotABitstreamError, TruncatedError)):
                codec.decode(stream[:length])
            try:
                part = codec.decode(stream[:length], partial=True)
            except BitstreamError:
                continue
            arrived, lost = np.split(toy_tables().order[0], [part.channels])
            assert np.array_equal(part.features[arrived], whole.features[arrived])
            assert (part.features[lost] == 0.5).all()
            errors.append(float(np.square(part.features - features).mean()))
        assert errors[-1] < errors[0]


@given(st.binary(max_size=120))
@settings(max_examples=150, deadline=None)
def test_bytes_that_never_were_a_stream_are_refused(noise: bytes) -> None:
    for data in (noise, STREAMS[0][:HEADER_BYTES] + noise):
        with pytest.raises(BitstreamError):
            toy_codec().decode(data)


@given(st.lists(st.binary(max_size=90), min_size=4, max_size=4), st.sampled_from([0, 2, 8]))
@settings(max_examples=150, deadline=None)
def test_payloads_of_a_forger_who_knows_the_checksums_stay_inside_the_tables(
    payloads: list[bytes], bits: int
) -> None:
    forged = pack(header(fixed_bits=bits), payloads)
    try:
        decoded = toy_codec().decode(forged)
    except PayloadError:
        return
    assert decoded.features.shape == (5, 9, 9)
    assert np.isfinite(decoded.features).all()


def test_fixed_length_payloads_of_another_length_are_refused() -> None:
    with pytest.raises(PayloadError, match="chunk 0: 3 bytes, fixed length needs 21"):
        toy_codec().decode(pack(header(fixed_bits=2), [b"abc", b"", b"", b""]))


def test_a_claim_of_many_values_is_refused_before_anything_is_allocated() -> None:
    huge = pack(header(height=65535, width=65535), [b""] * 4)
    with pytest.raises(FieldError, match="5 x 65535 x 65535 values"):
        toy_codec().decode(huge)
    one_channel = pack(header(channels=1, chunks=1, height=2000, width=2000), [b""])
    with pytest.raises(FieldError, match="5 x 2000 x 2000 values"):
        toy_codec().decode(one_channel)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"chunks": 6}, "6 chunks of 5 channels"), ({"channels": 0}, "0 x 9 x 9"),
        ({"fixed_bits": 1}, "1 bits a value"), ({"fixed_bits": 9}, "9 bits a value"),
    ],
)
def test_headers_that_contradict_themselves_are_not_made(change: dict[str, int], message: str) -> None:
    with pytest.raises(FieldError, match=message):
        header(**change).packed()


def test_other_versions_models_cuts_and_points_are_named() -> None:
    stream = STREAMS[0]
    with pytest.raises(VersionError, match="version 9"):
        parse(stream[:2] + b"\x09" + stream[3:])
    empty = [b""] * 4
    with pytest.raises(WrongModelError, match="made with tables"):
        toy_codec().decode(pack(header(model=b"x" * 8), empty))
    with pytest.raises(WrongModelError, match="of cut"):
        toy_codec().decode(pack(header(cut=b"x" * 8), empty))
    with pytest.raises(FieldError, match="point 7"):
        toy_codec().decode(pack(header(point=7), empty))
    with pytest.raises(FieldError, match="point 1 with 5 channels"):
        toy_codec().decode(pack(header(point=1), empty))
    with pytest.raises(FieldError, match="3 bytes behind"):
        parse(stream + b"abc")


def test_a_chunk_of_another_stream_or_in_another_place_does_not_fit() -> None:
    other = toy_codec().encode(toy_features(9, seed=8), 0, picture=(9, 9)).data
    assert len(other) > HEADER_BYTES
    with pytest.raises(ChecksumError, match="chunk 0"):
        parse(STREAMS[0][:HEADER_BYTES] + other[HEADER_BYTES:], partial=False)
    (word,) = struct.unpack_from("<I", STREAMS[0], HEADER_BYTES)
    moved = bytearray(STREAMS[0])
    struct.pack_into("<I", moved, HEADER_BYTES, word | 1 << 24)
    with pytest.raises(ChecksumError, match="chunk 0"):
        parse(bytes(moved))
