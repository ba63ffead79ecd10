"""``/v2``: Open Inference Protocol over HTTP. Stock clients (tritonclient[http]) work unchanged."""

from __future__ import annotations

import asyncio
import time
from functools import partial
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from codec_runtime import __version__
from codec_runtime.bundle.errors import MixedPairError
from codec_runtime.serving.alignment import ALIGN, KnowledgeMismatchError, run_align
from codec_runtime.serving.batching import Work
from codec_runtime.serving.classification import CLASSIFY_TAIL, WrongFeaturesError, run_classify
from codec_runtime.serving.codec_models import (
    MODEL_INPUTS,
    MODEL_OUTPUTS,
    PLATFORM,
    Limits,
    Result,
    integer_parameter,
    run_decode,
    run_encode,
    text_parameter,
    versions_of,
)
from codec_runtime.serving.directives import MAX_USER_LENGTH
from codec_runtime.serving.http import error, read_body, refusal, runtime_of
from codec_runtime.serving.inference import InferenceInputError
from codec_runtime.serving.open_inference import (
    HEADER_LENGTH,
    Array,
    InferRequest,
    ProtocolError,
    build_response,
    parse_request,
)
from codec_runtime.serving.queue import DeadlineError, OverloadedError, UnfairShareError
from codec_runtime.serving.registry import UnknownModelError
from codec_runtime.serving.repository import loaded_bundles, split_bundle_model
from codec_runtime.serving.runtime import Runtime

_LONG_JSON_BYTES = 1 << 16
"""JSON beyond this is parsed and written in a thread, so that the event loop stays free."""

_LONGEST_TIMEOUT_US = 10**12
"""Twelve days: for ever."""


class _NoSuchModelError(LookupError):
    pass


class _ClientGoneError(ConnectionError):
    pass


async def live(request: Request) -> Response:
    return Response(status_code=200)


async def ready(request: Request) -> Response:
    return Response(status_code=200 if runtime_of(request).ready else 503)


async def server_metadata(request: Request) -> Response:
    extensions = ["binary_tensor_data", "model_repository"]
    return JSONResponse({"name": "semcom-runtime", "version": __version__, "extensions": extensions})


def _model(request: Request) -> tuple[str, int | None]:
    """Model name and version of the URL; raises _NoSuchModelError."""
    model, text = request.path_params["model"], request.path_params.get("version")
    if model not in MODEL_INPUTS:
        raise _NoSuchModelError(f"unknown model {model!r}; known are {', '.join(MODEL_INPUTS)}")
    if text is None:
        return model, None
    known = versions_of(model, runtime_of(request).models)
    if not (text.isascii() and text.isdigit() and len(text) < 10 and int(text) in known):
        raise _NoSuchModelError(f"unknown version {text!r} of model {model}; loaded are {known or 'none'}")
    return model, int(text)


def _bundle_metadata(request: Request, kind: str, name: str) -> Response:
    """Of a bundle that the index lists; pictures go through ``encode`` and ``decode``."""
    loaded = loaded_bundles(runtime_of(request).models)
    versions = sorted(version for k, n, version in loaded if (k, n) == (kind, name))
    wanted = request.path_params.get("version")
    if not versions or wanted not in (None, *map(str, versions)):
        return error(404, f"no bundle {kind}.{name} is loaded in version {wanted}; loaded are {versions}")
    return JSONResponse({
        "name": f"{kind}.{name}", "versions": [str(v) for v in versions], "platform": PLATFORM,
        "inputs": [], "outputs": [],
    })


async def model_metadata(request: Request) -> Response:
    named = split_bundle_model(request.path_params["model"])
    if named is not None:
        return _bundle_metadata(request, *named)
    try:
        model, _ = _model(request)
    except _NoSuchModelError as unknown:
        return error(404, str(unknown))
    return JSONResponse({
        "name": model,
        "versions": [str(v) for v in versions_of(model, runtime_of(request).models)],
        "platform": PLATFORM,
        "inputs": [{k: v for k, v in entry.items() if k != "optional"} for entry in MODEL_INPUTS[model]],
        "outputs": MODEL_OUTPUTS[model],
    })


async def model_ready(request: Request) -> Response:
    named = split_bundle_model(request.path_params["model"])
    if named is not None:
        version = request.path_params.get("version")
        return Response(status_code=200 if any(
            (kind, name) == named and version in (None, str(loaded))
            for kind, name, loaded in loaded_bundles(runtime_of(request).models)
        ) else 404)
    try:
        model, _ = _model(request)
    except _NoSuchModelError as unknown:
        return error(404, str(unknown))
    runtime = runtime_of(request)
    ready = bool(runtime.models.classifiers) if model == CLASSIFY_TAIL else runtime.ready
    return Response(status_code=200 if ready else 503)


async def infer(request: Request) -> Response:
    runtime = runtime_of(request)
    started = time.perf_counter()
    model = request.path_params["model"]
    try:
        response = await _infer(request, runtime)
        outcome = "ok"
    except _NoSuchModelError as cause:
        model, outcome, response = "unknown", "unknown_model", error(404, str(cause))
    except UnknownModelError as cause:
        outcome, response = "unknown_version", refusal(404, cause)
    except WrongFeaturesError as cause:
        outcome, response = "wrong_features", refusal(409, cause)
    except KnowledgeMismatchError as cause:
        runtime.alignment.metrics.mismatches.inc()
        outcome, response = "knowledge_mismatch", refusal(409, cause)
    except (ProtocolError, InferenceInputError, MixedPairError) as cause:
        outcome, response = "bad_request", error(400, str(cause))
    except OverloadedError as cause:
        outcome = "overloaded"
        response = error(503, str(cause), **{"Retry-After": str(runtime.inference.retry_after_s())})
    except UnfairShareError as cause:
        outcome = "unfair_share"
        response = error(429, str(cause), **{"Retry-After": str(runtime.inference.retry_after_s())})
    except DeadlineError as cause:
        outcome, response = "expired", error(504, str(cause))
    except _ClientGoneError as cause:
        outcome, response = "gone", error(499, str(cause))
    except (FloatingPointError, RuntimeError) as cause:  # torch raises RuntimeError, also out of memory
        outcome, response = "failed", error(500, f"inference failed: {cause}")
    runtime.metrics.request_seconds.labels(model, outcome).observe(time.perf_counter() - started)
    return response


async def _infer(request: Request, runtime: Runtime) -> Response:
    model, version = _model(request)
    text = request.headers.get(HEADER_LENGTH)
    if text is not None and not (text.isascii() and text.isdigit() and len(text) < 19):
        raise ProtocolError(f"{HEADER_LENGTH}: a number is needed, got {text[:40]!r}")
    length = None if text is None else int(text)
    runtime.inference.check_room()  # a body that nothing can be done with is not read into memory
    body = await read_body(request, runtime.settings.max_request_bytes)
    # Tensors written as JSON take long to parse; binary ones are only pointed at.
    if (len(body) if length is None else length) > _LONG_JSON_BYTES:
        parsed = await asyncio.to_thread(parse_request, body, length)
    else:
        parsed = parse_request(body, length)
    working = asyncio.ensure_future(_run(model, version, parsed, request, runtime))
    leaving = asyncio.ensure_future(request.receive())  # the body is read: what comes is the disconnection
    leaving.add_done_callback(lambda _: working.cancel())
    try:
        result = await working
    except asyncio.CancelledError:
        if leaving.done():
            raise _ClientGoneError("the client has closed the connection") from None
        raise
    finally:
        leaving.cancel()
    build = partial(
        build_response, parsed, model=model, version=result.version, outputs=result.outputs,
        parameters=result.parameters,
    )
    long = any(_json_bytes(parsed, name, array) > _LONG_JSON_BYTES for name, array in result.outputs.items())
    content, headers = await asyncio.to_thread(build) if long else build()
    return Response(content, 200, headers)


def _json_bytes(parsed: InferRequest, name: str, array: Array) -> int:
    """About how long an output is as JSON, 0 if it goes out as binary."""
    return 0 if parsed.outputs.get(name, parsed.binary_default) else 8 * array.size


async def _run(
    model: str, version: int | None, parsed: InferRequest, request: Request, runtime: Runtime
) -> Result:
    models = runtime.models  # this request's set to its end, whatever is activated meanwhile
    limits = Limits(runtime.settings.max_batch, runtime.settings.max_pixels)
    user = text_parameter(parsed, "user", "")
    if len(user) > MAX_USER_LENGTH:
        raise ProtocolError(f"parameter 'user': at most {MAX_USER_LENGTH} characters")
    timeout_s = _timeout_s(parsed, runtime.settings.request_timeout_s)
    place = user or f"at {request.client.host if request.client else 'unknown'}"

    async def compute(work: Work) -> Array:
        return await runtime.inference.submit(work, place, timeout_s)

    if model == ALIGN:
        answer = await run_align(
            parsed, models, partial(runtime.alignment.table.version_for, user), limits.batch, version, compute
        )
        runtime.alignment.note(user, answer)
        return Result(answer.outputs(), answer.parameters(), str(answer.choice.adapter.manifest.version))
    if model == "decode":
        return await run_decode(parsed, models, limits, version, compute)
    if model == CLASSIFY_TAIL:
        classification = runtime.classification
        try:
            result = await run_classify(parsed, models, version, classification.table.of(user), compute)
        except (ProtocolError, UnknownModelError, WrongFeaturesError) as cause:
            classification.refused(cause)
            raise
        classification.note(result, parsed.inputs["features"].size)
        return result
    directive = runtime.directives.for_user(user, models)
    result = await run_encode(parsed, models, directive, limits, version, compute)
    codec = str(result.parameters["codec"])
    runtime.metrics.encodes.labels(codec).inc()
    if result.parameters.get("largest_quality") is False:
        runtime.metrics.coding_cut_short.labels(codec).inc()
    if user:
        runtime.pictures.add(user, parsed.inputs["image"])
        runtime.metrics.pictures.set(len(runtime.pictures))
        runtime.metrics.picture_bytes.set(runtime.pictures.total_bytes)
    return result


def _timeout_s(parsed: InferRequest, default_s: float) -> float:
    """The parameter ``timeout``, microseconds as Triton's clients send it; ``default_s`` without it or for 0.

    Raises:
        ProtocolError.
    """
    wanted = integer_parameter(parsed, "timeout", None)
    if wanted is not None and wanted < 0:
        raise ProtocolError(f"parameter 'timeout': microseconds from 0 on are needed, got {wanted}")
    return 1e-6 * min(wanted, _LONGEST_TIMEOUT_US) if wanted else default_s


def inference_routes() -> list[Route]:
    """Routes of the protocol."""
    both: dict[str, Any] = {"": model_metadata, "/ready": model_ready}
    routes = [
        Route("/v2", server_metadata, methods=["GET"]),
        Route("/v2/health/live", live, methods=["GET"]),
        Route("/v2/health/ready", ready, methods=["GET"]),
    ]
    for base in ("/v2/models/{model}", "/v2/models/{model}/versions/{version}"):
        routes += [Route(f"{base}{path}", endpoint, methods=["GET"]) for path, endpoint in both.items()]
        routes.append(Route(f"{base}/infer", infer, methods=["POST"]))
    return routes
