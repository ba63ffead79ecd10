"""A site with small, randomly initialised modules, and a TUF repository as the xApp would sign it."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import torch
from securesystemslib.signer import CryptoSigner
from tuf.api.metadata import Metadata, MetaFile, Root, Snapshot, TargetFile, Targets, Timestamp

from codec_runtime.bundle.store import read_manifest, write_bundle
from codec_runtime.codecs.fast import FastConfig, FastEncoder
from codec_runtime.codecs.registry import build_decoder
from codec_runtime.contract.bundle import BundleManifest
from codec_runtime.serving.main import DrainingServer, build_server
from codec_runtime.serving.settings import RuntimeSettings

SMALL = FastConfig(width=8, blocks=1)


def write_encoder(root: Path, seed: int = 1, version: int = 1) -> BundleManifest:
    torch.manual_seed(seed)
    return write_bundle(
        root / "encoder" / "anchor" / str(version), kind="encoder", name="anchor", version=version,
        architecture=FastEncoder.architecture, hyperparameters=SMALL.as_dict(),
        state=FastEncoder(SMALL).state_dict(),
    )


def write_decoder(
    root: Path, encoder: BundleManifest, *, family: str = "attention", version: int = 1, seed: int = 2,
    parent: int | None = None,
) -> BundleManifest:
    torch.manual_seed(seed)
    decoder: Any = build_decoder("fast", family, SMALL)
    return write_bundle(
        root / "decoder" / family / str(version), kind="decoder", name=family, version=version,
        architecture=decoder.architecture, hyperparameters=decoder.config.as_dict(),
        state=decoder.state_dict(), encoder_sha256=encoder.files[0].sha256, parent=parent,
    )


class Repository:
    """Publishes legal and illegal TUF metadata; ``put`` receives (area, name, bytes)."""

    def __init__(self, root_file: Path) -> None:
        roles = ("root", "timestamp", "snapshot", "targets")
        self.signers = {role: CryptoSigner.generate_ed25519() for role in roles}
        expires = datetime.now(UTC) + timedelta(days=30)
        self.expires = dict.fromkeys(self.signers, expires)
        root = Root(expires=expires, consistent_snapshot=True)
        for role, signer in self.signers.items():
            root.add_key(signer.public_key, role)
        self.root = self._signed(root, "root")
        root_file.write_bytes(self.root)
        self.version = 0
        self.targets: dict[str, tuple[bytes, dict[str, Any]]] = {}

    def _signed(self, payload: Any, role: str, signer: CryptoSigner | None = None) -> bytes:
        metadata = Metadata(payload)
        metadata.sign(signer or self.signers[role])
        return metadata.to_bytes()

    def add_bundle(self, root: Path, path: str, **custom: Any) -> None:
        kind, name, version = path.split("/")
        manifest = read_manifest(root / path)
        signed = {
            "kind": kind, "name": name, "version": int(version), "encoder_sha256": manifest.encoder_sha256,
            **custom,
        }
        for file in ("manifest.msgpack", "weights.safetensors"):
            self.targets[f"{path}/{file}"] = ((root / path / file).read_bytes(), signed)

    def publish(self, put: Callable[[str, str, bytes], Any], *, signer: CryptoSigner | None = None) -> None:
        """Sign the next version of all and put it: targets, versioned metadata, then the timestamp."""
        self.version += 1
        n = self.version
        targets = Targets(version=n, expires=self.expires["targets"])
        for path, (data, custom) in self.targets.items():
            target = TargetFile.from_data(path, data, ["sha256"])
            target.unrecognized_fields["custom"] = custom
            targets.targets[path] = target
            folder, _, file = path.rpartition("/")
            put("targets", f"{folder}/{target.hashes['sha256']}.{file}", data)
        snapshot = Snapshot(version=n, expires=self.expires["snapshot"], meta={"targets.json": MetaFile(n)})
        timestamp = Timestamp(version=n, expires=self.expires["timestamp"], snapshot_meta=MetaFile(n))
        put("metadata", "1.root.json", self.root)
        put("metadata", f"{n}.targets.json", self._signed(targets, "targets", signer))
        put("metadata", f"{n}.snapshot.json", self._signed(snapshot, "snapshot", signer))
        put("metadata", "timestamp.json", self._signed(timestamp, "timestamp", signer))


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Site:
    """A live server in a thread."""

    def __init__(self, settings: RuntimeSettings, server: DrainingServer) -> None:
        self.settings = settings
        self.server = server
        self.address = f"127.0.0.1:{settings.port}"
        self.url = f"http://{self.address}"


@contextmanager
def serve(weights: Path, state: Path, **settings: Any) -> Iterator[Site]:
    settings.setdefault("backend", "torch")  # compiling for OpenVINO takes longer than most tests here
    given = RuntimeSettings(port=free_port(), weights_dir=str(weights), state_dir=str(state), **settings)
    server = build_server(given)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    deadline = time.monotonic() + 20
    while not server.started and thread.is_alive() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert server.started
    try:
        yield Site(given, server)
    finally:
        server.should_exit = True
        thread.join(20)
        assert not thread.is_alive()
