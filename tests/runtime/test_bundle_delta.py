"""A delta gives the child's weights file bit by bit, or a named error; never something else."""

from __future__ import annotations

import contextlib
import hashlib
import lzma
from pathlib import Path

import msgspec
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load, save

from codec_runtime.bundle import errors
from codec_runtime.bundle.delta import (
    RESULT_LIMIT,
    DeltaRecord,
    apply_delta,
    encode_delta,
    read_record,
    rebuild_weights,
)
from codec_runtime.bundle.tensor_file import tensor_file


def _states() -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    torch.manual_seed(3)
    parent = {
        "frozen": torch.randn(64, 64).half(),
        "tuned": torch.randn(48, 48).half(),
        "scale": torch.rand(48),
        "q": torch.randint(-127, 128, (48, 48), dtype=torch.int8),
        "wide": torch.randn(5).double(),
        "gone": torch.randn(3),
    }
    child = {
        **parent,
        "tuned": (parent["tuned"].float() * 1.004).half(),
        "scale": -parent["scale"],
        "q": torch.where(parent["q"] < 100, parent["q"] + 1, parent["q"]),
        "wide": parent["wide"].float(),
        "new": torch.randn(7),
        "empty": torch.empty(0, 3),
    }
    del child["gone"]
    return parent, child


PARENT, CHILD = (save(state) for state in _states())
DELTA = encode_delta(PARENT, CHILD)


def test_the_result_is_the_child_bit_by_bit() -> None:
    assert rebuild_weights(PARENT, DELTA) == CHILD


def test_a_state_becomes_the_childs_state(tmp_path: Path) -> None:
    file = tmp_path / "delta.safetensors"
    file.write_bytes(DELTA)
    result = apply_delta(load(PARENT), file)
    expected = load(CHILD)
    assert result.keys() == expected.keys()
    assert all(torch.equal(result[name], expected[name]) for name in expected)


def test_only_what_changed_is_in_it() -> None:
    record = read_record(DELTA)
    assert record.changed == ["empty", "new", "q", "scale", "tuned", "wide"]
    assert record.result_sha256 == hashlib.sha256(CHILD).hexdigest()


def test_fine_tuned_weights_have_a_delta_smaller_than_the_changed_tensors() -> None:
    parent, child = _states()
    before = save({"frozen": parent["frozen"], "tuned": parent["tuned"]})
    after = save({"frozen": parent["frozen"], "tuned": child["tuned"]})
    delta = encode_delta(before, after)
    assert read_record(delta).difference
    assert len(delta) < len(tensor_file({"tuned": child["tuned"]})) < len(after)


def test_equal_arguments_give_equal_bytes() -> None:
    assert encode_delta(PARENT, CHILD) == DELTA


def test_another_parent_is_refused() -> None:
    with pytest.raises(errors.DeltaError, match="difference from the weights"):
        rebuild_weights(CHILD, DELTA)
    state = load(PARENT)
    state["tuned"] = state["tuned"] + 1
    with pytest.raises(errors.DeltaError, match="not of this parent"):
        apply_delta(state, DELTA)
    del state["frozen"]
    with pytest.raises(errors.DeltaError, match=r"frozen .* is not in the parent"):
        apply_delta(state, DELTA)


def test_what_is_no_delta_is_refused() -> None:
    with pytest.raises(errors.DeltaError, match="not a delta file"):
        rebuild_weights(PARENT, CHILD)


def _with_record(change: dict[str, object], **planes: bytes) -> bytes:
    record = msgspec.structs.replace(read_record(DELTA), **change)
    return _packed(record=msgspec.msgpack.encode(record), **planes)


def _packed(**streams: bytes) -> bytes:
    return tensor_file({
        name: torch.frombuffer(bytearray(lzma.compress(stream)), dtype=torch.uint8)
        for name, stream in streams.items()
    })


def test_a_result_that_would_be_huge_is_refused_before_it_is_made() -> None:
    end = RESULT_LIMIT + 4
    text = b'{"a":{"dtype":"F32","shape":[%d],"data_offsets":[0,%d]}}' % (end // 4, end)
    header = len(text).to_bytes(8, "little") + text
    with pytest.raises(errors.SizeLimitError, match="the limit is"):
        rebuild_weights(PARENT, _with_record({"header": header, "changed": ["a"]}))


def test_a_plane_that_unpacks_without_end_is_stopped() -> None:
    text = b'{"a":{"dtype":"I8","shape":[4],"data_offsets":[0,4]}}'
    header = len(text).to_bytes(8, "little") + text
    bomb = _with_record({"header": header, "changed": ["a"]}, **{"plane.1.0": bytes(1 << 24)})
    with pytest.raises(errors.SizeLimitError, match=r"plane\.1\.0 unpacks to more than 4"):
        rebuild_weights(PARENT, bomb)


@pytest.mark.parametrize("change", [
    {"format": 2}, {"changed": ["q", "q"]}, {"changed": ["other"]}, {"header": b""},
    {"header": bytes(8) + b"[]"}, {"header": b"\x02" + bytes(7) + b"[["}, {"parent_sha256": ""},
    {"result_sha256": "0" * 64},
])
def test_a_record_that_lies_is_refused(change: dict[str, object]) -> None:
    with pytest.raises(errors.BundleError):
        rebuild_weights(PARENT, _with_record(change))


@settings(deadline=None, max_examples=40)
@given(st.integers(0, len(DELTA) - 1), st.integers(1, 255))
def test_a_damaged_delta_gives_the_child_or_an_error(place: int, flip: int) -> None:
    damaged = bytearray(DELTA)
    damaged[place] ^= flip
    with contextlib.suppress(errors.BundleError):
        assert rebuild_weights(PARENT, bytes(damaged)) == CHILD  # xz may ignore a bit


_VALUES = st.lists(st.integers(0, 65535), min_size=1, max_size=20)


@settings(deadline=None, max_examples=50)
@given(_VALUES, _VALUES, st.sampled_from([torch.float16, torch.bfloat16, torch.int16]))
def test_every_bit_pattern_survives(before: list[int], after: list[int], dtype: torch.dtype) -> None:
    size = min(len(before), len(after))
    parent, child = (
        tensor_file({"x": torch.tensor(words[:size], dtype=torch.int32).to(torch.int16).view(dtype)})
        for words in (before, after)
    )
    assert rebuild_weights(parent, encode_delta(parent, child)) == child


def test_the_record_type_is_what_docs_say() -> None:
    assert [field.name for field in msgspec.structs.fields(DeltaRecord)] == [
        "format", "parent_sha256", "result_sha256", "header", "changed", "difference"
    ]
