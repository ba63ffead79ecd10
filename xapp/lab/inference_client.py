"""Asynchronous client of the runtime's ``encode`` and ``decode`` models (Open Inference Protocol, binary
tensors).

:class:`CodecClient` makes one attempt a call. Retrying is the caller's: :func:`with_retries`.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Literal, TypeVar

import httpx
import msgspec
import numpy as np
from numpy.typing import NDArray

from codec_runtime.client.errors import BadAnswerError
from codec_runtime.client.protocol import (
    HEADER_LENGTH,
    Array,
    InferAnswer,
    Parameter,
    build_request,
    parse_answer,
)
from codec_runtime.contract import paths
from codec_runtime.contract.updates import SiteStatus

Codec = Literal["semantic", "jpeg", "heic"]
ResultT = TypeVar("ResultT")

_CODECS: dict[str, Codec] = {"semantic": "semantic", "jpeg": "jpeg", "heic": "heic"}
_FINAL_STATUS = frozenset({400, 401, 403, 405, 411, 413, 415, 422})


class InferenceError(RuntimeError):
    """A request that was not answered as asked.

    Attributes:
        retriable: whether the same request may succeed later (runtime away, overloaded, model being
            replaced).
        status: HTTP status of the refusal, 0 where nothing was answered.
        decoder: family and version that should have restored the picture, where that was known.
    """

    def __init__(
        self, message: str, *, retriable: bool, status: int = 0, decoder: tuple[str, int] = ("", 0)
    ) -> None:
        super().__init__(message)
        self.retriable = retriable
        self.status = status
        self.decoder = decoder


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
    ) -> InferAnswer:
        """One attempt; one of ``outputs`` is in the answer.

        Raises:
            InferenceError.
        """
        body, headers = build_request(inputs, (), parameters)
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
                status=response.status_code,
            )
        try:
            answer = parse_answer(response.content, response.headers.get(HEADER_LENGTH))
        except BadAnswerError as error:
            raise InferenceError(f"{model}: {error}", retriable=False) from error
        if not any(output in answer.outputs for output in outputs):
            named = " or ".join(map(repr, outputs))
            raise InferenceError(f"{model}: the answer has no output {named}", retriable=False)
        self.answered += 1
        return answer

    async def site(self) -> SiteStatus:
        """What the runtime serves now.

        Raises:
            InferenceError: it does not answer, or not in this contract.
        """
        try:
            async with asyncio.timeout(self._timeout_s):
                response = await self._http.get(paths.SITE)
            response.raise_for_status()
            return msgspec.msgpack.decode(response.content, type=SiteStatus)
        except (httpx.HTTPError, TimeoutError) as error:
            raise InferenceError(
                f"runtime did not say what it serves: {error or type(error).__name__}", retriable=True
            ) from error
        except msgspec.MsgspecError as error:
            raise InferenceError(f"unreadable status of the runtime: {error}", retriable=False) from error

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
