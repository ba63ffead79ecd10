"""The whole xApp against a simulated site that publishes cuts: sent, rejected, sent again, shown."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

import httpx
from classifying_scene import ALL_ON_EDGE, NETWORK, capability, graph, published
from xapp_laboratory import event_kinds, laboratory, memory_sdl
from xapp_simulated_site import SimulatedSite, eventually

from codec_runtime.contract.classification import SplitReport

__all__ = ["memory_sdl"]  # a fixture that every test uses

FAST: dict[str, Any] = {"split": {"period_s": 0.1, "per_joule": 0.0, "band": 0.0, "patience": 0.0}}


def _publish(site: SimulatedSite) -> None:
    site.classifiers = list(published())
    site.graphs[graph().digest] = graph()


def test_classifying_users_get_cuts_and_a_restarted_runtime_gets_them_again(tmp_path: Path) -> None:
    async def main() -> None:
        async with laboratory(tmp_path, 4, **FAST) as (xapp, site, _, _flow):
            site.classifiers = list(published())  # its graph comes later
            site.report(capability("ue-1", "sensor-small"))
            site.report(capability("ue-2", "drone"))
            await eventually(lambda: len(site.in_force) == 4 and xapp.table.row("ue-2") is not None)
            assert site.splits == {}
            _publish(site)
            await eventually(lambda: len(site.splits) == 2)
            assert {split.network for split in site.splits.values()} == {NETWORK}
            before = dict(site.splits)
            site.restart("runtime-2")
            await eventually(lambda: site.splits == before)
            assert site.batches[-1].full or any(batch.full for batch in site.batches)
            async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{xapp.http_port}") as http:
                state = (await http.get("/semcom/v1/state")).json()
                metrics = (await http.get("/metrics")).text
            assert sum(row["users"] for row in state["sites"][0]["cuts"]["users"]) == 2
            shown = {user["user"]: user["cut"] for user in state["users"]}
            assert shown["ue-2"]["cut"] == before["ue-2"].cut
            assert shown["ue-3"] is None
            assert f'semcom_xapp_users_on_cut{{cut="{before["ue-2"].cut}"' in metrics
            assert "semcom_xapp_split_decision_seconds_count" in metrics
            assert 'semcom_xapp_part_events_total{cause="",event="firsts",part="splits"} 2.0' in metrics

    asyncio.run(main())


def test_a_rejected_cut_is_replaced_and_the_codec_directive_stays(tmp_path: Path) -> None:
    async def main() -> None:
        async with laboratory(tmp_path, 2, **FAST) as (xapp, site, _, _flow):
            _publish(site)
            site.report(capability("ue-1", "sensor-small"))
            await eventually(lambda: "ue-1" in site.splits and "ue-1" in site.in_force)
            refused = site.splits["ue-1"].cut
            site.refused_cuts.add(refused)
            site.restart("runtime-2")
            await eventually(lambda: "ue-1" in site.splits)
            assert site.splits["ue-1"].cut != refused
            await eventually(lambda: "ue-1" in site.in_force)
            assert xapp.sites.links[0].splits.controller.counters.rejected >= 1

    asyncio.run(main())


def test_what_devices_measure_moves_their_cut_and_is_told(tmp_path: Path) -> None:
    async def main() -> None:
        async with laboratory(tmp_path, 2, **FAST) as (xapp, site, _, _flow):
            _publish(site)
            site.report(capability("ue-1", "wearable"))
            await eventually(lambda: "ue-1" in site.splits)
            first = site.splits["ue-1"].cut
            for _ in range(20):
                site.report(
                    SplitReport(
                        user="ue-1", network=NETWORK, version=1, cut=ALL_ON_EDGE.cut, device_class="wearable",
                        time_ns=time.time_ns(), device_ms=1.0, network_ms=60_000.0, edge_ms=30_000.0,
                        feature_bytes=ALL_ON_EDGE.feature_bytes,
                    )
                )
            await eventually(lambda: site.splits["ue-1"].cut != first)
            await eventually(lambda: "cut_moved" in event_kinds(xapp))
            assert xapp.sites.links[0].splits.controller.counters.reports == 20

    asyncio.run(main())
