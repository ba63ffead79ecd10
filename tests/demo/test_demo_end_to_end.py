"""The whole system as separate processes on loopback, shortened: what the demo promises must hold."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.timeout(200)
def test_the_demo_adapts_updates_and_reports(tmp_path):
    out = tmp_path / "out"
    # fmt: off
    command = [
        sys.executable, "-m", "xapp.cli", "demo", "--duration", "25", "--users", "8", "--no-live", "--json",
        "--out", str(out),
    ]
    # fmt: on
    done = subprocess.run(command, capture_output=True, text=True, timeout=150, check=False)
    logs = "\n".join(f"== {f.name}\n{f.read_text()[-1500:]}" for f in sorted((out / "logs").glob("*.log")))
    assert done.returncode == 0, f"{done.stderr}\n{logs}"
    summary = json.loads(done.stdout)
    assert json.loads((out / "summary.json").read_text()) == summary
    assert summary["indications"] > 0
    assert summary["decode_errors"] == 0
    assert summary["failed_requests"] == 0
    assert summary["directives"] > 0
    assert summary["updates_pushed"] >= 1, done.stderr
    assert summary["swaps"] >= 1
    assert summary["update_gain_db"] > 0
    misses = summary["quality_misses"]
    assert misses["adaptive"] <= misses["static_same_bandwidth"]
    assert summary["loop_ms"]["p99"] is not None
    report = Path(out / "report.html").read_text()
    assert "data:image/png;base64," in report
    assert "http://" not in report
    assert summary["restarts"] == {}
