"""``/semcom/v1/inbox``: what the site has, whole files and chunks of targets put into it.

While inference requests pile up (:meth:`Runtime.busy`) files are put off with 429 and ``Retry-After`` before
their body is read: users go first. A chunk goes to disk as it comes, outside of the event loop; no more than
two pieces of it are in memory.
"""

from __future__ import annotations

import asyncio

from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from codec_runtime.bundle.errors import (
    FileTooLargeError,
    InboxFullError,
    LengthOrHashMismatchError,
    RefusalError,
    SlowTransferError,
    SupersededTransferError,
    UnsafePathError,
)
from codec_runtime.bundle.inbox import Area
from codec_runtime.bundle.partial import Chunk
from codec_runtime.bundle.refusals import storage_refusal
from codec_runtime.contract import paths
from codec_runtime.contract.ranges import CONTENT_RANGE, UPLOAD_OFFSET, ContentRangeError, parse_range
from codec_runtime.contract.updates import ActivationRequest
from codec_runtime.serving.http import (
    BadBodyError,
    BodyTooLargeError,
    error,
    messagepack,
    read_body,
    receive,
    refusal,
    runtime_of,
)
from codec_runtime.serving.runtime import Runtime

_STATUS: dict[type[Exception], int] = {
    BadBodyError: 400,
    ContentRangeError: 400,
    UnsafePathError: 400,
    SlowTransferError: 408,
    SupersededTransferError: 409,
    BodyTooLargeError: 413,
    FileTooLargeError: 413,
    LengthOrHashMismatchError: 422,
    InboxFullError: 507,
}
"""HTTP status of a file that the inbox refuses; 507 for a disk that is full or fails."""
_PIECE = 1 << 20
"""Bytes that go to disk at once."""


async def get_inbox(request: Request) -> Response:
    runtime = runtime_of(request)
    return messagepack(await runtime.beside_users(runtime.listing))


async def put_metadata(request: Request) -> Response:
    return await _put(request, "metadata")


async def put_target(request: Request) -> Response:
    return await _put(request, "targets")


async def _put(request: Request, area: Area) -> Response:
    runtime = runtime_of(request)
    if runtime.busy():
        runtime.metrics.inbox_files.labels("put off").inc()
        retry_after = str(runtime.inference.retry_after_s())
        return error(429, "inference requests go first", **{"Retry-After": retry_after})
    try:
        if area == "targets" and CONTENT_RANGE in request.headers:
            return await _put_chunk(request, runtime)
        name = request.path_params["name"]
        body = await read_body(request, runtime.settings.inbox_max_file_bytes)
        await runtime.beside_users(runtime.inbox.put, area, name, body)
        runtime.metrics.inbox_files.labels("stored").inc()
        return Response(status_code=204)
    except (RefusalError, ContentRangeError, BadBodyError, BodyTooLargeError, OSError) as cause:
        return _refused(runtime, cause)


async def store_files(runtime: Runtime, wanted: ActivationRequest) -> Response | None:
    """Put the files that come with an activation into the inbox; the answer if it does not take one."""
    files: list[tuple[Area, str, bytes]] = [("targets", *file) for file in wanted.targets.items()]
    files += [("metadata", *file) for file in wanted.metadata.items()]
    try:
        if files:
            await runtime.beside_users(runtime.inbox.put_all, files)
            runtime.metrics.inbox_files.labels("stored").inc(len(files))
    except (RefusalError, OSError) as cause:
        return _refused(runtime, cause)
    return None


def _refused(runtime: Runtime, cause: Exception) -> Response:
    refused = storage_refusal(cause) if isinstance(cause, OSError) else cause
    runtime.metrics.inbox_files.labels("refused").inc()
    runtime.metrics.update_refusals.labels("inbox", type(refused).__name__).inc()
    return refusal(_STATUS.get(type(refused), 507), refused)


async def _put_chunk(request: Request, runtime: Runtime) -> Response:
    span = parse_range(request.headers[CONTENT_RANGE])
    chunk = await runtime.beside_users(runtime.inbox.begin_chunk, request.path_params["name"], span)
    if not chunk.wanted:
        status = 204 if span.last < chunk.offset else 416
        return Response(status_code=status, headers={UPLOAD_OFFSET: str(chunk.offset)})
    try:
        received = await _store(request, runtime, chunk, span.size)
        if received < span.size:
            raise BadBodyError(f"body of {received} bytes, {CONTENT_RANGE} says {span.size}")
        offset = await runtime.beside_users(chunk.finish)
    except BaseException as cause:
        await runtime.beside_users(chunk.close)
        if not isinstance(cause, ClientDisconnect):
            raise
        runtime.metrics.inbox_files.labels("cut off").inc()
        return Response(status_code=400)  # nobody is left to read it
    if offset == span.total:
        runtime.metrics.inbox_files.labels("stored").inc()
    return Response(status_code=204, headers={UPLOAD_OFFSET: str(offset)})


async def _store(request: Request, runtime: Runtime, chunk: Chunk, limit: int) -> int:
    """Bytes received; they are on disk also where this raises."""
    spool = _Spool(runtime, chunk)
    try:
        return await receive(request, limit, spool.take)
    finally:
        await spool.flush()


class _Spool:
    """Gathers what comes from the network to pieces worth a thread's while, one of which is being written."""

    def __init__(self, runtime: Runtime, chunk: Chunk) -> None:
        self._runtime = runtime
        self._chunk = chunk
        self._parts: list[bytes] = []
        self._size = 0
        self._writing: asyncio.Future[None] | None = None

    async def take(self, data: bytes) -> None:
        self._parts.append(data)
        self._size += len(data)
        if self._size >= _PIECE:
            await self._write()

    async def flush(self) -> None:
        """All is written when this returns; raises what writing raised."""
        await self._write()
        await self._written()

    async def _write(self) -> None:
        await self._written()
        if self._parts:
            parts, self._parts, self._size = self._parts, [], 0
            self._writing = asyncio.ensure_future(self._runtime.beside_users(self._chunk.append, *parts))

    async def _written(self) -> None:
        writing, self._writing = self._writing, None
        if writing is not None:
            await asyncio.shield(writing)


def inbox_routes() -> list[Route]:
    """Routes below ``/semcom/v1/inbox``."""
    return [
        Route(paths.INBOX, get_inbox, methods=["GET"]),
        Route(f"{paths.INBOX}/metadata/{{name:path}}", put_metadata, methods=["PUT"]),
        Route(f"{paths.INBOX}/targets/{{name:path}}", put_target, methods=["PUT"]),
    ]
