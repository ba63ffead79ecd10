"""The Makefile with an interpreter that only writes down what it is asked to do."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")

FAKE_PYTHON = """#!/bin/sh
# Stands in for python3.11: makes a "virtual environment" whose commands append to a log.
case "$1 $2" in
"-m venv")
    mkdir -p "$3/bin"
    for name in python semcom pytest ruff mypy; do
        printf '#!/bin/sh\\necho "%s $*" >> "$FAKE_LOG"\\n' "$name" > "$3/bin/$name"
        chmod +x "$3/bin/$name"
    done ;;
esac
"""

Make = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "log"


@pytest.fixture
def make(tmp_path: Path, log: Path) -> Make:
    python = tmp_path / "python3.11"
    python.write_text(FAKE_PYTHON)
    python.chmod(0o755)
    inputs = tmp_path / "pyproject.toml"
    inputs.touch()
    # An outer `make test` must not hand its own options and variables down.
    outer = {"MAKELEVEL", "MAKEFLAGS", "MFLAGS", "MAKEOVERRIDES", "VENV", "TORCH_INDEX_URL"}
    environment = {k: v for k, v in os.environ.items() if k not in outer} | {"FAKE_LOG": str(log)}
    variables = [f"PYTHON={python}", f"VENV={tmp_path / 'venv'}", f"INSTALL_INPUTS={inputs}", "ARGS="]

    def run(*words: str) -> subprocess.CompletedProcess[str]:
        log.unlink(missing_ok=True)
        return subprocess.run(
            ["make", *variables, *words],
            cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60, check=False,
        )

    return run


def installs(log: Path) -> list[str]:
    """What pip was asked to install, in order."""
    return [line.split()[-1] for line in log.read_text().splitlines() if " install " in line]


def test_demo_installs_torch_first_then_the_lab_and_runs(make: Make, log: Path) -> None:
    result = make("demo", "ARGS=--users 5")
    assert result.returncode == 0, result.stderr
    assert installs(log) == ["torch", ".[lab]"]
    assert "-c constraints.txt" in log.read_text().splitlines()[0]
    assert log.read_text().splitlines()[-1] == "semcom demo --users 5"
    assert result.stdout == "", "stdout belongs to the demo (--json)"


def test_second_demo_installs_nothing(make: Make, log: Path) -> None:
    make("demo")
    assert make("demo").returncode == 0
    assert log.read_text() == "semcom demo\n"


def test_tests_need_more_than_the_demo_but_not_twice(make: Make, log: Path) -> None:
    make("demo")
    make("test")
    assert installs(log) == ["torch", ".[dev]"]
    make("test", "ARGS=-x")
    assert log.read_text() == "pytest -n auto --dist loadfile -x\n"
    make("demo")
    assert log.read_text() == "semcom demo\n", "the development extra contains the lab's"


def test_changed_requirements_are_installed_again(make: Make, log: Path, tmp_path: Path) -> None:
    make("demo")
    later = time.time() + 10
    os.utime(tmp_path / "pyproject.toml", (later, later))
    make("demo")
    assert installs(log) == ["torch", ".[lab]"]


def test_failed_installation_is_tried_again(make: Make, log: Path, tmp_path: Path) -> None:
    make("demo")
    (tmp_path / "venv" / ".installed-lab").unlink()
    python = tmp_path / "venv" / "bin" / "python"
    working = python.read_text()
    python.write_text("#!/bin/sh\nexit 1\n")
    assert make("demo").returncode != 0
    python.write_text(working)
    assert make("demo").returncode == 0
    assert installs(log) == ["torch", ".[lab]"]


def test_index_for_torch_alone_can_be_named(make: Make, log: Path) -> None:
    make("demo", "TORCH_INDEX_URL=https://example.org/whl/cpu")
    torch, lab = (line for line in log.read_text().splitlines() if " install " in line)
    assert "--extra-index-url https://example.org/whl/cpu" in torch
    assert "example.org" not in lab


def test_lint_checks_style_and_types(make: Make, log: Path) -> None:
    make("lint")
    assert [line.strip() for line in log.read_text().splitlines()[-2:]] == ["ruff check .", "mypy"]


def test_missing_interpreter_is_explained(make: Make) -> None:
    result = make("demo", "PYTHON=python3.11-that-is-not-here")
    assert result.returncode != 0
    assert "apt-get install python3.11-venv" in result.stderr


def test_help_lists_every_public_target(make: Make) -> None:
    listing = make("help").stdout
    for target in ("demo", "test", "lint", "bench", "flower-venv", "clean", "help"):
        assert f"make {target} " in listing


def test_ci_script_is_executable_and_parses() -> None:
    script = ROOT / ".ci" / "run"
    assert os.access(script, os.X_OK)
    assert "set -euo pipefail" in script.read_text()
    subprocess.run(["bash", "-n", str(script)], check=True, timeout=30)
