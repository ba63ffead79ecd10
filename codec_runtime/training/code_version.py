"""Which code made something: for provenance."""

from __future__ import annotations

import importlib.metadata
import shlex
import subprocess
from collections.abc import Sequence
from pathlib import Path


def code_version() -> dict[str, str | None]:
    """Versions of the package and of torch; in a git checkout its commit, with ``+`` if files changed."""
    return {
        "version": importlib.metadata.version("semcom-xapp"),
        "torch": importlib.metadata.version("torch"),
        "commit": _commit(),
    }


def _commit() -> str | None:
    command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty=+", "--abbrev=12"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() or None


def portable_command(arguments: Sequence[str]) -> str:
    """``semcom`` with its arguments; of a path only the last part, since folders differ between machines."""
    return shlex.join(["semcom", *(_last_part(argument) for argument in arguments)])


def _last_part(argument: str) -> str:
    option, equals, value = argument.partition("=") if argument.startswith("-") else ("", "", argument)
    return option + equals + (Path(value).name if "/" in value else value)
