"""The emulated appmgr does what the real one does, and each of its misbehaviours is what it says."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator

import httpx
import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from xapp.lab.appmgr import LabAppmgr, Misbehaviour

CONFIG = json.dumps(
    {"messaging": {"ports": [{"name": "rmrdata", "rxMessages": ["RIC_INDICATION"], "txMessages": [],
                              "policies": [7]}]}}
)
REQUEST = {
    "appName": "probe", "appInstanceName": "probe", "httpEndpoint": "probe:8080", "rmrEndpoint": "probe:4560",
    "appVersion": "1.2.3", "configPath": "/ric/v1/config", "config": CONFIG,
}


class Site:
    """An appmgr and an xApp whose configuration it can fetch, both in memory."""

    def __init__(self, delay_s: float = 0.0) -> None:
        self.serving = True
        xapp = Starlette(routes=[Route("/ric/v1/config", self._config)])
        self._to_xapp = httpx.AsyncClient(transport=httpx.ASGITransport(app=xapp))
        self.appmgr = LabAppmgr(self._to_xapp, delay_s=delay_s)
        transport = httpx.ASGITransport(app=self.appmgr.create_app())
        self.http = httpx.AsyncClient(transport=transport, base_url="http://appmgr/ric/v1/")

    async def _config(self, _request: Request) -> Response:
        return JSONResponse([{"metadata": {}, "config": CONFIG}] if self.serving else [])

    async def xapps(self) -> list[dict[str, object]]:
        return (await self.http.get("xapps")).json()

    async def __aenter__(self) -> Site:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.http.aclose()
        await self._to_xapp.aclose()


@contextlib.asynccontextmanager
async def served(app: Starlette) -> AsyncIterator[str]:
    """The application on a real port of the loopback."""
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_config=None, lifespan="off"))
    task = asyncio.create_task(server.serve())
    while not server.started:  # noqa: ASYNC110 - uvicorn has no event for it
        await asyncio.sleep(0.01)
    try:
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        await task


def test_a_registered_xapp_is_listed_with_its_messages() -> None:
    async def scenario() -> None:
        async with Site() as site:
            assert (await site.http.post("register", json=REQUEST)).status_code == 201
            (app,) = await site.xapps()
            assert (app["name"], app["version"]) == ("probe", "1.2.3")
            (instance,) = app["instances"]  # type: ignore[misc]
            assert instance["rxMessages"] == ["RIC_INDICATION"]
            assert instance["policies"] == [7]
            assert (instance["ip"], instance["port"]) == ("service-ricxapp-probe-rmr.ricxapp", 4560)
            gone = {"appName": "probe", "appInstanceName": "probe"}
            assert (await site.http.post("deregister", json=gone)).status_code == 204
            assert await site.xapps() == []
            assert (await site.http.post("deregister", json=gone)).status_code == 400

    asyncio.run(scenario())


def test_configuration_is_fetched_where_the_request_has_none() -> None:
    async def scenario() -> None:
        async with Site() as site:
            assert (await site.http.post("register", json={**REQUEST, "config": ""})).status_code == 201
            site.serving = False
            other = {**REQUEST, "config": "", "appName": "other"}
            assert (await site.http.post("register", json=other)).status_code == 400

    asyncio.run(scenario())


@pytest.mark.parametrize("body", [b"", b"[]", b'{"appName": "a"}', b"x" * (2 << 20)])
def test_bad_requests_are_answered_422(body: bytes) -> None:
    async def scenario() -> None:
        async with Site() as site:
            assert (await site.http.post("register", content=body)).status_code == 422
            assert (await site.http.post("deregister", content=body)).status_code == 422

    asyncio.run(scenario())


def test_a_second_registration_takes_the_endpoint_out_of_the_database() -> None:
    async def scenario() -> None:
        async with Site() as site:
            await site.http.post("register", json=REQUEST)
            await site.http.post("register", json=REQUEST)
            assert site.appmgr.registered == [("probe", "probe")]
            await site.appmgr.restart()
            assert site.appmgr.registered == []

    asyncio.run(scenario())


@pytest.mark.parametrize("lost", ["nothing", "the database", "the xApp's configuration"])
def test_a_restart_keeps_what_is_in_the_database_and_can_be_fetched(lost: str) -> None:
    async def scenario() -> None:
        async with Site() as site:
            await site.http.post("register", json=REQUEST)
            site.serving = lost != "the xApp's configuration"
            await site.appmgr.restart(database_lost=lost == "the database")
            assert site.appmgr.registered == ([("probe", "probe")] if lost == "nothing" else [])

    asyncio.run(scenario())


@pytest.mark.parametrize(("kind", "status"), [(Misbehaviour.UNAVAILABLE, 503), (Misbehaviour.REFUSE, 400)])
def test_it_refuses_as_often_as_asked_and_then_behaves(kind: Misbehaviour, status: int) -> None:
    async def scenario() -> None:
        async with Site() as site:
            site.appmgr.misbehave(kind, times=2)
            answers = [(await site.http.post("register", json=REQUEST)).status_code for _ in range(3)]
            assert answers == [status, status, 201]
            assert site.appmgr.registered == [("probe", "probe")]

    asyncio.run(scenario())


def test_slow_does_what_it_is_asked_but_the_answer_is_late() -> None:
    async def scenario() -> None:
        async with Site(delay_s=600.0) as site:
            site.appmgr.misbehave(Misbehaviour.SLOW)
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.05):
                    await site.http.post("register", json=REQUEST)
            assert site.appmgr.registered == [("probe", "probe")]

    asyncio.run(scenario())


def test_half_closed_breaks_the_answer_off() -> None:
    async def scenario() -> None:
        async with Site() as site, served(site.appmgr.create_app()) as url, httpx.AsyncClient() as http:
            site.appmgr.misbehave(Misbehaviour.HALF_CLOSED, times=1)
            with pytest.raises(httpx.RemoteProtocolError):
                await http.get(f"{url}/ric/v1/xapps", timeout=5.0)
            assert (await http.get(f"{url}/ric/v1/xapps")).json() == []

    asyncio.run(scenario())
