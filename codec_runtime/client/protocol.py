"""Open Inference Protocol from the client's side: arrays -> request, answer -> arrays. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from codec_runtime.client.errors import BadAnswerError

HEADER_LENGTH = "Inference-Header-Content-Length"
Parameter = str | int | float | bool
Array = NDArray[Any]

_DTYPES: dict[str, np.dtype[Any]] = {
    "UINT8": np.dtype("u1"),
    "INT32": np.dtype("<i4"),
    "INT64": np.dtype("<i8"),
    "FP32": np.dtype("<f4"),
}
_NAMES = {dtype: name for name, dtype in _DTYPES.items()}


@dataclass(frozen=True)
class InferAnswer:
    """Outputs by name and response parameters."""

    outputs: dict[str, Array]
    parameters: dict[str, Parameter]


class _Output(msgspec.Struct):
    name: str
    shape: list[int]
    datatype: str
    parameters: dict[str, Any] = {}


class _Header(msgspec.Struct):
    outputs: list[_Output]
    parameters: dict[str, Parameter] = {}


def build_request(
    inputs: Mapping[str, Array], outputs: Sequence[str], parameters: Mapping[str, Parameter]
) -> tuple[bytes, dict[str, str]]:
    """Body and headers of a request with every tensor in binary, both ways.

    Args:
        outputs: wanted, by name; empty: all that the model gives.

    Raises:
        ValueError: an input is none of uint8, int32, int64 and float32.
    """
    described: list[dict[str, Any]] = []
    chunks: list[bytes] = []
    for name, array in inputs.items():
        datatype = _NAMES.get(array.dtype)
        if datatype is None:
            raise ValueError(f"input {name!r}: {array.dtype} is none of {', '.join(_NAMES.values())}")
        chunks.append(array.tobytes())
        described.append({
            "name": name, "shape": list(array.shape), "datatype": datatype,
            "parameters": {"binary_data_size": len(chunks[-1])},
        })
    header = msgspec.json.encode({
        "parameters": {**parameters, "binary_data_output": True},
        "inputs": described,
        "outputs": [{"name": name, "parameters": {"binary_data": True}} for name in outputs],
    })
    headers = {"Content-Type": "application/octet-stream", HEADER_LENGTH: str(len(header))}
    return b"".join((header, *chunks)), headers


def parse_answer(body: bytes, header_length: str | None) -> InferAnswer:
    """Decode an answer.

    Args:
        header_length: value of the header :data:`HEADER_LENGTH`.

    Raises:
        BadAnswerError: not an answer with binary tensors; says what is wrong.
    """
    try:
        length = int(header_length or "")
        if not 0 < length <= len(body):
            raise ValueError(f"{HEADER_LENGTH} {length} with a body of {len(body)} bytes")
        header = msgspec.json.decode(memoryview(body)[:length], type=_Header)
        outputs: dict[str, Array] = {}
        offset = length
        for output in header.outputs:
            dtype = _DTYPES.get(output.datatype)
            if dtype is None or any(side < 0 for side in output.shape):
                raise ValueError(f"output {output.name!r}: {output.datatype!r} of shape {output.shape}")
            count = math.prod(output.shape)
            size = output.parameters.get("binary_data_size")
            if size != count * dtype.itemsize or offset + count * dtype.itemsize > len(body):
                raise ValueError(f"output {output.name!r}: {size} bytes, its shape has {count} values")
            outputs[output.name] = np.frombuffer(body, dtype, count, offset).reshape(output.shape)
            offset += count * dtype.itemsize
        if offset != len(body):
            raise ValueError(f"{len(body) - offset} bytes behind the last output")
    except (ValueError, msgspec.MsgspecError, RecursionError) as error:
        raise BadAnswerError(f"unreadable answer of the site: {error}") from error
    return InferAnswer(outputs, header.parameters)
