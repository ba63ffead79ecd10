"""The two servers of `semcom bench push`, each in a process of its own, on loopback."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

from codec_runtime.benchmarks.swap_process import free_port
from codec_runtime.contract import paths
from codec_runtime.serving.settings import ENV_PREFIX

_START_S = 60.0


class BenchError(RuntimeError):
    """A process did not start or died, or a site refused what it should take; the message says why."""


@contextmanager
def runtime_server(state: Path, trusted_root: Path) -> Iterator[str]:
    """A codec runtime that has no bundles yet; yields its URL.

    Raises:
        BenchError: it does not answer within a minute.
    """
    empty = state / "weights"
    empty.mkdir(parents=True)
    settings = {
        "STATE_DIR": str(state / "state"),
        "WEIGHTS_DIR": str(empty),
        "TRUSTED_ROOT": str(trusted_root),
        "BACKEND": "torch",  # loading is told apart and not what is measured
        "ACTIVATION_NICE": "0",  # no users to give way to, and the reference does not
        "LOG_LEVEL": "ERROR",
    }
    port = free_port()
    program = [sys.executable, "-m", "xapp.cli", "runtime", "--port", str(port)]
    environment = {f"{ENV_PREFIX}_{name}": value for name, value in settings.items()}
    with _process(program, state / "log", environment) as process:
        url = f"http://127.0.0.1:{port}"
        _wait(process, url + paths.SITE, state / "log")
        yield url


@contextmanager
def raw_server(folder: Path) -> Iterator[str]:
    """The reference; yields its URL. Raises BenchError as :func:`runtime_server`."""
    folder.mkdir(parents=True)
    port = free_port()
    program = [sys.executable, "-m", "xapp.benchmarks.raw_upload", str(port), str(folder)]
    with _process(program, folder / "log", {}) as process:
        url = f"http://127.0.0.1:{port}"
        _wait(process, f"{url}/ready", folder / "log")
        yield url


@contextmanager
def _process(program: list[str], log: Path, environment: dict[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    with log.open("wb") as output:
        process = subprocess.Popen(
            program, stdout=output, stderr=output, env={**os.environ, **environment}
        )
        try:
            yield process
        finally:
            process.terminate()
            try:
                process.wait(15)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _wait(process: subprocess.Popen[bytes], url: str, log: Path) -> None:
    deadline = time.monotonic() + _START_S
    while process.poll() is None and time.monotonic() < deadline:
        try:
            if httpx.get(url, trust_env=False, timeout=5.0).is_success:
                return
        except httpx.HTTPError:
            time.sleep(0.05)
    raise BenchError(f"no answer from {url}: {log.read_text()[-500:] or 'the log is empty'}")
