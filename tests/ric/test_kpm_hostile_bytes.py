"""Bytes that are no KPM indication give a decode error that says where, quickly, and nothing else."""

from __future__ import annotations

import contextlib
import json
import random
import time
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from xapp.ric.e2ap import RicIndication, decode_ric_indication, encode_ric_indication
from xapp.ric.kpm import E2DecodeError, KpmIndication, decode_kpm_indication, encode_indication_header
from xapp.ric.kpm.header import decode_kpm_header
from xapp.ric.kpm.versions import KPM_VERSIONS, KpmVersion

VECTORS = json.loads((Path(__file__).parent / "kpm_vectors.json").read_text())
HEADERS = [bytes.fromhex(vector["header"]) for vector in VECTORS["headers"]]
CASES = VECTORS["messages"] + VECTORS["matching"]
MESSAGES = [(bytes.fromhex(vector["message"]), vector.get("version", "3.00")) for vector in CASES]
HEADER = encode_indication_header(1_700_000_000.5)
LONGEST_S = 5.0
"""CPU time, which waiting on a busy machine does not count in: none of these messages takes a second, a loop
would for ever."""


def is_named(error: E2DecodeError, size: int) -> bool:
    """The error says what and where."""
    return bool(error.field and error.message) and 0 <= error.offset <= size


def decodes_or_errs(header: bytes, message: bytes, version: KpmVersion) -> KpmIndication | None:
    """The indication, or None for a decode error that names field and offset; anything else fails."""
    caught = None
    try:
        decoded = decode_kpm_indication(header, message, version=version)
    except E2DecodeError as error:
        caught = error
    if caught is not None:
        assert is_named(caught, max(len(header), len(message)))
        return None
    assert all(isinstance(report.values, dict) for report in decoded.users)
    return decoded


def hostile(seed: int, cases: int) -> Iterator[tuple[bytes, bytes, KpmVersion]]:
    """Truncated, mutated, spliced and random messages, in equal shares, under any version."""
    draw = random.Random(seed)
    for index in range(cases):
        message, version = draw.choice(MESSAGES)
        header = HEADER if draw.random() < 0.8 else draw.choice(HEADERS)
        if draw.random() < 0.2:
            version = draw.choice(KPM_VERSIONS)
        kind = index % 4
        if kind == 0:
            message = message[: draw.randrange(len(message))]
        elif kind == 1:
            changed = bytearray(message)
            for _ in range(draw.randint(1, 8)):
                changed[draw.randrange(len(changed))] ^= 1 << draw.randrange(8)
            message = bytes(changed)
        elif kind == 2:
            other, _ = draw.choice(MESSAGES)
            message = message[: draw.randrange(len(message))] + other[draw.randrange(len(other)) :]
        else:
            message = draw.randbytes(draw.randrange(200))
            header = draw.randbytes(draw.randrange(30))
        yield header, message, version


def run(seed: int, cases: int) -> int:
    decoded = 0
    for header, message, version in hostile(seed, cases):
        begin = time.thread_time()
        decoded += decodes_or_errs(header, message, version) is not None
        assert time.thread_time() - begin < LONGEST_S, message.hex()
    return decoded


def test_thousands_of_hostile_messages_give_decode_errors_only() -> None:
    assert 0 < run(1, 4_000) < 4_000  # neither everything refused nor everything taken


@pytest.mark.slow
def test_a_hundred_thousand_hostile_messages_give_decode_errors_only() -> None:
    assert 0 < run(2, 100_000) < 100_000


@pytest.mark.slow
def test_hostile_messages_take_little_memory() -> None:
    tracemalloc.start()
    try:
        run(4, 10_000)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 32 << 20


@pytest.mark.slow
def test_a_hundred_thousand_hostile_e2ap_pdus_give_decode_errors_only() -> None:
    draw = random.Random(3)
    pdu = encode_ric_indication(RicIndication(1, 2, 3, 4, 0, HEADER, MESSAGES[0][0], 7, b"id"))
    for index in range(100_000):
        changed = bytearray(pdu if index % 3 else draw.randbytes(draw.randrange(1, 100)))
        changed[draw.randrange(len(changed))] = draw.randrange(256)
        errors = []
        try:
            decode_ric_indication(bytes(changed[: draw.randint(1, len(changed))]))
        except E2DecodeError as error:
            errors.append(error)
        assert all(is_named(error, len(changed)) for error in errors)


@pytest.mark.parametrize(("message", "version"), MESSAGES, ids=[v["name"] for v in CASES])
def test_every_truncation_of_a_message_gives_a_decode_error(message: bytes, version: KpmVersion) -> None:
    whole = decode_kpm_indication(HEADER, message, version=version)
    for stop in range(0, len(message) - 1, 1 + len(message) // 200):
        partial = decodes_or_errs(HEADER, message[:stop], version)
        # Only octets after everything that is read may be missing.
        assert partial is None or partial == whole


@given(st.binary(max_size=60), st.binary(max_size=200), st.sampled_from(KPM_VERSIONS))
@example(b"", b"", "3.00")
def test_random_bytes_give_decode_errors_only(header: bytes, message: bytes, version: KpmVersion) -> None:
    decodes_or_errs(header, message, version)
    decodes_or_errs(HEADER, message, version)
    with contextlib.suppress(E2DecodeError):
        assert len(decode_kpm_header(header).timestamp_bytes) in {4, 8}


def test_lists_that_promise_more_than_they_hold_take_no_memory_for_it() -> None:
    # measData of 65536 items, a record of 16383 values, a measInfoList of 65536, with hardly a byte behind.
    promises = [
        bytes.fromhex("00ffff00bfff0000"),
        bytes.fromhex("00000000bfff4924924924"),
        bytes.fromhex("0800000001000 0ffff00".replace(" ", "")),
        bytes.fromhex("400083000000ffff"),
    ]
    tracemalloc.start()
    try:
        for message in promises:
            assert decodes_or_errs(HEADER, message, "3.00") is None
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 1 << 20


def test_long_name_under_thousands_of_labels_is_refused_before_it_is_repeated() -> None:
    # A measName of 16000 characters (extension of its size), then 8000 labels "sUM".
    name = b"\x00\x00\x10\xbe\x80" + b"N" * 16000
    message = b"\x08\x00\x00\x00\x01\x40" + name + b"\x9f\x40" + b"\x00\x01\x00\x00" * 8000
    with pytest.raises(E2DecodeError, match="16000 characters") as caught:
        decode_kpm_indication(HEADER, message)
    assert caught.value.field == "measName"
