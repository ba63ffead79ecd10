"""``/v2``: Open Inference Protocol over HTTP. Stock clients (tritonclient[http]) work unchanged."""

from __future__ import annotations

import time
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from codec_runtime import __version__
from codec_runtime.bundle.errors import MixedPairError
from codec_runtime.contract.paths import ACTIVATIONS
from codec_runtime.serving.codec_models import (
    MODEL_INPUTS,
    MODEL_OUTPUTS,
    PLATFORM,
    Limits,
    Result,
    run_decode,
    run_encode,
    text_parameter,
)
from codec_runtime.serving.directives import MAX_USER_LENGTH, default_directive
from codec_runtime.serving.http import RETRY_AFTER_S, error, read_body, runtime_of
from codec_runtime.serving.inference import InferenceInputError
from codec_runtime.serving.open_inference import (
    HEADER_LENGTH,
    Array,
    InferRequest,
    ProtocolError,
    build_response,
    parse_request,
)
from codec_runtime.serving.registry import Models, UnknownModelError
from codec_runtime.serving.runtime import OverloadedError, Runtime


class _NoSuchModelError(LookupError):
    pass


async def live(request: Request) -> Response:
    return Response(status_code=200)


async def ready(request: Request) -> Response:
    return Response(status_code=200 if runtime_of(request).ready else 503)


async def server_metadata(request: Request) -> Response:
    extensions = ["binary_tensor_data", "model_repository"]
    return JSONResponse({"name": "semcom-runtime", "version": __version__, "extensions": extensions})


def versions_of(model: str, models: Models) -> list[int]:
    """Versions that ``/v2/models/{model}/versions/{v}`` knows; of every decoder family for ``decode``."""
    if model == "encode":
        return sorted(models.encoders)
    return sorted({version for _, version in models.decoders})


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


async def model_metadata(request: Request) -> Response:
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
    try:
        _model(request)
    except _NoSuchModelError as unknown:
        return error(404, str(unknown))
    return Response(status_code=200 if runtime_of(request).ready else 503)


async def repository_index(request: Request) -> Response:
    models = runtime_of(request).models
    return JSONResponse([
        {"name": model, "version": str(version), "state": "READY", "reason": ""}
        for model in MODEL_INPUTS
        for version in versions_of(model, models)
    ])


async def repository_control(request: Request) -> Response:
    return error(400, f"models change by a verified activation (POST {ACTIVATIONS}), not by load and unload")


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
        outcome, response = "unknown_version", error(404, str(cause))
    except (ProtocolError, InferenceInputError, MixedPairError) as cause:
        outcome, response = "bad_request", error(400, str(cause))
    except OverloadedError as cause:
        outcome = "overloaded"
        response = error(503, str(cause), **{"Retry-After": str(RETRY_AFTER_S)})
    except (FloatingPointError, RuntimeError) as cause:  # torch raises RuntimeError, also out of memory
        outcome, response = "failed", error(500, f"inference failed: {cause}")
    runtime.metrics.request_seconds.labels(model, outcome).observe(time.perf_counter() - started)
    return response


async def _infer(request: Request, runtime: Runtime) -> Response:
    model, version = _model(request)
    text = request.headers.get(HEADER_LENGTH)
    if text is not None and not (text.isascii() and text.isdigit()):
        raise ProtocolError(f"{HEADER_LENGTH}: a number is needed, got {text[:40]!r}")
    body = await read_body(request, runtime.settings.max_request_bytes)
    models = runtime.models  # this request's set to its end, whatever is activated meanwhile
    limits = Limits(runtime.settings.max_batch, runtime.settings.max_pixels)

    def work() -> tuple[bytes, dict[str, str], str, Array | None]:
        parsed = parse_request(body, None if text is None else int(text))
        result, user, images = _run(model, version, parsed, runtime, models, limits)
        content, headers = build_response(
            parsed, model=model, version=result.version, outputs=result.outputs, parameters=result.parameters
        )
        return content, headers, user, images

    content, headers, user, images = await runtime.compute(work)
    if images is not None and user:
        runtime.pictures.add(user, images)
        runtime.metrics.pictures.set(len(runtime.pictures))
        runtime.metrics.picture_bytes.set(runtime.pictures.total_bytes)
    return Response(content, 200, headers)


def _run(
    model: str, version: int | None, parsed: InferRequest, runtime: Runtime, models: Models, limits: Limits
) -> tuple[Result, str, Array | None]:
    """(result, user, pictures to keep); runs in the inference thread."""
    if model == "decode":
        return run_decode(parsed, models, limits, version), "", None
    user = text_parameter(parsed, "user", "")
    if len(user) > MAX_USER_LENGTH:
        raise ProtocolError(f"parameter 'user': at most {MAX_USER_LENGTH} characters")
    directive = runtime.directives.in_force(user) or default_directive(user, models)
    result = run_encode(parsed, models, directive, limits, version)
    return result, user, parsed.inputs["image"]


def inference_routes() -> list[Route]:
    """Routes of the protocol."""
    both: dict[str, Any] = {"": model_metadata, "/ready": model_ready}
    routes = [
        Route("/v2", server_metadata, methods=["GET"]),
        Route("/v2/health/live", live, methods=["GET"]),
        Route("/v2/health/ready", ready, methods=["GET"]),
        Route("/v2/repository/index", repository_index, methods=["POST"]),
        Route("/v2/repository/models/{model}/load", repository_control, methods=["POST"]),
        Route("/v2/repository/models/{model}/unload", repository_control, methods=["POST"]),
    ]
    for base in ("/v2/models/{model}", "/v2/models/{model}/versions/{version}"):
        routes += [Route(f"{base}{path}", endpoint, methods=["GET"]) for path, endpoint in both.items()]
        routes.append(Route(f"{base}/infer", infer, methods=["POST"]))
    return routes
