"""Killed or out of disk at any step of an update, a site serves a consistent set after the restart."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest
from attacked_site import FILES, OLD, AttackedSite
from directed_site import files_of, fine_tuned
from runtime_site import write_encoder
from security_tables import documented, hold
from test_update_attacks import ORDER

from codec_runtime.bundle.steps import UPDATE_STEPS
from codec_runtime.bundle.store import BundleContents
from codec_runtime.contract.bundle import WEIGHTS_FILE
from codec_runtime.serving.settings import RuntimeSettings

pytestmark = pytest.mark.slow

PAIR = ["encoder/anchor/2", "decoder/attention/3"]
"""The update changes encoder and decoder together, so that a mixed pair shows; the decoder as a delta."""
WITHDRAWN = "decoder/attention/4"
"""Served before the update, whose director assigns it no longer."""
REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, str], dict[str, Any]]:
    root = tmp_path_factory.mktemp("cuts")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda descriptor: None)  # the site before the update may be made quickly
        site = AttackedSite(root)
        site.publish(4)
        assert site.activate(WITHDRAWN, site.repository.files()).outcome == "activated"
        encoder = write_encoder(root / "new", seed=9, version=2)
        whole = {name: (root / "new" / PAIR[0] / name).read_bytes() for name in FILES}
        site.repository.publish(encoder, whole)
        tuned = fine_tuned(site.weights / "decoder" / "attention" / "1", 3)
        manifest = msgspec.structs.replace(tuned.manifest, encoder_sha256=encoder.weights_sha256)
        decoder = BundleContents(manifest, tuned.weights, tuned.delta)
        site.repository.publish(manifest, files_of(decoder))
        site.repository.assign("_every", [OLD, *PAIR])
    files = site.repository.files()
    for name, data in files.metadata:
        _write(root / "delivery" / "metadata" / name, data)
    for path, (hashed, _, local) in files.targets.items():
        if path.rpartition("/")[0] in PAIR and path != f"{PAIR[1]}/{WEIGHTS_FILE}":
            _write(root / "delivery" / "targets" / hashed, local.read_bytes())
    settings: RuntimeSettings = site.settings
    plan = {"weights_dir": settings.weights_dir, "trusted_root": settings.trusted_root, "backend": "torch"}
    (root / "settings.json").write_text(json.dumps({**plan, "bundles": PAIR}))
    done = subprocess.run(
        [sys.executable, str(Path(__file__).with_name("power_cut_child.py")), str(root)],
        capture_output=True, text=True, timeout=220, check=False,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr[-3000:]
    shutil.rmtree(root / "state")
    lines = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    return {(line["what"], line["step"]): line for line in lines}


def _write(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


@pytest.mark.parametrize("step", UPDATE_STEPS)
def test_killed_at_a_step_the_site_serves_one_consistent_set(
    runs: dict[tuple[str, str], dict[str, Any]], step: str
) -> None:
    run = runs["killed", step]
    assert run["status"] == -signal.SIGKILL, run  # the step is reached, so the list is not wishful
    assert run["again"] == 0, run
    present = [bundle in run["served"] for bundle in PAIR]
    recorded = UPDATE_STEPS.index(step) >= UPDATE_STEPS.index("serve: recorded")
    assert present == [recorded, recorded]
    assert OLD in run["served"]
    assert (WITHDRAWN in run["served"]) is not recorded
    assert set(run["installed"]) == {OLD, *PAIR}  # once the update is through, also on the disk
    assert run["outcome"] == ("already-active" if recorded else "activated")
    assert set(run["then"]) == {"encoder/anchor/1", "decoder/attention/1", OLD, *PAIR}
    hold("power cuts", UPDATE_STEPS, {
        "killed at": step, "served after the restart": "the new pair" if recorded else "the old version",
        "the same update again": run["outcome"],
    })


def test_a_full_disk_refuses_the_update_and_the_old_version_serves(
    runs: dict[tuple[str, str], dict[str, Any]]
) -> None:
    full = [run for (what, _), run in runs.items() if what == "full"]
    assert len(full) == len(UPDATE_STEPS) - 3
    for run in full:
        assert (run["status"], run["error"], run["unchanged"]) == (0, "StorageFullError", True), run
        assert not set(PAIR) & set(run["served"])
        assert WITHDRAWN in run["served"]
        assert run["outcome"] == "activated"  # once there is room again
    hold("attacks", ORDER, {
        "attack": "disk full", "what is done": f"no space left at each of {len(full)} steps",
        "refused by": "`StorageFullError`", "metric": '`{stage="inbox" or "activation"}` +1',
        "the xApp is told": "HTTP 507 or ActivationReport, `StorageFullError`",
        "served afterwards": f"{OLD}, as before",
    })


def test_document_lists_exactly_these_steps() -> None:
    assert [line.split("|")[1].strip() for line in documented("power cuts")] == list(UPDATE_STEPS)
