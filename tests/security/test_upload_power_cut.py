"""Killed while a chunk comes, a runtime goes on with the bytes that it has: the right file, or none."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import msgspec
import pytest
from runtime_site import free_port, write_decoder, write_encoder

from codec_runtime.bundle.store import SHIPPED_WEIGHTS, manifest_bytes, read_manifest
from codec_runtime.contract import paths
from codec_runtime.contract.bundle import MANIFEST_FILE, WEIGHTS_FILE
from xapp.delivery.push import PushOptions, PushReport, push
from xapp.delivery.repository import RepositoryFiles, TufRepository
from xapp.runtime_client import RuntimeClient

pytestmark = pytest.mark.slow

REPOSITORY = Path(__file__).resolve().parents[2]


def eventually(done: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 90
    while not done():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def answers(url: str) -> bool:
    try:
        return httpx.get(url + paths.SITE, timeout=5).is_success
    except httpx.HTTPError:
        return False


@contextmanager
def runtime(root: Path, weights: Path, trusted_root: Path) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    port = free_port()
    settings = {
        "STATE_DIR": root / "state", "WEIGHTS_DIR": weights, "TRUSTED_ROOT": trusted_root, "BACKEND": "torch",
    }
    environment = {f"SEMCOM_RUNTIME_{name}": str(value) for name, value in settings.items()}
    with (root / "log").open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "xapp.cli", "runtime", "--port", str(port)], stdout=log, stderr=log,
            env={**os.environ, "PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1", **environment},
        )
    url = f"http://127.0.0.1:{port}"
    try:
        eventually(lambda: answers(url))
        yield url, process
    finally:
        process.kill()
        process.wait()


def begin_to_send(url: str, hashed: str, body: bytes, length: int) -> socket.socket:
    """A connection over which the first bytes of a chunk of ``length`` bytes have been sent."""
    host = httpx.URL(url)
    connection = socket.create_connection((host.host, host.port or 80), timeout=30)
    head = (
        f"PUT {paths.INBOX}/targets/{hashed} HTTP/1.1\r\nHost: site\r\nContent-Length: {length}\r\n"
        f"Content-Range: bytes 0-{length - 1}/{length}\r\n\r\n"
    )
    connection.sendall(head.encode() + body)
    return connection


def deliver(url: str, files: RepositoryFiles, bundle: str) -> PushReport:
    async def main() -> PushReport:
        async with RuntimeClient(url, timeout_s=60) as client:
            return await push(client, files, [bundle], PushOptions())

    return asyncio.run(main())


@pytest.mark.parametrize("garbled", [False, True])
def test_killed_while_a_chunk_comes_a_site_goes_on_with_what_it_has(tmp_path: Path, garbled: bool) -> None:
    weights = tmp_path / "weights"
    write_decoder(weights, write_encoder(weights))
    place = max((SHIPPED_WEIGHTS / "encoder" / "anchor").iterdir(), key=lambda version: int(version.name))
    manifest = msgspec.structs.replace(read_manifest(place), version=900, parent=None, delta=None)
    content = (place / WEIGHTS_FILE).read_bytes()
    repository = TufRepository(tmp_path / "tuf")
    bundle = repository.publish(
        manifest, {MANIFEST_FILE: manifest_bytes(manifest), WEIGHTS_FILE: content}
    )
    files = repository.files()
    hashed = files.targets[f"{bundle}/{WEIGHTS_FILE}"][0]
    partial = tmp_path / "state" / "inbox" / "partial" / hashed
    with (
        runtime(tmp_path, weights, repository.trusted_root) as (url, process),
        begin_to_send(url, hashed, content[: len(content) // 2], len(content)),
    ):
        eventually(lambda: partial.exists() and partial.stat().st_size > 0)
        process.send_signal(signal.SIGKILL)
        process.wait()
    had = partial.stat().st_size
    assert 0 < had < len(content)
    assert partial.read_bytes() == content[:had]
    if garbled:  # as a power cut may leave blocks that were never flushed
        partial.write_bytes(bytes(had))
    with runtime(tmp_path, weights, repository.trusted_root) as (url, _):
        report = deliver(url, files, bundle)
    assert report.activation.outcome == "activated"
    assert (tmp_path / "state" / "bundles" / bundle / WEIGHTS_FILE).read_bytes() == content
    assert not partial.exists()
    small = sum(len(data) for _, data in files.metadata) + len(manifest_bytes(manifest))
    again = len(content) if garbled else 0
    assert report.bytes_pushed - small == len(content) - had + again
