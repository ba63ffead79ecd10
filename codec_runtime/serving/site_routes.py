"""``/semcom/v1``: directives, telemetry, inbox, activations, training jobs (MessagePack)."""

from __future__ import annotations

import asyncio

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from codec_runtime.contract import paths
from codec_runtime.contract.alignment import AdapterTable, AdapterTableAck, AlignmentJob
from codec_runtime.contract.classification import SplitReport
from codec_runtime.contract.directives import DirectiveBatch
from codec_runtime.contract.telemetry import CapabilityReport, FailureReport, QualityReport
from codec_runtime.contract.updates import ActivationRequest, TrainingJob
from codec_runtime.serving.classification_routes import classification_routes
from codec_runtime.serving.http import (
    RETRY_AFTER_S,
    BadBodyError,
    error,
    messagepack,
    read_message,
    runtime_of,
)
from codec_runtime.serving.inbox_routes import inbox_routes, store_files
from codec_runtime.serving.registry import UnknownModelError
from codec_runtime.serving.training_jobs import JobError, JobQueueFullError


async def post_directives(request: Request) -> Response:
    return messagepack(runtime_of(request).apply(await read_message(request, DirectiveBatch)))


async def get_site(request: Request) -> Response:
    return messagepack(runtime_of(request).status())


async def post_telemetry(request: Request) -> Response:
    runtime = runtime_of(request)
    kinds = CapabilityReport | QualityReport | FailureReport | SplitReport
    for report in await read_message(request, list[kinds]):
        runtime.publish(report)
    return Response(status_code=204)


async def get_telemetry(request: Request) -> Response:
    runtime = runtime_of(request)
    text = request.query_params.get("after", "0")
    if not (text.isascii() and text.isdigit() and len(text) < 19):
        raise BadBodyError(f"after: a sequence number is needed, got {text[:40]!r}")
    stream = runtime.telemetry.read(int(text), runtime.settings.telemetry_idle_s)
    return StreamingResponse(stream, media_type=paths.MESSAGEPACK)


async def post_activation(request: Request) -> Response:
    wanted = await read_message(request, ActivationRequest)
    refused = await store_files(runtime_of(request), wanted)
    return refused or messagepack(await runtime_of(request).activate(wanted))


async def post_training_job(request: Request) -> Response:
    runtime = runtime_of(request)
    job = await read_message(request, TrainingJob)
    models = runtime.models
    try:
        parent = models.decoder(job.decoder, job.parent_version)
        pictures = runtime.pictures.recent(job.users, job.max_age_s)
        report = runtime.jobs.submit(job, parent, models.encoder_of(parent), pictures)
    except (JobError, UnknownModelError) as cause:
        return error(400, str(cause))
    except JobQueueFullError as cause:
        return error(503, str(cause), **{"Retry-After": str(RETRY_AFTER_S)})
    return messagepack(report, 202)


async def post_alignment_job(request: Request) -> Response:
    runtime = runtime_of(request)
    job = await read_message(request, AlignmentJob)
    models = runtime.models
    try:
        parent = models.adapter(job.adapter, job.parent_version)
        users = runtime.alignment.pairs.recent(job.users, job.max_age_s)
        report = runtime.jobs.submit_alignment(job, parent, models.knowledge_of(parent), users)
    except (JobError, UnknownModelError) as cause:
        return error(400, str(cause))
    except JobQueueFullError as cause:
        return error(503, str(cause), **{"Retry-After": str(RETRY_AFTER_S)})
    return messagepack(report, 202)


async def get_alignment_update(request: Request) -> Response:
    path = runtime_of(request).jobs.update_file(request.path_params["job"])
    if path is None:
        return error(404, "no update of that job")
    return Response(await asyncio.to_thread(path.read_bytes), media_type=paths.MESSAGEPACK)


async def put_alignment_table(request: Request) -> Response:
    runtime = runtime_of(request)
    table = runtime.alignment.table
    rejected = table.apply(await read_message(request, AdapterTable), runtime.models)
    runtime.alignment.metrics.assignments.set(len(table))
    return messagepack(AdapterTableAck(instance=runtime.instance, applied=len(table), rejected=rejected))


async def get_training_job(request: Request) -> Response:
    report = runtime_of(request).jobs.report(request.path_params["job"])
    return error(404, "no such training job") if report is None else messagepack(report)


async def get_candidate(request: Request) -> Response:
    path = runtime_of(request).jobs.candidate_file(request.path_params["job"], request.path_params["file"])
    if path is None:
        return error(404, "no candidate of that job, or no such file in it")
    return Response(await asyncio.to_thread(path.read_bytes), media_type="application/octet-stream")


def site_routes() -> list[Route]:
    """Routes below ``/semcom/v1``."""
    job = f"{paths.TRAINING_JOBS}/{{job}}"
    return [
        Route(paths.DIRECTIVES, post_directives, methods=["POST"]),
        Route(paths.SITE, get_site, methods=["GET"]),
        Route(paths.TELEMETRY, post_telemetry, methods=["POST"]),
        Route(paths.TELEMETRY, get_telemetry, methods=["GET"]),
        *inbox_routes(),
        *classification_routes(),
        Route(paths.ACTIVATIONS, post_activation, methods=["POST"]),
        Route(paths.TRAINING_JOBS, post_training_job, methods=["POST"]),
        Route(job, get_training_job, methods=["GET"]),
        Route(paths.ALIGNMENT_JOBS, post_alignment_job, methods=["POST"]),
        Route(f"{paths.ALIGNMENT_JOBS}/{{job}}", get_alignment_update, methods=["GET"]),
        Route(paths.ALIGNMENT_TABLE, put_alignment_table, methods=["PUT"]),
        Route(f"{job}/candidate/{{file}}", get_candidate, methods=["GET"]),
    ]
