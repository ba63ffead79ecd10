"""An emulated application manager (appmgr) of the OSC RIC, which misbehaves on request.

What it does as the real one does (ric-plt/appmgr, ``pkg/restful/restful.go`` and
``pkg/resthooks/resthooks.go``): it answers a registration with 201, fetches the configuration from the xApp
when the request has none, lists xApps under ``/ric/v1/xapps`` with the RMR messages of their configuration,
and keeps the end points in a database that a *second* registration of the same end point removes it from.
After a restart it knows the xApps of its database whose configuration it can fetch.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from enum import StrEnum
from typing import Any, Final

import httpx
import msgspec
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from xapp.http_server import read_body

MAX_REQUEST_BYTES: Final = 1 << 20
MAX_XAPPS: Final = 1000

_log = logging.getLogger(__name__)


class Misbehaviour(StrEnum):
    """What goes wrong with the next requests."""

    NONE = "none"
    UNAVAILABLE = "unavailable"
    """503 to everything."""
    REFUSE = "refuse"
    """400 to registrations and deregistrations."""
    SLOW = "slow"
    """Does what it is asked and answers after ``delay_s``."""
    HALF_CLOSED = "half_closed"
    """Does what it is asked, sends a part of the answer and drops the connection."""


class _RegisterRequest(msgspec.Struct):
    appName: str
    appInstanceName: str
    httpEndpoint: str
    rmrEndpoint: str
    appVersion: str = ""
    configPath: str = ""
    config: str = ""


class _DeregisterRequest(msgspec.Struct):
    appName: str
    appInstanceName: str


class _ConfigAnswer(msgspec.Struct):
    config: str


class _Port(msgspec.Struct):
    txMessages: list[str] = []
    rxMessages: list[str] = []
    policies: list[int] = []


class _Messaging(msgspec.Struct):
    ports: list[_Port] = []


class _Descriptor(msgspec.Struct):
    messaging: _Messaging = msgspec.field(default_factory=_Messaging)


class LabAppmgr:
    """The table of xApps, the database behind it, and the web application.

    Args:
        http: client with which configurations are fetched; closed by its owner.
        delay_s: of :attr:`Misbehaviour.SLOW`.

    Attributes:
        database: end points that survive a restart, by ``httpEndpoint``.
        requests: (method, path) of every request, the last 1,000.
    """

    def __init__(self, http: httpx.AsyncClient, *, delay_s: float = 5.0) -> None:
        self.database: dict[str, _RegisterRequest] = {}
        self.requests: list[tuple[str, str]] = []
        self._xapps: dict[tuple[str, str], dict[str, Any]] = {}
        self._endpoints: dict[tuple[str, str], str] = {}
        self._http = http
        self._delay_s = delay_s
        self._misbehaviour = Misbehaviour.NONE
        self._times = 0

    @property
    def registered(self) -> list[tuple[str, str]]:
        """(application, instance) of the xApps it knows."""
        return list(self._xapps)

    def misbehave(self, kind: Misbehaviour, times: int = -1) -> None:
        """Let the next ``times`` requests go wrong; -1: all, until told otherwise."""
        self._misbehaviour = kind
        self._times = times

    async def restart(self, *, database_lost: bool = False) -> None:
        """Forget everything but the database, and that too if it is lost; then read it again."""
        self._xapps.clear()
        self._endpoints.clear()
        if database_lost:
            self.database.clear()
        for endpoint, request in list(self.database.items()):
            if not await self._take(request):
                del self.database[endpoint]

    def create_app(self) -> Starlette:
        """Its REST interface."""
        return Starlette(
            routes=[
                Route("/ric/v1/health/ready", self._health),
                Route("/ric/v1/xapps", self._list),
                Route("/ric/v1/register", self._register, methods=["POST"]),
                Route("/ric/v1/deregister", self._deregister, methods=["POST"]),
            ]
        )

    async def _health(self, request: Request) -> Response:
        return await self._answer(request, Response(status_code=200))

    async def _list(self, request: Request) -> Response:
        apps: dict[str, dict[str, Any]] = {}
        for (name, _), entry in self._xapps.items():
            app = apps.setdefault(
                name, {"name": name, "status": "deployed", "version": entry["version"], "instances": []}
            )
            app["instances"].append(entry["instance"])
        return await self._answer(request, JSONResponse(list(apps.values())))

    async def _register(self, request: Request) -> Response:
        if self._misbehaviour in (Misbehaviour.UNAVAILABLE, Misbehaviour.REFUSE):
            return await self._answer(request, Response(status_code=400))
        try:
            body = msgspec.json.decode(await read_body(request, MAX_REQUEST_BYTES), type=_RegisterRequest)
        except ValueError as error:
            return await self._answer(request, JSONResponse({"code": 422, "message": str(error)}, 422))
        if len(self._xapps) >= MAX_XAPPS or not await self._take(body):
            return await self._answer(request, Response(status_code=400))
        # As the real one: a registration of an end point that is in the database takes it out.
        if self.database.pop(body.httpEndpoint, None) is None:
            body.config = ""
            self.database[body.httpEndpoint] = body
        return await self._answer(request, Response(status_code=201))

    async def _deregister(self, request: Request) -> Response:
        if self._misbehaviour in (Misbehaviour.UNAVAILABLE, Misbehaviour.REFUSE):
            return await self._answer(request, Response(status_code=400))
        try:
            body = msgspec.json.decode(await read_body(request, MAX_REQUEST_BYTES), type=_DeregisterRequest)
        except ValueError as error:
            return await self._answer(request, JSONResponse({"code": 422, "message": str(error)}, 422))
        key = (body.appName, body.appInstanceName)
        if self._xapps.pop(key, None) is None:
            return await self._answer(request, Response(status_code=400))
        self.database.pop(self._endpoints.pop(key), None)
        return await self._answer(request, Response(status_code=204))

    async def _take(self, request: _RegisterRequest) -> bool:
        """Read the configuration and add the xApp; False if there is no configuration."""
        text = request.config or await self._fetch(request)
        try:
            ports = msgspec.json.decode(text, type=_Descriptor).messaging.ports
            rmr_port = int(request.rmrEndpoint.split(":")[1])
        except (ValueError, IndexError) as error:
            _log.info("registration of %s: %r", request.appName, error)
            return False
        key = (request.appName, request.appInstanceName)
        self._endpoints[key] = request.httpEndpoint
        self._xapps[key] = {
            "version": request.appVersion,
            "instance": {
                "name": request.appInstanceName,
                "status": "deployed",
                "ip": f"service-ricxapp-{request.appInstanceName}-rmr.ricxapp",
                "port": rmr_port,
                "txMessages": [message for port in ports for message in port.txMessages],
                "rxMessages": [message for port in ports for message in port.rxMessages],
                "policies": [policy for port in ports for policy in port.policies],
            },
        }
        return True

    async def _fetch(self, request: _RegisterRequest) -> str:
        url = f"http://{request.httpEndpoint}{request.configPath}"
        try:
            answer = await self._http.get(url, timeout=2.0)
            return msgspec.json.decode(answer.content, type=list[_ConfigAnswer])[0].config
        except (httpx.HTTPError, httpx.InvalidURL, msgspec.DecodeError, IndexError) as error:
            _log.info("configuration not fetched from %s: %r", url, error)
            return ""

    async def _answer(self, request: Request, response: Response) -> Response:
        """The answer, or what the misbehaviour makes of it."""
        self.requests = [*self.requests[-999:], (request.method, request.url.path)]
        kind = self._misbehaviour
        if self._times > 0:
            self._times -= 1
            if not self._times:
                self._misbehaviour = Misbehaviour.NONE
        if kind is Misbehaviour.UNAVAILABLE:
            return Response("try later", status_code=503)
        if kind is Misbehaviour.SLOW:
            await asyncio.sleep(self._delay_s)
        if kind is Misbehaviour.HALF_CLOSED:
            headers = {"content-length": "1000"}
            return StreamingResponse(_broken_off(), status_code=response.status_code, headers=headers)
        return response


async def _broken_off() -> AsyncIterator[bytes]:
    yield b'[{"name": "'
    raise ConnectionAbortedError("the emulated appmgr drops the connection")
