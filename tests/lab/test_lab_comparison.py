"""Devices restore their first pictures with a new version by its parent too, and report both."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest
from lab_doubles import FakeRuntime, small_library

from codec_runtime.contract.telemetry import QualityReport
from xapp.lab.comparison import COMPARED, Comparisons
from xapp.lab.device_updates import DeviceUpdates, Fleet
from xapp.lab.inference_client import CodecClient
from xapp.lab.pictures import Crop
from xapp.lab.transmission import Draw, Restored, send_picture

NEW, OLD = ("attention", 4), ("attention", 3)


def comparisons() -> Comparisons:
    made = Comparisons()
    made.parents = {OLD: None, NEW: 3}
    return made


def send(runtime: FakeRuntime, made: Comparisons) -> Restored:
    async def run() -> Restored:
        async with httpx.AsyncClient(base_url="http://runtime", transport=runtime.transport()) as http:
            with ThreadPoolExecutor(1) as executor:
                draw = Draw(Crop("p0", 0, 0, 168), None, seed=7, snr_db=12.0, diversity=0)
                return await send_picture(
                    CodecClient(http), small_library(), "ue-1", draw, executor,
                    parent_of=lambda decoder: made.parent(0, decoder, None),
                )  # fmt: skip

    return asyncio.run(run())


def test_only_the_first_pictures_with_a_new_version_are_restored_twice() -> None:
    made = comparisons()
    asked = [made.parent(0, NEW, None) for _ in range(COMPARED + 3)]
    assert asked == [3] * COMPARED + [None] * 3
    assert made.parent(1, NEW, None) == 3, "every device counts its own"
    assert made.parent(0, OLD, None) is None, "a base has no parent"


@pytest.mark.parametrize(("held", "parent"), [({NEW, OLD}, 3), ({NEW}, None)])
def test_a_parent_that_the_device_does_not_hold_is_not_asked_for(held: set, parent: int | None) -> None:
    assert comparisons().parent(0, NEW, held) == parent


def test_a_parent_that_the_site_serves_no_longer_is_not_asked_for() -> None:
    made = comparisons()
    made.parents = {NEW: 3}
    assert made.parent(0, NEW, None) is None


def test_both_versions_restore_the_same_symbols() -> None:
    runtime = FakeRuntime(decoder_version=4)
    outcome = send(runtime, comparisons())
    decoded = [call for call in runtime.calls if call[0] == "decode"]
    assert [parameters["decoder_version"] for _, parameters, _ in decoded] == [4, 3]
    assert (decoded[0][2]["symbols"] == decoded[1][2]["symbols"]).all()
    assert outcome.parent_version == 3
    assert outcome.parent_psnr_db == pytest.approx(outcome.psnr_db), "the double restores alike"


def test_a_comparison_that_fails_costs_the_picture_nothing() -> None:
    def fail_third(model: str) -> None:
        if len(runtime.calls) == 3:
            raise httpx.ReadError("gone")

    runtime = FakeRuntime(decoder_version=4, on_call=fail_third)
    outcome = send(runtime, comparisons())
    assert (outcome.parent_version, outcome.parent_psnr_db) == (0, None)
    assert outcome.psnr_db > 10.0


def test_parents_are_those_of_the_site() -> None:
    made = Comparisons()

    async def look() -> bool:
        transport = FakeRuntime(served=[NEW, OLD]).transport()
        async with httpx.AsyncClient(base_url="http://runtime", transport=transport) as http:
            fleet = Fleet(["drone"], 1.0, 1)
            return await DeviceUpdates(fleet, http, lambda _: None, lambda: 0.0, made).look()

    assert asyncio.run(look())
    assert made.parents == {NEW: None, OLD: None}


def test_a_report_of_an_earlier_client_has_no_parent() -> None:
    report = QualityReport(
        user="u", time_ns=1, prefix=6, decoder="attention", decoder_version=4, snr_db=9.0, psnr_db=27.0,
        ms_ssim=0.9, latency_ms=20.0,
    )  # fmt: skip
    assert (report.parent_version, report.parent_psnr_db) == (0, None)
