"""The emulated OSC subscription manager as a web application, with a control interface for demonstrations.

What it does is in :mod:`xapp.lab.submgr`, what may go wrong in :mod:`xapp.lab.misbehaviour`. The real manager
has its lists by xApp on another port; here everything is on one. The control interface:

- ``GET /lab/misbehaviour``, ``PUT /lab/misbehaviour``: the fields of ``Misbehaviour`` as JSON; those that a
  PUT leaves out return to their defaults.
- ``POST /lab/restart``: JSON with ``forget`` (default true) and ``keep_reporting`` (default false).
- ``POST /lab/nodes/{meid}/disconnect``, ``.../connect``: the E2 connection of a node.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import AsyncIterator, Awaitable, Callable

import httpx
import msgspec
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from xapp.http_server import BodyTooLargeError, read_body
from xapp.lab.misbehaviour import Misbehaviour
from xapp.lab.submgr import LabSubscriptionManager, ReportingNode
from xapp.lab.subscription_params import Refused
from xapp.ric.submgr_api import SUBSCRIPTIONS_PATH, XAPP_SUBSCRIPTIONS_PATH

_LAB_PATH = "/lab"
_MAX_BODY_BYTES = 1 << 20


class _RestartOptions(msgspec.Struct, forbid_unknown_fields=True):
    forget: bool = True
    keep_reporting: bool = False


class _CutResponse(Response):
    """Promises more bytes than it sends; the server then closes the connection."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = [(b"content-type", b"application/json"), (b"content-length", b"1000")]
        await send({"type": "http.response.start", "status": self.status_code, "headers": headers})
        await send({"type": "http.response.body", "body": b'{"SubscriptionId":', "more_body": True})


Endpoint = Callable[[Request], Awaitable[Response]]


def _explained(handle: Endpoint) -> Endpoint:
    """Refusals as HTTP answers with their text."""

    async def endpoint(request: Request) -> Response:
        try:
            return await handle(request)
        except Refused as refused:
            return JSONResponse({"error": str(refused)}, refused.status)
        except (msgspec.DecodeError, BodyTooLargeError) as error:
            return JSONResponse({"error": f"bad request body: {error}"}, 400)

    return endpoint


def _routes(manager: LabSubscriptionManager) -> list[Route]:
    async def create(request: Request) -> Response:
        identifier = await manager.create(await read_body(request, _MAX_BODY_BYTES))
        if manager.misbehaviour.use("cut_answers"):
            return _CutResponse(status_code=201)
        if manager.misbehaviour.use("garbage_answers"):
            return Response("<html>201</html>", 201)
        return JSONResponse({"SubscriptionId": identifier, "SubscriptionInstances": None}, 201)

    async def delete(request: Request) -> Response:
        await manager.delete(request.path_params["identifier"])
        return Response(status_code=204)

    async def e2_list(_request: Request) -> Response:
        return JSONResponse(manager.e2_list())

    async def xapp_list(request: Request) -> Response:
        if manager.misbehaviour.no_lists:
            raise Refused(404, "no such list")
        return JSONResponse(manager.xapp_list(request.path_params["service"]))

    async def show(_request: Request) -> Response:
        return JSONResponse(dataclasses.asdict(manager.misbehaviour))

    async def misbehave(request: Request) -> Response:
        body = await read_body(request, _MAX_BODY_BYTES)
        manager.misbehaviour = msgspec.json.decode(body, type=Misbehaviour)
        return await show(request)

    async def restart(request: Request) -> Response:
        body = await read_body(request, _MAX_BODY_BYTES)
        options = msgspec.json.decode(body or b"{}", type=_RestartOptions)
        await manager.restart(forget=options.forget, keep_reporting=options.keep_reporting)
        return Response(status_code=204)

    async def disconnect(request: Request) -> Response:
        await manager.node_disconnected(request.path_params["meid"])
        return Response(status_code=204)

    async def connect(request: Request) -> Response:
        manager.node_connected(request.path_params["meid"])
        return Response(status_code=204)

    return [
        Route(path, _explained(handle), methods=[method])
        for method, path, handle in (
            ("POST", SUBSCRIPTIONS_PATH, create),
            ("GET", SUBSCRIPTIONS_PATH, e2_list),
            ("DELETE", SUBSCRIPTIONS_PATH + "/{identifier}", delete),
            ("GET", XAPP_SUBSCRIPTIONS_PATH + "/{service}", xapp_list),
            ("GET", _LAB_PATH + "/misbehaviour", show),
            ("PUT", _LAB_PATH + "/misbehaviour", misbehave),
            ("POST", _LAB_PATH + "/restart", restart),
            ("POST", _LAB_PATH + "/nodes/{meid}/disconnect", disconnect),
            ("POST", _LAB_PATH + "/nodes/{meid}/connect", connect),
        )
    ]


def create_app(
    node: ReportingNode,
    *,
    early_notification: bool = False,
    misbehaviour: Misbehaviour | None = None,
    notify_timeout_s: float = 2.0,
    http: httpx.AsyncClient | None = None,
) -> Starlette:
    """The manager as a web application; ``app.state.manager`` is the :class:`LabSubscriptionManager`.

    Args:
        node: told to start and stop reporting.
        early_notification: notify before answering the POST.
        misbehaviour: what goes wrong from the start.
        notify_timeout_s: longest wait for the xApp's answer to a notification.
        http: client for the notifications, closed with the application; None makes one.
    """
    faults = misbehaviour or Misbehaviour()
    if early_notification:
        faults = dataclasses.replace(faults, early_notification=True)
    http = http or httpx.AsyncClient(timeout=notify_timeout_s, trust_env=False)
    manager = LabSubscriptionManager(node, faults, http)

    @contextlib.asynccontextmanager
    async def lifespan(_app: Starlette) -> AsyncIterator[None]:
        yield
        await manager.close()

    app = Starlette(routes=_routes(manager), lifespan=lifespan)
    app.state.manager = manager
    return app
