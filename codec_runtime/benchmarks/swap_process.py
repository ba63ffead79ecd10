"""Processes of the swap benchmark, and requests to its site."""

from __future__ import annotations

import contextlib
import http.client
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

from codec_runtime.benchmarks.codec import BenchError


def ask(port: int, method: str, path: str, body: bytes | None = None) -> tuple[int, bytes]:
    """Status and body of the answer."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        connection.request(method, path, body)
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()


def free_port() -> int:
    """Of this machine, for a server that is started at once."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Process:
    """A Python process of the benchmark; a context that ends it."""

    def __init__(self, *arguments: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            env=dict(os.environ, OMP_NUM_THREADS="1"),
        )

    def __enter__(self) -> Process:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(15)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def alive(self) -> bool:
        return self._process.poll() is None

    def await_line(self, line: str) -> None:
        """Read its output up to ``line``.

        Raises:
            BenchError: it ended before.
        """
        assert self._process.stdout is not None
        if not any(line in said for said in iter(self._process.stdout.readline, "")):
            raise BenchError(f"a process of the benchmark ended early, exit code {self._process.wait()}")

    def rss_mb(self) -> float:
        """Resident memory."""
        text = Path(f"/proc/{self._process.pid}/status").read_text()
        return int(text.partition("VmRSS:")[2].split()[0]) / 1024

    def finish(self) -> None:
        """End its input and wait.

        Raises:
            BenchError: it failed.
        """
        assert self._process.stdin is not None
        self._process.stdin.close()
        if self._process.wait(120) != 0:
            raise BenchError(f"the load process ended with {self._process.returncode}")

    def exchange(self, line: str, answer: str) -> None:
        """Write a line, and read up to ``answer`` as :meth:`await_line` does."""
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # that it ended is found by reading
            self._process.stdin.write(line + "\n")
            self._process.stdin.flush()
        self.await_line(answer)
