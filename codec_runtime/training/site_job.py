"""``python -m codec_runtime.training.site_job JOBDIR``: fine-tune a decoder on a site's own pictures.

Reads ``job.msgpack``, ``pictures.safetensors``, ``parent/`` and ``encoder/`` of the job directory, writes the
bundle ``candidate/``, with a delta from its parent where that is smaller: once signed, it travels in place of
the weights, back to this site and to every other that has the parent. JSON lines on stdout tell progress; the
last has ``heldout_gain_db`` or ``error``. Runs at the lowest priority with one thread; the job's ``budget_s``
counts from the start of the process.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import sys
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from statistics import fmean
from typing import Any

import msgspec
import torch
from safetensors.torch import load_file
from torch import Tensor

from codec_runtime.bundle.errors import BundleError, MixedPairError
from codec_runtime.bundle.store import bundle_contents, load_module, read_weights, write_contents
from codec_runtime.contract.bundle import BundleManifest, QualityPoint
from codec_runtime.contract.updates import TrainingJob
from codec_runtime.training.finetune import (
    config_for,
    finetune,
    heldout_cases,
    heldout_psnr,
    split_heldout,
)
from codec_runtime.training.job_files import JOB_FILE, PICTURES_FILE, Progress, emit

_HELDOUT_CASES = 32
_HELDOUT_SHARE = 0.08
"""Share of the budget for sending the held-out pictures; restoring them twice takes about as much again."""
_RESERVE = 0.12
_PROGRESS_EVERY_S = 0.5


def run_job(directory: Path, overrides: Mapping[str, Any], *, started: float) -> Progress:
    """Do the job and write its candidate.

    Args:
        directory: the job directory.
        overrides: settings of :class:`FinetuneConfig` in place of those that suit the budget.
        started: time.monotonic() from which the budget counts.

    Raises:
        BundleError, MixedPairError, ValueError, FloatingPointError, OSError: the message is the reason.
    """
    job = msgspec.msgpack.decode((directory / JOB_FILE).read_bytes(), type=TrainingJob)
    given = {key: value for key, value in overrides.items() if value is not None}
    config = replace(config_for(job.budget_s), seed=job.seed, **given)
    torch.manual_seed(job.seed)
    encoder_manifest, encoder = load_module(directory / "encoder")
    parent_manifest, decoder = load_module(directory / "parent")
    if parent_manifest.encoder_sha256 != encoder_manifest.weights_sha256:
        raise MixedPairError("mixed pair: the parent decoder was trained against another encoder")
    pictures = load_file(directory / PICTURES_FILE)
    names = sorted(pictures)
    train, heldout = split_heldout([pictures[name] for name in names])
    end = started + job.budget_s
    left = max(end - time.monotonic(), 0.0)
    cases = heldout_cases(
        encoder, heldout, seed=job.seed + 1, count=_HELDOUT_CASES,
        deadline=time.monotonic() + _HELDOUT_SHARE * left,
    )
    if not cases:
        raise ValueError("no held-out picture is large enough to measure the gain")
    before = heldout_psnr(decoder, cases)
    steps = finetune(
        encoder, decoder, train, config, deadline=end - _RESERVE * left, on_progress=_Reporter()
    )
    decoder.eval()
    after = heldout_psnr(decoder, cases)
    gain = fmean(after) - fmean(before)
    contents = bundle_contents(
        kind="decoder",
        name=parent_manifest.name,
        version=job.new_version,
        architecture=parent_manifest.architecture,
        hyperparameters=parent_manifest.hyperparameters,
        state=decoder.state_dict(),
        encoder_sha256=parent_manifest.encoder_sha256,
        parent=parent_manifest.version,
        parent_weights=read_weights(directory / "parent", parent_manifest),
        provenance={
            "recipe": "site fine-tuning, encoder frozen",
            "command": f"python -m codec_runtime.training.site_job {directory.name}",
            "seed": str(job.seed),
            "steps": str(steps),
            "batch": str(config.batch),
            "learning_rate": str(config.learning_rate),
            "trained_stages": "all" if config.trained_stages is None else str(config.trained_stages),
            "train_pictures": str(len(train)),
            "heldout_pictures": str(len(heldout)),
            "data_sha256": _data_hash([pictures[name] for name in names]),
            "quality": "surface of the parent, shifted by heldout_gain_db",
        },
        metrics={
            "heldout_gain_db": gain,
            "heldout_psnr_parent_db": fmean(before),
            "heldout_psnr_db": fmean(after),
            "heldout_cases": float(len(cases)),
        },
        quality=shifted(parent_manifest, gain),
        macs_per_pixel=parent_manifest.macs_per_pixel,
    )
    write_contents(directory / "candidate", contents)
    return Progress(
        progress=1.0, step=steps, heldout_gain_db=gain,
        detail=f"{steps} steps on {len(train)} pictures: {fmean(before):.2f} -> {fmean(after):.2f} dB",
    )


def shifted(parent: BundleManifest, gain_db: float) -> list[QualityPoint]:
    """The parent's rate-quality surface, every PSNR shifted by ``gain_db``."""
    return [
        msgspec.structs.replace(point, psnr_db=point.psnr_db + gain_db) for point in parent.quality
    ]


def _data_hash(pictures: list[Tensor]) -> str:
    digest = hashlib.sha256()
    for picture in pictures:
        digest.update(repr(tuple(picture.shape)).encode())
        digest.update(picture.contiguous().numpy().tobytes())
    return digest.hexdigest()


class _Reporter:
    """At most two progress lines a second."""

    def __init__(self) -> None:
        self._last = 0.0

    def __call__(self, fraction: float, step: int, psnr_db: float) -> None:
        now = time.monotonic()
        if now - self._last >= _PROGRESS_EVERY_S:
            self._last = now
            emit(Progress(progress=fraction, step=step, detail=f"step {step}, PSNR {psnr_db:.2f} dB"))


def main(arguments: list[str] | None = None) -> int:
    """Entry point; returns the exit code."""
    started = time.monotonic()
    parser = argparse.ArgumentParser(prog="site_job", description=__doc__)
    parser.add_argument("directory", type=Path, metavar="JOBDIR")
    parser.add_argument("--nice", type=int, default=19, help="niceness of the process (default 19)")
    parser.add_argument("--stages", type=int, help="train only the last N stages (default: by budget)")
    parser.add_argument("--batch", type=int, help="pictures a step (default: by budget)")
    parser.add_argument("--crop", type=int, help="side of the training crops (default 96)")
    parser.add_argument("--learning-rate", type=float, help="peak rate (default: by budget)")
    given = parser.parse_args(arguments)
    os.nice(given.nice)
    torch.set_num_threads(1)
    overrides = {
        "crop": given.crop,
        "batch": given.batch,
        "learning_rate": given.learning_rate,
        "trained_stages": given.stages,
    }
    try:
        emit(run_job(given.directory, overrides, started=started))
    except (BundleError, MixedPairError, ValueError, FloatingPointError, OSError, RuntimeError) as error:
        emit(Progress(error=f"{type(error).__name__}: {error}"))
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
