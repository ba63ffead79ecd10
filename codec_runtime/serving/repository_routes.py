"""``/v2/repository``: the index of models and bundles; load and unload under the trust model of updates."""

from __future__ import annotations

import asyncio

import msgspec
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from codec_runtime.bundle.store import find_bundles
from codec_runtime.contract.updates import ActivationRequest
from codec_runtime.serving.codec_models import MODEL_INPUTS, versions_of
from codec_runtime.serving.http import BadBodyError, error, read_body, runtime_of
from codec_runtime.serving.registry import UnknownModelError
from codec_runtime.serving.repository import (
    BundleKey,
    UnloadRefusedError,
    bundle_key,
    bundles_of_targets,
    loaded_bundles,
    repository_index,
    split_bundle_model,
)
from codec_runtime.serving.runtime import Runtime

_BODY_LIMIT = 1 << 16
_NOT_FOUND = ("MissingFileError", "MissingTargetError")


class _Control(msgspec.Struct):
    parameters: dict[str, msgspec.Raw] = {}


class _Index(msgspec.Struct):
    ready: bool = False


def _installed(runtime: Runtime) -> set[BundleKey]:
    store = runtime.activations.store
    keys = (bundle_key(str(place.relative_to(store))) for place in find_bundles(store))
    return {key for key in keys if key is not None}


def _present(runtime: Runtime) -> set[BundleKey]:
    return _installed(runtime) | bundles_of_targets(runtime.inbox.targets())


async def index(request: Request) -> Response:
    runtime = runtime_of(request)
    body = await read_body(request, _BODY_LIMIT)
    try:
        wanted = msgspec.json.decode(body or b"{}", type=_Index)
    except (msgspec.DecodeError, msgspec.ValidationError, UnicodeDecodeError, RecursionError) as cause:
        raise BadBodyError(f"body: {cause}") from cause
    installed = await asyncio.to_thread(_installed, runtime)
    models = runtime.models
    entries = repository_index({m: versions_of(m, models) for m in MODEL_INPUTS}, models, installed)
    return JSONResponse([e for e in entries if not wanted.ready or e["state"] == "READY"])


async def load(request: Request) -> Response:
    runtime = runtime_of(request)
    named = await _control(request)
    if isinstance(named, Response):
        return named
    kind, name, version = named
    loaded = {v for k, n, v in loaded_bundles(runtime.models) if (k, n) == (kind, name)}
    if version is None:
        there = await asyncio.to_thread(_present, runtime)
        version = max(loaded.union(v for k, n, v in there if (k, n) == (kind, name)), default=None)
        if version is None:
            return error(404, f"no bundle {kind}.{name} is installed or in the inbox")
    if version in loaded:
        return JSONResponse({})
    report = await runtime.activate(ActivationRequest(bundles=[f"{kind}/{name}/{version}"]))
    if report.outcome == "refused":
        status = 404 if report.error in _NOT_FOUND else 400
        return JSONResponse({"error": f"{report.error}: {report.detail}", "name": report.error}, status)
    return JSONResponse({})


async def unload(request: Request) -> Response:
    runtime = runtime_of(request)
    named = await _control(request)
    if isinstance(named, Response):
        return named
    kind, name, version = named
    if version is None:
        return error(400, f"which version of {kind}.{name}? Name it in the query: unload?version=2")
    if kind != "decoder":
        return error(409, f"{kind}.{name}: only decoder versions are unloaded; decoders need their encoder")
    try:
        await runtime.activations.unload(name, version)
    except UnknownModelError as cause:
        return error(404, str(cause))
    except UnloadRefusedError as cause:
        return error(409, str(cause))
    return JSONResponse({})


async def _control(request: Request) -> tuple[str, str, int | None] | Response:
    """(kind, name, version) of a load or unload, or the refusal of a malformed one."""
    model, text = request.path_params["model"], request.query_params.get("version")
    named = split_bundle_model(model)
    if named is None:
        known = ", ".join(MODEL_INPUTS)
        return error(400, f"model {model[:80]!r}: bundles are loaded and unloaded, <kind>.<name> as in the "
                          f"index; {known} are there while one is")
    if text is not None and not (text.isascii() and text.isdigit() and 0 < len(text) < 10):
        return error(400, f"version {text[:20]!r}: a number is needed")
    body = await read_body(request, _BODY_LIMIT)
    try:
        control = msgspec.json.decode(body or b"{}", type=_Control)
    except (msgspec.DecodeError, msgspec.ValidationError, UnicodeDecodeError, RecursionError) as cause:
        raise BadBodyError(f"body: {cause}") from cause
    unknown = sorted(set(control.parameters) - {"unload_dependents"})
    if unknown:
        return error(400, f"parameter {unknown[0]!r} is not taken: a model comes from a signed bundle")
    return *named, None if text is None else int(text)


def repository_routes() -> list[Route]:
    """Routes of the model repository extension."""
    return [
        Route("/v2/repository/index", index, methods=["POST"]),
        Route("/v2/repository/models/{model}/load", load, methods=["POST"]),
        Route("/v2/repository/models/{model}/unload", unload, methods=["POST"]),
    ]
