"""The runtime as a process of its own: it starts, drains on SIGTERM and exits with 0."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest
from runtime_site import free_port

from codec_runtime.contract import paths

PROGRAM = """
import sys
from codec_runtime.contract.logs import configure_logging
from codec_runtime.serving.main import run_runtime
from codec_runtime.serving.settings import RuntimeSettings
configure_logging("runtime")
run_runtime(RuntimeSettings(port=int(sys.argv[1]), weights_dir=sys.argv[2], state_dir=sys.argv[3]))
"""


@pytest.mark.slow
def test_sigterm_ends_streams_and_exits_with_zero(weights: Path, tmp_path: Path) -> None:
    port = free_port()
    command = [sys.executable, "-c", PROGRAM, str(port), str(weights), str(tmp_path / "state")]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        url = f"http://127.0.0.1:{port}"
        while process.poll() is None:
            try:
                if httpx.get(url + "/v2/health/ready").status_code == 200:
                    break
            except httpx.TransportError:
                time.sleep(0.1)
        with httpx.stream("GET", url + paths.TELEMETRY, timeout=30) as stream:
            process.send_signal(signal.SIGTERM)
            assert list(stream.iter_raw()) == []  # ended by the drain, not by the idle limit
        _, log = process.communicate(timeout=30)
        assert process.returncode == 0, log
        assert '"msg": "runtime stopped"' in log
