"""The Open Inference Protocol: what clients may send, and what is refused with which words."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from codec_runtime.serving.open_inference import (
    HEADER_LENGTH,
    InferRequest,
    ProtocolError,
    build_response,
    parse_request,
)

NAMES = {"u1": "UINT8", "i4": "INT32", "f4": "FP32", "f8": "FP64", "i8": "INT64", "f2": "FP16", "?": "BOOL"}
ARRAYS = st.sampled_from(sorted(NAMES)).flatmap(
    lambda t: hnp.arrays(
        t, hnp.array_shapes(max_dims=3, max_side=4),
        elements=None if t not in ("f2", "f4", "f8") else {"allow_nan": False, "allow_infinity": False},
    )
)


def _body(arrays: dict[str, np.ndarray[Any, Any]], binary: bool) -> tuple[bytes, int]:
    inputs, chunks = [], b""
    for name, array in arrays.items():
        kind = next(n for t, n in NAMES.items() if np.dtype(t) == array.dtype)
        entry: dict[str, Any] = {"name": name, "shape": list(array.shape), "datatype": kind}
        if binary:
            chunks += array.tobytes()
            entry["parameters"] = {"binary_data_size": array.nbytes}
        else:
            entry["data"] = array.tolist()
        inputs.append(entry)
    header = json.dumps({"id": "a", "inputs": inputs, "parameters": {"user": "ue-1"}}).encode()
    return header + chunks, len(header)


@settings(max_examples=60, deadline=None)
@given(ARRAYS, ARRAYS, st.booleans())
def test_tensors_survive_both_encodings(first: Any, second: Any, binary: bool) -> None:
    body, length = _body({"a": first, "b": second}, binary)
    request = parse_request(body, length)
    for name, array in (("a", first), ("b", second)):
        assert request.inputs[name].dtype == array.dtype
        np.testing.assert_array_equal(request.inputs[name], array)
    assert request.parameters == {"user": "ue-1"}


@settings(max_examples=60, deadline=None)
@given(ARRAYS, st.booleans())
def test_answers_parse_as_requests_do(array: Any, binary: bool) -> None:
    request = InferRequest("7", {}, {}, {"out": binary})
    outputs = {"out": array}
    body, headers = build_response(request, model="m", version="1", outputs=outputs, parameters={"k": 1})
    length = int(headers.get(HEADER_LENGTH, len(body)))
    answer = json.loads(body[:length])
    assert (answer["id"], answer["model_name"], answer["parameters"]) == ("7", "m", {"k": 1})
    (output,) = answer["outputs"]
    if binary:
        assert output["parameters"]["binary_data_size"] == len(body) - length == array.nbytes
        assert body[length:] == array.tobytes()
    else:
        np.testing.assert_array_equal(np.array(output["data"]).reshape(array.shape), array)


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=200), st.none() | st.integers(-5, 300))
def test_arbitrary_bytes_never_crash(body: bytes, length: int | None) -> None:
    with pytest.raises(ProtocolError):
        parse_request(body, length)


JSON_VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False)
    | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=200, deadline=None)
@given(JSON_VALUES, JSON_VALUES, JSON_VALUES, st.sampled_from(["UINT8", "FP32", "BOOL", "BYTES", "INT32"]))
def test_arbitrary_json_is_parsed_or_refused(shape: Any, data: Any, size: Any, kind: str) -> None:
    entry = {"name": "x", "shape": shape, "datatype": kind, "data": data}
    if size is not None:
        entry["parameters"] = {"binary_data_size": size}
    body = json.dumps({"inputs": [entry]}).encode()
    try:
        parsed = parse_request(body)
    except ProtocolError:
        return
    assert list(parsed.inputs["x"].shape) == shape


@pytest.mark.parametrize(
    ("entry", "text"),
    [
        ({"datatype": "BYTES", "shape": [1], "data": ["x"]}, "datatype 'BYTES'"),
        ({"datatype": "UINT8", "shape": [2], "data": [1]}, "1 values, shape"),
        ({"datatype": "UINT8", "shape": [1], "data": [256]}, "0..255"),
        ({"datatype": "UINT8", "shape": [1], "data": [1.5]}, "do not fit UINT8"),
        ({"datatype": "UINT8", "shape": [1], "data": [True]}, "do not fit UINT8"),
        ({"datatype": "UINT8", "shape": [-1], "data": [1]}, "not valid"),
        ({"datatype": "UINT8", "shape": [1]}, "neither data nor"),
        ({"datatype": "FP32", "shape": [2], "data": [[1], [1, 2]]}, "not an array"),
        ({"datatype": "FP32", "shape": [1], "parameters": {"binary_data_size": 99}}, "bytes are left"),
    ],
)
def test_wrong_inputs_are_named(entry: dict[str, Any], text: str) -> None:
    with pytest.raises(ProtocolError, match=text):
        parse_request(json.dumps({"inputs": [{"name": "x", **entry}]}).encode())


@pytest.mark.parametrize("field", ['"parameters": {"a": %s}', '"x": 1, "inputs": [%s]'])
def test_json_too_deep_to_be_read_is_refused(field: str) -> None:
    deep = "[" * 50_000 + "]" * 50_000
    with pytest.raises(ProtocolError):
        parse_request(b'{"inputs": [], %s}' % (field % deep).encode())


def test_a_truth_value_is_one_bit_in_its_byte() -> None:
    entry = {"name": "x", "datatype": "BOOL", "shape": [3], "parameters": {"binary_data_size": 3}}
    header = json.dumps({"inputs": [entry]}).encode()
    assert parse_request(header + b"\0\1\0", len(header)).inputs["x"].tolist() == [False, True, False]
    with pytest.raises(ProtocolError, match="BOOL bytes must be 0 or 1"):
        parse_request(header + b"\0\1\2", len(header))


def test_bytes_behind_the_inputs_are_refused() -> None:
    body, length = _body({"a": np.zeros(2, "u1")}, True)
    with pytest.raises(ProtocolError, match="behind the last"):
        parse_request(body + b"x", length)
