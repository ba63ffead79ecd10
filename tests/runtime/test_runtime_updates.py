"""Push, activate, swap, restart and train, through HTTP as the xApp does it."""

from __future__ import annotations

import asyncio
import threading
import time
from pathlib import Path
from typing import Any

import httpx
import msgspec
import numpy as np
import tritonclient.http as triton
from runtime_site import Repository, Site, serve, write_decoder

from codec_runtime.bundle.delta import rebuild_weights
from codec_runtime.bundle.store import load_module, read_manifest
from codec_runtime.contract import paths
from codec_runtime.contract.bundle import BundleManifest
from codec_runtime.contract.telemetry import (
    CapabilityReport,
    QualityReport,
    TelemetryEvent,
    TrainingReport,
)
from codec_runtime.contract.updates import (
    ActivationReport,
    ActivationRequest,
    InboxListing,
    SiteStatus,
    TrainingJob,
)
from xapp.runtime_client import RuntimeClient

BUNDLE = "decoder/attention/2"


def _put(site: Site) -> Any:
    def put(area: str, name: str, data: bytes) -> None:
        reply = httpx.put(f"{site.url}{paths.INBOX}/{area}/{name}", content=data)
        assert reply.status_code == 204, reply.text

    return put


def _post(site: Site, path: str, message: Any, kind: Any) -> Any:
    reply = httpx.post(site.url + path, content=msgspec.msgpack.encode(message), timeout=30)
    assert reply.status_code in (200, 202), reply.text
    return msgspec.msgpack.decode(reply.content, type=kind)


def _get(site: Site, path: str, kind: Any) -> Any:
    return msgspec.msgpack.decode(httpx.get(site.url + path).content, type=kind)


def _activate(site: Site, *bundles: str) -> ActivationReport:
    report: ActivationReport = _post(
        site, paths.ACTIVATIONS, ActivationRequest(bundles=list(bundles)), ActivationReport
    )
    return report


def _source(weights: Path, tmp_path: Path, version: int = 2) -> BundleManifest:
    encoder = read_manifest(weights / "encoder" / "anchor" / "1")
    return write_decoder(tmp_path / "source", encoder, version=version, parent=1, seed=40 + version)


def _versions(site: Site) -> list[tuple[str, int]]:
    status: SiteStatus = _get(site, paths.SITE, SiteStatus)
    return [(m.name, m.version) for m in status.models if m.kind == "decoder"]


def test_update_is_pushed_activated_and_survives_a_restart(
    weights: Path, tmp_path: Path, repository: Repository
) -> None:
    manifest = _source(weights, tmp_path)
    repository.add_bundle(tmp_path / "source", BUNDLE)
    root = str(tmp_path / "root.json")
    with serve(weights, tmp_path / "state", trusted_root=root) as site:
        repository.publish(_put(site))
        listing: InboxListing = _get(site, paths.INBOX, InboxListing)
        assert listing.targets[f"{BUNDLE}/weights.safetensors"] == manifest.files[0].sha256
        assert _activate(site, BUNDLE).outcome == "activated"
        assert _activate(site, BUNDLE).outcome == "already-active"
        assert ("attention", 2) in _versions(site)
        assert f"{BUNDLE}/manifest.msgpack" in _get(site, paths.INBOX, InboxListing).targets
        first = _get(site, paths.SITE, SiteStatus).instance
    with serve(weights, tmp_path / "state", trusted_root=root) as site:
        assert _get(site, paths.SITE, SiteStatus).instance != first
        assert ("attention", 2) in _versions(site)


def test_refused_activation_names_the_reason_and_changes_nothing(
    site: Site, weights: Path, tmp_path: Path, repository: Repository
) -> None:
    assert _activate(site, BUNDLE).error == "MissingFileError"
    assert _activate(site, "../../etc/1").error == "UnsafePathError"
    assert _activate(site).error == "MissingFileError"
    _source(weights, tmp_path)
    repository.add_bundle(tmp_path / "source", BUNDLE)
    repository.publish(_put(site))
    assert _activate(site, "decoder/attention/3").error == "MissingTargetError"
    assert _versions(site) == [("attention", 1), ("conv", 1)]
    assert 'outcome="refused"' in httpx.get(site.url + "/metrics").text


def test_damaged_active_bundle_is_left_out_at_restart(
    weights: Path, tmp_path: Path, repository: Repository
) -> None:
    _source(weights, tmp_path)
    repository.add_bundle(tmp_path / "source", BUNDLE)
    root = str(tmp_path / "root.json")
    with serve(weights, tmp_path / "state", trusted_root=root) as site:
        repository.publish(_put(site))
        assert _activate(site, BUNDLE).outcome == "activated"
    (tmp_path / "state" / "bundles" / BUNDLE / "weights.safetensors").write_bytes(b"x")
    with serve(weights, tmp_path / "state", trusted_root=root) as site:
        assert _versions(site) == [("attention", 1), ("conv", 1)]
        assert httpx.get(site.url + "/v2/health/ready").status_code == 200


def test_unsafe_inbox_names_are_refused(site: Site, tmp_path: Path) -> None:
    for name in ("%2e%2e/%2e%2e/x", "a%5cb", ".hidden", "a//b"):
        reply = httpx.put(f"{site.url}{paths.INBOX}/targets/{name}", content=b"x")
        assert reply.status_code in (400, 404), name
    assert not (tmp_path / "x").exists()
    assert httpx.put(f"{site.url}{paths.INBOX}/other/x", content=b"x").status_code in (404, 405)


def test_swaps_under_load_fail_no_request_and_mix_no_versions(
    site: Site, weights: Path, tmp_path: Path, repository: Repository
) -> None:
    symbols = np.random.default_rng(1).standard_normal((1, 4, 8, 8)).astype(np.float32)
    expected: dict[int, np.ndarray[Any, Any]] = {}
    for version in (2, 3, 4):
        _source(weights, tmp_path, version)
        repository.add_bundle(tmp_path / "source", f"decoder/attention/{version}")
    newest, stop = [1], threading.Event()
    failures: list[str] = []
    seen: dict[int, set[bytes]] = {}

    def client() -> None:
        connection = triton.InferenceServerClient(site.address)
        inputs = [
            triton.InferInput("symbols", [1, 4, 8, 8], "FP32").set_data_from_numpy(symbols),
            triton.InferInput("snr_db", [1], "FP32").set_data_from_numpy(np.array([5], np.float32)),
            triton.InferInput("prefix", [1], "INT32").set_data_from_numpy(np.array([4], np.int32)),
        ]
        while not stop.is_set():
            version = newest[0]
            try:
                result = connection.infer(
                    "decode", inputs, parameters={"decoder": "attention", "decoder_version": version}
                )
            except Exception as error:
                failures.append(str(error))
                return
            answered = result.get_response()["parameters"]["decoder_version"]
            if answered != version:
                failures.append(f"{answered} for {version}")
            seen.setdefault(version, set()).add(result.as_numpy("image").tobytes())

    clients = [threading.Thread(target=client) for _ in range(3)]
    for thread in clients:
        thread.start()
    repository.publish(_put(site))
    for version in (2, 3, 4):
        assert _activate(site, f"decoder/attention/{version}").outcome == "activated"
        newest[0] = version
        while version not in seen and not failures:
            time.sleep(0.001)
    stop.set()
    for thread in clients:
        thread.join(20)
    assert failures == []
    assert sorted(seen) == [1, 2, 3, 4]
    assert all(len(pictures) == 1 for pictures in seen.values())  # one version gives one answer
    expected.update({version: np.frombuffer(next(iter(p)), np.uint8) for version, p in seen.items()})
    assert len({v.tobytes() for v in expected.values()}) == 4


def test_telemetry_is_validated_and_streamed_behind_a_sequence_number(site: Site) -> None:
    reports: list[CapabilityReport | QualityReport] = [
        CapabilityReport(
            user="ue-1", time_ns=1, device_class="car", group="car", decoders=["conv"], compute_gflops=5.0
        ),
        QualityReport(
            user="ue-1", time_ns=2, prefix=6, decoder="conv", decoder_version=1, snr_db=7.0, psnr_db=25.0,
            ms_ssim=0.9, latency_ms=30.0,
        ),
    ]
    body = msgspec.msgpack.encode(reports)
    assert httpx.post(site.url + paths.TELEMETRY, content=body).status_code == 204
    wrong = msgspec.msgpack.encode([{"type": "quality", "user": 7}])
    assert httpx.post(site.url + paths.TELEMETRY, content=wrong).status_code == 400
    with httpx.stream("GET", site.url + paths.TELEMETRY + "?after=1", timeout=10) as stream:
        event = msgspec.msgpack.decode(next(stream.iter_raw()), type=TelemetryEvent)
    assert (event.seq, event.report) == (2, reports[1])
    assert _get(site, paths.SITE, SiteStatus).telemetry_seq == 2


def _wait_for(site: Site, job: str) -> TrainingReport:
    while True:
        report: TrainingReport = _get(site, f"{paths.TRAINING_JOBS}/{job}", TrainingReport)
        if report.state in ("succeeded", "failed"):
            return report
        time.sleep(0.1)


async def _candidate(site: Site, job: str) -> tuple[BundleManifest, dict[str, bytes]]:
    async with RuntimeClient(site.url) as client:
        return await client.candidate(job)


def test_training_job_ends_with_a_candidate_that_loads(site: Site, tmp_path: Path) -> None:
    client = triton.InferenceServerClient(site.address)
    random = np.random.default_rng(3)
    for _ in range(8):
        picture = np.repeat(np.repeat(random.integers(0, 255, (1, 3, 6, 6), np.uint8), 8, 2), 8, 3)
        tensor = triton.InferInput("image", list(picture.shape), "UINT8").set_data_from_numpy(picture)
        client.infer("encode", [tensor], parameters={"user": "ue-1"})
    job = TrainingJob(
        job="j1", users=["ue-1", "nobody"], decoder="conv", parent_version=1, new_version=2, budget_s=2.0
    )
    queued = _post(site, paths.TRAINING_JOBS, job, TrainingReport)
    assert queued.state == "queued"
    again = _post(site, paths.TRAINING_JOBS, job, TrainingReport)
    assert again.job == "j1"
    report = _wait_for(site, "j1")
    assert report.state == "succeeded", report.detail
    assert report.heldout_gain_db is not None
    place = tmp_path / "candidate"
    place.mkdir()
    for file in ("manifest.msgpack", "weights.safetensors", "delta.safetensors"):
        reply = httpx.get(f"{site.url}{paths.TRAINING_JOBS}/j1/candidate/{file}")
        assert reply.status_code == 200
        (place / file).write_bytes(reply.content)
    manifest, _ = load_module(place)
    assert (manifest.kind, manifest.name, manifest.version, manifest.parent) == ("decoder", "conv", 2, 1)
    assert manifest.metrics["heldout_gain_db"] == report.heldout_gain_db
    parent = (tmp_path / "weights" / "decoder" / "conv" / "1" / "weights.safetensors").read_bytes()
    delta = (place / "delta.safetensors").read_bytes()
    assert rebuild_weights(parent, delta) == (place / "weights.safetensors").read_bytes()
    _, fetched = asyncio.run(_candidate(site, "j1"))
    assert fetched == {path.name: path.read_bytes() for path in place.iterdir()}
    assert not list((tmp_path / "state" / "jobs").rglob("pictures.safetensors"))
    assert httpx.get(f"{site.url}{paths.TRAINING_JOBS}/j1/candidate/job.msgpack").status_code == 404


def test_job_that_cannot_run_says_why(site: Site) -> None:
    job = TrainingJob(
        job="j2", users=["ue-9"], decoder="conv", parent_version=1, new_version=2, budget_s=2.0
    )
    report = _post(site, paths.TRAINING_JOBS, job, TrainingReport)
    assert report.state == "failed"
    assert report.detail.startswith("0 recent pictures")
    for change in ({"job": "../x"}, {"budget_s": -1.0}, {"new_version": 1}, {"parent_version": 5}):
        wrong = msgspec.structs.replace(job, **change)
        reply = httpx.post(site.url + paths.TRAINING_JOBS, content=msgspec.msgpack.encode(wrong))
        assert reply.status_code == 400, change
