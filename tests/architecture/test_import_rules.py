"""The layering of docs/architecture.md, held by machine."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
LINE_LIMIT = 410


def _python_files(package: str) -> list[Path]:
    return sorted((ROOT / package).rglob("*.py"))


def _imported(path: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module)
    return names


def test_runtime_never_imports_the_xapp():
    for path in _python_files("codec_runtime"):
        assert "xapp" not in {name.split(".")[0] for name in _imported(path)}, path


def test_contract_imports_nothing_heavy():
    allowed = {"msgspec", "typing", "collections", "os", "pathlib", "json", "logging", "sys", "datetime",
               "hashlib", "heapq", "__future__", "codec_runtime"}
    for path in _python_files("codec_runtime/contract"):
        assert {name.split(".")[0] for name in _imported(path)} <= allowed, path


def test_xapp_process_does_not_load_torch():
    code = "import sys, xapp.app, xapp.cli; print('torch' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True, cwd=ROOT
    )
    assert done.stdout.strip() == "False"


@pytest.mark.parametrize("package", ["xapp", "codec_runtime"])
def test_nothing_unpickles_weights(package):
    # One published file is a pickle: pinned by sha256, read by torch's restricted reader, converted once.
    converting = ROOT / "codec_runtime/split/networks/efficientnet.py"
    for path in _python_files(package):
        calls = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)]
        loads = [call for call in calls if ast.unparse(call.func) == "torch.load"]
        restricted = [call for call in loads if "weights_only=True" in map(ast.unparse, call.keywords)]
        assert len(loads) == (1 if path == converting else 0), path
        assert loads == restricted, path
        assert not any(name in ("pickle", "dill", "joblib") for name in _imported(path)), path


@pytest.mark.parametrize("package", ["xapp", "codec_runtime", "tests"])
def test_files_stay_small(package):
    long = {str(p): n for p in _python_files(package) if (n := len(p.read_text().splitlines())) > LINE_LIMIT}
    assert long == {}


@pytest.mark.parametrize("package", ["xapp", "codec_runtime"])
def test_every_package_says_what_belongs_there(package):
    for path in (ROOT / package).rglob("__init__.py"):
        assert ast.get_docstring(ast.parse(path.read_text())), path
