"""JPEG and HEIC bytes for devices without a usable decoder: within what the symbols carry, counted."""

from __future__ import annotations

import io
from typing import Any

import httpx
import msgspec
import numpy as np
import pytest
import tritonclient.http as triton
from PIL import Image
from runtime_site import Site
from tritonclient.utils import InferenceServerException

from codec_runtime.contract import paths
from codec_runtime.contract.directives import Directive, DirectiveAck, DirectiveBatch
from codec_runtime.contract.telemetry import CapabilityReport, HeldDecoder
from codec_runtime.contract.updates import SiteStatus
from codec_runtime.evaluation.mcs import CRC_BITS
from codec_runtime.serving import codec_models, conventional, directives
from codec_runtime.serving.conventional import (
    NothingFitsError,
    PictureCoder,
    available_codecs,
    byte_budget,
    complex_symbols,
    decode_picture,
    scheme_for,
)
from codec_runtime.serving.devices import FORGET_S, Devices
from codec_runtime.serving.inference import InferenceInputError

HEIC = pytest.mark.skipif("heic" not in available_codecs(), reason="pillow-heif is not installed")


def photograph(height: int = 160, width: int = 192) -> np.ndarray:
    rows, columns = np.mgrid[0:height, 0:width]
    noise = np.random.default_rng(1).normal(0.0, 6.0, (3, height, width))
    waves = [np.sin(rows / (9.0 + c)) + np.cos(columns / (13.0 - c)) for c in range(3)]
    return np.clip(127.5 + 55.0 * np.stack(waves) + noise, 0, 255).astype(np.uint8)


PICTURE = photograph()
BUDGETS = (450, 1000, 2000, 8000)


def encode(site: Site, **parameters: Any) -> tuple[bytes, dict[str, Any]]:
    tensor = triton.InferInput("image", [1, *PICTURE.shape], "UINT8")
    tensor.set_data_from_numpy(PICTURE[None])
    client = triton.InferenceServerClient(site.address)
    answer = client.infer("encode", [tensor], parameters=parameters)
    data = answer.as_numpy("bytes")
    return b"" if data is None else data.tobytes(), answer.get_response()["parameters"]


def direct(site: Site, **fields: Any) -> DirectiveAck:
    directive = msgspec.convert(
        {"prefix": 8, "snr_db": 9.0, "decoder": "", "decoder_version": 0, "encoder_version": 0, **fields},
        Directive,
    )
    batch = DirectiveBatch(issuer="x", sequence=1, issued_ns=0, directives=[directive])
    reply = httpx.post(site.url + paths.DIRECTIVES, content=msgspec.msgpack.encode(batch))
    return msgspec.msgpack.decode(reply.content, type=DirectiveAck)


def report(site: Site, user: str, holds: list[tuple[str, int]], fallbacks: list[Any]) -> None:
    capability = CapabilityReport(
        user=user, time_ns=0, device_class="car", group="car", decoders=["attention", "conv"],
        compute_gflops=1, holds=[HeldDecoder(family=f, version=v) for f, v in holds], fallbacks=fallbacks,
    )
    reply = httpx.post(site.url + paths.TELEMETRY, content=msgspec.msgpack.encode([capability]))
    assert reply.status_code == 204


def test_a_user_on_jpeg_gets_a_file_within_what_the_channel_carries(site: Site) -> None:
    assert direct(site, user="old", codec="jpeg").applied == 1
    data, parameters = encode(site, user="old")
    budget = byte_budget(8, 9.0, *PICTURE.shape[1:])
    assert parameters | {
        "codec": "jpeg", "byte_count": len(data), "byte_budget": budget, "height": 160, "width": 192,
        "prefix": 8, "encoder_version": 0, "decoder_version": 0, "decoder": "",
    } == parameters
    assert 0.7 * budget < len(data) <= budget
    with Image.open(io.BytesIO(data)) as file:
        assert (file.format, file.size) == ("JPEG", (192, 160))
    restored = decode_picture(data, "jpeg", 160, 192).transpose(2, 0, 1)
    assert np.mean((restored - PICTURE.astype(float)) ** 2) < 400
    assert 'encodes_total{codec="jpeg"} 1.0' in httpx.get(site.url + "/metrics").text


def test_a_client_may_ask_for_a_codec_whatever_its_directive(site: Site) -> None:
    data, parameters = encode(site, user="anybody", codec="jpeg")
    assert data.startswith(b"\xff\xd8")
    assert parameters["codec"] == "jpeg"
    assert encode(site, user="anybody")[1]["codec"] == "semantic"


@HEIC
def test_heic_is_advertised_and_served_where_it_is_installed(site: Site) -> None:
    status = msgspec.msgpack.decode(httpx.get(site.url + paths.SITE).content, type=SiteStatus)
    assert status.conventional == ["heic", "jpeg"]
    data, parameters = encode(site, codec="heic")
    assert parameters["byte_count"] == len(data) <= parameters["byte_budget"]
    assert decode_picture(data, "heic", 160, 192).shape == (160, 192, 3)


@pytest.mark.parametrize(
    ("parameters", "text"),
    [
        ({"codec": "gif"}, "semantic, jpeg or heic"),
        ({"codec": 3}, "a string is needed"),
        ({"user": "old", "codec": "semantic"}, "encoder_version says which"),
        ({"user": "far"}, "no jpeg file .* 0 bytes"),
    ],
)
def test_what_cannot_be_coded_is_refused_with_a_reason(
    site: Site, parameters: dict[str, Any], text: str
) -> None:
    direct(site, user="far" if parameters.get("user") == "far" else "old", codec="jpeg",
           snr_db=-30.0 if parameters.get("user") == "far" else 9.0)
    with pytest.raises(InferenceServerException, match=text) as refused:
        encode(site, **parameters)
    assert "400" in str(refused.value)


def test_a_batch_is_refused(site: Site) -> None:
    tensor = triton.InferInput("image", [2, *PICTURE.shape], "UINT8")
    tensor.set_data_from_numpy(np.stack([PICTURE, PICTURE]))
    with pytest.raises(InferenceServerException, match="one picture a request"):
        triton.InferenceServerClient(site.address).infer("encode", [tensor], parameters={"codec": "jpeg"})


def test_a_directive_for_a_codec_that_is_not_installed_is_rejected(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(directives, "available_codecs", lambda: ("jpeg",))
    assert "heic is not installed" in direct(site, user="u", codec="heic").rejected[0].reason
    monkeypatch.setattr(conventional, "available_codecs", lambda: ("jpeg",))
    with pytest.raises(InferenceInputError, match="not installed"):
        PictureCoder(PICTURE, "heic")


def test_the_default_is_only_what_the_device_has_said_that_it_takes(site: Site) -> None:
    report(site, "conv-only", [("conv", 1), ("attention", 9)], ["jpeg"])
    report(site, "old", [("attention", 9)], ["jpeg"])
    report(site, "lost", [], [])
    assert encode(site, user="conv-only")[1]["decoder"] == "conv"
    assert encode(site, user="old")[1]["codec"] == "jpeg"
    with pytest.raises(InferenceServerException, match="holds no decoder that is served") as refused:
        encode(site, user="lost")
    assert "404" in str(refused.value)


def test_the_budget_is_the_payload_of_the_measured_scheme() -> None:
    scheme = scheme_for(9.0)
    assert scheme is not None
    symbols = complex_symbols(8, 161, 192)
    assert symbols == 8 / 96 * 3 * 168 * 192
    bits = symbols * scheme.efficiency - CRC_BITS * scheme.code_blocks(symbols)
    assert byte_budget(8, 9.0, 161, 192) == int(bits / 8)
    assert byte_budget(8, -20.0, 161, 192) == 0
    assert scheme_for(9.0) is not scheme_for(0.0)


def test_more_bytes_never_give_less_and_few_bytes_a_smaller_picture() -> None:
    coder = PictureCoder(PICTURE, "jpeg")
    found = [coder.within(budget) for budget in BUDGETS]
    assert [f.height for f in found] == sorted(f.height for f in found)
    assert found[0].height < 160 == found[-1].height
    assert all(len(f.data) <= budget for f, budget in zip(found, BUDGETS, strict=True))
    assert found[-1].quality > found[-2].quality
    assert decode_picture(found[0].data, "jpeg", 160, 192).shape == (160, 192, 3)
    with pytest.raises(NothingFitsError, match="into the 100 bytes"):
        coder.within(100)


def test_a_picture_too_small_to_be_reduced_is_coded_whole_or_not_at_all() -> None:
    coder = PictureCoder(PICTURE[:, :16, :16], "jpeg")
    assert (coder.within(5000).height, coder.within(5000).width) == (16, 16)
    with pytest.raises(NothingFitsError):
        coder.within(10)


def test_a_search_out_of_time_takes_the_best_file_so_far_and_says_so() -> None:
    made = PictureCoder(PICTURE, "jpeg")
    hurried = made.within(8000, 0.0)
    tries = len(made._files)
    best = made.within(8000)
    assert (hurried.largest, best.largest) == (False, True)
    assert hurried.quality < best.quality
    assert tries == 1 < len(made._files)
    # Without any file that fits it goes on: a lower quality, then a smaller picture.
    assert len(PictureCoder(PICTURE, "jpeg").within(450, 0.0).data) <= 450


@pytest.mark.parametrize("budget", [700, 1500, 4000, 9000, 10**6])
def test_the_quality_found_is_the_largest_that_fits(budget: int) -> None:
    coder = PictureCoder(PICTURE[:, :64, :64], "jpeg")
    found = coder.within(budget)
    reduction = 64 // found.height
    fitting = [q for q in range(1, 96) if len(coder._file(reduction, q)) <= budget]
    assert found.quality == max(fitting)


def test_a_shape_that_the_codec_does_not_take_is_the_requests_fault() -> None:
    with pytest.raises(InferenceInputError, match="jpeg does not take a picture of 1 x 70000"):
        PictureCoder(np.zeros((3, 1, 70_000), np.uint8), "jpeg").within(10**6)


def test_files_cut_short_are_counted(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(codec_models, "SEARCH_S", 0.0)
    _, parameters = encode(site, codec="jpeg")
    assert parameters["largest_quality"] is False
    assert 'coding_cut_short_total{codec="jpeg"} 1.0' in httpx.get(site.url + "/metrics").text


def test_devices_that_fell_silent_are_forgotten() -> None:
    now = 0.0
    devices = Devices(lambda: now)

    def say(user: str) -> None:
        devices.note(
            CapabilityReport(
                user=user, time_ns=0, device_class="car", group="", decoders=[], compute_gflops=1, holds=[]
            )
        )

    say("gone")
    now = FORGET_S + 1.0
    say("here")
    assert devices.of("gone") is None
    assert len(devices) == 1
    now = 2 * FORGET_S + 2.0  # nobody reports any more
    assert devices.spared([("a", 1)], [("a", 1)], 1) == [("a", 1)]
    assert len(devices) == 0


def test_no_version_goes_that_is_the_only_one_of_a_device() -> None:
    devices = Devices()

    def hold(user: str, *versions: int) -> None:
        held = [HeldDecoder(family="a", version=v) for v in versions]
        devices.note(
            CapabilityReport(
                user=user, time_ns=0, device_class="car", group="", decoders=[], compute_gflops=1, holds=held
            )
        )

    hold("one", 2)
    hold("two", 3, 4)
    hold("none", 9)
    served = [("a", v) for v in (1, 2, 3, 4)]
    assert devices.spared(served, served[1:], 3) == [("a", 3)]
    assert devices.spared(served, served[1:], 0) == []
    hold("one", 1, 2)
    assert devices.spared(served, served[1:], 1) == [("a", 2)]
