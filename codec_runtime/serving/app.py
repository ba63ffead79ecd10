"""The ASGI application: routes, error answers, life time."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from codec_runtime.bundle.errors import SlowTransferError
from codec_runtime.serving.http import BadBodyError, BodyTooLargeError, error, runtime_of
from codec_runtime.serving.inference_routes import inference_routes
from codec_runtime.serving.metrics import CONTENT_TYPE
from codec_runtime.serving.repository_routes import repository_routes
from codec_runtime.serving.runtime import Runtime
from codec_runtime.serving.settings import RuntimeSettings
from codec_runtime.serving.site_routes import site_routes


async def metrics(request: Request) -> Response:
    return Response(runtime_of(request).metrics.render(), headers={"Content-Type": CONTENT_TYPE})


async def _bad_body(request: Request, cause: Exception) -> Response:
    runtime_of(request).metrics.bad_requests.labels(_endpoint(request)).inc()
    status = {BodyTooLargeError: 413, SlowTransferError: 408}.get(type(cause), 400)
    return error(status, str(cause))


def _endpoint(request: Request) -> str:
    """The route's name: a bounded set of label values, whatever URLs clients try."""
    return getattr(request.scope.get("endpoint"), "__name__", "unknown")


def create_app(settings: RuntimeSettings) -> Starlette:
    """Load the models and build the application; the :class:`Runtime` is at ``app.state.runtime``."""
    runtime = Runtime(settings)

    @asynccontextmanager
    async def life(app: Starlette) -> AsyncIterator[None]:
        yield
        await runtime.close()

    app = Starlette(
        routes=[
            *inference_routes(), *repository_routes(), *site_routes(),
            Route("/metrics", metrics, methods=["GET"]),
        ],
        exception_handlers=dict.fromkeys((BadBodyError, BodyTooLargeError, SlowTransferError), _bad_body),
        lifespan=life,
    )
    app.state.runtime = runtime
    return app
