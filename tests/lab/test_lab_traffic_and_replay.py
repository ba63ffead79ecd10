"""Users' traffic under the directive in force, through outages, and its exact repetition afterwards."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

import httpx
import msgspec
import numpy as np
import pytest
from lab_doubles import FakeRuntime, FlatModel, small_library

from codec_runtime.contract.telemetry import CapabilityReport, QualityReport
from codec_runtime.serving.settings import RuntimeSettings
from xapp.lab.cell import Cell
from xapp.lab.channel import LinkBudget, ModelChannel
from xapp.lab.metrics import LabMetrics
from xapp.lab.mobility import Mobility, assign_classes
from xapp.lab.records import Transmission, read_transmissions
from xapp.lab.replay import Replay, _pictures_together, static_prefixes
from xapp.lab.settings import LabSettings
from xapp.lab.telemetry_reports import ReportSender, capability_report
from xapp.lab.traffic import Traffic


def lab_settings(out: Path, **changes: Any) -> LabSettings:
    values = {
        "users": 4,
        "out": str(out),
        "runtime_url": "http://runtime",
        "drone_interval_s": 0.05,
        "other_interval_s": 0.05,
        "retry_budget_s": 0.0,
    }
    return msgspec.convert({**values, **changes}, LabSettings)


def flat_cell(settings: LabSettings) -> Cell:
    mobility = Mobility(assign_classes(settings.users), settings.cell_radius_m, settings.seed)
    return Cell(settings, ModelChannel(mobility, FlatModel(), LinkBudget(transmit_dbm=25.0), settings.seed))


def send_until(settings: LabSettings, runtime: FakeRuntime, count: int) -> tuple[Traffic, list[Transmission]]:
    async def run() -> Traffic:
        async with httpx.AsyncClient(base_url=settings.runtime_url, transport=runtime.transport()) as http:
            traffic = Traffic(
                settings,
                flat_cell(settings),
                small_library(),
                LabMetrics(),
                started=time.monotonic(),
                http=http,
            )
            task = asyncio.create_task(traffic.run())
            async with asyncio.timeout(30.0):
                while traffic.finished < count:  # noqa: ASYNC110 - the traffic has no such event
                    await asyncio.sleep(0.01)
            traffic.stop()
            await task
            return traffic

    traffic = asyncio.run(run())
    return traffic, read_transmissions(Path(settings.out) / "transmissions.jsonl")


def test_each_transmission_is_recorded_and_reported_as_the_runtime_did_it(tmp_path: Path) -> None:
    runtime = FakeRuntime(prefix=5, decoder_version=3)
    traffic, sent = send_until(lab_settings(tmp_path), runtime, 8)
    assert len(sent) == traffic.finished >= 8
    assert sorted(t.id for t in sent) == list(range(1, len(sent) + 1))
    for t in sent:
        assert not t.failed
        assert (t.prefix, t.decoder, t.decoder_version, t.encoder_version) == (5, "attention", 3, 1)
        assert t.psnr_db is not None
        assert 10.0 < t.psnr_db < 60.0
        assert t.effective_snr_db == pytest.approx(t.snr_db + 10.0 * np.log10(t.fading_gain))
    quality = [r for r in runtime.reports if isinstance(r, QualityReport)]
    assert {(r.user, r.psnr_db) for r in quality} == {(t.user, t.psnr_db) for t in sent}
    capability = [r for r in runtime.reports if isinstance(r, CapabilityReport)]
    assert {r.user for r in capability} == {"ue-1", "ue-2", "ue-3", "ue-4"}
    assert {r.group for r in capability} == {"mobile", "drone", "car", "fixed"}
    # Two requests of the codec per transmission, and the user is named so that its directive applies.
    assert traffic.client.answered == 2 * len(sent)
    assert all(p["user"].startswith("ue-") for model, p, _ in runtime.calls if model == "encode")
    kept = [t for t in sent if t.sample]
    assert kept
    assert all((tmp_path / "samples" / f"{t.id}_original.png").exists() for t in kept)


def test_an_outage_within_the_retry_budget_is_retried_and_nothing_fails(tmp_path: Path) -> None:
    runtime = FakeRuntime(faults=[httpx.ConnectError("refused"), 503])
    traffic, sent = send_until(lab_settings(tmp_path, retry_budget_s=30.0, users=1), runtime, 1)
    assert traffic.failed == 0
    # A fault may have hit a telemetry post instead; every retry is in the record of its transmission.
    assert sum(t.retries for t in sent) == traffic.retried
    assert all(not t.failed for t in sent)


def test_the_end_does_not_wait_for_a_runtime_that_is_away_and_counts_no_failure(tmp_path: Path) -> None:
    settings = lab_settings(tmp_path, retry_budget_s=600.0, users=1)
    runtime = FakeRuntime(faults=[httpx.ConnectError("refused")] * 10_000)

    async def run() -> Traffic:
        async with httpx.AsyncClient(base_url=settings.runtime_url, transport=runtime.transport()) as http:
            traffic = Traffic(
                settings,
                flat_cell(settings),
                small_library(),
                LabMetrics(),
                started=time.monotonic(),
                http=http,
            )
            task = asyncio.create_task(traffic.run())
            async with asyncio.timeout(30.0):
                while traffic.retried == 0:  # noqa: ASYNC110 - the traffic has no such event
                    await asyncio.sleep(0.01)
                traffic.stop()
                await task
            return traffic

    traffic = asyncio.run(run())
    assert (traffic.finished, traffic.failed) == (0, 0)
    assert read_transmissions(tmp_path / "transmissions.jsonl") == []


def test_a_refused_transmission_counts_as_failed_and_traffic_goes_on(tmp_path: Path) -> None:
    def refuse_once(model: str) -> None:
        runtime.on_call = lambda _: None
        raise httpx.ReadError("gone in the middle")

    runtime = FakeRuntime(on_call=refuse_once)
    traffic, sent = send_until(lab_settings(tmp_path), runtime, 6)
    failed = [t for t in sent if t.failed]
    assert traffic.failed == len(failed) == 1
    assert "gone in the middle" in failed[0].error
    assert failed[0].psnr_db is None


def test_drift_degrades_the_channel_and_the_content_of_its_group_alone(tmp_path: Path) -> None:
    settings = lab_settings(tmp_path, drift_at_s=0.001, degrade_db=6.0)
    cell = flat_cell(settings)
    before = cell.link.sinr_db.copy()
    after = cell.step(0.1, elapsed_s=1.0).sinr_db
    assert (before - after).tolist() == pytest.approx([0.0, 6.0, 0.0, 0.0])
    _, sent = send_until(settings, FakeRuntime(), 8)
    assert {t.user for t in sent if t.drifted} <= {"ue-2"}
    assert {t.drift for t in sent if t.drifted} == {"thermal"}


def test_replay_as_sent_gives_the_very_same_quality(tmp_path: Path) -> None:
    settings = lab_settings(tmp_path, drift_at_s=0.001, drift_kind="night")
    runtime = FakeRuntime()
    _, sent = send_until(settings, runtime, 10)
    replay = Replay(settings, library=small_library(), http_transport=runtime.transport())
    again = {r.id: r for r in replay.as_sent(sent)}
    for t in sent:
        assert again[t.id].psnr_db == pytest.approx(t.psnr_db, abs=1e-4)
        assert again[t.id].ms_ssim == pytest.approx(t.ms_ssim, abs=1e-5)


def test_static_replay_spends_the_same_bandwidth_at_two_neighbouring_rates(tmp_path: Path) -> None:
    settings = lab_settings(tmp_path)
    runtime = FakeRuntime()
    _, sent = send_until(settings, runtime, 9)
    # As if the policy had given every user another rate.
    sent = [msgspec.structs.replace(t, prefix=2 + 3 * (i % 4)) for i, t in enumerate(sent)]
    runtime.calls.clear()
    static = Replay(settings, library=small_library(), http_transport=runtime.transport()).static(sent)
    assert [r.id for r in static] == sorted(t.id for t in sent)
    assert sum(r.prefix for r in static) == sum(t.prefix for t in sent)
    assert max(r.prefix for r in static) - min(r.prefix for r in static) <= 1
    assert all(not p.get("user") for _, p, _ in runtime.calls)


def test_parent_replay_asks_for_the_earlier_version_at_the_rate_of_the_run(tmp_path: Path) -> None:
    settings = lab_settings(tmp_path)
    runtime = FakeRuntime(decoder_version=2)
    _, sent = send_until(settings, runtime, 5)
    runtime.calls.clear()
    parent = Replay(settings, library=small_library(), http_transport=runtime.transport()).parent(sent, 1)
    assert {r.decoder_version for r in parent} == {1}
    assert {p["decoder_version"] for model, p, _ in runtime.calls if model == "decode"} == {1}
    assert {r.id: r.prefix for r in parent} == {t.id: t.prefix for t in sent}


@pytest.mark.parametrize("size", [161, 168, 512, 1024])
def test_a_replayed_request_is_one_that_a_runtime_takes(size: int) -> None:
    limits = RuntimeSettings()
    assert 1 <= _pictures_together(size) <= limits.max_batch
    assert _pictures_together(size) * size**2 <= limits.max_pixels


def test_failed_transmissions_are_not_replayed(tmp_path: Path) -> None:
    settings = lab_settings(tmp_path)
    replay = Replay(settings, library=small_library(), http_transport=FakeRuntime().transport())
    _, sent = send_until(settings, FakeRuntime(), 2)
    assert replay.static([msgspec.structs.replace(t, failed=True) for t in sent]) == []


@pytest.mark.parametrize(
    ("count", "mean", "total"), [(10, 5.3, 53), (7, 6.0, 42), (3, 16.0, 48), (0, 4.0, 0)]
)
def test_static_prefixes_meet_the_mean_exactly(count: int, mean: float, total: int) -> None:
    prefixes = static_prefixes(count, mean, seed=1)
    assert len(prefixes) == count
    assert sum(prefixes) == total
    assert prefixes == static_prefixes(count, mean, seed=1)


def test_a_mean_rate_below_one_channel_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 1"):
        static_prefixes(4, 0.5, seed=1)


def test_reports_wait_for_a_runtime_that_is_away_and_the_oldest_give_way() -> None:
    async def run() -> None:
        runtime = FakeRuntime(faults=[httpx.ConnectError("refused"), 503])
        http = httpx.AsyncClient(base_url="http://runtime", transport=runtime.transport())
        sender = ReportSender(http, capacity=3)
        for i in range(5):
            sender.put(capability_report(f"ue-{i}", "car", i))
        assert sender.lost == 2
        assert not await sender.flush()
        sender.put(capability_report("ue-9", "car", 9))
        assert not await sender.flush()
        assert await sender.flush()
        assert [r.user for r in runtime.reports] == ["ue-3", "ue-4", "ue-9"]
        assert (sender.sent, sender.lost) == (3, 3)

    asyncio.run(run())


def test_reports_that_the_runtime_refuses_for_good_are_not_sent_again() -> None:
    async def run() -> None:
        runtime = FakeRuntime(faults=[400])
        sender = ReportSender(httpx.AsyncClient(base_url="http://runtime", transport=runtime.transport()))
        sender.put(capability_report("ue-1", "car", 1))
        assert not await sender.flush()
        assert await sender.flush()
        assert (runtime.reports, sender.lost) == ([], 1)

    asyncio.run(run())
