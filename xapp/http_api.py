"""The xApp's HTTP endpoints: metrics, health, subscription notifications, configuration, symptoms, state,
roll-outs."""

from __future__ import annotations

import asyncio
import os
import time
from typing import TYPE_CHECKING, Final

import msgspec
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from xapp.http_server import BodyTooLargeError, read_body
from xapp.rollout.api import loopback_guard, rollout_routes
from xapp.state_view import build_state
from xapp.symptom_data import (
    build_config_answer,
    build_symptom_data,
    installed_versions,
    parse_time_range,
    running_tasks,
)

if TYPE_CHECKING:
    from xapp.app import XApp

MAX_NOTIFICATION_BYTES: Final = 1 << 20


def create_http_app(xapp: XApp) -> Starlette:
    """The endpoints of one xApp process."""

    async def metrics(request: Request) -> Response:
        xapp.update_gauges()
        return Response(xapp.status.metrics.exposition(), media_type=CONTENT_TYPE_LATEST)

    async def alive(request: Request) -> Response:
        return _json({"status": "alive"})

    async def ready(request: Request) -> Response:
        reason = xapp.not_ready_reason()
        xapp.probed |= not reason
        return (
            _json({"status": "ready"})
            if not reason
            else _json({"status": "not ready", "reason": reason}, 503)
        )

    async def subscription_response(request: Request) -> Response:
        try:
            content = msgspec.json.decode(await read_body(request, MAX_NOTIFICATION_BYTES), type=dict)
        except BodyTooLargeError as error:
            return _json({"error": str(error)}, 413)
        except msgspec.DecodeError as error:
            return _json({"error": f"a JSON object is needed: {error}"}, 400)
        ours = xapp.nodes is not None and xapp.nodes.on_notification(content)
        return _json({"accepted": ours})

    async def config(request: Request) -> Response:
        return _json(build_config_answer(xapp.platform.descriptor(), xapp.settings))

    async def symptom_data(request: Request) -> Response:
        try:
            from_s, to_s = parse_time_range(request.query_params)
        except ValueError as error:
            return _json({"error": str(error)}, 400)
        # State and tasks belong to this loop, packing them does not.
        xapp.update_gauges()
        archive = await asyncio.to_thread(
            build_symptom_data,
            settings=xapp.settings,
            state=build_state(xapp),
            events=xapp.status.events.after(0),
            metrics=xapp.status.metrics.exposition(),
            tasks=running_tasks(),
            versions=installed_versions(),
            environ=os.environ,
            from_s=from_s,
            to_s=to_s,
        )
        return Response(
            archive.body,
            media_type=archive.media_type,
            headers={"Content-Disposition": f'attachment; filename="{archive.filename}"'},
        )

    async def state(request: Request) -> Response:
        text = request.query_params.get("after", "0")
        if not text.isdecimal():
            return _json({"error": f"after={text[:20]}: a sequence number is needed"}, 400)
        return _json(build_state(xapp, int(text[:18])))

    return Starlette(
        routes=[
            Route("/metrics", metrics),
            Route("/ric/v1/health/alive", alive),
            Route("/ric/v1/health/ready", ready),
            Route("/ric/v1/subscriptions/response", subscription_response, methods=["POST"]),
            Route("/ric/v1/config", config),
            Route("/ric/v1/symptomdata", symptom_data),
            Route("/semcom/v1/state", state),
            *rollout_routes(xapp.rollouts, loopback_guard(xapp.settings.http_host), time.time),
        ]
    )


def _json(value: object, status: int = 200) -> Response:
    return Response(msgspec.json.encode(value), status, media_type="application/json")
