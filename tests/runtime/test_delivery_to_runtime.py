"""The xApp's repository and client against a live runtime: both sides of the update contract."""

from __future__ import annotations

import asyncio
from pathlib import Path

from directed_site import files_of, fine_tuned
from runtime_site import serve, write_decoder

from codec_runtime.bundle.store import read_manifest
from codec_runtime.contract.bundle import WEIGHTS_FILE
from codec_runtime.contract.telemetry import QualityReport
from codec_runtime.contract.updates import ActivationReport
from xapp.delivery.push import PushReport, push
from xapp.delivery.repository import TufRepository
from xapp.runtime_client import RuntimeClient

FILES = ("manifest.msgpack", "weights.safetensors")


def test_published_candidates_are_activated_one_after_another(weights: Path, tmp_path: Path) -> None:
    repository = TufRepository(tmp_path / "repository")
    encoder = read_manifest(weights / "encoder" / "anchor" / "1")

    async def deliver(url: str) -> list[ActivationReport]:
        reports = []
        async with RuntimeClient(url) as client:
            for version in (2, 3):
                manifest = write_decoder(tmp_path / "new", encoder, version=version, parent=1, seed=version)
                place = tmp_path / "new" / "decoder" / "attention" / str(version)
                bundle = repository.publish(manifest, {name: (place / name).read_bytes() for name in FILES})
                reports.append((await push(client, repository.files(), [bundle])).activation)
            again = await push(client, repository.files(), ["decoder/attention/2"])
            assert again.targets_pushed == 0  # installed already: nothing travels twice
            reports.append(again.activation)
            versions = [(m.name, m.version) for m in (await client.site()).models if m.kind == "decoder"]
            assert versions == [("attention", 1), ("attention", 2), ("attention", 3), ("conv", 1)]
        return reports

    with serve(weights, tmp_path / "state", trusted_root=str(repository.trusted_root)) as site:
        reports = asyncio.run(deliver(site.url))
    assert [r.outcome for r in reports] == ["activated", "activated", "already-active"]
    assert all(r.verify_ms > 0 and r.load_ms > 0 for r in reports)
    assert 0 < reports[0].publish_ms < 1000


def test_a_fine_tuned_decoder_travels_as_a_delta_over_http(weights: Path, tmp_path: Path) -> None:
    repository = TufRepository(tmp_path / "repository")
    contents = fine_tuned(weights / "decoder" / "attention" / "1", 2)
    bundle = repository.publish(contents.manifest, files_of(contents))

    async def deliver(url: str) -> PushReport:
        async with RuntimeClient(url) as client:
            return await push(client, repository.files(), [bundle])

    with serve(weights, tmp_path / "state", trusted_root=str(repository.trusted_root)) as site:
        report = asyncio.run(deliver(site.url))
    assert report.activation.outcome == "activated"
    assert report.bytes_saved == len(contents.weights) - len(contents.delta)
    assert (tmp_path / "state" / "bundles" / bundle / WEIGHTS_FILE).read_bytes() == contents.weights


def test_client_reads_the_telemetry_stream(weights: Path, tmp_path: Path) -> None:
    report = QualityReport(
        user="ue-1", time_ns=2, prefix=6, decoder="conv", decoder_version=1, snr_db=7.0, psnr_db=25.0,
        ms_ssim=0.9, latency_ms=30.0,
    )

    async def read(url: str) -> list[int]:
        async with RuntimeClient(url) as client:
            return [event.seq async for event in client.telemetry(after=1)]

    with serve(weights, tmp_path / "state", telemetry_idle_s=0.2) as site:
        runtime = site.server._runtime
        for _ in range(3):
            runtime.publish(report)
        assert asyncio.run(read(site.url)) == [2, 3]  # and the stream ends when idle
