"""Asynchronous client of the runtime's ``encode`` and ``decode`` models (Open Inference Protocol, binary
tensors).

Building a request and parsing an answer are pure functions; :class:`CodecClient` does the I/O, one attempt
a call. Retrying is the caller's: :func:`with_retries`.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

import httpx
import msgspec
import numpy as np
from numpy.typing import NDArray

HEADER_LENGTH = "Inference-Header-Content-Length"
Parameter = str | int | float | bool
Array = NDArray[Any]
Codec = Literal["semantic", "jpeg", "heic"]
ResultT = TypeVar("ResultT")

_DTYPES: dict[str, np.dtype[Any]] = {
    "UINT8": np.dtype("u1"),
    "INT32": np.dtype("<i4"),
    "FP32": np.dtype("<f4"),
}
_NAMES = {dtype: name for name, dtype in _DTYPES.items()}
_CODECS: dict[str, Codec] = {"semantic": "semantic", "jpeg": "jpeg", "heic": "heic"}
_FINAL_STATUS = frozenset({400, 401, 403, 405, 411, 413, 415, 422})


class InferenceError(RuntimeError):
    """A request that was not answered as asked.

    Attributes:
        retriable: whether the same request may succeed later (runtime away, overloaded, model being
            replaced).
        decoder: family and version that should have restored the picture, where that was known.
    """

    def __init__(self, message: str, *, retriable: bool, decoder: tuple[str, int] = ("", 0)) -> None:
        super().__init__(message)
        self.retriable = retriable
        self.decoder = decoder


@dataclass(frozen=True)
class Answer:
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
    inputs: Mapping[str, Array], parameters: Mapping[str, Parameter]
) -> tuple[bytes, dict[str, str]]:
    """Body and headers of a request for all outputs, with every tensor in binary.

    Raises:
        ValueError: an array is not of a type that the codec models take (uint8, int32, float32).
    """
    described: list[dict[str, Any]] = []
    chunks: list[bytes] = []
    for name, array in inputs.items():
        datatype = _NAMES.get(array.dtype)
        if datatype is None:
            raise ValueError(f"input {name!r}: {array.dtype} is none of {', '.join(_NAMES.values())}")
        chunks.append(array.tobytes())
        described.append(
            {
                "name": name,
                "shape": list(array.shape),
                "datatype": datatype,
                "parameters": {"binary_data_size": len(chunks[-1])},
            }
        )
    header = msgspec.json.encode(
        {
            "parameters": {**parameters, "binary_data_output": True},
            "inputs": described,
        }
    )
    headers = {"Content-Type": "application/octet-stream", HEADER_LENGTH: str(len(header))}
    return b"".join((header, *chunks)), headers


def parse_answer(body: bytes, header_length: str | None) -> Answer:
    """Decode a response body.

    Args:
        body: the whole body.
        header_length: value of the header :data:`HEADER_LENGTH`.

    Raises:
        InferenceError: not an answer with binary tensors; says what is wrong. Never retriable.
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
            if dtype is None:
                raise ValueError(f"output {output.name!r} has datatype {output.datatype!r}")
            if any(side < 0 for side in output.shape):
                raise ValueError(f"output {output.name!r} has shape {output.shape}")
            size = output.parameters.get("binary_data_size")
            expected = math.prod(output.shape) * dtype.itemsize
            if size != expected or offset + expected > len(body):
                raise ValueError(f"output {output.name!r}: {size} bytes, its shape needs {expected}")
            raw = np.frombuffer(body, dtype, math.prod(output.shape), offset)
            outputs[output.name] = raw.reshape(output.shape)
            offset += expected
        if offset != len(body):
            raise ValueError(f"{len(body) - offset} bytes behind the last output")
    except (ValueError, msgspec.MsgspecError) as error:
        raise InferenceError(f"unreadable answer of the runtime: {error}", retriable=False) from error
    return Answer(outputs, header.parameters)


@dataclass(frozen=True)
class Encoded:
    """What ``encode`` answered: the directive in force, and the symbols or a conventional file.

    Attributes:
        symbols: (B, K, h, w) float32, unit complex power per image; none with a conventional codec.
        prefix, snr_db: of the first picture.
        codec: ``semantic``, or that of ``data``; decoder and versions then say nothing.
        data: a file, in as many bytes as the symbols carry at ``snr_db``.
    """

    symbols: NDArray[np.float32]
    prefix: int
    snr_db: float
    decoder: str
    decoder_version: int
    encoder_version: int
    codec: Codec = "semantic"
    data: bytes = b""


@dataclass(frozen=True)
class DecoderChoice:
    """Which decoder restores, and for which encoder's symbols; ``side`` is the picture's in pixels."""

    decoder: str
    decoder_version: int
    encoder_version: int
    side: int


class CodecClient:
    """Encode and decode through a runtime.

    Args:
        http: client whose base URL is the runtime.
        timeout_s: of one request, from connect to the last byte.
    """

    def __init__(self, http: httpx.AsyncClient, timeout_s: float = 10.0) -> None:
        self._http = http
        self._timeout_s = timeout_s
        self.answered = 0
        self.reachable = True

    async def infer(
        self,
        model: str,
        inputs: Mapping[str, Array],
        outputs: tuple[str, ...],
        parameters: Mapping[str, Parameter],
    ) -> Answer:
        """One attempt; one of ``outputs`` is in the answer.

        Raises:
            InferenceError.
        """
        body, headers = build_request(inputs, parameters)
        try:
            async with asyncio.timeout(self._timeout_s):
                response = await self._http.post(f"/v2/models/{model}/infer", content=body, headers=headers)
        except (httpx.HTTPError, TimeoutError) as error:
            self.reachable = False
            raise InferenceError(
                f"runtime did not answer {model}: {error or type(error).__name__}", retriable=True
            ) from error
        self.reachable = True
        if response.status_code != 200:
            raise InferenceError(
                f"runtime refused {model}: HTTP {response.status_code}: {response.text[:300]}",
                retriable=response.status_code not in _FINAL_STATUS,
            )
        answer = parse_answer(response.content, response.headers.get(HEADER_LENGTH))
        if not any(output in answer.outputs for output in outputs):
            named = " or ".join(map(repr, outputs))
            raise InferenceError(f"{model}: the answer has no output {named}", retriable=False)
        self.answered += 1
        return answer

    async def encode(
        self,
        pictures: NDArray[np.uint8],
        *,
        user: str = "",
        snr_db: NDArray[np.float32] | None = None,
        prefix: NDArray[np.int32] | None = None,
        encoder_version: int | None = None,
    ) -> Encoded:
        """Encode (B, H, W, 3) pictures under the user's directive, or as the other arguments say.

        A user on a conventional codec sends one picture at a time.

        Raises:
            InferenceError.
        """
        inputs: dict[str, Array] = {"image": np.ascontiguousarray(pictures.transpose(0, 3, 1, 2))}
        if snr_db is not None:
            inputs["snr_db"] = snr_db
        if prefix is not None:
            inputs["prefix"] = prefix
        parameters: dict[str, Parameter] = {}
        if user:
            parameters["user"] = user
        if encoder_version is not None:
            parameters["encoder_version"] = encoder_version
        answer = await self.infer("encode", inputs, ("symbols", "bytes"), parameters)
        given = answer.parameters
        file = answer.outputs.get("bytes")
        try:
            encoded = Encoded(
                symbols=answer.outputs.get("symbols", np.zeros((0, 0, 0, 0), np.float32)),
                prefix=int(given["prefix"]),
                snr_db=float(given["snr_db"]),
                decoder=str(given["decoder"]),
                decoder_version=int(given["decoder_version"]),
                encoder_version=int(given["encoder_version"]),
                codec=_CODECS[str(given.get("codec", "semantic"))],
                data=b"" if file is None else file.tobytes(),
            )
        except (KeyError, ValueError) as error:
            raise InferenceError(
                f"encode: response parameter missing or wrong: {error}", retriable=False
            ) from error
        if encoded.codec != "semantic":
            if not encoded.data:
                raise InferenceError(f"encode: codec {encoded.codec} without bytes", retriable=False)
            return encoded
        shape = encoded.symbols.shape
        if len(shape) != 4 or shape[0] != len(pictures) or not 1 <= encoded.prefix <= shape[1]:
            raise InferenceError(
                f"encode: symbols {shape} for {len(pictures)} pictures, prefix {encoded.prefix}",
                retriable=False,
            )
        return encoded

    async def decode(
        self,
        symbols: NDArray[np.float32],
        snr_db: NDArray[np.float32],
        prefix: NDArray[np.int32],
        choice: DecoderChoice,
    ) -> NDArray[np.uint8]:
        """Restore (B, side, side, 3) pictures from (B, K, h, w) received symbols; SNR and prefix are (B,).

        Raises:
            InferenceError.
        """
        answer = await self.infer(
            "decode",
            {"symbols": symbols, "snr_db": snr_db, "prefix": prefix},
            ("image",),
            {
                "decoder": choice.decoder,
                "decoder_version": choice.decoder_version,
                "encoder_version": choice.encoder_version,
                "height": choice.side,
                "width": choice.side,
            },
        )
        image = answer.outputs["image"]
        wanted = (len(symbols), 3, choice.side, choice.side)
        if image.shape != wanted or image.dtype != np.uint8:
            raise InferenceError(f"decode: image {image.shape}, {wanted} was asked for", retriable=False)
        return np.ascontiguousarray(image.transpose(0, 2, 3, 1))


async def with_retries(
    attempt: Callable[[], Awaitable[ResultT]],
    *,
    budget_s: float,
    on_retry: Callable[[InferenceError], None] = lambda _: None,
    backoff_s: tuple[float, float] = (0.2, 2.0),
) -> ResultT:
    """Repeat ``attempt`` while it fails with a retriable error, waiting longer each time.

    Args:
        budget_s: no further attempt is begun later than this after the first.
        on_retry: called with the error before each further attempt.
        backoff_s: first and longest wait.

    Raises:
        InferenceError: not retriable, or the budget is used up.
    """
    deadline = time.monotonic() + budget_s
    wait = backoff_s[0]
    while True:
        try:
            return await attempt()
        except InferenceError as error:
            left = deadline - time.monotonic()
            if not error.retriable or left <= 0.0:
                raise
            on_retry(error)
            await asyncio.sleep(min(wait, left))
            wait = min(2.0 * wait, backoff_s[1])
