"""Open Inference Protocol v2 over HTTP with the binary tensor extension: bytes <-> numpy.

A request body is a JSON header, optionally followed by raw little-endian tensors in the order of the inputs
(``Inference-Header-Content-Length`` tells where the header ends; each such input has the parameter
``binary_data_size``). Answers are built alike, per output as the client asks (``binary_data`` of an output,
``binary_data_output`` of the request).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

HEADER_LENGTH = "Inference-Header-Content-Length"
Parameter = str | int | float | bool
Array = npt.NDArray[Any]

_DTYPES: dict[str, np.dtype[Any]] = {
    "BOOL": np.dtype("bool"),
    "UINT8": np.dtype("u1"),
    "UINT16": np.dtype("<u2"),
    "UINT32": np.dtype("<u4"),
    "UINT64": np.dtype("<u8"),
    "INT8": np.dtype("i1"),
    "INT16": np.dtype("<i2"),
    "INT32": np.dtype("<i4"),
    "INT64": np.dtype("<i8"),
    "FP16": np.dtype("<f2"),
    "FP32": np.dtype("<f4"),
    "FP64": np.dtype("<f8"),
}
_NAMES = {dtype: name for name, dtype in _DTYPES.items()}
_JSON_KINDS = {"b": "b", "u": "iu", "i": "iu", "f": "iuf"}
"""numpy kinds of JSON data accepted for each kind of tensor: no silent truncation of fractions."""


class ProtocolError(ValueError):
    """The request breaks the protocol; the message says what, where and what would be right (HTTP 400)."""


class _Tensor(msgspec.Struct):
    name: str
    shape: list[int]
    datatype: str
    parameters: dict[str, Any] = {}
    data: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET


class _Output(msgspec.Struct):
    name: str
    parameters: dict[str, Any] = {}


class _Header(msgspec.Struct):
    inputs: list[_Tensor]
    id: str = ""
    parameters: dict[str, Any] = {}
    outputs: list[_Output] = []


@dataclass(frozen=True)
class InferRequest:
    """A parsed request.

    Attributes:
        id: client's request id, echoed.
        inputs: arrays by name.
        parameters: request parameters (strings, numbers, booleans).
        outputs: requested outputs, name -> binary; empty for all of them.
        binary_default: whether outputs that were not asked for by name are sent as binary.
    """

    id: str
    inputs: dict[str, Array]
    parameters: dict[str, Parameter]
    outputs: dict[str, bool] = field(default_factory=dict)
    binary_default: bool = False


def parse_request(body: bytes, header_length: int | None = None) -> InferRequest:
    """Decode a request body.

    Args:
        body: the whole body.
        header_length: value of :data:`HEADER_LENGTH`, None if the body is JSON alone.

    Raises:
        ProtocolError.
    """
    length = len(body) if header_length is None else header_length
    if not 0 < length <= len(body):
        raise ProtocolError(f"{HEADER_LENGTH} is {length}, the body has {len(body)} bytes")
    try:
        header = msgspec.json.decode(memoryview(body)[:length], type=_Header)
    except (msgspec.DecodeError, msgspec.ValidationError, UnicodeDecodeError, RecursionError) as error:
        raise ProtocolError(f"request header is not an inference request: {error}") from error
    binary = memoryview(body)[length:]
    inputs: dict[str, Array] = {}
    offset = 0
    for tensor in header.inputs:
        if tensor.name in inputs:
            raise ProtocolError(f"input {tensor.name!r} is given twice")
        size = tensor.parameters.get("binary_data_size")
        if size is None:
            inputs[tensor.name] = _from_json(tensor)
            continue
        if not isinstance(size, int) or isinstance(size, bool) or not 0 <= size <= len(binary) - offset:
            raise ProtocolError(
                f"input {tensor.name!r}: binary_data_size {size!r}, {len(binary) - offset} bytes are left"
            )
        inputs[tensor.name] = _from_binary(tensor, binary[offset : offset + size])
        offset += size
    if offset != len(binary):
        raise ProtocolError(f"{len(binary) - offset} bytes behind the last binary input")
    default = _flag(header.parameters, "binary_data_output", False)
    outputs = {o.name: _flag(o.parameters, "binary_data", default) for o in header.outputs}
    return InferRequest(header.id, inputs, _parameters(header.parameters), outputs, default)


def _parameters(values: dict[str, Any]) -> dict[str, Parameter]:
    for key, value in values.items():
        if not isinstance(value, str | int | float | bool):
            raise ProtocolError(f"parameter {key!r}: a string, number or boolean is needed")
    return dict(values)


def _flag(parameters: dict[str, Any], key: str, default: bool) -> bool:
    value = parameters.get(key, default)
    if not isinstance(value, bool):
        raise ProtocolError(f"parameter {key!r}: true or false is needed, got {value!r}")
    return value


def _layout(tensor: _Tensor) -> tuple[np.dtype[Any], int]:
    dtype = _DTYPES.get(tensor.datatype)
    if dtype is None:
        raise ProtocolError(
            f"input {tensor.name!r}: datatype {tensor.datatype!r} is not one of {', '.join(_DTYPES)}"
        )
    if any(side < 0 for side in tensor.shape) or len(tensor.shape) > 8:
        raise ProtocolError(f"input {tensor.name!r}: shape {tensor.shape} is not valid")
    return dtype, math.prod(tensor.shape)


def _from_binary(tensor: _Tensor, data: memoryview) -> Array:
    dtype, count = _layout(tensor)
    if tensor.data is not msgspec.UNSET:
        raise ProtocolError(f"input {tensor.name!r} has both data and binary_data_size")
    if len(data) != count * dtype.itemsize:
        raise ProtocolError(
            f"input {tensor.name!r}: {len(data)} bytes, shape {tensor.shape} of {tensor.datatype} needs "
            f"{count * dtype.itemsize}"
        )
    if dtype.kind == "b" and count and np.frombuffer(data, np.uint8).max() > 1:
        raise ProtocolError(f"input {tensor.name!r}: BOOL bytes must be 0 or 1")
    return np.frombuffer(data, dtype).reshape(tensor.shape)


def _from_json(tensor: _Tensor) -> Array:
    dtype, count = _layout(tensor)
    if isinstance(tensor.data, msgspec.UnsetType):
        raise ProtocolError(f"input {tensor.name!r} has neither data nor binary_data_size")
    try:
        given = np.array(msgspec.json.decode(tensor.data, type=list[Any]))
    except (msgspec.DecodeError, ValueError, OverflowError, RecursionError) as error:
        raise ProtocolError(f"input {tensor.name!r}: data is not an array: {error}") from error
    if given.size != count:
        raise ProtocolError(
            f"input {tensor.name!r}: {given.size} values, shape {tensor.shape} needs {count}"
        )
    if count and given.dtype.kind not in _JSON_KINDS[dtype.kind]:
        raise ProtocolError(f"input {tensor.name!r}: values do not fit {tensor.datatype}")
    if dtype.kind in "iu" and count:
        limits = np.iinfo(dtype)
        if int(given.min()) < limits.min or int(given.max()) > limits.max:
            raise ProtocolError(
                f"input {tensor.name!r}: {tensor.datatype} holds {limits.min}..{limits.max}"
            )
    with np.errstate(over="ignore"):
        return given.astype(dtype).reshape(tensor.shape)


def build_response(
    request: InferRequest,
    *,
    model: str,
    version: str,
    outputs: dict[str, Array],
    parameters: dict[str, Parameter],
) -> tuple[bytes, dict[str, str]]:
    """Encode an answer.

    Returns:
        (body, headers) with ``Content-Type`` and, if a tensor is binary, :data:`HEADER_LENGTH`.

    Raises:
        ProtocolError: the request asks for an output that the model does not have.
    """
    check_outputs(request, tuple(outputs))
    wanted = request.outputs or dict.fromkeys(outputs, request.binary_default)
    described: list[dict[str, Any]] = []
    chunks: list[bytes] = []
    for name, binary in wanted.items():
        array = outputs[name]
        entry: dict[str, Any] = {
            "name": name,
            "datatype": _NAMES[array.dtype],
            "shape": list(array.shape),
        }
        if binary:
            chunks.append(array.tobytes())
            entry["parameters"] = {"binary_data_size": len(chunks[-1])}
        else:
            entry["data"] = array.ravel().tolist()
        described.append(entry)
    answer = {
        "model_name": model,
        "model_version": version,
        "id": request.id,
        "parameters": parameters,
        "outputs": described,
    }
    header = msgspec.json.encode(answer)
    if not chunks:
        return header, {"Content-Type": "application/json"}
    headers = {"Content-Type": "application/octet-stream", HEADER_LENGTH: str(len(header))}
    return b"".join((header, *chunks)), headers


def check_outputs(request: InferRequest, known: tuple[str, ...]) -> None:
    """Raise ProtocolError if ``request`` asks for an output that is not in ``known``."""
    for name in request.outputs:
        if name not in known:
            raise ProtocolError(f"output {name!r} is not known; the model gives {', '.join(known)}")


def take_input(request: InferRequest, name: str, datatype: str) -> Array | None:
    """Input ``name`` if it is there.

    Raises:
        ProtocolError: it has another datatype.
    """
    array = request.inputs.get(name)
    if array is not None and array.dtype != _DTYPES[datatype]:
        raise ProtocolError(f"input {name!r}: {datatype} is needed, got {_NAMES[array.dtype]}")
    return array
