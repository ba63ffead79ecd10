"""The emulated alarm manager follows alarm-go's rules, over real RMR frames."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

import httpx

from xapp.lab.alarm_manager import LabAlarmManager
from xapp.ric.alarms import NO_INDICATIONS, RIC_ALARM_UPDATE, alarm_definitions, encode_alarm
from xapp.ric.rmr.frame import RmrMessage
from xapp.ric.rmr.sender import RmrSender


class Scene:
    """A manager and an xApp's connection to it."""

    def __init__(self, manager: LabAlarmManager, way: RmrSender) -> None:
        self.manager = manager
        self._way = way

    async def send(self, action: str, mtype: int = RIC_ALARM_UPDATE, **changes: Any) -> None:
        """Send an alarm and wait until it has been looked at."""
        body = json.loads(
            encode_alarm(
                NO_INDICATIONS, action, managed_object="x", application="x", identifying_info="gnb",
                additional_info="", time_ns=1,
            )
        )  # fmt: skip
        before = self._seen()
        await self.until(lambda: self._way.connected)
        assert self._way.send(RmrMessage(mtype, json.dumps(body | changes).encode()))
        await self.until(lambda: self._seen() != before)

    def _seen(self) -> tuple[int, ...]:
        manager = self.manager
        return manager.taken, manager.undefined, manager.malformed, manager.lose

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(10):
            while not condition():  # noqa: ASYNC110 - any condition, not one that an event tells
                await asyncio.sleep(0.002)

    @property
    def severities(self) -> list[str]:
        return [alarm.perceivedSeverity for alarm in self.manager.active.values()]


def scene(scenario: Callable[[Scene], Awaitable[None]], *, defined: bool = True) -> None:
    async def run() -> None:
        manager = await LabAlarmManager.start()
        if defined:
            manager.define(json.dumps(alarm_definitions()).encode())
        way = await RmrSender.connect("127.0.0.1", manager.port, source="x", backoff_s=(0.01, 0.1))
        try:
            await scenario(Scene(manager, way))
        finally:
            await way.close()
            await manager.close()

    asyncio.run(run())


def test_an_alarm_is_active_until_it_is_cleared_and_repetitions_change_nothing() -> None:
    async def scenario(scene: Scene) -> None:
        await scene.send("RAISE")
        await scene.send("RAISE")
        assert scene.severities == ["MAJOR"]
        await scene.send("RAISE", perceivedSeverity="CRITICAL")
        assert scene.severities == ["CRITICAL"]
        await scene.send("CLEAR")
        await scene.send("CLEAR")
        assert scene.severities == []

    scene(scenario)


def test_an_alarm_without_a_definition_is_dropped_and_so_are_malformed_ones() -> None:
    async def scenario(scene: Scene) -> None:
        await scene.send("RAISE")
        await scene.send("RAISE", specificProblem="many")
        assert (scene.manager.undefined, scene.manager.malformed, scene.severities) == (1, 1, [])

    scene(scenario, defined=False)


def test_a_restarted_manager_has_forgotten_alarms_and_definitions() -> None:
    async def scenario(scene: Scene) -> None:
        await scene.send("RAISE")
        await scene.manager.restart()
        assert (scene.manager.active, scene.manager.definitions) == ({}, {})

    scene(scenario)


def test_rest_lists_what_is_active_with_its_definition_and_takes_definitions() -> None:
    async def scenario(scene: Scene) -> None:
        transport = httpx.ASGITransport(app=scene.manager.create_app())
        async with httpx.AsyncClient(transport=transport, base_url="http://alarms") as http:
            assert (await http.post("/ric/v1/alarms/define", json=alarm_definitions())).status_code == 200
            assert (await http.post("/ric/v1/alarms/define", content=b"<")).status_code == 400
            await scene.send("RAISE")
            (entry,) = (await http.get("/ric/v1/alarms/active")).json()
        assert (entry["specificProblem"], entry["alarmText"]) == (84002, NO_INDICATIONS.text)

    scene(scenario, defined=False)
