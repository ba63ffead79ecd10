"""Run an update in processes that are killed at each step; prints one JSON line a step.

``python power_cut_child.py ROOT`` where ROOT holds ``settings.json`` (of the runtime), ``state`` (a site that
serves the old version) and ``delivery/{metadata,targets}`` (what an honest xApp would push). Each process is
forked from this one, which has torch loaded but has never computed with it.
"""

from __future__ import annotations

import asyncio
import errno
import json
import os
import shutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import msgspec

from codec_runtime.bundle.steps import UPDATE_STEPS
from codec_runtime.contract.updates import ActivationReport, ActivationRequest
from codec_runtime.serving.runtime import Runtime
from codec_runtime.serving.settings import RuntimeSettings

Reached = Callable[[str], None]


def served(runtime: Runtime) -> list[str]:
    """Bundles of the published set; it can be published only if each decoder's encoder is in it."""
    assert all(runtime.models.encoder_of(decoder) for decoder in runtime.models.decoders.values())
    return [f"{b.manifest.kind}/{b.manifest.name}/{b.manifest.version}" for b in runtime.models.all()]


def update(runtime: Runtime, delivery: Path, bundles: list[str]) -> ActivationReport:
    for area in ("targets", "metadata"):
        files = [p for p in (delivery / area).rglob("*") if p.is_file()]
        for path in sorted(files, key=lambda p: p.name == "timestamp.json"):
            runtime.inbox.put(area, str(path.relative_to(delivery / area)), path.read_bytes())
    return asyncio.run(runtime.activate(ActivationRequest(bundles=bundles)))


def in_child(work: Callable[[], dict[str, object]]) -> tuple[int, dict[str, object]]:
    """Status (negative for a signal) and result of ``work`` in a forked process."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            os.write(writing, json.dumps(work()).encode())
            status = 0
        finally:
            os._exit(status)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        data = pipe.read()
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    return status, json.loads(data) if data else {}


def at(step: str, act: Callable[[], object]) -> Reached:
    def reached(now: str) -> None:
        if now == step:
            act()

    return reached


def kill() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def fill() -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def main(root: Path) -> None:
    plan = json.loads((root / "settings.json").read_text())
    bundles = plan.pop("bundles")
    for number, step in enumerate(UPDATE_STEPS):
        for what, act in (("killed", kill), ("full", fill)):
            if what == "full" and step.startswith(("serve: pub", "serve: rec", "serve: old")):
                continue  # the swap is done: what is left to write may fail and is logged
            state = root / f"{what}-{number}"
            shutil.copytree(root / "state", state, symlinks=True)
            settings = msgspec.convert({**plan, "state_dir": str(state)}, RuntimeSettings)

            def first(settings: RuntimeSettings = settings, step: str = step, act: Reached = act) -> dict:
                runtime = Runtime(settings, at(step, act))
                before = served(runtime)
                try:
                    report = update(runtime, root / "delivery", bundles)
                    error = report.error
                except OSError as failure:  # the inbox route answers it with HTTP 507
                    error = {errno.ENOSPC: "StorageFullError"}.get(failure.errno or 0, "?")
                return {"error": error, "unchanged": served(runtime) == before}

            def second(settings: RuntimeSettings = settings) -> dict:
                runtime = Runtime(settings)
                found = served(runtime)
                report = update(runtime, root / "delivery", bundles)
                installed = runtime.activations.installer.installed()
                then = served(runtime)
                return {"served": found, "outcome": report.outcome, "then": then, "installed": installed}

            status, during = in_child(first)
            again, after = in_child(second)
            line = {"step": step, "what": what, "status": status, "again": again, **during, **after}
            print(json.dumps(line), flush=True)
            shutil.rmtree(state)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
