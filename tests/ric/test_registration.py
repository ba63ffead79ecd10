"""Registration with appmgr, against the emulated one: over HTTP without sockets, and once with them."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from waiting import until

from xapp.lab.appmgr import LabAppmgr, Misbehaviour
from xapp.ric.registration import (
    AppmgrError,
    AppmgrRegistration,
    Registration,
    Standing,
    listing_matches,
    registration_from,
    service_endpoint,
)

DESCRIPTOR: dict[str, Any] = json.loads(
    (Path(__file__).parents[2] / "descriptors" / "config-file.json").read_text()
)
ENDPOINTS = {"http_endpoint": "semcom-xapp-http:8080", "rmr_endpoint": "semcom-xapp-rmr:4560"}
OURS = registration_from(DESCRIPTOR, environ={}, **ENDPOINTS)
NAME = ("semcom-xapp", "semcom-xapp")


class Bench:
    """appmgr, the xApp's configuration end point, and the registration, all in memory."""

    def __init__(self, registration: Registration = OURS, *, delay_s: float = 600.0, **options: Any) -> None:
        self.ready = True
        self.changes: list[Standing] = []
        xapp = Starlette(routes=[Route("/ric/v1/config", self._config)])
        self._to_xapp = httpx.AsyncClient(transport=httpx.ASGITransport(app=xapp))
        self.appmgr = LabAppmgr(self._to_xapp, delay_s=delay_s)
        self._http = httpx.AsyncClient(transport=httpx.ASGITransport(app=self.appmgr.create_app()))
        self.client = AppmgrRegistration(
            "http://appmgr:8080/", registration, http=self._http, ready=lambda: self.ready,
            on_change=lambda standing, _: self.changes.append(standing),
            **{"first_backoff_s": 0.01, "check_s": 0.01, "timeout_s": 2.0, **options},
        )  # fmt: skip

    async def _config(self, _request: Request) -> Response:
        return JSONResponse([{"metadata": {}, "config": OURS.config}])

    async def __aenter__(self) -> Bench:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._http.aclose()
        await self._to_xapp.aclose()

    @contextlib.asynccontextmanager
    async def supervised(self) -> Any:
        task = asyncio.create_task(self.client.supervise())
        try:
            yield
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


def bench_test(scenario: Callable[[Bench], Any], **options: Any) -> None:
    async def run() -> None:
        async with Bench(**options) as bench:
            await scenario(bench)

    asyncio.run(run())


def test_it_registers_with_the_fields_appmgr_reads_and_is_listed() -> None:
    async def scenario(bench: Bench) -> None:
        assert await bench.client.step() == 0.01
        assert bench.appmgr.registered == [NAME]
        assert bench.client.standing is Standing.REGISTERED
        assert bench.client.counters.registrations == 1
        assert set(OURS.register_body()) == {
            "appName", "appInstanceName", "appVersion", "httpEndpoint", "rmrEndpoint", "configPath", "config",
        }  # fmt: skip
        assert json.loads(OURS.register_body()["config"]) == DESCRIPTOR

    bench_test(scenario)


def test_nothing_is_sent_before_the_pod_is_ready() -> None:
    async def scenario(bench: Bench) -> None:
        bench.ready = False
        async with bench.supervised():
            await asyncio.sleep(0.05)
            assert bench.appmgr.requests == []
            bench.ready = True
            await until(lambda: bench.appmgr.registered == [NAME])

    bench_test(scenario)


@pytest.mark.parametrize("kind", [Misbehaviour.UNAVAILABLE, Misbehaviour.REFUSE])
def test_a_refused_registration_is_a_failure_and_is_retried(kind: Misbehaviour) -> None:
    async def scenario(bench: Bench) -> None:
        bench.appmgr.misbehave(kind, times=4)
        async with bench.supervised():
            await until(lambda: bench.client.standing is Standing.REGISTERED)
        assert bench.client.counters.failures >= 2
        assert bench.client.counters.registrations == 1

    bench_test(scenario)


def test_delays_between_attempts_double_up_to_a_minute_and_start_again_after_a_success() -> None:
    async def scenario(bench: Bench) -> None:
        bench.appmgr.misbehave(Misbehaviour.UNAVAILABLE)
        delays = [await bench.client.step() for _ in range(8)]
        assert delays == [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0, 60.0]
        assert bench.client.standing is Standing.UNKNOWN
        assert "503" in bench.client.detail
        bench.appmgr.misbehave(Misbehaviour.NONE)
        assert await bench.client.step() == 30.0
        bench.appmgr.misbehave(Misbehaviour.UNAVAILABLE)
        assert await bench.client.step() == 1.0

    bench_test(scenario, first_backoff_s=1.0, check_s=30.0)


def test_a_late_answer_is_a_failure_and_does_not_lead_to_a_second_registration() -> None:
    async def scenario(bench: Bench) -> None:
        await bench.client.step()
        # As if only the answer of the registration had been lost: appmgr knows us, we do not know it.
        again = AppmgrRegistration(
            "http://appmgr", OURS, http=bench._http, ready=lambda: True, timeout_s=0.05, first_backoff_s=0.01
        )
        bench.appmgr.misbehave(Misbehaviour.SLOW, times=1)
        await again.step()
        assert again.standing is Standing.UNKNOWN
        assert "did not answer xapps within 0.05 s" in again.detail
        await again.step()
        assert again.standing is Standing.REGISTERED
        assert bench.appmgr.requests.count(("POST", "/ric/v1/register")) == 1
        assert bench.appmgr.database, "a second POST would have removed the entry"

    bench_test(scenario)


def test_an_answer_broken_off_is_a_failure() -> None:
    async def run() -> None:
        async with Bench() as bench, httpx.AsyncClient() as http:
            config = uvicorn.Config(bench.appmgr.create_app(), port=0, log_config=None, lifespan="off")
            server = uvicorn.Server(config)
            task = asyncio.create_task(server.serve())
            await until(lambda: server.started)
            url = f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
            client = AppmgrRegistration(url, OURS, http=http, ready=lambda: True)
            bench.appmgr.misbehave(Misbehaviour.HALF_CLOSED, times=1)
            await client.step()
            assert (client.standing, client.counters.failures) == (Standing.UNKNOWN, 1)
            await client.step()
            assert client.standing is Standing.REGISTERED
            server.should_exit = True
            await task

    asyncio.run(run())


def test_nobody_there_is_a_failure() -> None:
    async def run() -> None:
        async with httpx.AsyncClient() as http:
            client = AppmgrRegistration("http://127.0.0.1:1", OURS, http=http, ready=lambda: True)
            await client.step()
            assert (client.standing, client.counters.failures) == (Standing.UNKNOWN, 1)
            assert await client.close(1.0), "never registered: nothing to undo"

    asyncio.run(run())


@pytest.mark.parametrize("database_lost", [True, False])
def test_a_restarted_appmgr_knows_us_again(database_lost: bool) -> None:
    async def scenario(bench: Bench) -> None:
        await bench.client.step()
        await bench.appmgr.restart(database_lost=database_lost)
        await bench.client.step()
        assert bench.appmgr.registered == [NAME]
        assert bench.client.counters.forgotten == int(database_lost)
        # Without configPath in the request, a restarted appmgr could not have fetched the configuration.
        assert bench.appmgr.requests.count(("POST", "/ric/v1/register")) == 1 + database_lost

    bench_test(scenario)


def test_forgetting_is_counted_when_appmgr_was_down_in_between() -> None:
    async def scenario(bench: Bench) -> None:
        await bench.client.step()
        await bench.appmgr.restart(database_lost=True)
        bench.appmgr.misbehave(Misbehaviour.UNAVAILABLE, times=1)
        await bench.client.step()
        await bench.client.step()
        assert bench.client.counters.forgotten == 1
        assert bench.changes == [
            Standing.ABSENT, Standing.REGISTERED, Standing.UNKNOWN, Standing.ABSENT, Standing.REGISTERED,
        ]  # fmt: skip

    bench_test(scenario)


def test_changed_routes_are_registered_anew_and_survive_a_restart_of_appmgr() -> None:
    async def scenario(bench: Bench) -> None:
        await bench.client.step()
        changed = json.loads(OURS.config)
        next(p for p in changed["messaging"]["ports"] if p["name"] == "rmrdata")["policies"] = [4711]
        bench.client.update(registration_from(changed, environ={}, **ENDPOINTS))
        await bench.client.step()
        assert [path for _, path in bench.appmgr.requests[-3:]] == [
            "/ric/v1/xapps", "/ric/v1/deregister", "/ric/v1/register",
        ]  # fmt: skip
        listing = (await bench._http.get("http://appmgr/ric/v1/xapps")).json()
        assert listing[0]["instances"][0]["policies"] == [4711]
        assert bench.appmgr.database

    bench_test(scenario)


def test_an_update_does_not_wait_for_the_next_check() -> None:
    async def scenario(bench: Bench) -> None:
        async with bench.supervised():
            await until(lambda: bench.client.standing is Standing.REGISTERED)
            newer = {**DESCRIPTOR, "version": "9.9.9"}
            bench.client.update(registration_from(newer, environ={}, **ENDPOINTS))
            await until(lambda: bench.client.counters.registrations == 2)
        listing = (await bench._http.get("http://appmgr/ric/v1/xapps")).json()
        assert listing[0]["version"] == "9.9.9"

    bench_test(scenario, check_s=3600.0)


def test_it_deregisters_at_shutdown_although_appmgr_is_unwell_at_first() -> None:
    async def scenario(bench: Bench) -> None:
        await bench.client.step()
        bench.appmgr.misbehave(Misbehaviour.UNAVAILABLE, times=2)
        assert await bench.client.close(5.0)
        assert bench.appmgr.registered == []
        assert bench.client.counters.deregistrations == 1

    bench_test(scenario)


def test_deregistration_ends_at_its_deadline() -> None:
    async def scenario(bench: Bench) -> None:
        await bench.client.step()
        bench.appmgr.misbehave(Misbehaviour.SLOW)
        assert not await bench.client.close(0.05)

    bench_test(scenario)


def test_what_is_not_registered_is_not_deregistered() -> None:
    async def scenario(bench: Bench) -> None:
        assert await bench.client.close(0.05)
        assert bench.appmgr.requests == []

    bench_test(scenario)


@pytest.mark.parametrize(
    ("listed", "expected"),
    [(b"[]", False), (b"null", False), (b'[{"name": "other", "instances": null}]', False),
     (b'[{"name": "semcom-xapp", "instances": [{"name": "semcom-xapp", "port": 4560}]}]', None)],
)  # fmt: skip
def test_listing_is_compared_with_ours(listed: bytes, expected: bool | None) -> None:
    assert listing_matches(listed, OURS) is expected


@pytest.mark.parametrize("listed", [b"", b"{}", b'[{"name": 1}]', b"<x>", b'[{"name": "a", "instances": 3}]'])
def test_a_listing_that_is_none_is_an_error(listed: bytes) -> None:
    with pytest.raises(AppmgrError, match="list of xApps"):
        listing_matches(listed, OURS)


def test_endpoints_come_from_the_service_links_of_the_pod() -> None:
    environ = {
        "SERVICE_RICXAPP_SEMCOM_XAPP_HTTP_PORT": "tcp://10.96.1.2:8080",
        "SERVICE_RICXAPP_SEMCOM_XAPP_RMR_PORT": "tcp://10.96.1.3:4560",
    }
    registration = registration_from(DESCRIPTOR, environ=environ, **ENDPOINTS)
    assert (registration.http_endpoint, registration.rmr_endpoint) == ("10.96.1.2:8080", "10.96.1.3:4560")
    assert (OURS.http_endpoint, OURS.rmr_endpoint) == tuple(ENDPOINTS.values())


@pytest.mark.parametrize("value", ["", "8080", "tcp://", "tcp://10.1.1.1", "10.1.1.1:8080", "tcp://:80"])
def test_a_service_link_that_is_no_url_is_not_used(value: str) -> None:
    assert service_endpoint({"SERVICE_RICXAPP_A_HTTP_PORT": value}, "a", "HTTP") is None



@pytest.mark.parametrize(
    ("field", "value", "reason"),
    [("rmr_endpoint", "host", "host:port"), ("http_endpoint", "host:99999", "host:port"),
     ("version", "1 0", "blanks"), ("app_name", "", "blanks"), ("config", "x", "config"),
     ("config", "[]", "config"), ("config", '{"messaging": {"ports": [{"policies": ["7"]}]}}', "policies")],
)  # fmt: skip
def test_values_that_would_break_appmgr_are_refused(field: str, value: str, reason: str) -> None:
    good = {
        "app_name": "a", "instance_name": "a", "version": "1.0.0", "http_endpoint": "a:1",
        "rmr_endpoint": "a:2", "config": "{}",
    }  # fmt: skip
    Registration(**good)
    with pytest.raises(ValueError, match=reason):
        Registration(**{**good, field: value})
