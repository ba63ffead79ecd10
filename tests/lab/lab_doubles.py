"""Stand-ins for the other side: a channel model without Sionna, and a codec runtime."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import httpx
import msgspec
import numpy as np

from codec_runtime.contract import paths
from codec_runtime.contract.bundle import BundleManifest
from codec_runtime.contract.telemetry import CapabilityReport, FailureReport, QualityReport
from codec_runtime.contract.updates import SiteStatus
from codec_runtime.serving.open_inference import HEADER_LENGTH, build_response, parse_request
from xapp.lab.channel import Bools, Floats, LargeScale
from xapp.lab.pictures import PictureLibrary

SIDE = 168


class FlatModel:
    """Path loss 100 dB, no shadowing, always in line of sight."""

    def evaluate(self, positions: Floats, los: Bools) -> LargeScale:
        ones = np.ones(len(positions))
        return LargeScale(100.0 * ones, 0.0 * ones, 10.0 * ones, ones)


def small_library(count: int = 2) -> PictureLibrary:
    """Smooth pictures of 224 x 240, so that fewer channels cost quality gently."""
    rows, columns = np.mgrid[0:224, 0:240]
    pictures = {}
    for i in range(count):
        waves = [np.sin(rows / (17.0 + 3 * i + c)) + np.cos(columns / (23.0 + c)) for c in range(3)]
        pictures[f"p{i}"] = (127.5 + 60.0 * np.stack(waves, axis=2)).astype(np.uint8)
    return PictureLibrary(pictures, SIDE)


@dataclass
class FakeRuntime:
    """Speaks the Open Inference Protocol; its "codec" sends the 16 pixels of each 4 x 4 block of luminance.

    ``faults`` are answered first, one a request: a status code, or an exception to raise. ``served``: decoder
    versions that the site lists, None for a listing that fails. ``file``: JPEG bytes that ``encode`` gives.
    """

    prefix: int = 6
    decoder_version: int = 1
    served: list[tuple[str, int]] | None = None
    file: bytes | None = None
    file_snr_db: float = 7.0
    faults: list[int | Exception] = field(default_factory=list)
    reports: list[CapabilityReport | QualityReport | FailureReport] = field(default_factory=list)
    calls: list[tuple[str, dict[str, Any], dict[str, Any]]] = field(default_factory=list)
    on_call: Callable[[str], None] = lambda _: None

    def transport(self) -> httpx.MockTransport:
        return httpx.MockTransport(self.answer)

    def answer(self, request: httpx.Request) -> httpx.Response:
        if request.url.path == paths.SITE:
            return self._site()
        if self.faults:
            fault = self.faults.pop(0)
            if isinstance(fault, Exception):
                raise fault
            return httpx.Response(fault, json={"error": "as the test asks"})
        if request.url.path == paths.TELEMETRY:
            kind = list[CapabilityReport | QualityReport | FailureReport]
            self.reports.extend(msgspec.msgpack.decode(request.content, type=kind))
            return httpx.Response(204)
        model = request.url.path.split("/")[3]
        parsed = parse_request(request.content, int(request.headers[HEADER_LENGTH]))
        self.calls.append((model, dict(parsed.parameters), dict(parsed.inputs)))
        self.on_call(model)
        outputs, parameters = (self._encode if model == "encode" else self._decode)(parsed)
        body, headers = build_response(
            parsed, model=model, version="1", outputs=outputs, parameters=parameters
        )
        return httpx.Response(200, content=body, headers=headers)

    def _site(self) -> httpx.Response:
        if self.served is None:
            return httpx.Response(503)
        models = [
            BundleManifest(
                kind="decoder", name=family, version=version, architecture="", hyperparameters={}, files=[],
                tensors={},
            )
            for family, version in self.served
        ]
        status = SiteStatus(instance="fake", site="fake", telemetry_seq=0, models=models)
        return httpx.Response(200, content=msgspec.msgpack.encode(status))

    def _encode(self, parsed: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        images = parsed.inputs["image"]
        if self.file is not None:
            return {"bytes": np.frombuffer(self.file, np.uint8)}, {
                "prefix": 6, "snr_db": self.file_snr_db, "decoder": "", "decoder_version": 0,
                "encoder_version": 0, "codec": "jpeg",
            }
        batch, _, height, width = images.shape
        prefix = parsed.inputs.get("prefix", np.full(batch, self.prefix, np.int32))
        snr = parsed.inputs.get("snr_db", np.full(batch, 7.0, np.float32))
        luma = images.mean(axis=1) / 127.5 - 1.0
        blocks = luma.reshape(batch, height // 4, 4, width // 4, 4).transpose(0, 2, 4, 1, 3)
        symbols = blocks.reshape(batch, 16, height // 4, width // 4)[:, : prefix.max()].astype(np.float32)
        symbols = symbols * (np.arange(symbols.shape[1])[None, :, None, None] < prefix[:, None, None, None])
        return {"symbols": symbols.astype(np.float32)}, {
            "user": str(parsed.parameters.get("user", "")),
            "prefix": int(prefix[0]),
            "snr_db": float(snr[0]),
            "decoder": "attention",
            "decoder_version": self.decoder_version,
            "encoder_version": 1,
            "height": height,
            "width": width,
        }

    def _decode(self, parsed: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        symbols, prefix = parsed.inputs["symbols"], parsed.inputs["prefix"]
        height, width = parsed.parameters["height"], parsed.parameters["width"]
        batch, _, rows, columns = symbols.shape
        luma = np.empty((batch, 16, rows, columns), np.float32)
        for b in range(batch):
            luma[b] = symbols[b, : prefix[b]].mean(axis=0)
            luma[b, : prefix[b]] = symbols[b, : prefix[b]]
        blocks = luma.reshape(batch, 4, 4, rows, columns).transpose(0, 3, 1, 4, 2)
        gray = np.clip((blocks.reshape(batch, 1, height, width) + 1.0) * 127.5, 0, 255)
        image = np.repeat(np.rint(gray), 3, axis=1).astype(np.uint8)
        version = int(parsed.parameters["decoder_version"])
        return {"image": image}, {"decoder": "attention", "decoder_version": version, "encoder_version": 1}
