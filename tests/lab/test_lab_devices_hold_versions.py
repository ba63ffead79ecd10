"""Emulated devices say what they hold, download what appears, and decode only what they hold."""

from __future__ import annotations

import asyncio
import io
from pathlib import Path

import httpx
import numpy as np
import pytest
from lab_doubles import FakeRuntime, small_library
from PIL import Image
from test_lab_traffic_and_replay import lab_settings, send_until

from codec_runtime.contract.telemetry import CapabilityReport, FailureReport, QualityReport
from xapp.lab.device_updates import KEPT, DeviceUpdates, Fleet
from xapp.lab.inference_client import CodecClient, Encoded, InferenceError
from xapp.lab.pictures import Crop
from xapp.lab.transmission import Draw, arrives, send_picture

CLASSES = ("mobile", "drone", "car", "fixed")
BASE = frozenset({("attention", 1), ("conv", 1)})


def fleet(**settings: str) -> Fleet:
    return Fleet(CLASSES, 2.0, 1, **settings)


def jpeg(side: int = 168) -> bytes:
    file = io.BytesIO()
    library = small_library()
    picture = library.crop(Crop(library.names[0], 0, 0, side))
    Image.fromarray(picture).save(file, "JPEG", quality=80)
    return file.getvalue()


def test_devices_are_sold_with_what_is_served_and_can_be_run_by_them() -> None:
    devices = fleet()
    assert devices.holds(0) is None
    assert devices.look(BASE, 0.0) == [0, 1, 2, 3]
    assert devices.holds(1) == BASE
    assert devices.holds(3) == {("conv", 1)}


def test_an_update_is_on_board_after_the_download_and_not_before() -> None:
    devices = fleet(no_updates="car")
    devices.look(BASE, 0.0)
    served = BASE | {("attention", 2)}
    assert devices.look(served, 10.0) == []
    assert devices.holds(1) == BASE
    assert devices.look(served, 13.1) == [0, 1]
    assert devices.holds(1) == served
    assert devices.holds(2) == BASE
    assert devices.look(served, 20.0) == []


def test_a_class_without_decoders_holds_none_from_the_start() -> None:
    devices = fleet(no_decoders="fixed")
    assert devices.holds(3) == frozenset()
    devices.look(BASE, 0.0)
    assert devices.holds(3) == frozenset()


def test_the_oldest_versions_give_way() -> None:
    devices = fleet()
    for version in range(1, KEPT + 4):
        devices.look(frozenset({("attention", version)}), 100.0 * version)
        devices.look(frozenset({("attention", version)}), 100.0 * version + 50.0)
    assert devices.holds(0) == {("attention", version) for version in range(4, KEPT + 4)}


def test_a_runtime_that_lists_nothing_readable_changes_nothing() -> None:
    async def looks(answer: httpx.Response) -> bool:
        transport = httpx.MockTransport(lambda request: answer)
        async with httpx.AsyncClient(base_url="http://runtime", transport=transport) as http:
            return await DeviceUpdates(fleet(), http, pytest.fail, lambda: 0.0).look()

    assert not asyncio.run(looks(httpx.Response(200, content=b"\xc1")))
    assert not asyncio.run(looks(httpx.Response(503)))


def test_capability_reports_carry_what_is_held_and_quality_reports_the_pair(tmp_path: Path) -> None:
    runtime = FakeRuntime(served=sorted(BASE))
    send_until(lab_settings(tmp_path), runtime, 4)
    reports = [r for r in runtime.reports if isinstance(r, CapabilityReport) and r.holds is not None]
    assert {(held.family, held.version) for held in reports[-1].holds or ()} == {("conv", 1)}
    assert reports[-1].fallbacks == ["jpeg"]
    quality = [r for r in runtime.reports if isinstance(r, QualityReport)]
    assert {(r.encoder_version, r.codec) for r in quality} == {(1, "semantic")}


def test_a_picture_for_a_decoder_that_the_device_lacks_is_never_decoded(tmp_path: Path) -> None:
    runtime = FakeRuntime(served=[("attention", 1)], decoder_version=2)
    settings = lab_settings(tmp_path, no_decoder_class="mobile", users=1)
    _, sent = send_until(settings, runtime, 2)
    assert all(t.failed and "does not hold" in t.error for t in sent)
    assert {model for model, _, _ in runtime.calls} == {"encode"}
    failures = [r for r in runtime.reports if isinstance(r, FailureReport)]
    assert {(r.user, r.decoder, r.decoder_version) for r in failures} == {("ue-1", "attention", 2)}


def test_a_failed_decode_names_the_decoder_that_should_have_restored() -> None:
    async def run() -> InferenceError:
        runtime = FakeRuntime(decoder_version=7)
        runtime.on_call = lambda model: runtime.faults.append(500) if model == "encode" else None
        async with httpx.AsyncClient(base_url="http://runtime", transport=runtime.transport()) as http:
            library = small_library()
            draw = Draw(Crop(library.names[0], 0, 0, 168), None, 1, 10.0, 0)
            from concurrent.futures import ThreadPoolExecutor

            with ThreadPoolExecutor(1) as executor, pytest.raises(InferenceError) as failure:
                await send_picture(CodecClient(http), library, "ue-1", draw, executor)
            return failure.value

    assert asyncio.run(run()).decoder == ("attention", 7)


def test_conventional_bytes_are_decoded_on_the_device(tmp_path: Path) -> None:
    runtime = FakeRuntime(file=jpeg(), file_snr_db=-2.0)
    _, sent = send_until(lab_settings(tmp_path, users=1, fading="none"), runtime, 2)
    assert {model for model, _, _ in runtime.calls} == {"encode"}
    for t in sent:
        assert (t.codec, t.decoder, t.failed, t.lost, t.repeatable) == ("jpeg", "", False, False, False)
        assert t.psnr_db is not None
    quality = [r for r in runtime.reports if isinstance(r, QualityReport)]
    assert {(r.codec, r.encoder_version, r.decoder_version) for r in quality} == {("jpeg", 0, 0)}


def test_bytes_that_the_channel_loses_are_a_lost_picture_not_a_failed_request(tmp_path: Path) -> None:
    runtime = FakeRuntime(file=jpeg(), file_snr_db=60.0)
    traffic, sent = send_until(lab_settings(tmp_path, users=1, fading="none"), runtime, 2)
    assert traffic.failed == 0
    assert all(t.lost and t.psnr_db is None and "lost at" in t.error for t in sent)
    assert [r for r in runtime.reports if isinstance(r, FailureReport)]


def test_whether_bytes_arrive_depends_on_the_snr_and_the_draw_alone() -> None:
    sent = Encoded(np.zeros((0, 0, 0, 0), np.float32), 6, 10.0, "", 0, 0, "jpeg", b"x")
    assert arrives(sent, 168, 10.0, 1)
    assert not arrives(sent, 168, 2.0, 1)
    assert not arrives(Encoded(sent.symbols, 6, -30.0, "", 0, 0, "jpeg", b"x"), 168, 30.0, 1)
