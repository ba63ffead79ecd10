"""The whole way of an alignment drift: xApp process, real runtime, federated rounds, roll-out, recovery."""

from __future__ import annotations

import asyncio
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest
from aligned_site import WORLD, scenes, show, write_aligned, write_knowledge
from runtime_site import Site, serve

sys.path.insert(0, str(Path(__file__).parents[1] / "xapp"))

from xapp_laboratory import memory_sdl, running
from xapp_simulated_site import eventually

from codec_runtime.contract import paths
from codec_runtime.contract.telemetry import CapabilityReport
from xapp.app import XApp
from xapp.delivery.repository import TufRepository
from xapp.delivery.roles import DIRECTED
from xapp.lab.captioned import IMAGE_ENCODER, CaptionedWorld
from xapp.settings import XAppSettings

__all__ = ["memory_sdl"]  # a fixture that the test uses

NOWHERE = "http://127.0.0.1:1"
USERS = [f"ue-{number}" for number in range(1, 5)]


def settings_for(tmp_path: Path, url: str) -> XAppSettings:
    return XAppSettings(
        rmr_port=0, http_port=0, http_host="127.0.0.1", rmr_transport="wire", discover=False, meids=[],
        submgr_url=NOWHERE, appmgr_url=NOWHERE, runtime_url=url, state_dir=str(tmp_path / "xapp"),
        remove_after_s=600.0, update_collect_s=2.0, rollout_small_observe_s=1.0, update_budget_s=40.0,
    )  # fmt: skip


def announce(site: Site) -> None:
    reports = [
        CapabilityReport(
            user=user, time_ns=time.time_ns(), device_class="drone", group="drone", decoders=["attention"],
            compute_gflops=10.0,
        )
        for user in USERS
    ]
    httpx.post(site.url + paths.TELEMETRY, content=msgspec.msgpack.encode(reports)).raise_for_status()


@contextmanager
def cameras(site: Site) -> Iterator[list[CaptionedWorld]]:
    """Users that align captioned pictures of the world in the list, until the end."""
    world, over = [WORLD], threading.Event()

    def work() -> None:
        turn = 0
        while not over.is_set():
            for place, user in enumerate(USERS):
                show(site.address, user, scenes(8, 1000 * place + turn, world[0]), 8 * turn)
            turn += 1
            over.wait(0.05)

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield world
    finally:
        over.set()
        thread.join(20)


def told(xapp: XApp, kind: str) -> list[dict[str, Any]]:
    return [event for event in xapp.status.events.after(0) if event["kind"] == kind]


@pytest.mark.slow
def test_a_drift_of_the_pictures_encoder_leads_to_a_new_adapter_and_confidence_comes_back(
    weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("codec_runtime.serving.alignment_site.REPORT_EVERY_S", 0.2)
    write_aligned(weights, write_knowledge(weights), epochs=25)
    repository = TufRepository(tmp_path / "xapp" / "tuf", layout=DIRECTED)

    async def main(site: Site) -> int:
        with cameras(site) as world:
            async with running(settings_for(tmp_path, site.url)) as xapp:
                announce(site)
                sources = xapp.coordinator.alignment.confidence
                await eventually(lambda: len(sources) >= 3, 30)
                await asyncio.sleep(8.0)  # baselines
                assert told(xapp, "alignment_drift") == []
                world[0] = WORLD.drifted(0.8)
                await eventually(lambda: told(xapp, "alignment_recovered"), 120)
                kinds = [event["kind"] for event in xapp.status.events.after(0)]
                (recovered,) = told(xapp, "alignment_recovered")
                state = xapp.coordinator.alignment.view()["recoveries"][0]
                assert xapp.planner.plan("drone").choice == "adapter"
                link = xapp.sites.links[0]
                assert link.adapters.assigned == {("drone", "shared"): recovered["version"]}
                await eventually(lambda: len(link.alignment.assignments()) == len(USERS))
        order = ["alignment_drift", "round_started", "round_done", "candidate_gated", "rollout_done",
                 "update_done", "alignment_recovered"]
        # On a busy machine a first attempt may end before it has learned enough; another follows.
        assert [kind for kind in kinds if kind in order][-len(order) + 1 :] == order[1:]
        assert "alignment_drift" in kinds
        assert recovered["during"] < recovered["before"] - 0.05
        assert recovered["after"] > recovered["during"] + 0.05
        assert state["after"] == recovered["after"]
        return int(recovered["version"])

    root = str(repository.trusted_root)
    with serve(weights, tmp_path / "state", trusted_root=root, training_nice=0) as site:
        version = asyncio.run(main(site))
        page = httpx.get(f"{site.url}/metrics", timeout=10).text
        assert f'adapter="shared",encoder="{IMAGE_ENCODER}",version="{version}"' in page
