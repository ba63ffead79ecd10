"""Updates of a group or site that fail are no matter of the others; what a site lost comes back politely."""

from __future__ import annotations

import asyncio
from collections import Counter
from pathlib import Path
from typing import Any

from xapp_laboratory import event_kinds, memory_sdl
from xapp_simulated_site import ENCODER_WEIGHTS, bundle_files, eventually, make_manifest

from codec_runtime.contract.telemetry import CapabilityReport, QualityReport, TrainingReport
from codec_runtime.contract.updates import ActivationReport, InboxListing
from xapp.app import XApp
from xapp.rollout.orders import RolloutOrder
from xapp.settings import XAppSettings
from xapp.updates.planner import Stage
from xapp.updates.restoration import LostBundles

__all__ = ["memory_sdl"]

ENCODER = make_manifest("encoder", "anchor", 1, ENCODER_WEIGHTS)
CONV = make_manifest("decoder", "conv", 1, b"one")
TUNED = make_manifest("decoder", "conv", 2, b"two", parent=1)


def idle(tmp_path: Path) -> XApp:
    """An xApp whose site serves conv 1; nothing runs."""
    xapp = XApp(XAppSettings(state_dir=str(tmp_path), update_collect_s=0.0, update_min_pictures=0))
    xapp.sites.links[0].catalog.update([ENCODER, CONV])
    return xapp


def drift(xapp: XApp, group: str) -> None:
    """Five users of a group lose 5 dB."""
    for number in range(5):
        user = f"{group}-{number}"
        capability = CapabilityReport(
            user=user, time_ns=0, device_class="drone", group=group, decoders=["conv"], compute_gflops=1.0
        )
        xapp.table.fold_capability(capability)
        xapp.table.fold_indication("gnb", [user], {"SINR": [9.0]}, 0.0)
    xapp.table.decoder[:] = xapp.table.decoders.index("conv")
    for drop_db in [0.0] * 12 + [5.0] * 12:
        for number in range(5):
            report = QualityReport(
                user=f"{group}-{number}", time_ns=0, prefix=6, decoder="conv", decoder_version=1, snr_db=9.0,
                psnr_db=28.0 - drop_db + 0.3 * (number % 3), ms_ssim=0.9, latency_ms=1.0,
            )  # fmt: skip
            row = xapp.table.fold_quality(report, 28.0, 0.0)
            xapp.coordinator.on_quality(report, 28.0, row)


def test_a_step_that_fails_ends_the_plan_of_its_group_alone(tmp_path: Path) -> None:
    async def main() -> None:
        xapp = idle(tmp_path)
        planner = xapp.planner
        for group in ("car", "drone"):
            drift(xapp, group)
        parents = {("car", "conv"): 1, ("drone", "conv"): 1}
        now = xapp.clock()
        first = planner.next_job(parents, now)
        assert first is not None
        planner.on_training(TrainingReport(job=first[1].job, time_ns=0, state="succeeded"), now)
        planner.on_accepted(first[1].job, 1.0, now)
        second = planner.next_job(parents, now)
        assert second is not None
        planner.on_training(TrainingReport(job=second[1].job, time_ns=0, state="succeeded"), now)
        xapp.coordinator._rolling[first[1].job] = "a roll-out"

        async def candidate(job: str) -> Any:
            raise OSError("no space left")

        xapp.sites.links[0].client.candidate = candidate  # type: ignore[method-assign]
        task = asyncio.create_task(xapp.coordinator.run(0.01))
        await eventually(lambda: planner.plan(second[0]).stage is Stage.BACKOFF)
        assert planner.plan(first[0]).stage is Stage.DELIVERING
        task.cancel()

    asyncio.run(main())


def test_no_training_begins_while_a_roll_out_of_the_group_would_refuse_its_result(tmp_path: Path) -> None:
    xapp = idle(tmp_path)
    xapp.repository.publish(TUNED, bundle_files(TUNED, b"two"), ())
    xapp.rollouts.start(RolloutOrder(group="drone", family="conv", version=2, parent=1))
    drift(xapp, "drone")
    assert xapp.planner.plan("drone").stage is Stage.STEADY
    drift(xapp, "car")
    assert xapp.planner.plan("car").stage is Stage.DRIFTED


def test_pictures_count_where_they_are_trained_on(tmp_path: Path) -> None:
    xapp = idle(tmp_path)
    drift(xapp, "drone")
    counted = xapp.planner.plan("drone").pictures
    assert 0 < counted < 60
    drift(xapp, "car")
    assert xapp.planner.plan("drone").pictures == counted


def test_a_site_that_refuses_what_it_lost_is_told_of_once(tmp_path: Path) -> None:
    async def main() -> None:
        xapp = idle(tmp_path)
        xapp.repository.publish(TUNED, bundle_files(TUNED, b"two"), ())
        link = xapp.sites.links[0]
        link.catalog.assign("drone", "conv", 2)
        xapp.status.peers.up("runtime")
        client: Any = link.client
        asked = Counter[str]()

        async def inbox() -> InboxListing:
            asked["inbox"] += 1
            return InboxListing(targets={})

        async def put(*what: Any) -> int:
            return int(what[1].last) + 1 if len(what) == 3 else 0

        async def activate(bundles: list[str]) -> ActivationReport:
            return ActivationReport(instance="i", outcome="refused", error="NotAssignedError")

        async def refresh() -> bool:
            return False

        client.inbox, client.put_metadata, client.put_chunk, client.activate = inbox, put, put, activate
        link.watch.refresh = refresh  # type: ignore[method-assign]
        lost = LostBundles(xapp.sites, xapp.rollouts, xapp.status)
        assert await lost.look(link)
        assert asked["inbox"] == 0, "the roll-outs of before are not known yet"
        await xapp.rollouts.round()
        assert not await lost.look(link)
        assert not await lost.look(link)
        assert asked["inbox"] == 2
        assert event_kinds(xapp).count("site_refused") == 1
        await xapp.sdl.close()

    asyncio.run(main())
