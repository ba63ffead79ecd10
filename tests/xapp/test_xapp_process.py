"""The whole xApp in one process against simulated others: indications, directives, update, restarts."""

from __future__ import annotations

import asyncio
import contextlib
import math
import random
import time
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest
from xapp_simulated_site import SimulatedSite, eventually, served, synthetic_psnr

from codec_runtime.contract.telemetry import CapabilityReport, QualityReport
from xapp.app import XApp
from xapp.lab.e2_node import E2Node, UserMeasurement
from xapp.lab.subscription_manager import create_app as create_submgr
from xapp.ric import sdl as sdl_module
from xapp.settings import XAppSettings

MEID = "gnb_001_001_00000001"


class MemorySdl:
    """SDLWrapper in memory, which can be taken away."""

    values: dict[str, bytes] = {}
    broken = False

    def _check(self) -> None:
        if MemorySdl.broken:
            raise ConnectionError("redis is away")

    def get(self, namespace: str, key: str, usemsgpack: bool = True) -> bytes | None:
        self._check()
        return MemorySdl.values.get(key)

    def set(self, namespace: str, key: str, value: bytes, usemsgpack: bool = True) -> None:
        self._check()
        MemorySdl.values[key] = value

    def delete(self, namespace: str, key: str) -> None:
        self._check()
        MemorySdl.values.pop(key, None)


@pytest.fixture(autouse=True)
def memory_sdl(monkeypatch: pytest.MonkeyPatch) -> type[MemorySdl]:
    MemorySdl.values, MemorySdl.broken = {}, False
    original = sdl_module.Sdl.__init__

    def patched(self: Any, **arguments: Any) -> None:
        original(self, **{**arguments, "open_wrapper": MemorySdl})

    monkeypatch.setattr(sdl_module.Sdl, "__init__", patched)
    return MemorySdl


@contextlib.asynccontextmanager
async def running(settings: XAppSettings):
    xapp = XApp(settings)
    task = asyncio.create_task(xapp.run())
    try:
        await eventually(lambda: xapp.transport is not None or task.done())
        if task.done():
            task.result()
        yield xapp
    finally:
        xapp.stop()
        await asyncio.wait_for(task, 20)


def settings_for(tmp_path: Path, submgr: str, runtime: str, **changes: Any) -> XAppSettings:
    values: dict[str, Any] = {
        "rmr_port": 0,
        "http_port": 0,
        "submgr_url": submgr,
        "runtime_url": runtime,
        "state_dir": str(tmp_path / "xapp"),
        "snapshot_period_s": 0.2,
        "update_cooldown_s": 1.0,
        "update_collect_s": 0.0,
    }
    return msgspec.convert(values | changes, XAppSettings)


def measurements(users: int) -> list[UserMeasurement]:
    return [
        UserMeasurement(
            amf_ue_ngap_id=i,
            sinr_db=-2.0 + i,
            cqi=min(15, i),
            rsrp_dbm=-100.0 + i,
            throughput_kbps=1000 + i,
            prb_percent=5,
        )
        for i in range(1, users + 1)
    ]


@contextlib.asynccontextmanager
async def laboratory(tmp_path: Path, users: int = 8, **changes: Any):
    """(xapp, site, node, reporter control) with a reporting E2 node."""
    from xapp.delivery.repository import init_repository

    root = init_repository(tmp_path / "xapp" / "tuf")
    site = SimulatedSite(root.read_bytes())
    node = E2Node(MEID)
    flow = asyncio.Event()
    flow.set()

    async def report() -> None:
        while True:
            await flow.wait()
            node.report(measurements(users), time.time())
            await asyncio.sleep(0.02)

    async with (
        served(site.app()) as runtime_url,
        served(create_submgr(node, early_notification=True)) as submgr_url,
    ):
        settings = settings_for(tmp_path, submgr_url, runtime_url, report_period_ms=50, **changes)
        async with running(settings) as xapp:
            reporter = asyncio.create_task(report())
            try:
                yield xapp, site, node, flow
            finally:
                flow.set()
                # The reporter goes on until the xApp has drained.
                xapp.stop()
                await asyncio.sleep(0)
                reporter.cancel()
        await node.close()


def announce(site: SimulatedSite, users: int, group: str = "drone") -> None:
    for i in range(1, users + 1):
        site.report(
            CapabilityReport(
                user=f"ue-{i}",
                time_ns=time.time_ns(),
                device_class="drone",
                group=group,
                decoders=["attention", "conv"],
                compute_gflops=50.0,
            )
        )


def send_quality(site: SimulatedSite, user: int, rng: random.Random, drop_db: float = 0.0) -> None:
    directive = site.in_force[f"ue-{user}"]
    snr = -2.0 + user + rng.gauss(0, 0.5)
    psnr = synthetic_psnr(snr, directive.prefix) + rng.gauss(0, 1.0) - drop_db
    site.report(
        QualityReport(
            user=f"ue-{user}",
            time_ns=time.time_ns(),
            prefix=directive.prefix,
            decoder=directive.decoder,
            decoder_version=directive.decoder_version,
            snr_db=snr,
            psnr_db=psnr,
            ms_ssim=0.9,
            latency_ms=20.0,
        )
    )


def event_kinds(xapp: XApp) -> list[str]:
    return [event["kind"] for event in xapp.status.events.after(0)]


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
                assert (await http.get("/ric/v1/config")).json()["controls"]["meids"] == [MEID]
                state = (await http.get("/semcom/v1/state")).json()
                metrics = (await http.get("/metrics")).text
            assert len(state["users"]) == 8
            assert state["users"][0]["group"] == "drone"
            assert state["latency_ms"]["loop"]["count"] > 0
            assert state["peers"]["runtime"]["up"]
            assert state["peers"][f"e2:{MEID}"]["up"]
            assert f'semcom_xapp_indications_total{{e2_node="{MEID}",outcome="decoded"}}' in metrics
            assert 'semcom_xapp_peer_up{peer="runtime"} 1.0' in metrics

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
        async with laboratory(tmp_path, users=5) as (xapp, site, _, _flow):
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
            await eventually(lambda: xapp.status.counters["updates_pushed"] == 1)
            await eventually(lambda: all(d.decoder_version == 2 for d in site.in_force.values()))
            kinds = event_kinds(xapp)
            order = [
                kinds.index(k) for k in ("drift_detected", "job_started", "candidate_gated", "update_done")
            ]
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
            xapp.catalog.assign("drone", "attention", 7)
            xapp.planner.note_version("attention", 7)
        async with laboratory(tmp_path) as (second, _site, _, _flow):
            await eventually(lambda: second.catalog.assigned == {("drone", "attention"): 7})
            assert set(second.site_watch.capabilities) == {"ue-1", "ue-2", "ue-3"}

    asyncio.run(main())


def test_percentiles_of_an_unused_reservoir_are_null(tmp_path: Path) -> None:
    xapp = XApp(settings_for(tmp_path, "http://127.0.0.1:1", "http://127.0.0.1:1"))
    from xapp.state_view import build_state

    state = msgspec.json.decode(msgspec.json.encode(build_state(xapp)))
    assert state["latency_ms"]["loop"] == {"p50": None, "p99": None, "count": 0}
    assert state["peers"]["redis"]["up"] is False
    assert not math.isnan(state["uptime_s"])
