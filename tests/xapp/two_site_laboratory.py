"""A whole xApp in one process with two base stations: an emulated E2 node and a simulated site each."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from starlette.responses import Response
from xapp_laboratory import measurements, running, settings_for
from xapp_simulated_site import SimulatedSite, served

from xapp.app import XApp
from xapp.delivery.repository import init_repository
from xapp.delivery.roles import DIRECTED
from xapp.lab.e2_node import E2Node, Reporting
from xapp.lab.subscription_manager import create_app as create_submgr

BERLIN, TOKYO = "berlin", "tokyo"
MEIDS = {BERLIN: "gnb_262_001_00000001", TOKYO: "gnb_440_001_00000001", "nowhere": "gnb_999_001_00000001"}


class Region:
    """E2 nodes under one subscription manager."""

    def __init__(self) -> None:
        self.nodes = {meid: E2Node(meid) for meid in MEIDS.values()}

    async def start_reporting(self, reporting: Reporting) -> None:
        await self.nodes[reporting.meid].start_reporting(reporting)

    async def stop_reporting(self, instance_id: int, endpoint: tuple[str, int] | None = None) -> None:
        for node in self.nodes.values():
            await node.stop_reporting(instance_id, endpoint)


class Station:
    """A simulated site that can be away: every request is then answered 503."""

    def __init__(self, name: str, root: bytes) -> None:
        self.site = SimulatedSite(root, name)
        self.site.instance = f"{name}-1"
        self.away = False
        self._app = self.site.app()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if self.away:
            await Response("away", 503)(scope, receive, send)
        else:
            await self._app(scope, receive, send)


@dataclass
class Laboratory:
    """Everything of a test; ``users`` by place may be changed, so that a user is handed over."""

    xapp: XApp
    berlin: SimulatedSite
    tokyo: SimulatedSite
    stations: dict[str, Station]
    users: dict[str, set[int]] = field(default_factory=dict)

    def peer_up(self, peer: str, site: str) -> bool:
        return self.xapp.status.peers.is_up(peer, site)


@contextlib.asynccontextmanager
async def two_sites(tmp_path: Path, **changes: Any) -> AsyncIterator[Laboratory]:
    """Users 1 to 4 in Berlin, 5 to 8 in Tokyo. ``urls`` (by site) replaces a runtime's address."""
    root = init_repository(tmp_path / "xapp" / "tuf", layout=DIRECTED).read_bytes()
    stations = {name: Station(name, root) for name in (BERLIN, TOKYO)}
    users = {BERLIN: {1, 2, 3, 4}, TOKYO: {5, 6, 7, 8}, "nowhere": set[int]()}
    region = Region()
    urls = changes.pop("urls", {})

    async def report() -> None:
        while True:
            for place, meid in MEIDS.items():
                region.nodes[meid].report(measurements(sorted(users[place])), time.time())
            await asyncio.sleep(0.02)

    async with contextlib.AsyncExitStack() as stack:
        for name, station in stations.items():
            url = await stack.enter_async_context(served(station))  # type: ignore[arg-type]
            urls.setdefault(name, url)
        submgr = await stack.enter_async_context(served(create_submgr(region, early_notification=True)))
        settings = settings_for(
            tmp_path,
            submgr,
            "http://127.0.0.1:1",
            **{
                "report_period_ms": 50,
                "meids": [MEIDS["nowhere"]],
                "sites": {name: {"url": urls[name], "meids": [MEIDS[name]]} for name in stations},
                **changes,
            },
        )
        xapp = await stack.enter_async_context(running(settings))
        reporter = asyncio.create_task(report())
        try:
            yield Laboratory(xapp, stations[BERLIN].site, stations[TOKYO].site, stations, users)
        finally:
            # The reporter goes on until the xApp has drained.
            xapp.stop()
            await asyncio.sleep(0)
            reporter.cancel()
            for node in region.nodes.values():
                await node.close()
