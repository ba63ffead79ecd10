"""A whole xApp in one process, its data layer in memory, with an emulated E2 node and a simulated site."""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from xapp_simulated_site import SimulatedSite, eventually, served, synthetic_psnr

from codec_runtime.contract.telemetry import CapabilityReport, QualityReport
from xapp.app import XApp
from xapp.lab.e2_node import E2Node, UserMeasurement
from xapp.lab.subscription_manager import create_app as create_submgr
from xapp.ric import sdl as sdl_module
from xapp.ric_platform import ConfigSource
from xapp.settings import XAppSettings

MEID = "gnb_001_001_00000001"


class MemorySdl:
    """SDLWrapper in memory, which can be taken away."""

    values: dict[str, bytes] = {}
    groups: dict[str, set[bytes]] = {}
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

    def get_members(self, namespace: str, group: str, usemsgpack: bool = True) -> set[bytes]:
        self._check()
        return set(MemorySdl.groups.get(group, set()))

    def add_member(self, namespace: str, group: str, member: bytes, usemsgpack: bool = True) -> None:
        MemorySdl.groups.setdefault(group, set()).add(member)

    def remove_member(self, namespace: str, group: str, member: bytes, usemsgpack: bool = True) -> None:
        MemorySdl.groups.get(group, set()).discard(member)


@pytest.fixture(autouse=True)
def memory_sdl(monkeypatch: pytest.MonkeyPatch) -> type[MemorySdl]:
    MemorySdl.values, MemorySdl.groups, MemorySdl.broken = {}, {}, False
    original = sdl_module.Sdl.__init__

    def patched(self: Any, **arguments: Any) -> None:
        original(self, **{**arguments, "open_wrapper": MemorySdl})

    monkeypatch.setattr(sdl_module.Sdl, "__init__", patched)
    return MemorySdl


@contextlib.asynccontextmanager
async def running(settings: XAppSettings, source: ConfigSource | None = None):
    xapp = XApp(settings, source)
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


def measurements(users: int | Iterable[int]) -> list[UserMeasurement]:
    """Of ``ue-1`` to ``ue-<users>``, or of the users with these numbers."""
    return [
        UserMeasurement(
            amf_ue_ngap_id=i,
            sinr_db=-2.0 + i,
            cqi=min(15, i),
            rsrp_dbm=-100.0 + i,
            throughput_kbps=1000 + i,
            prb_percent=5,
        )
        for i in (range(1, users + 1) if isinstance(users, int) else users)
    ]


@contextlib.asynccontextmanager
async def laboratory(tmp_path: Path, users: int = 8, source: ConfigSource | None = None, **changes: Any):
    """(xapp, site, node, reporter control) with a reporting E2 node."""
    from xapp.delivery.repository import init_repository
    from xapp.delivery.roles import DIRECTED

    root = init_repository(tmp_path / "xapp" / "tuf", layout=DIRECTED)
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
        async with running(settings, source) as xapp:
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


def announce(site: SimulatedSite, users: int | Iterable[int], group: str = "drone") -> None:
    for i in range(1, users + 1) if isinstance(users, int) else users:
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
