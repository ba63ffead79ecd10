"""The whole xApp in one process against simulated others: indications, directives, update, restarts."""

from __future__ import annotations

import asyncio
import json
import math
import random
from pathlib import Path

import httpx
import msgspec
from xapp_laboratory import (
    MEID,
    MemorySdl,
    announce,
    event_kinds,
    laboratory,
    memory_sdl,
    send_quality,
    settings_for,
)
from xapp_simulated_site import eventually

from xapp.app import XApp

__all__ = ["memory_sdl"]  # a fixture that every test uses


def test_indications_become_directives_within_the_budget(tmp_path: Path) -> None:
    async def main() -> None:
        async with laboratory(tmp_path) as (xapp, site, _node, _flow):
            announce(site, 8)
            await eventually(lambda: len(site.in_force) == 8)
            await eventually(lambda: xapp.status.counters["indications"] >= 10)
            prefixes = [directive.prefix for directive in site.in_force.values()]
            assert sum(prefixes) / 8 <= 6.0 + 1e-9
            assert {directive.decoder for directive in site.in_force.values()} == {"attention"}
            assert xapp.status.counters["decode_errors"] == 0
            async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{xapp.http_port}") as http:
                assert (await http.get("/ric/v1/health/alive")).status_code == 200
                assert (await http.get("/ric/v1/health/ready")).status_code == 200
                shown = json.loads((await http.get("/ric/v1/config")).json()[0]["config"])
                assert shown["controls"]["meids"] == [MEID]
                state = (await http.get("/semcom/v1/state")).json()
                metrics = (await http.get("/metrics")).text
            assert len(state["users"]) == 8
            assert state["users"][0]["group"] == "drone"
            assert state["latency_ms"]["loop"]["count"] > 0
            assert state["peers"]["runtime"]["up"]
            assert state["peers"][f"e2:{MEID}"]["up"]
            assert f'semcom_xapp_indications_total{{e2_node="{MEID}",outcome="decoded"}}' in metrics
            assert 'semcom_xapp_peer_up{peer="runtime",site=""} 1.0' in metrics

    asyncio.run(main())


def test_a_stopped_xapp_deletes_its_subscription(tmp_path: Path) -> None:
    async def main() -> None:
        async with laboratory(tmp_path) as (xapp, site, node, _):
            await eventually(lambda: len(node.reportings) == 1)
            await eventually(lambda: site.in_force)
            xapp.stop()
            await eventually(lambda: len(node.reportings) == 0)

    asyncio.run(main())


def test_a_restarted_runtime_gets_the_whole_table(tmp_path: Path) -> None:
    async def main() -> None:
        async with laboratory(tmp_path) as (xapp, site, _, _flow):
            await eventually(lambda: len(site.in_force) == 8)
            site.restart("runtime-2")
            await eventually(lambda: len(site.in_force) == 8)
            assert any(batch.full for batch in site.batches)
            assert "runtime_restarted" in event_kinds(xapp)
            announce(site, 8)  # numbers start again at 1 and are not taken for old ones
            await eventually(lambda: xapp.table.groups.names == ["drone"])

    asyncio.run(main())


def test_stalled_e2_node_is_reported_and_noticed_when_back(tmp_path: Path) -> None:
    async def main() -> None:
        async with laboratory(tmp_path) as (xapp, _site, _, flow):
            peer = f"e2:{MEID}"
            await eventually(lambda: xapp.status.peers.is_up(peer))
            flow.clear()
            await eventually(lambda: not xapp.status.peers.is_up(peer))
            flow.set()
            await eventually(lambda: xapp.status.peers.is_up(peer))
            assert xapp.status.peers.peers[peer].reconnects == 1

    asyncio.run(main())


def test_lost_redis_is_reported_and_the_loop_goes_on(tmp_path: Path, memory_sdl: type[MemorySdl]) -> None:
    async def main() -> None:
        async with laboratory(tmp_path) as (xapp, _site, _, _flow):
            await eventually(lambda: "snapshot" in memory_sdl.values)
            memory_sdl.broken = True
            await eventually(lambda: not xapp.status.peers.is_up("redis"))
            before = xapp.status.counters["indications"]
            await eventually(lambda: xapp.status.counters["indications"] > before + 3)
            memory_sdl.broken = False
            await eventually(lambda: xapp.status.peers.is_up("redis"))
            assert xapp.status.peers.peers["redis"].reconnects == 1

    asyncio.run(main())


def test_drift_leads_to_a_signed_update_of_that_group(tmp_path: Path) -> None:
    async def main() -> None:
        rng = random.Random(1)
        async with laboratory(tmp_path, users=5, rollout_small_observe_s=0.8) as (xapp, site, _, _flow):
            announce(site, 5)
            await eventually(lambda: len(site.in_force) == 5)
            for _ in range(12):
                for user in range(1, 6):
                    send_quality(site, user, rng)
            await eventually(lambda: xapp.status.counters["quality_reports"] == 60)
            assert "drift_detected" not in event_kinds(xapp)
            for _ in range(4):
                for user in range(1, 6):
                    send_quality(site, user, rng, drop_db=4.0)
            on_trial: set[str] = set()
            while xapp.status.counters["updates_pushed"] == 0:
                for user in range(1, 6):
                    if site.in_force[f"ue-{user}"].decoder_version == 2:
                        on_trial.add(f"ue-{user}")
                    send_quality(site, user, rng, drop_db=4.0 - 2.0 * (f"ue-{user}" in on_trial))
                await asyncio.sleep(0.05)
            assert len(on_trial) == 2, "half of five users, rounded down, had it before it was promoted"
            await eventually(lambda: all(d.decoder_version == 2 for d in site.in_force.values()))
            kinds = event_kinds(xapp)
            steps = ("drift_detected", "job_started", "candidate_gated", "rollout_observing", "update_done")
            order = [kinds.index(kind) for kind in steps]
            assert order == sorted(order)
            assert xapp.status.counters["swaps"] == 1
            assert xapp.status.counters["bytes_pushed"] > 1000
            assert next(iter(site.jobs.values())).users == [f"ue-{i}" for i in range(1, 6)]

    asyncio.run(main())


def test_a_refused_candidate_leaves_the_old_version_in_force(tmp_path: Path) -> None:
    async def main() -> None:
        rng = random.Random(2)
        async with laboratory(tmp_path, users=5) as (xapp, site, _, _flow):
            site.gain_db = 0.01
            announce(site, 5)
            await eventually(lambda: len(site.in_force) == 5)
            for drop in [0.0] * 12 + [4.0] * 4:
                for user in range(1, 6):
                    send_quality(site, user, rng, drop_db=drop)
            await eventually(lambda: "candidate_refused" in event_kinds(xapp))
            assert {d.decoder_version for d in site.in_force.values()} == {1}
            assert site.puts == []

    asyncio.run(main())


def test_a_new_process_takes_over_assignments_and_capabilities(
    tmp_path: Path, memory_sdl: type[MemorySdl]
) -> None:
    async def main() -> None:
        async with laboratory(tmp_path) as (xapp, site, _, _flow):
            announce(site, 3)
            await eventually(lambda: xapp.table.groups.names == ["drone"])
            xapp.sites["site-1"].catalog.assign("drone", "attention", 7)
            xapp.planner.note_version("attention", 7)
        async with laboratory(tmp_path) as (second, _site, _, _flow):
            await eventually(lambda: second.sites["site-1"].catalog.assigned == {("drone", "attention"): 7})
            assert set(second.sites.capabilities) == {"ue-1", "ue-2", "ue-3"}

    asyncio.run(main())


def test_percentiles_of_an_unused_reservoir_are_null(tmp_path: Path) -> None:
    xapp = XApp(settings_for(tmp_path, "http://127.0.0.1:1", "http://127.0.0.1:1"))
    from xapp.state_view import build_state

    state = msgspec.json.decode(msgspec.json.encode(build_state(xapp)))
    assert state["latency_ms"]["loop"] == {"p50": None, "p99": None, "count": 0}
    assert state["peers"]["redis"]["up"] is False
    assert not math.isnan(state["uptime_s"])
