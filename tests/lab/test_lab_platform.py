"""The lab's platform services behind one address: what an operator would have told them, they know."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from pathlib import Path

import httpx
import pytest

from xapp.lab.e2_node import E2Node
from xapp.lab.platform import POLICY_TYPE_FILE, LabPlatform, PolicyTypeError
from xapp.lab.settings import LabSettings
from xapp.ric.a1.policy_type import POLICY_TYPE_ID
from xapp.ric.alarms import PROBLEMS

TYPES = "/A1-P/v2/policytypes"


def with_platform(
    scenario: Callable[[LabPlatform, httpx.AsyncClient], Awaitable[None]], settings: LabSettings | None = None
) -> None:
    async def run() -> None:
        platform = LabPlatform(settings or LabSettings(xapp_rmr_port=1), E2Node("gnb"))
        try:
            transport = httpx.ASGITransport(app=await platform.create_app())
            async with httpx.AsyncClient(transport=transport, base_url="http://lab") as http:
                await scenario(platform, http)
        finally:
            await platform.close()

    asyncio.run(run())


def test_the_mediator_knows_the_policy_type_of_the_descriptors_from_the_start() -> None:
    async def scenario(platform: LabPlatform, http: httpx.AsyncClient) -> None:
        assert (await http.get(TYPES)).json() == [POLICY_TYPE_ID]
        body = (await http.get(f"{TYPES}/{POLICY_TYPE_ID}")).json()
        assert body == json.loads(POLICY_TYPE_FILE.read_text())
        url = f"{TYPES}/{POLICY_TYPE_ID}/policies/first"
        assert (await http.put(url, json={"scope": {"kind": "all"}})).status_code == 202
        assert (await http.put(url, json={"scope": {"kind": "nobody"}})).status_code == 400

    with_platform(scenario)


def test_a_policy_type_of_the_settings_takes_its_place(tmp_path: Path) -> None:
    path = tmp_path / "type.json"
    body = {"name": "n", "description": "d", "policy_type_id": 7, "create_schema": {"type": "object"}}
    path.write_text(json.dumps(body))

    async def scenario(platform: LabPlatform, http: httpx.AsyncClient) -> None:
        assert (await http.get(TYPES)).json() == [7]

    with_platform(scenario, LabSettings(xapp_rmr_port=1, a1_policy_type=str(path)))


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"policy_type_id": "7"}', '{"policy_type_id": 7}'])
def test_a_file_that_holds_no_policy_type_is_an_orderly_refusal(tmp_path: Path, text: str) -> None:
    path = tmp_path / "type.json"
    path.write_text(text)

    async def scenario(platform: LabPlatform, http: httpx.AsyncClient) -> None:
        raise AssertionError("it must not start")

    with pytest.raises(PolicyTypeError, match=r"type\.json"):
        with_platform(scenario, LabSettings(xapp_rmr_port=1, a1_policy_type=str(path)))


def test_the_alarm_manager_knows_the_alarms_of_the_xapp() -> None:
    async def scenario(platform: LabPlatform, http: httpx.AsyncClient) -> None:
        assert platform.alarms is not None
        assert set(platform.alarms.definitions) == {problem.number for problem in PROBLEMS}
        assert (await http.get("/ric/v1/alarms/active")).json() == []

    with_platform(scenario)


def test_a_body_without_end_is_refused_by_every_service() -> None:
    huge = b"1" * (1 << 21)

    async def scenario(platform: LabPlatform, http: httpx.AsyncClient) -> None:
        statuses = [
            (await http.put(f"{TYPES}/{POLICY_TYPE_ID}/policies/first", content=huge)).status_code,
            (await http.post("/ric/v1/subscriptions", content=huge)).status_code,
            (await http.post("/ric/v1/alarms/define", content=huge)).status_code,
            (await http.post("/ric/v1/register", content=huge)).status_code,
        ]
        assert statuses == [400, 400, 400, 422]

    with_platform(scenario)
