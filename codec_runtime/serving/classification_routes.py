"""What devices read: their directive, graphs, heads, and the signed metadata to trust a head by.

Nothing here changes the site. A device verifies what it takes from here, so none of it is vouched for.
"""

from __future__ import annotations

import asyncio

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from codec_runtime.bundle.errors import BundleError, RefusalError
from codec_runtime.contract import paths
from codec_runtime.contract.bundle import MANIFEST_FILE
from codec_runtime.contract.directives import UserDirectives
from codec_runtime.serving.directives import MAX_USER_LENGTH
from codec_runtime.serving.http import BadBodyError, error, messagepack, refusal, runtime_of
from codec_runtime.serving.registry import UnknownModelError
from codec_runtime.serving.runtime import Runtime

_BYTES = "application/octet-stream"


async def get_directives(request: Request) -> Response:
    user = request.query_params.get("user", "")
    if not 0 < len(user) <= MAX_USER_LENGTH:
        raise BadBodyError(f"user: 1..{MAX_USER_LENGTH} characters are needed")
    table = runtime_of(request).directives
    return messagepack(UserDirectives(user=user, codec=table.in_force(user), split=table.splits.of(user)))


async def get_graph(request: Request) -> Response:
    runtime = runtime_of(request)
    graph = runtime.classification.graph(runtime.models, request.path_params["digest"])
    return error(404, "no classifier with that graph is served") if graph is None else messagepack(graph)


async def get_metadata_names(request: Request) -> Response:
    return messagepack(await asyncio.to_thread(runtime_of(request).inbox.metadata))


async def get_metadata(request: Request) -> Response:
    def read() -> bytes | None:
        path = runtime_of(request).inbox.read("metadata", request.path_params["name"])
        return None if path is None else path.read_bytes()

    try:
        data = await asyncio.to_thread(read)
    except RefusalError as cause:
        return refusal(400, cause)
    except FileNotFoundError:  # replaced by a newer one in this moment
        data = None
    return error(404, "no such metadata") if data is None else Response(data, media_type=_BYTES)


async def get_manifest(request: Request) -> Response:
    classifier = runtime_of(request).models.classifiers.get(_classifier(request))
    if classifier is None:
        return error(404, "no such classifier is served")
    try:
        data = await asyncio.to_thread((classifier.directory / MANIFEST_FILE).read_bytes)
    except FileNotFoundError:
        return error(404, "that version has been removed")
    return Response(data, media_type=_BYTES)


async def get_head(request: Request) -> Response:
    runtime: Runtime = runtime_of(request)
    try:
        network, version = _classifier(request)
        cut = request.path_params["cut"]
        data = await asyncio.to_thread(
            runtime.classification.head, runtime.models, network, version, cut
        )
    except UnknownModelError as cause:
        return refusal(404, cause)
    except BundleError as cause:
        return refusal(500, cause)
    return Response(data, media_type=_BYTES)


def _classifier(request: Request) -> tuple[str, int]:
    return request.path_params["network"], request.path_params["version"]


def classification_routes() -> list[Route]:
    """Routes below ``/semcom/v1`` that devices read."""
    classifier = f"{paths.CLASSIFIERS}/{{network}}/{{version:int}}"
    return [
        Route(paths.DIRECTIVES, get_directives, methods=["GET"]),
        Route(f"{paths.GRAPHS}/{{digest}}", get_graph, methods=["GET"]),
        Route(paths.TRUST, get_metadata_names, methods=["GET"]),
        Route(f"{paths.TRUST}/{{name}}", get_metadata, methods=["GET"]),
        Route(f"{classifier}/manifest", get_manifest, methods=["GET"]),
        Route(f"{classifier}/heads/{{cut}}", get_head, methods=["GET"]),
    ]
