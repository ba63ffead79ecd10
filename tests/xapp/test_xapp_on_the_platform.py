"""The whole xApp among the services of a RIC platform: discovery, A1, appmgr, ConfigMap, control, metrics."""

from __future__ import annotations

import asyncio
import copy
import io
import json
import zipfile
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest
from xapp_laboratory import MEID, MemorySdl, announce, event_kinds, laboratory, memory_sdl, settings_for
from xapp_simulated_site import eventually, served

from xapp.app import XApp
from xapp.lab.a1_mediator import A1Mediator
from xapp.lab.alarm_manager import LabAlarmManager
from xapp.lab.appmgr import LabAppmgr
from xapp.lab.platform import lab_function
from xapp.lab.rc_node import RcNode
from xapp.lab.rnib import LabRnib
from xapp.policy.radio_resources import QuotaRules
from xapp.ric.a1.policy_type import POLICY_TYPE_ID
from xapp.ric.alarms import NO_INDICATIONS, alarm_definitions
from xapp.ric.rc import RC_OID, SliceId, encode_function
from xapp.ric.rmr import messages
from xapp.ric.rmr.frame import RmrMessage
from xapp.ric.rmr.wire import WireTransport
from xapp.ric.rnib import RanFunction
from xapp.ric_platform import ConfigSource

__all__ = ["memory_sdl"]  # a fixture that every test uses

REPOSITORY = Path(__file__).parents[2]
POLICY_TYPE = json.loads((REPOSITORY / "descriptors" / "a1-policy-type.json").read_text())
DESCRIPTOR = json.loads((REPOSITORY / "descriptors" / "config-file.json").read_text())


@pytest.fixture(autouse=True)
def quick_discovery(monkeypatch: pytest.MonkeyPatch) -> None:
    """The R-NIB is looked at each 50 ms."""
    from xapp import e2_nodes

    original = e2_nodes.RnibWatch
    monkeypatch.setattr(
        e2_nodes, "RnibWatch", lambda reader, on_change: original(reader, on_change, period_s=0.05)
    )


def write_descriptor(path: Path, controls: dict[str, Any]) -> None:
    """As Kubernetes swaps it: whole."""
    path.parent.mkdir(exist_ok=True)
    part = path.with_suffix(".part")
    part.write_text(json.dumps({**DESCRIPTOR, "controls": controls}))
    part.replace(path)


def test_a_node_of_the_rnib_is_subscribed_to_by_what_it_offers_and_left_when_it_is_gone(
    tmp_path: Path,
) -> None:
    async def main() -> None:
        async with laboratory(tmp_path, meids=[]) as (xapp, site, node, _flow):
            announce(site, 8)
            assert xapp.nodes is not None
            assert xapp.nodes.plans == {}
            rnib = LabRnib(wrapper=MemorySdl())
            rnib.save(MEID, [lab_function(node.ran_function_id)])
            await eventually(lambda: len(site.in_force) == 8)
            plan = xapp.nodes.plans[MEID]
            assert (plan.style_type, plan.source, plan.version) == (4, "SINR", "3.00")
            assert "measurements_chosen" in event_kinds(xapp)
            rnib.remove(MEID)
            await eventually(lambda: not node.reportings)
            assert xapp.nodes.plans == {}
            assert "e2_node_gone" in event_kinds(xapp)

    asyncio.run(main())


def test_a_node_that_reconnects_is_subscribed_to_again(tmp_path: Path) -> None:
    async def main() -> None:
        async with laboratory(tmp_path, meids=[]) as (xapp, _site, node, _flow):
            rnib = LabRnib(wrapper=MemorySdl())
            function = lab_function(node.ran_function_id)
            rnib.save(MEID, [function])
            await eventually(lambda: xapp.status.counters["indications"] > 3)
            await node.close()  # it lost its subscriptions with the connection
            rnib.save(MEID, [function], connected=False, status_since_ns=1)
            await eventually(lambda: xapp.status.peers.is_up(f"e2:{MEID}") is False)
            rnib.save(MEID, [function], status_since_ns=2)
            seen = xapp.status.counters["indications"]
            await eventually(lambda: xapp.status.counters["indications"] > seen + 3)

    asyncio.run(main())


def test_a_configured_node_stays_when_the_rnib_does_not_know_it(tmp_path: Path) -> None:
    async def main() -> None:
        async with laboratory(tmp_path) as (xapp, _site, node, _flow):
            await eventually(lambda: xapp.status.counters["indications"] > 3)
            rnib = LabRnib(wrapper=MemorySdl())
            rnib.save(MEID, [lab_function(node.ran_function_id)])
            assert xapp.nodes is not None
            await eventually(lambda: MEID in xapp.nodes.functions)
            rnib.remove(MEID)
            await eventually(lambda: MEID not in xapp.nodes.functions)
            assert MEID in xapp.nodes.plans

    asyncio.run(main())


def test_an_a1_policy_governs_users_and_survives_a_restart(tmp_path: Path) -> None:
    limits = {"scope": {"kind": "user", "ids": ["ue-3"]}, "constraints": {"max_prefix": 2}}

    async def main() -> None:
        async with laboratory(tmp_path) as (xapp, site, _node, _flow):
            announce(site, 8)
            await eventually(lambda: len(site.in_force) == 8)
            assert xapp.transport is not None
            mediator = await A1Mediator.start("127.0.0.1", xapp.transport.port)
            assert mediator.put_type(POLICY_TYPE_ID, POLICY_TYPE) == ""
            assert mediator.put_instance(POLICY_TYPE_ID, "low", limits) == ""
            await eventually(lambda: site.in_force["ue-3"].prefix == 2)
            await eventually(
                lambda: mediator.status(POLICY_TYPE_ID, "low").get("enforceStatus") == "ENFORCED"
            )
            assert mediator.panics == []
            await mediator.close()
        async with laboratory(tmp_path) as (xapp, site, _node, _flow):
            announce(site, 8)
            await eventually(lambda: len(site.in_force) == 8 and site.in_force["ue-3"].prefix == 2)
            assert [entry["instance"] for entry in xapp.pools.describe()] == ["low"]

    asyncio.run(main())


def test_the_xapp_registers_with_its_descriptor_and_deregisters_when_it_stops(tmp_path: Path) -> None:
    path = tmp_path / "config" / "config-file.json"
    write_descriptor(path, DESCRIPTOR["controls"])

    async def main() -> None:
        async with httpx.AsyncClient(trust_env=False) as http:
            appmgr = LabAppmgr(http)
            async with served(appmgr.create_app()) as url:
                async with laboratory(tmp_path, source=ConfigSource(path), appmgr_url=url) as (xapp, *_):
                    await eventually(lambda: appmgr.registered == [("semcom-xapp", "semcom-xapp")])
                    await eventually(lambda: xapp.status.peers.is_up("appmgr"))
                assert appmgr.registered == []

    asyncio.run(main())


def test_a_swap_that_changes_the_messages_is_registered_anew(tmp_path: Path) -> None:
    path = tmp_path / "config" / "config-file.json"

    async def main() -> None:
        async with httpx.AsyncClient(trust_env=False) as http:
            appmgr = LabAppmgr(http)
            async with (
                served(appmgr.create_app()) as url,
                laboratory(tmp_path, source=ConfigSource(path), appmgr_url=url) as (xapp, *_),
                httpx.AsyncClient(base_url=f"http://127.0.0.1:{xapp.http_port}") as own,
            ):
                changed = copy.deepcopy(DESCRIPTOR)
                changed["controls"] = msgspec.to_builtins(xapp.settings)
                changed["messaging"]["ports"][1]["policies"] = [4711]
                path.parent.mkdir()
                path.write_text(json.dumps(changed))

                async def registered() -> list[int]:
                    apps = (await http.get(f"{url}/ric/v1/xapps")).json()
                    return apps[0]["instances"][0]["policies"] if apps else []

                async with asyncio.timeout(20):
                    while await registered() != [4711]:  # noqa: ASYNC110 - appmgr's state
                        await asyncio.sleep(0.02)
                # A file that cannot be read takes nothing away from what appmgr would fetch.
                path.write_text("{")
                await eventually(lambda: "config_refused" in event_kinds(xapp))
                (entry,) = (await own.get("/ric/v1/config")).json()
                assert json.loads(entry["config"])["messaging"] == changed["messaging"]

    asyncio.run(main())


def test_the_configuration_names_messages_and_policy_type_without_a_descriptor(tmp_path: Path) -> None:
    async def main() -> None:
        async with (
            laboratory(tmp_path) as (xapp, *_),
            httpx.AsyncClient(base_url=f"http://127.0.0.1:{xapp.http_port}") as own,
        ):
            (entry,) = (await own.get("/ric/v1/config")).json()
            (port,) = json.loads(entry["config"])["messaging"]["ports"]
            (expected,) = [p for p in DESCRIPTOR["messaging"]["ports"] if p["name"] == "rmrdata"]
            for kind in ("rxMessages", "txMessages", "policies"):
                assert port[kind] == expected[kind]

    asyncio.run(main())


def test_settings_that_cannot_be_followed_change_nothing_at_all(tmp_path: Path) -> None:
    path = tmp_path / "config" / "config-file.json"

    async def main() -> None:
        async with laboratory(tmp_path, source=ConfigSource(path)) as (xapp, *_):
            before = xapp.settings
            for bad in ({"log_level": "LOUD"}, {"meids": [f"gnb_{i}" for i in range(2000)]}):
                refused = event_kinds(xapp).count("config_refused")
                write_descriptor(path, {**msgspec.to_builtins(before), "budget_prefix": 2.0, **bad})
                await eventually(lambda seen=refused: event_kinds(xapp).count("config_refused") > seen)
                assert xapp.settings == before
                assert xapp.pools[0]._configured.parameters["budget_prefix"] == before.budget_prefix

    asyncio.run(main())


def test_an_alarm_reaches_the_alarm_manager_and_again_after_its_restart(tmp_path: Path) -> None:
    async def main() -> None:
        manager = await LabAlarmManager.start()
        manager.define(json.dumps(alarm_definitions()).encode())
        try:
            async with laboratory(tmp_path, alarm_manager=f"127.0.0.1:{manager.port}") as (xapp, *_):
                alarms = xapp.platform.alarms
                alarms.raise_alarm(NO_INDICATIONS, "gnb", "for a test")
                await eventually(lambda: len(manager.active) == 1)
                await manager.restart(keep_definitions=True)
                await eventually(lambda: len(manager.active) == 1)
                alarms.clear_alarm(NO_INDICATIONS, "gnb")
                await eventually(lambda: not manager.active)
        finally:
            await manager.close()

    asyncio.run(main())


def test_live_settings_follow_the_config_map_and_a_bad_one_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "config" / "config-file.json"

    async def main() -> None:
        async with laboratory(tmp_path, source=ConfigSource(path)) as (xapp, site, _node, _flow):
            announce(site, 8)
            await eventually(lambda: len(site.in_force) == 8)
            before = msgspec.to_builtins(xapp.settings)
            write_descriptor(path, {**before, "budget_prefix": 2.0})
            await eventually(lambda: xapp.settings.budget_prefix == 2.0)
            await eventually(lambda: {directive.prefix for directive in site.in_force.values()} == {2})
            write_descriptor(path, {**before, "budget_prefix": 2.0, "policy": "clairvoyant"})
            await eventually(lambda: "config_refused" in event_kinds(xapp))
            assert xapp.settings.policy == "adaptive"
            assert any("clairvoyant" in alarm["additional_info"] for alarm in xapp.platform.alarms.active())
            write_descriptor(path, {**before, "budget_prefix": 3.0, "rmr_port": 1})
            await eventually(lambda: xapp.settings.budget_prefix == 3.0)
            assert xapp.platform.config is not None
            assert xapp.platform.config.pending == {"rmr_port"}
            assert not any(a["text"] == "CONFIGURATION REFUSED" for a in xapp.platform.alarms.active())

    asyncio.run(main())


def test_meids_that_change_while_running_are_subscribed_to_and_left(tmp_path: Path) -> None:
    path = tmp_path / "config" / "config-file.json"

    async def main() -> None:
        async with laboratory(tmp_path, source=ConfigSource(path), meids=[]) as (xapp, _site, node, _flow):
            write_descriptor(path, {**msgspec.to_builtins(xapp.settings), "meids": [MEID]})
            await eventually(lambda: xapp.status.counters["indications"] > 3)
            write_descriptor(path, {**msgspec.to_builtins(xapp.settings), "meids": []})
            await eventually(lambda: not node.reportings)

    asyncio.run(main())


def test_quotas_are_asked_of_a_node_that_offers_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    style = {
        "ric-ControlStyle-Type": 2,
        "ric-ControlStyle-Name": "Radio Resource Allocation Control",
        "ric-ControlAction-List": [
            {"ric-ControlAction-ID": 6, "ric-ControlAction-Name": "Slice-level PRB quota"}
        ],
        "ric-ControlHeaderFormat-Type": 1,
        "ric-ControlMessageFormat-Type": 1,
        "ric-ControlOutcomeFormat-Type": 1,
    }
    name = {
        "ranFunction-ShortName": "ORAN-E2SM-RC",
        "ranFunction-E2SM-OID": RC_OID,
        "ranFunction-Description": "RAN Control",
    }
    control = {"ric-ControlStyle-List": [style]}
    offer = encode_function({"ranFunction-Name": name, "ranFunctionDefinition-Control": control})
    monkeypatch.setattr("xapp.radio_loop.PERIOD_S", 0.1)

    async def main() -> None:
        node_port = await WireTransport.listen("127.0.0.1", 0, lambda message, ns: taken(message))
        rc = RcNode(MEID, reply=node_port.reply, ue_kind="gNB-UEID")

        def taken(message: RmrMessage) -> None:
            if message.mtype == messages.RIC_CONTROL_REQ:
                rc.on_message(message, 0)

        seed = tmp_path / "routes.rt"
        seed.write_text(
            f"newrt|start\nmse|12040|-1|127.0.0.1:{node_port.port}\nnewrt|end\n"
        )
        monkeypatch.setenv("RMR_SEED_RT", str(seed))
        changes = {
            "meids": [], "radio_resources": True, "slices": {"drone": "00f110/1/000003"},
            "rmr_transport": "wire",
        }  # fmt: skip
        async with laboratory(tmp_path, **changes) as (xapp, site, node, _flow):
            announce(site, 8)
            functions = [lab_function(node.ran_function_id), RanFunction(3, offer, 1, RC_OID)]
            LabRnib(wrapper=MemorySdl()).save(MEID, functions)
            await eventually(lambda: len(site.in_force) == 8)
            xapp.table.sending_rate[:] = 40.0  # pictures a second
            drones = SliceId(bytes.fromhex("00f110"), 1, 3)
            await eventually(lambda: drones in rc.quotas and rc.quotas[drones].minimum > 0)
            assert xapp.radio is not None
            xapp.radio.slices.resources(MEID).rules = QuotaRules(enabled=True, interval_s=0.01)
            xapp.radio.configure(msgspec.structs.replace(xapp.settings, radio_resources=False))
            await eventually(lambda: rc.quotas[drones].minimum == 0, timeout_s=15)
        await node_port.close()

    asyncio.run(main())


def test_symptom_data_is_an_archive_without_secrets_and_metrics_name_every_part(tmp_path: Path) -> None:
    async def main() -> None:
        async with laboratory(tmp_path) as (xapp, *_):
            await eventually(lambda: xapp.status.counters["indications"] > 0)
            async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{xapp.http_port}") as http:
                answer = await http.get("/ric/v1/symptomdata")
                wrong = await http.get("/ric/v1/symptomdata", params={"fromtime": "yesterday"})
                metrics = (await http.get("/metrics")).text
            assert wrong.status_code == 400
            names = zipfile.ZipFile(io.BytesIO(answer.content)).namelist()
            assert {"settings.json", "state.json", "metrics.txt", "events.jsonl"} <= {
                Path(name).name for name in names
            }
            for part in ("rmr", "subscriptions", "rnib", "metric_trust", "a1", "alarms", "control"):
                assert f'part="{part}"' in metrics
            assert 'semcom_xapp_rmr_transport_info{name="' in metrics

    asyncio.run(main())


def test_in_a_cluster_nothing_is_asked_of_the_platform_before_the_probe_has_succeeded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.0.0.1")

    async def main() -> None:
        async with laboratory(tmp_path) as (xapp, _site, node, _flow):
            await asyncio.sleep(0.3)
            assert not node.reportings
            async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{xapp.http_port}") as http:
                assert (await http.get("/ric/v1/health/ready")).status_code == 200
            await eventually(lambda: bool(node.reportings))

    asyncio.run(main())


def test_an_unknown_rmr_transport_is_refused_at_the_start(tmp_path: Path) -> None:
    settings = settings_for(tmp_path, "http://127.0.0.1:1", "http://127.0.0.1:1")
    with pytest.raises(ValueError, match="RMR transport 'pigeon'"):
        XApp(msgspec.structs.replace(settings, rmr_transport="pigeon"))
