"""RMR frames: the byte layout that librmr speaks, and a reader that survives any stream."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xapp.ric.rmr import messages
from xapp.ric.rmr.frame import FrameReader, RmrFrameError, RmrMessage, decode_frame, encode_frame

# Laid out by hand from uta_mhdr_t and insert_mlen of the RMR library.
GOLDEN = b"".join(
    (
        (337).to_bytes(4, "little"),  # frame length: 50 + 280 + 4 + 3
        (337).to_bytes(4, "big"),
        b"$" + bytes(41),
        (12050).to_bytes(4, "big"),
        (3).to_bytes(4, "big"),  # payload length
        (3).to_bytes(4, "big"),  # header version
        b"transaction-7".ljust(32, b"\0"),
        bytes(32),  # sender id, unused
        b"e2term:38000".ljust(64, b"\0"),
        b"gnb_001_001_00000001".ljust(32, b"\0"),
        bytes(4),  # alignment of the time stamp
        bytes(16),  # time stamp
        bytes(4),  # flags
        (280).to_bytes(4, "big"),
        (0).to_bytes(4, "big"),
        (4).to_bytes(4, "big"),
        (0).to_bytes(4, "big"),
        (0).to_bytes(4, "big"),  # subscription id 0
        b"10.0.0.1:38000".ljust(64, b"\0"),
        bytes(4),  # call id
        b"\x01\x02\x03",
    )
)
GOLDEN_MESSAGE = RmrMessage(
    mtype=messages.RIC_INDICATION,
    payload=b"\x01\x02\x03",
    sub_id=0,
    meid="gnb_001_001_00000001",
    xid=b"transaction-7",
    src="e2term:38000",
    src_ip="10.0.0.1:38000",
)

texts = st.text(st.characters(codec="ascii", min_codepoint=33, max_codepoint=126), max_size=31)
some_messages = st.builds(
    RmrMessage,
    mtype=st.integers(-1, 2**31 - 1),
    payload=st.binary(max_size=300),
    sub_id=st.integers(-1, 2**31 - 1),
    meid=texts,
    xid=st.binary(max_size=32).map(lambda raw: raw.split(b"\0")[0]),
    src=texts,
    src_ip=texts,
)


def test_golden_frame_is_what_librmr_sends() -> None:
    assert encode_frame(GOLDEN_MESSAGE) == GOLDEN
    assert decode_frame(GOLDEN) == GOLDEN_MESSAGE


def test_no_subscription_is_minus_one_and_zero_stays_zero() -> None:
    assert decode_frame(encode_frame(RmrMessage(100, b""))).sub_id == -1
    assert decode_frame(encode_frame(RmrMessage(100, b"", sub_id=0))).sub_id == 0


def test_payload_is_found_behind_trace_and_call_data() -> None:
    frame = bytearray(encode_frame(RmrMessage(12050, b"payload")))
    frame[50 + 200 : 50 + 204] = (8).to_bytes(4, "big")
    frame[50 + 280 : 50 + 280] = b"T" * 8
    assert decode_frame(bytes(frame)).payload == b"payload"


@given(st.lists(some_messages, min_size=1, max_size=5), st.lists(st.integers(1, 400), min_size=1))
def test_messages_survive_any_fragmentation_of_the_stream(sent: list[RmrMessage], sizes: list[int]) -> None:
    stream = b"".join(map(encode_frame, sent))
    reader = FrameReader()
    got: list[RmrMessage] = []
    position = turn = 0
    while position < len(stream):
        size = sizes[turn % len(sizes)]
        got += reader.feed(stream[position : position + size])
        position += size
        turn += 1
    assert got == sent
    assert reader.pending_bytes == 0


def test_good_messages_before_a_bad_frame_are_kept() -> None:
    with pytest.raises(RmrFrameError) as caught:
        FrameReader().feed(GOLDEN + b"GET / HTTP/1.1\r\n\r\n")
    assert caught.value.completed == [GOLDEN_MESSAGE]


def test_hostile_length_is_refused_before_its_bytes_arrive() -> None:
    head = (1 << 30).to_bytes(4, "little") + (1 << 30).to_bytes(4, "big") + b"$"
    with pytest.raises(RmrFrameError, match="frame length"):
        FrameReader().feed(head)


@pytest.mark.parametrize(
    ("offset", "value", "cause"),
    [
        (50 + 8, 2, "version 2"),
        (50 + 4, 5000, "exceed"),
        (50 + 196, 10, "header length"),
        (50 + 204, 0xFFFFFFF0, "exceed"),
    ],
)
def test_contradicting_header_fields_are_named(offset: int, value: int, cause: str) -> None:
    frame = bytearray(GOLDEN)
    frame[offset : offset + 4] = value.to_bytes(4, "big")
    with pytest.raises(RmrFrameError, match=cause):
        decode_frame(bytes(frame))


def test_short_frame_is_refused() -> None:
    with pytest.raises(RmrFrameError, match="at least"):
        decode_frame(GOLDEN[:100])


def outcome(chunks: list[bytes]) -> tuple[list[RmrMessage], str]:
    """Messages that a reader gets out of these reads, and the error that ends it."""
    reader = FrameReader()
    got: list[RmrMessage] = []
    for chunk in chunks:
        try:
            got += reader.feed(chunk)
        except RmrFrameError as error:
            return got + error.completed, str(error)
    return got, ""


@given(
    st.lists(
        st.one_of(st.binary(max_size=60), some_messages.map(encode_frame), st.just(GOLDEN[:200])), max_size=4
    ),
    st.lists(st.integers(1, 500), min_size=1, max_size=20),
)
def test_any_bytes_mean_the_same_in_any_fragmentation(parts: list[bytes], sizes: list[int]) -> None:
    stream = b"".join(parts)
    chunks: list[bytes] = []
    position = 0
    while position < len(stream):
        size = sizes[len(chunks) % len(sizes)]
        chunks.append(stream[position : position + size])
        position += size
    assert outcome(chunks) == outcome([stream])


def test_call_data_is_kept_for_the_answer_and_only_where_somebody_waits() -> None:
    frame = bytearray(GOLDEN)
    frame[50 + 280] = 9
    assert decode_frame(bytes(frame)).call == b""
    frame[50 + 192] = 4
    call = decode_frame(bytes(frame)).call
    assert call == b"transaction-7".ljust(32, b"\0") + b"\x09"
    answer = encode_frame(RmrMessage(20011, b"", xid=b"other", call=call))
    assert answer[50 + 12 : 50 + 44] == call[:32]
    assert answer[50 + 280 : 50 + 284] == b"\x09\0\0\0"
    assert decode_frame(answer).call == b""


@given(st.binary(max_size=800))
def test_garbage_raises_only_frame_errors(data: bytes) -> None:
    with contextlib.suppress(RmrFrameError):
        FrameReader().feed(data)


@given(st.lists(st.tuples(st.integers(0, len(GOLDEN) - 1), st.integers(0, 255)), min_size=1, max_size=6))
def test_mutated_frames_raise_only_frame_errors(changes: list[tuple[int, int]]) -> None:
    frame = bytearray(GOLDEN)
    for offset, value in changes:
        frame[offset] = value
    with contextlib.suppress(RmrFrameError):
        FrameReader().feed(bytes(frame))


@pytest.mark.parametrize(
    "message",
    [
        RmrMessage(1, b"", meid="m" * 32),
        RmrMessage(1, b"", xid=b"x" * 33),
        RmrMessage(1, b"", src="s" * 64),
        RmrMessage(1, b"", sub_id=1 << 40),
        RmrMessage(1, bytes(5 << 20)),
    ],
)
def test_messages_that_do_not_fit_are_refused(message: RmrMessage) -> None:
    with pytest.raises(RmrFrameError):
        encode_frame(message)


def test_junk_behind_the_transaction_id_is_dropped() -> None:
    frame = bytearray(GOLDEN)
    frame[50 + 12 + 20 : 50 + 12 + 24] = b"junk"
    assert decode_frame(bytes(frame)).xid == b"transaction-7"
