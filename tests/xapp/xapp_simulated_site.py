"""A site in memory: speaks the runtime's side of ``/semcom/v1`` and verifies deliveries with python-tuf."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import socket
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import msgspec
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route
from tuf.api.exceptions import DownloadHTTPError
from tuf.ngclient import FetcherInterface, Updater

from codec_runtime.contract import paths
from codec_runtime.contract.bundle import BundleFile, BundleManifest, QualityPoint
from codec_runtime.contract.classification import PublishedCut, SplitDirective, SplitReport
from codec_runtime.contract.directives import Directive, DirectiveAck, DirectiveBatch, RejectedDirective
from codec_runtime.contract.ranges import CONTENT_RANGE, UPLOAD_OFFSET, parse_range
from codec_runtime.contract.split import SplitGraph
from codec_runtime.contract.telemetry import CapabilityReport, QualityReport, TelemetryEvent, TrainingReport
from codec_runtime.contract.updates import (
    ActivationReport,
    ActivationRequest,
    InboxListing,
    SiteStatus,
    TrainingJob,
)
from xapp.http_server import QuietServer

ENCODER_WEIGHTS = b"encoder weights"
ENCODER_SHA256 = hashlib.sha256(ENCODER_WEIGHTS).hexdigest()


def synthetic_psnr(snr_db: float, prefix: float) -> float:
    """A plausible surface: more channels help more where the SNR is high; saturates in SNR."""
    import numpy as np

    snr = float(np.clip(snr_db, -5, 20))
    return 20.0 + (0.9 + 0.06 * min(snr, 18.0)) * float(np.log2(prefix)) + 4.5 * float(np.tanh((snr - 2) / 9))


def quality_points(offset_db: float = 0.0) -> list[QualityPoint]:
    return [
        QualityPoint(
            channel="awgn",
            prefix=prefix,
            snr_db=float(snr),
            psnr_db=synthetic_psnr(snr, prefix) + offset_db,
            psnr_spread_db=2.5,
            ms_ssim=0.9,
        )
        for prefix in (2, 4, 6, 8, 12, 16)
        for snr in range(-5, 21)
    ]


def make_manifest(
    kind: str,
    name: str,
    version: int,
    weights: bytes,
    *,
    parent: int | None = None,
    metrics: dict[str, float] | None = None,
    quality: list[QualityPoint] | None = None,
) -> BundleManifest:
    return BundleManifest(
        kind=kind,  # type: ignore[arg-type]
        name=name,
        version=version,
        architecture=f"test-{name}",
        hyperparameters={},
        files=[
            BundleFile(
                name="weights.safetensors", sha256=hashlib.sha256(weights).hexdigest(), size=len(weights)
            )
        ],
        tensors={},
        encoder_sha256="" if kind == "encoder" else ENCODER_SHA256,
        parent=parent,
        metrics=metrics or {},
        quality=[] if kind == "encoder" else (quality if quality is not None else quality_points()),
    )


def bundle_files(manifest: BundleManifest, weights: bytes) -> dict[str, bytes]:
    return {"manifest.msgpack": msgspec.msgpack.encode(manifest), "weights.safetensors": weights}


class InboxFetcher(FetcherInterface):
    def __init__(self, site: SimulatedSite) -> None:
        self._site = site

    def _fetch(self, url: str) -> Iterator[bytes]:
        area, _, name = url.removeprefix("inbox://").partition("/")
        files = self._site.metadata if area == "metadata" else self._site.targets
        if name not in files:
            raise DownloadHTTPError(f"{name} is missing", 404)
        return iter([files[name]])


class SimulatedSite:
    """State of the site; ``restart()`` loses what a runtime process would lose."""

    def __init__(self, trusted_root: bytes | None = None, name: str = "site-1") -> None:
        self.name = name
        self.instance = "runtime-1"
        self.models = [
            make_manifest("encoder", "anchor", 1, ENCODER_WEIGHTS),
            make_manifest("decoder", "attention", 1, b"attention weights"),
            make_manifest("decoder", "conv", 1, b"conv weights", quality=quality_points(-0.7)),
        ]
        self.trusted_root = trusted_root
        self.batches: list[DirectiveBatch] = []
        self.in_force: dict[str, Directive] = {}
        self.classifiers: list[PublishedCut] = []
        self.graphs: dict[str, SplitGraph] = {}
        self.refused_cuts: set[str] = set()
        self.splits: dict[str, SplitDirective] = {}
        self.jobs: dict[str, TrainingJob] = {}
        self.gain_db = 0.8
        self.metadata: dict[str, bytes] = {}
        self.targets: dict[str, bytes] = {}
        self.installed: dict[str, bytes] = {}
        self.puts: list[str] = []
        self.events: list[TelemetryEvent] = []
        self.unavailable = 0
        self._news = asyncio.Event()
        self._directory = tempfile.TemporaryDirectory()

    def report(self, report: CapabilityReport | QualityReport | TrainingReport | SplitReport) -> None:
        self.events.append(TelemetryEvent(instance=self.instance, seq=len(self.events) + 1, report=report))
        self._news.set()

    def restart(self, instance: str) -> None:
        self.instance = instance
        self.in_force.clear()
        self.splits.clear()
        self.events.clear()
        self.jobs.clear()
        self._news.set()

    def serves(self, family: str, version: int) -> bool:
        return any(m.kind == "decoder" and (m.name, m.version) == (family, version) for m in self.models)

    def app(self) -> Starlette:
        return Starlette(
            routes=[
                Route(paths.SITE, self._site),
                Route(paths.DIRECTIVES, self._directives, methods=["POST"]),
                Route(paths.TELEMETRY, self._telemetry),
                Route(paths.GRAPHS + "/{digest}", self._graph),
                Route(paths.TRAINING_JOBS, self._submit, methods=["POST"]),
                Route(paths.TRAINING_JOBS + "/{job}", self._job),
                Route(paths.TRAINING_JOBS + "/{job}/candidate/{file}", self._candidate),
                Route(paths.INBOX, self._listing),
                Route(paths.INBOX + "/metadata/{name}", self._put_metadata, methods=["PUT"]),
                Route(paths.INBOX + "/targets/{name:path}", self._put_target, methods=["PUT"]),
                Route(paths.ACTIVATIONS, self._activate, methods=["POST"]),
            ]
        )

    async def _site(self, request: Request) -> Response:
        return _packed(
            SiteStatus(
                instance=self.instance, site=self.name, telemetry_seq=len(self.events), models=self.models,
                classifiers=self.classifiers,
            )
        )

    async def _graph(self, request: Request) -> Response:
        graph = self.graphs.get(request.path_params["digest"])
        return Response("no such graph", 404) if graph is None else _packed(graph)

    async def _directives(self, request: Request) -> Response:
        if self.unavailable:
            self.unavailable -= 1
            return Response("busy", 503)
        batch = msgspec.msgpack.decode(await request.body(), type=DirectiveBatch)
        self.batches.append(batch)
        if batch.full:
            self.in_force.clear()
            self.splits.clear()
        rejected = []
        for directive in batch.directives:
            if self.serves(directive.decoder, directive.decoder_version):
                self.in_force[directive.user] = directive
            else:
                rejected.append(RejectedDirective(user=directive.user, reason="unknown version"))
        for split in batch.splits:
            if split.cut in self.refused_cuts:
                rejected.append(RejectedDirective(user=split.user, reason="not published", about="split"))
            else:
                self.splits[split.user] = split
        applied = len(batch.directives) + len(batch.splits) - len(rejected)
        return _packed(
            DirectiveAck(instance=self.instance, sequence=batch.sequence, applied=applied, rejected=rejected)
        )

    async def _telemetry(self, request: Request) -> Response:
        after = int(request.query_params["after"])
        instance = self.instance

        async def stream() -> AsyncIterator[bytes]:
            position = after
            while self.instance == instance:
                while position < len(self.events):
                    yield msgspec.msgpack.encode(self.events[position])
                    position += 1
                self._news.clear()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(0.05):
                        await self._news.wait()

        return StreamingResponse(stream(), media_type=paths.MESSAGEPACK)

    async def _submit(self, request: Request) -> Response:
        job = msgspec.msgpack.decode(await request.body(), type=TrainingJob)
        self.jobs[job.job] = job
        self.report(self._training(job))
        return _packed(TrainingReport(job=job.job, time_ns=time.time_ns(), state="queued"), 202)

    def _training(self, job: TrainingJob) -> TrainingReport:
        return TrainingReport(
            job=job.job,
            time_ns=time.time_ns(),
            state="succeeded",
            progress=1.0,
            heldout_gain_db=self.gain_db,
        )

    async def _job(self, request: Request) -> Response:
        job = self.jobs.get(request.path_params["job"])
        return Response("unknown job", 404) if job is None else _packed(self._training(job))

    async def _candidate(self, request: Request) -> Response:
        job = self.jobs[request.path_params["job"]]
        weights = f"tuned {job.decoder} {job.new_version}".encode() * 100
        manifest = make_manifest(
            "decoder",
            job.decoder,
            job.new_version,
            weights,
            parent=job.parent_version,
            metrics={"heldout_gain_db": self.gain_db},
        )
        return Response(bundle_files(manifest, weights)[request.path_params["file"]])

    async def _listing(self, request: Request) -> Response:
        return _packed(
            InboxListing(targets={path: hashlib.sha256(d).hexdigest() for path, d in self.installed.items()})
        )

    async def _put_metadata(self, request: Request) -> Response:
        self.puts.append(request.path_params["name"])
        self.metadata[request.path_params["name"]] = await request.body()
        return Response(status_code=204)

    async def _put_target(self, request: Request) -> Response:
        name, span = request.path_params["name"], parse_range(request.headers[CONTENT_RANGE])
        self.puts.append(name)
        have = self.targets.setdefault(name, b"")
        if span.first == len(have):
            self.targets[name] = have + await request.body()
        status = 204 if span.last < len(self.targets[name]) else 416
        return Response(status_code=status, headers={UPLOAD_OFFSET: str(len(self.targets[name]))})

    async def _activate(self, request: Request) -> Response:
        wanted = msgspec.msgpack.decode(await request.body(), type=ActivationRequest)
        try:
            for bundle in wanted.bundles:
                self._install(bundle)
        except Exception as error:  # every refusal of the verification is reported by name
            return _packed(
                ActivationReport(
                    instance=self.instance, outcome="refused", error=type(error).__name__, detail=str(error)
                )
            )
        return _packed(ActivationReport(instance=self.instance, outcome="activated", publish_ms=0.02))

    def _install(self, bundle: str) -> None:
        updater = Updater(
            metadata_dir=self._directory.name,
            metadata_base_url="inbox://metadata/",
            target_base_url="inbox://targets/",
            fetcher=InboxFetcher(self),
            bootstrap=self.trusted_root,
        )
        updater.refresh()
        for name in ("manifest.msgpack", "weights.safetensors"):
            target = updater.get_targetinfo(f"{bundle}/{name}")
            assert target is not None, f"{bundle}/{name} is not signed"
            path = updater.download_target(target, str(Path(self._directory.name) / name))
            self.installed[f"{bundle}/{name}"] = Path(path).read_bytes()
        manifest = msgspec.msgpack.decode(self.installed[f"{bundle}/manifest.msgpack"], type=BundleManifest)
        assert target is not None
        assert target.custom["encoder_sha256"] == manifest.encoder_sha256
        if not self.serves(manifest.name, manifest.version):
            self.models.append(manifest)


def _packed(value: Any, status: int = 200) -> Response:
    return Response(msgspec.msgpack.encode(value), status, media_type=paths.MESSAGEPACK)


@contextlib.asynccontextmanager
async def served(app: Starlette) -> AsyncIterator[str]:
    """Serve on a free loopback port; yields the base URL."""
    bound = socket.socket()
    bound.bind(("127.0.0.1", 0))
    config = uvicorn.Config(app, log_config=None, lifespan="off", timeout_graceful_shutdown=1)
    server = QuietServer(config)
    task = asyncio.create_task(server.serve(sockets=[bound]))
    try:
        yield f"http://127.0.0.1:{bound.getsockname()[1]}"
    finally:
        server.should_exit = True
        await task
        bound.close()


async def eventually(condition: Any, timeout_s: float = 15.0) -> None:
    """Wait until ``condition()`` is true."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "the condition did not become true"
        await asyncio.sleep(0.01)
