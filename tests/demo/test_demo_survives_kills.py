"""Each process of the demo is killed once: the others report it and go on, and its restart is picked up."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

PROCESSES = ("runtime", "xapp", "lab", "redis")
STAY_AWAY_S = 9.0


def _pid_of(process: str, demo: int) -> int | None:
    """Process id of a child of the demo, told by its command line (redis rewrites its own)."""
    for entry in Path("/proc").iterdir():
        try:
            parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            words = (entry / "cmdline").read_bytes().decode(errors="replace").split("\0")
        except (OSError, ValueError, IndexError):
            continue
        if parent == demo and (process in words[2:4] or (process == "redis" and "redis-server" in words[0])):
            return int(entry.name)
    return None


def _wait_for(what, deadline_s: float):
    deadline = time.monotonic() + deadline_s
    while time.monotonic() < deadline:
        value = what()
        if value:
            return value
        time.sleep(0.2)
    raise AssertionError(f"not within {deadline_s} s")


@pytest.mark.slow
@pytest.mark.timeout(1400)
def test_killing_any_process_is_reported_and_its_restart_is_picked_up(tmp_path):
    out = tmp_path / "out"
    command = [
        sys.executable,
        "-m",
        "xapp.cli",
        "demo",
        "--duration",
        "120",
        "--users",
        "6",
        "--no-live",
        "--json",
        "--out",
        str(out),
    ]
    progress = tmp_path / "progress"
    with progress.open("w") as told_to:
        demo = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=told_to, text=True)
    try:
        # Not before everything is up: a process that dies in its first start ends the demo, which is right.
        _wait_for(lambda: " live: " in progress.read_text() or demo.poll() is not None, 400)
        for process in PROCESSES:
            pid = _wait_for(lambda process=process: _pid_of(process, demo.pid), 60)
            os.kill(pid, signal.SIGKILL)
            _wait_for(lambda process=process, pid=pid: (_pid_of(process, demo.pid) or pid) != pid, 60)
            time.sleep(STAY_AWAY_S)
        stdout, _ = demo.communicate(timeout=500)
    finally:
        demo.kill()
    assert demo.returncode == 0, progress.read_text()
    summary = json.loads(stdout)
    assert set(summary["restarts"]) == set(PROCESSES)
    told = " ".join(event["kind"] + " " + event.get("text", "") for event in summary["events"])
    for process in PROCESSES:
        assert process in told
    # After the last restart the loop runs again: the xApp that was restarted has counted indications.
    assert summary["indications"] > 100
    assert summary["decode_errors"] == 0
    assert summary["transmissions"] > 20
