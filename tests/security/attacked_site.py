"""A site that serves version 2 of a decoder by an honest update, and what an attacker can do to it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import msgspec
from runtime_site import write_decoder, write_encoder

from codec_runtime.bundle.store import read_manifest
from codec_runtime.contract import paths
from codec_runtime.contract.updates import ActivationReport, ActivationRequest
from codec_runtime.serving.app import create_app
from codec_runtime.serving.runtime import Runtime
from codec_runtime.serving.settings import RuntimeSettings
from xapp.delivery.repository import RepositoryFiles, TufRepository
from xapp.delivery.roles import THRESHOLD

OLD, NEW = "decoder/attention/2", "decoder/attention/3"
FILES = ("manifest.msgpack", "weights.safetensors")


class AttackedSite:
    """``repository`` is the honest one; ``refused`` the name of the first PUT that the site refused."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.weights = root / "weights"
        self.encoder = write_encoder(self.weights)
        write_decoder(self.weights, self.encoder)
        self.repository = TufRepository(root / "tuf", layout=THRESHOLD)
        self.settings = RuntimeSettings(
            weights_dir=str(self.weights), state_dir=str(root / "state"), backend="torch",
            trusted_root=str(self.repository.trusted_root), body_stall_s=0.05,
            inbox_max_file_bytes=1 << 20,
        )
        self.app = create_app(self.settings)
        self.refused: tuple[int, str] | None = None
        self.publish(2)
        self.first = self.repository.files()
        assert self.activate(OLD, self.first).outcome == "activated"

    @property
    def runtime(self) -> Runtime:
        runtime: Runtime = self.app.state.runtime
        return runtime

    def publish(self, version: int, repository: TufRepository | None = None, **options: Any) -> str:
        """Sign a decoder; ``encoder`` is the one that it was trained against."""
        encoder = options.pop("encoder", self.encoder)
        manifest = write_decoder(self.root / "new", encoder, version=version, parent=1, seed=version)
        place = self.root / "new" / "decoder" / "attention" / str(version)
        assert read_manifest(place) == manifest
        files = {name: (place / name).read_bytes() for name in FILES}
        return (repository or self.repository).publish(manifest, files, **options)

    def put(self, area: str, name: str, data: bytes | AsyncIterator[bytes]) -> None:
        async def send() -> httpx.Response:
            transport = httpx.ASGITransport(self.app)
            async with httpx.AsyncClient(transport=transport, base_url="http://site") as client:
                return await client.put(f"{paths.INBOX}/{area}/{name}", content=data)

        reply = asyncio.run(send())
        if reply.status_code != 204 and self.refused is None:
            self.refused = (reply.status_code, reply.json()["name"])

    def deliver(self, files: RepositoryFiles, *bundles: str) -> None:
        """Metadata of a repository and the target files of ``bundles``, as the xApp would push them."""
        for path, (hashed, _, local) in files.targets.items():
            if path.rpartition("/")[0] in bundles:
                self.put("targets", hashed, local.read_bytes())
        for name, data in files.metadata:
            self.put("metadata", name, data)

    def activate(self, bundle: str, files: RepositoryFiles | None = None) -> ActivationReport:
        """Ask the site to serve ``bundle``, after an honest delivery of ``files`` if any are given."""
        if files is not None:
            self.deliver(files, bundle)

        async def ask() -> bytes:
            transport = httpx.ASGITransport(self.app)
            async with httpx.AsyncClient(transport=transport, base_url="http://site") as client:
                body = msgspec.msgpack.encode(ActivationRequest(bundles=[bundle]))
                return (await client.post(paths.ACTIVATIONS, content=body)).content

        return msgspec.msgpack.decode(asyncio.run(ask()), type=ActivationReport)

    def served(self, runtime: Runtime | None = None) -> list[str]:
        return [
            f"{b.manifest.kind}/{b.manifest.name}/{b.manifest.version}"
            for b in (runtime or self.runtime).models.all()
        ]

    def refusals(self, stage: str, error: str) -> float:
        """The counter of the metric that an operator watches."""
        labels = {"stage": stage, "error": error}
        return self.runtime.metrics.registry.get_sample_value(
            "semcom_runtime_update_refusals_total", labels
        ) or 0.0
