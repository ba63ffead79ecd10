"""The safetensors header is parsed defensively: no bytes crash it, nothing ambiguous is taken."""

from __future__ import annotations

import io
import json
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load, save

from codec_runtime.bundle import errors
from codec_runtime.bundle.tensor_file import (
    HEADER_LIMIT,
    parse_header,
    read_tensors,
    refuse_non_finite,
    refuse_pickle_suffix,
    tensor_file,
)

STATE = {
    "b": torch.arange(6, dtype=torch.float16).reshape(2, 3), "a": torch.tensor(1.5), "e": torch.empty(0, 2)
}
GOOD = save(STATE)


def _file(header: Any, data: bytes = b"\0" * 4) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + data


def _tensor(begin: int = 0, end: int = 4, shape: Any = (1,), dtype: Any = "F32") -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


def test_what_the_library_writes_is_read_and_the_other_way_round() -> None:
    for data in (GOOD, tensor_file(STATE, {"by": "us"})):
        found = read_tensors(data, parse_header(data, "f"))
        assert found.keys() == STATE.keys() == load(data).keys()
        for name, tensor in STATE.items():
            assert torch.equal(found[name], tensor)
            assert torch.equal(load(data)[name], tensor)


def test_bytes_do_not_depend_on_the_order_of_tensors_or_metadata() -> None:
    metadata = {str(i): "x" for i in range(20)}
    turned = dict(reversed(STATE.items()))
    assert tensor_file(STATE, metadata) == tensor_file(turned, dict(reversed(metadata.items())))


REFUSED: list[tuple[str, bytes, type[errors.BundleError], str]] = [
    ("empty", b"", errors.TensorFormatError, "not safetensors"),
    ("truncated data", GOOD[:-1], errors.TensorFormatError, "truncated"),
    ("more data", GOOD + b"\0", errors.TensorFormatError, "belong to no tensor"),
    ("duplicate", _file(b'{"a":%s,"a":%s}' % ((json.dumps(_tensor()).encode(),) * 2)),
     errors.TensorFormatError, "'a' twice"),
    ("duplicate inside", _file(b'{"a":{"dtype":"F32","dtype":"F16","shape":[1],"data_offsets":[0,4]}}'),
     errors.TensorFormatError, "'dtype' twice"),
    ("duplicate after many", _file(b'{%s,"0":1}' % b",".join(b'"%d":1' % n for n in range(90_000))),
     errors.TensorFormatError, "'0' twice"),
    ("duplicate at the end of many",
     _file(b'{%s,"89999":1}' % b",".join(b'"%d":1' % n for n in range(90_000))),
     errors.TensorFormatError, "'89999' twice"),
    ("vast without values", _file({"a": _tensor(0, 0, (1 << 47, 1 << 47, 0))}, b""),
     errors.TensorFormatError, "'a': no tensor has shape"),
    ("overlap", _file({"a": _tensor(), "b": _tensor()}), errors.TensorFormatError, "b overlaps"),
    ("gap", _file({"a": _tensor(4, 8)}, bytes(8)), errors.TensorFormatError, "before tensor a"),
    ("beyond", _file({"a": _tensor(0, 8, (2,))}), errors.TensorFormatError, "truncated"),
    ("backwards", _file({"a": _tensor(4, 0)}), errors.TensorFormatError, "begin <= end"),
    ("size", _file({"a": _tensor(0, 4, (2,))}), errors.TensorFormatError, "'a': 4 bytes"),
    ("negative", _file({"a": _tensor(0, 4, (-1, -1))}), errors.TensorFormatError, "'a': shape"),
    ("product overflows 64 bits", _file({"a": _tensor(0, 4, (1 << 40, 1 << 40))}), errors.TensorFormatError,
     "'a': 4 bytes"),
    ("bool", _file({"a": _tensor(0, 4, (True,))}), errors.TensorFormatError, "'a': shape"),
    ("rank", _file({"a": _tensor(0, 4, (1,) * 9)}), errors.TensorFormatError, "at most 8"),
    ("dtype", _file({"a": _tensor(dtype="F8")}), errors.DtypeError, "'a': dtype 'F8'"),
    ("dtype list", _file({"a": _tensor(dtype=[])}), errors.DtypeError, "'a'"),
    ("extra key", _file({"a": {**_tensor(), "code": "x"}}), errors.TensorFormatError, "exactly"),
    ("name", _file({"a b": _tensor()}), errors.TensorFormatError, "printable"),
    ("metadata", _file({"__metadata__": {"a": 1}}, b""), errors.TensorFormatError, "__metadata__"),
    ("many", _file({str(i): _tensor(0, 0, (0,)) for i in range(4097)}, b""), errors.SizeLimitError, "4097"),
    ("huge header", _file(b"{" + b" " * HEADER_LIMIT + b"}"), errors.SizeLimitError, "header of"),
    ("header length", b"\xff" * 8 + b"{}", errors.TensorFormatError, "not safetensors"),
    ("nested", _file(b'{"a":' + b"[" * 90000), errors.TensorFormatError, "not JSON"),
    ("long number", _file(b'{"a":' + b"9" * 9000 + b"}"), errors.TensorFormatError, "not JSON"),
    ("utf-8", _file(b'{"\xff":1}'), errors.TensorFormatError, "not JSON"),
    ("gguf", b"GGUF" + bytes(60), errors.TensorFormatError, "GGUF"),
]


@pytest.mark.parametrize(("data", "error", "text"), [r[1:] for r in REFUSED], ids=[r[0] for r in REFUSED])
def test_ambiguous_files_are_refused_by_name(
    data: bytes, error: type[errors.BundleError], text: str
) -> None:
    with pytest.raises(error, match=text):
        parse_header(data, "f")


class _Bomb:
    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return (pytest.fail, ("a pickle was loaded",))


@pytest.mark.parametrize("zipped", [True, False])
def test_pickles_are_known_by_their_bytes_and_never_opened(zipped: bool) -> None:
    stream = io.BytesIO()
    torch.save({"x": _Bomb()}, stream, _use_new_zipfile_serialization=zipped)
    for data in (stream.getvalue(), pickle.dumps(_Bomb(), protocol=4)):
        with pytest.raises(errors.PickleRefusedError, match="safetensors"):
            parse_header(data, "weights.safetensors")


@pytest.mark.parametrize("name", ["a.pt", "a.PTH", "a.bin", "a.npz"])
def test_suffixes_of_pickles_are_refused_with_the_way_to_convert(name: str) -> None:
    with pytest.raises(errors.PickleRefusedError, match="weights_only=True"):
        refuse_pickle_suffix(Path(name))


@settings(deadline=None)
@given(st.binary(max_size=400))
def test_any_bytes_are_parsed_or_refused(data: bytes) -> None:
    _parsed_or_refused(data)


@settings(deadline=None)
@given(st.integers(0, len(GOOD) - 1), st.integers(0, 255), st.integers(0, len(GOOD)))
def test_a_damaged_file_is_parsed_or_refused(place: int, value: int, length: int) -> None:
    damaged = bytearray(GOOD)
    damaged[place] = value
    _parsed_or_refused(bytes(damaged))
    _parsed_or_refused(bytes(damaged[:length]))


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4),
)


_ENTRY = st.fixed_dictionaries({
    "dtype": st.sampled_from(["F16", "F32", "I8", "X"]) | _JSON,
    "shape": st.lists(st.integers(-1, 4), max_size=3) | _JSON,
    "data_offsets": st.lists(st.integers(-1, 64), max_size=3) | _JSON,
})


@settings(deadline=None, max_examples=50)
@given(st.dictionaries(st.text(max_size=6), _ENTRY, max_size=3), st.binary(max_size=64))
def test_any_header_is_parsed_or_refused(header: dict[str, Any], data: bytes) -> None:
    _parsed_or_refused(_file(header, data))


def _parsed_or_refused(data: bytes) -> None:
    try:
        header = parse_header(data, "f")
    except errors.BundleError:
        return
    # What is taken covers the data exactly, and the library reads the same.
    assert sum(e.end - e.begin for e in header.entries.values()) == len(data) - 8 - int.from_bytes(
        data[:8], "little"
    )
    found = read_tensors(data, header)
    assert found.keys() == load(data).keys()


def _is_refused(tensor: torch.Tensor) -> bool:
    try:
        refuse_non_finite({"w": tensor}, "f")
    except errors.NonFiniteError:
        return True
    return False


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_exactly_nan_and_infinity_are_refused_of_all_numbers_of_16_bits(dtype: torch.dtype) -> None:
    values = torch.arange(-(1 << 15), 1 << 15, dtype=torch.int32).to(torch.int16).view(dtype)
    finite = torch.isfinite(values)
    assert not _is_refused(values[finite])
    assert all(_is_refused(value) for value in values[~finite].split(1))


@given(
    st.lists(st.integers(-(1 << 63), (1 << 63) - 1), max_size=4),
    st.sampled_from([torch.float32, torch.float64]),
)
def test_numbers_of_any_bits_are_refused_if_one_is_not_finite(bits: list[int], dtype: torch.dtype) -> None:
    values = torch.tensor(bits, dtype=torch.int64).view(dtype)
    assert _is_refused(values) == (not bool(torch.isfinite(values).all()))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("value", [float("nan"), -float("nan"), float("inf"), -float("inf")])
def test_one_bad_value_among_many_is_refused_and_counted(dtype: torch.dtype, value: float) -> None:
    values = torch.linspace(-1.0, 1.0, 4096, dtype=dtype).reshape(64, 64)
    largest = torch.finfo(dtype).max
    values[0, :2] = torch.tensor([largest, -largest], dtype=dtype)
    assert not _is_refused(values)
    values[17, 5] = value
    with pytest.raises(errors.NonFiniteError, match=r"tensor w holds NaN or infinity \(1 of 4096 values\)"):
        refuse_non_finite({"w": values.t()}, "f")


@pytest.mark.parametrize("of", [bytes, bytearray, lambda data: memoryview(bytearray(data))])
@pytest.mark.parametrize("dtype", ["F32", "F64", "BF16"])
def test_tensors_that_are_not_aligned_in_the_file_are_in_memory(of: Any, dtype: str) -> None:
    size = {"F32": 4, "F64": 8, "BF16": 2}[dtype]
    entry = {"dtype": dtype, "shape": [3], "data_offsets": [0, 3 * size]}
    for padding in range(size):
        header = json.dumps({"a": entry}).encode() + b" " * padding
        data = of(len(header).to_bytes(8, "little") + header + bytes(3 * size))
        (tensor,) = read_tensors(data, parse_header(data, "f")).values()
        assert tensor.data_ptr() % size == 0
        assert torch.equal(tensor, torch.zeros(3, dtype=tensor.dtype))
