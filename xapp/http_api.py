"""The xApp's HTTP endpoints: metrics, health, subscription notifications, configuration, state view."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

import msgspec
import uvicorn
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from xapp import __doc__ as _about
from xapp.state_view import build_state

if TYPE_CHECKING:
    from xapp.app import XApp

MAX_NOTIFICATION_BYTES: Final = 1 << 20


class QuietServer(uvicorn.Server):
    """uvicorn inside a larger program: signals belong to the program."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Capture none."""
        yield


def create_http_app(xapp: XApp) -> Starlette:
    """The endpoints of one xApp process."""

    async def metrics(request: Request) -> Response:
        xapp.update_gauges()
        return Response(xapp.status.metrics.exposition(), media_type=CONTENT_TYPE_LATEST)

    async def alive(request: Request) -> Response:
        return _json({"status": "alive"})

    async def ready(request: Request) -> Response:
        reason = xapp.not_ready_reason()
        return (
            _json({"status": "ready"})
            if not reason
            else _json({"status": "not ready", "reason": reason}, 503)
        )

    async def subscription_response(request: Request) -> Response:
        body = bytearray()
        async for chunk in request.stream():
            body += chunk
            if len(body) > MAX_NOTIFICATION_BYTES:
                return _json({"error": f"more than {MAX_NOTIFICATION_BYTES} bytes"}, 413)
        try:
            content = msgspec.json.decode(bytes(body), type=dict)
        except msgspec.DecodeError as error:
            return _json({"error": f"a JSON object is needed: {error}"}, 400)
        ours = xapp.subscriptions is not None and xapp.subscriptions.on_notification(content)
        return _json({"accepted": ours})

    async def config(request: Request) -> Response:
        controls = msgspec.to_builtins(xapp.settings)
        return _json(
            {"name": "semcom-xapp", "description": (_about or "").split("\n")[0], "controls": controls}
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
            Route("/semcom/v1/state", state),
        ]
    )


def _json(value: object, status: int = 200) -> Response:
    return Response(msgspec.json.encode(value), status, media_type="application/json")
