"""What all routes share: bounded bodies, MessagePack in and out, JSON errors."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import msgspec
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from codec_runtime.bundle.errors import SlowTransferError
from codec_runtime.contract.paths import MESSAGEPACK
from codec_runtime.serving.runtime import Runtime

BodyT = TypeVar("BodyT")
RETRY_AFTER_S = 1


class BadBodyError(ValueError):
    """The body does not decode to the message of this endpoint (HTTP 400)."""


class BodyTooLargeError(ValueError):
    """The body exceeds its limit (HTTP 413)."""


def runtime_of(request: Request) -> Runtime:
    runtime: Runtime = request.app.state.runtime
    return runtime


def error(status: int, message: str, **headers: str) -> Response:
    """``{"error": message}``, the error body of the Open Inference Protocol."""
    return JSONResponse({"error": message}, status, headers)


def refusal(status: int, cause: Exception) -> Response:
    """As :func:`error`, and ``name``: the class of the refusal, which is what metrics and alarms call it."""
    return JSONResponse({"error": str(cause), "name": type(cause).__name__}, status)


def messagepack(message: Any, status: int = 200) -> Response:
    return Response(msgspec.msgpack.encode(message), status, media_type=MESSAGEPACK)


async def receive(request: Request, limit: int, take: Callable[[bytes], Awaitable[object]]) -> int:
    """Hand the body piece by piece to ``take``; returns its length.

    Raises:
        BodyTooLargeError: longer than ``limit`` bytes; no more than that is taken.
        BadBodyError: it is compressed.
        SlowTransferError: nothing came for ``body_stall_s``, or less than ``body_min_bytes_per_s`` on average
            after that long.
    """
    encoding = request.headers.get("content-encoding", "identity")
    if encoding != "identity":
        raise BadBodyError(f"content-encoding {encoding} is not supported; send the body as it is")
    announced = request.headers.get("content-length", "")
    if announced.isdigit() and int(announced) > limit:
        raise BodyTooLargeError(f"body of {announced} bytes; at most {limit} are accepted")
    size = 0
    settings = runtime_of(request).settings
    stall, rate = settings.body_stall_s, settings.body_min_bytes_per_s
    clock = asyncio.get_running_loop().time
    started = clock()
    try:
        async with asyncio.timeout(stall) as timer:
            async for chunk in request.stream():
                size += len(chunk)
                if size > limit:
                    raise BodyTooLargeError(f"body of more than {limit} bytes")
                await take(chunk)
                timer.reschedule(min(clock() + stall, started + stall + size / rate))
    except TimeoutError as cause:
        raise SlowTransferError(
            f"{size} bytes in {clock() - started:.1f} s: at least {rate} bytes/s are needed, without pauses"
        ) from cause
    return size


async def read_body(request: Request, limit: int) -> bytes:
    """The whole body; errors as of :func:`receive`, and no more than ``limit`` bytes are kept in memory."""
    chunks: list[bytes] = []

    async def keep(chunk: bytes) -> None:
        chunks.append(chunk)

    await receive(request, limit, keep)
    return b"".join(chunks)


async def read_message(request: Request, kind: type[BodyT]) -> BodyT:
    """The body as one MessagePack message of type ``kind``.

    Raises:
        BadBodyError, BodyTooLargeError.
    """
    body = await read_body(request, runtime_of(request).settings.max_request_bytes)
    try:
        return msgspec.msgpack.decode(body, type=kind)
    except (msgspec.DecodeError, msgspec.ValidationError, UnicodeDecodeError) as cause:
        raise BadBodyError(f"{request.url.path}: body is not its MessagePack message: {cause}") from cause
