"""The emulated A1 mediator and the xApp's A1 service, over RMR on TCP; the mediator misbehaves on request."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from xapp.lab.a1_mediator import A1Mediator
from xapp.lab.a1_rest import TYPES_PATH, create_app
from xapp.ric.a1.handler import A1Handler
from xapp.ric.a1.instances import InstanceStore
from xapp.ric.a1.policy_type import POLICY_TYPE_ID
from xapp.ric.a1.service import A1Service
from xapp.ric.rmr import messages
from xapp.ric.rmr.frame import RmrMessage
from xapp.ric.rmr.route_source import RoutingSettings
from xapp.ric.rmr.wire import WireTransport

POLICY_TYPE: dict[str, Any] = json.loads(
    (Path(__file__).parents[2] / "descriptors" / "a1-policy-type.json").read_text()
)
ALL = {"scope": {"kind": "all"}, "constraints": {"quality_target_db": 27}}
DRONES = {"scope": {"kind": "group", "ids": ["drone"]}}


class NoKey:
    """A data layer with nothing in it."""

    async def load(self) -> bytes | None:
        return None

    async def save(self, value: bytes | None) -> None:
        pass


class XApp:
    """Transport and A1 service, wired as in the xApp process."""

    def __init__(self) -> None:
        self.handler = A1Handler(InstanceStore(), check=lambda policy, others: None)
        self.service = A1Service(
            self.handler, NoKey(), self.query, answer_window_s=0.02, backoff_s=(0.01, 0.1)
        )
        self.transport: WireTransport | None = None
        self.respond: Callable[[RmrMessage], bytes | None] | None = None

    def on_message(self, message: RmrMessage, received_ns: int) -> None:
        assert message.mtype == messages.A1_POLICY_REQ
        if self.respond is not None:
            answer = self.respond(message)
            if answer is not None:
                self.reply(message, answer)
        else:
            self.service.on_message(message.payload, lambda answer: self.reply(message, answer))

    def reply(self, message: RmrMessage, answer: bytes) -> bool:
        assert self.transport is not None
        return self.transport.reply(
            message, RmrMessage(messages.A1_POLICY_RESP, answer, sub_id=message.sub_id)
        )

    def query(self, payload: bytes) -> bool:
        assert self.transport is not None
        return self.transport.send(RmrMessage(messages.A1_POLICY_QUERY, payload))

    @property
    def kinds(self) -> dict[str, str]:
        return {i.instance_id: i.policy.scope.kind for i in self.handler.store.all()}


@contextlib.asynccontextmanager
async def platform(tmp_path: Path, *, legacy: bool = False) -> AsyncIterator[tuple[XApp, A1Mediator]]:
    """An xApp that does not run its service yet, and a mediator with the policy type."""
    app = XApp()
    seed = tmp_path / "seed.rt"
    receiver = await WireTransport.listen("127.0.0.1", 0, app.on_message)
    mediator = await A1Mediator.start("127.0.0.1", receiver.port, legacy=legacy)
    await receiver.close()
    seed.write_text(f"newrt|start\nmse|20012|-1|127.0.0.1:{mediator.port}\nnewrt|end\n")
    app.transport = await WireTransport.open(
        "127.0.0.1", receiver.port, app.on_message, routing=RoutingSettings(seed=seed)
    )
    assert mediator.put_type(POLICY_TYPE_ID, POLICY_TYPE) == ""
    try:
        yield app, mediator
    finally:
        await mediator.close()
        await app.transport.close()


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110 - any condition, not one that an event tells
            await asyncio.sleep(0.002)


def in_platform(
    tmp_path: Path, scenario: Callable[[XApp, A1Mediator], Awaitable[None]], *, legacy: bool = False
) -> None:
    async def run() -> None:
        async with platform(tmp_path, legacy=legacy) as (app, mediator):
            await scenario(app, mediator)

    asyncio.run(run())


@pytest.mark.parametrize("legacy", [False, True])
def test_create_update_and_delete_are_enforced(tmp_path: Path, legacy: bool) -> None:
    async def scenario(app: XApp, mediator: A1Mediator) -> None:
        assert mediator.put_instance(POLICY_TYPE_ID, "i", ALL) == ""
        await until(lambda: len(mediator.responses) == 1)
        assert app.kinds == {"i": "all"}
        assert mediator.status(POLICY_TYPE_ID, "i")["enforceStatus"] == "ENFORCED"
        mediator.put_instance(POLICY_TYPE_ID, "i", DRONES)
        await until(lambda: len(mediator.responses) == 2)
        assert app.kinds == {"i": "group"}
        mediator.delete_instance(POLICY_TYPE_ID, "i")
        await until(lambda: len(mediator.responses) == 3)
        assert app.kinds == {}
        assert [body["status"] for body in mediator.responses] == ["OK", "OK", "DELETED"]
        assert mediator.panics == []

    in_platform(tmp_path, scenario, legacy=legacy)


@pytest.mark.parametrize("legacy", [False, True])
def test_a_query_at_the_start_brings_all_instances(tmp_path: Path, legacy: bool) -> None:
    async def scenario(app: XApp, mediator: A1Mediator) -> None:
        mediator.misbehaviour.lose = 2
        mediator.put_instance(POLICY_TYPE_ID, "a", ALL)
        mediator.put_instance(POLICY_TYPE_ID, "b", DRONES)
        task = asyncio.create_task(app.service.run())
        await until(lambda: len(app.kinds) == 2)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert mediator.queries >= 1
        assert mediator.panics == []

    in_platform(tmp_path, scenario, legacy=legacy)


def test_an_instance_that_only_the_xapp_refuses_is_not_enforced(tmp_path: Path) -> None:
    async def scenario(app: XApp, mediator: A1Mediator) -> None:
        def refuse(policy: object, others: object) -> None:
            raise ValueError("policy 'best' is not known")

        app.handler.check = refuse
        assert mediator.put_instance(POLICY_TYPE_ID, "i", {**ALL, "policy": {"name": "best"}}) == ""
        await until(lambda: len(mediator.responses) == 1)
        assert mediator.responses[0]["reason"] == "policy 'best' is not known"
        assert mediator.status(POLICY_TYPE_ID, "i")["enforceStatus"] == "NOT_ENFORCED"
        assert app.kinds == {}

    in_platform(tmp_path, scenario)


@pytest.mark.parametrize(
    ("change", "panic"),
    [
        ({"policy_type_id": str(POLICY_TYPE_ID)}, "policy_type_id is str, not float64"),
        ({"policy_type_id": True}, "policy_type_id is bool"),
        ({"handler_id": None}, "handler_id"),
        ({"status": 1}, "status is int"),
    ],
)
def test_an_answer_of_the_wrong_types_panics_the_mediator(tmp_path: Path, change: Any, panic: str) -> None:
    async def scenario(app: XApp, mediator: A1Mediator) -> None:
        good = {
            "policy_type_id": POLICY_TYPE_ID,
            "policy_instance_id": "i",
            "handler_id": "h",
            "status": "OK",
        }
        app.respond = lambda message: json.dumps({**good, **change}).encode()
        mediator.put_instance(POLICY_TYPE_ID, "i", ALL)
        await until(lambda: bool(mediator.panics))
        assert panic in mediator.panics[0]
        assert mediator.status(POLICY_TYPE_ID, "i")["enforceStatus"] == "NOT_ENFORCED"
        # It starts anew, with what it had stored.
        app.respond = lambda message: json.dumps(good).encode()
        mediator.put_instance(POLICY_TYPE_ID, "i", DRONES)
        await until(lambda: mediator.status(POLICY_TYPE_ID, "i")["enforceStatus"] == "ENFORCED")

    in_platform(tmp_path, scenario)


def test_the_old_mediator_drops_a_bad_answer(tmp_path: Path) -> None:
    async def scenario(app: XApp, mediator: A1Mediator) -> None:
        app.respond = lambda message: b'{"policy_instance_id":"i"}'
        mediator.put_instance(POLICY_TYPE_ID, "i", ALL)
        await until(lambda: mediator.dropped == 1)
        assert mediator.panics == []

    in_platform(tmp_path, scenario, legacy=True)


def test_duplicates_losses_reordering_delays_and_junk_do_not_stop_the_xapp(tmp_path: Path) -> None:
    async def scenario(app: XApp, mediator: A1Mediator) -> None:
        wrong = mediator.misbehaviour
        wrong.duplicate, wrong.delay_s, wrong.raw = True, 0.002, [b"junk", b"{}", b"[" * 9999]
        mediator.put_instance(POLICY_TYPE_ID, "a", ALL)
        await until(lambda: len(mediator.responses) == 2)
        assert app.handler.counters.malformed == 3
        assert app.handler.counters.repeated == 1
        wrong.duplicate, wrong.hold = False, True
        mediator.put_instance(POLICY_TYPE_ID, "b", ALL)
        mediator.delete_instance(POLICY_TYPE_ID, "b")  # overtakes the CREATE
        await until(lambda: len(mediator.responses) == 4)
        assert app.kinds == {"a": "all", "b": "all"}
        wrong.hold = False
        task = asyncio.create_task(app.service.run())
        await until(lambda: app.kinds == {"a": "all"})  # the queries put it right
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert mediator.panics == []

    in_platform(tmp_path, scenario)


def test_a_restart_and_a_half_closed_connection_are_survived(tmp_path: Path) -> None:
    async def scenario(app: XApp, mediator: A1Mediator) -> None:
        mediator.put_instance(POLICY_TYPE_ID, "a", ALL)
        await until(lambda: len(mediator.responses) == 1)
        mediator.misbehaviour.half_close = True
        mediator.put_instance(POLICY_TYPE_ID, "a", DRONES)
        await until(lambda: app.kinds == {"a": "group"})
        await mediator.restart(0.01)
        mediator.put_instance(POLICY_TYPE_ID, "b", ALL)
        await until(lambda: len(app.kinds) == 2)
        app.service.query()
        task = asyncio.create_task(app.service.run())
        await until(
            lambda: mediator.queries >= 1 and mediator.status(POLICY_TYPE_ID, "a")["enforceReason"] == ""
        )
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    in_platform(tmp_path, scenario)


def test_the_rest_side_has_the_paths_and_codes_of_the_real_one(tmp_path: Path) -> None:
    async def scenario(app: XApp, mediator: A1Mediator) -> None:
        mediator.types.clear()
        one, transport = f"{TYPES_PATH}/{POLICY_TYPE_ID}", httpx.ASGITransport(create_app(mediator))
        async with httpx.AsyncClient(transport=transport, base_url="http://a1") as http:
            assert (await http.get(one)).status_code == 404
            assert (await http.put(one, json={**POLICY_TYPE, "policy_type_id": 5})).status_code == 400
            assert (await http.put(one, json={**POLICY_TYPE, "description": "a `tick`"})).status_code == 400
            assert (await http.put(one, json=POLICY_TYPE)).status_code == 201
            assert (await http.put(one, json=POLICY_TYPE)).status_code == 400
            assert (await http.get(TYPES_PATH)).json() == [POLICY_TYPE_ID]
            assert (await http.get(one)).json() == POLICY_TYPE
            instance = f"{one}/policies/i"
            assert (await http.put(instance, json={"scope": {"kind": "site"}})).status_code == 400
            assert (await http.put(instance, content=b"{")).status_code == 400
            assert (await http.get(instance)).status_code == 404
            assert (await http.get(f"{instance}/status")).status_code == 404
            mediator.misbehaviour.unavailable = 1
            assert (await http.put(instance, json=ALL)).status_code == 503
            assert (await http.put(instance, json=ALL)).status_code == 202
            await until(lambda: len(mediator.responses) == 1)
            assert (await http.get(f"{one}/policies")).json() == ["i"]
            assert (await http.get(instance)).json() == ALL
            assert (await http.get(f"{instance}/status")).json()["enforceStatus"] == "ENFORCED"
            assert (await http.delete(one)).status_code == 400
            assert (await http.delete(instance)).status_code == 202
            assert (await http.delete(instance)).status_code == 404
            assert (await http.delete(one)).status_code == 204
        await until(lambda: app.kinds == {})

    in_platform(tmp_path, scenario)
