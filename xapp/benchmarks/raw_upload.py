"""The reference of `semcom bench push`: a program that takes uploads over HTTP and checks their sha256.

``python -m xapp.benchmarks.raw_upload PORT FOLDER``: ``PUT /<sha256>`` is hashed while it comes, written,
flushed to disk, renamed to its hash, and the name flushed: what a careful upload does at least.
The same HTTP server as the codec runtime's.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import sys
from pathlib import Path

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from codec_runtime.bundle.durable import make_durable


def create_app(folder: Path) -> Starlette:
    """The server, which keeps what it is sent in ``folder``."""

    async def upload(request: Request) -> Response:
        digest = hashlib.sha256()
        temporary = folder / "upload"
        with temporary.open("wb") as file:
            async for piece in request.stream():
                digest.update(piece)
                file.write(piece)
            file.flush()
            await asyncio.to_thread(os.fsync, file.fileno())
        if digest.hexdigest() != request.path_params["digest"]:
            return Response("another sha256", 422)
        temporary.replace(folder / digest.hexdigest())
        await asyncio.to_thread(make_durable, [folder])
        return Response(status_code=204)

    async def ready(request: Request) -> Response:
        return Response(status_code=204)

    return Starlette(
        routes=[Route("/ready", ready, methods=["GET"]), Route("/{digest}", upload, methods=["PUT"])]
    )


def main(arguments: list[str]) -> None:
    """Serve until terminated."""
    app = create_app(Path(arguments[1]))
    uvicorn.run(
        app, port=int(arguments[0]), loop="uvloop", http="httptools", ws="none", access_log=False,
        log_level="warning",
    )


if __name__ == "__main__":
    main(sys.argv[1:])
