"""Site training: one low-priority subprocess at a time, a bounded queue, reports on the telemetry stream.

A job goes ``queued -> running -> succeeded | failed``; the last two are final. Submitting an id again
answers with the state it is in. A job directory holds ``job.msgpack``, ``pictures.safetensors``, copies of
the ``parent`` and ``encoder`` bundles, later ``candidate/`` and ``report.msgpack``; that of a site's part of
a federated update ``pairs.safetensors``, ``parent`` and ``knowledge``, later ``update.msgpack``, too.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import re
import shutil
import sys
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

import msgspec
import torch
from safetensors.torch import save as save_safetensors

from codec_runtime.bundle.store import write_atomic
from codec_runtime.contract.alignment import AlignmentJob
from codec_runtime.contract.bundle import DELTA_FILE, MANIFEST_FILE, WEIGHTS_FILE
from codec_runtime.contract.telemetry import TrainingReport
from codec_runtime.contract.updates import TrainingJob
from codec_runtime.serving.pictures import Picture
from codec_runtime.serving.registry import LoadedBundle
from codec_runtime.training.job_files import JOB_FILE, PAIRS_FILE, PICTURES_FILE, UPDATE_FILE, Progress
from codec_runtime.training.pair_files import UserSamples, pairs_file

logger = logging.getLogger(__name__)

MAX_BUDGET_S = 6 * 3600.0
_START_UP_S = 60.0
_KEPT_JOBS = 32
_REPORT_FILE = "report.msgpack"
_JOB_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", re.ASCII)
_PROGRESS_STEP = 0.1


class JobQueueFullError(RuntimeError):
    """The bounded queue of training jobs is full; try again later."""


class JobError(ValueError):
    """The job itself is malformed; the message says which field."""


@dataclass(frozen=True)
class Planned:
    """A job in the queue: the module whose process does it, and what writes its files, in a thread."""

    job: str
    budget_s: float
    module: str
    write: Callable[[], None]


class TrainingJobs:
    """Runs training jobs below ``directory``; used from one event loop.

    Args:
        publish: called with each report (queued, running, succeeded, failed).
        queue_limit: jobs that may wait.
        minimum_pictures: a job with fewer fails at once.
        nice: niceness of the subprocess.
    """

    def __init__(
        self,
        directory: Path,
        publish: Callable[[TrainingReport], None],
        *,
        queue_limit: int,
        minimum_pictures: int,
        nice: int = 19,
    ) -> None:
        self._directory = directory
        self._publish = publish
        self._queue_limit = queue_limit
        self._minimum_pictures = minimum_pictures
        self._nice = nice
        self._reports: OrderedDict[str, TrainingReport] = OrderedDict()
        self._waiting: set[str] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._one_at_a_time = asyncio.Lock()
        directory.mkdir(parents=True, exist_ok=True)
        self._recover()

    def report(self, job: str) -> TrainingReport | None:
        """Newest report of a job, None if it is unknown."""
        return self._reports.get(job)

    def candidate_file(self, job: str, name: str) -> Path | None:
        """Path of a file of a succeeded job's candidate bundle, None if there is none."""
        report = self._reports.get(job)
        files = (MANIFEST_FILE, WEIGHTS_FILE, DELTA_FILE)
        if report is None or report.state != "succeeded" or name not in files:
            return None
        path = self._directory / job / "candidate" / name
        return path if path.is_file() else None

    def submit(
        self,
        job: TrainingJob,
        parent: LoadedBundle,
        encoder: LoadedBundle,
        pictures: list[tuple[str, Picture]],
    ) -> TrainingReport:
        """Queue a job and return its report; harmless if the job is known.

        Raises:
            JobError: job id, budget or versions out of range.
            JobQueueFullError.
        """
        if (known := self._known(job)) is not None:
            return known
        usable = [(user, p) for user, p in pictures if min(p.shape[1:]) >= 32]
        if len(usable) < self._minimum_pictures:
            return self._set(
                job.job, "failed",
                detail=f"{len(usable)} recent pictures of these users, {self._minimum_pictures} are needed",
            )
        write = partial(write_job, self._directory / job.job, job, parent, encoder, usable)
        plan = Planned(job.job, job.budget_s, "codec_runtime.training.site_job", write)
        return self._enqueue(plan, f"{len(usable)} pictures")

    def submit_alignment(
        self, job: AlignmentJob, parent: LoadedBundle, knowledge: LoadedBundle, users: list[UserSamples]
    ) -> TrainingReport:
        """As :meth:`submit`, a site's part of a federated update among ``users``.

        Raises:
            JobError, JobQueueFullError.
        """
        if (known := self._known(job)) is not None:
            return known
        if not users:
            return self._set(job.job, "failed", detail="no labelled items of these users are kept here")
        write = partial(write_alignment_job, self._directory / job.job, job, parent, knowledge, users)
        plan = Planned(job.job, job.budget_s, "codec_runtime.training.alignment_job", write)
        return self._enqueue(plan, f"{len(users)} users")

    def update_file(self, job: str) -> Path | None:
        """Path of a succeeded alignment job's update, None if there is none."""
        report = self._reports.get(job)
        path = self._directory / job / UPDATE_FILE
        return path if report is not None and report.state == "succeeded" and path.is_file() else None

    def _known(self, job: TrainingJob | AlignmentJob) -> TrainingReport | None:
        """The report of a job that was submitted before; None for one that may be queued.

        Raises:
            JobError, JobQueueFullError.
        """
        check_job(job)
        if job.job in self._reports:
            return self._reports[job.job]
        if len(self._waiting) >= self._queue_limit:
            raise JobQueueFullError(f"{len(self._waiting)} training jobs are waiting already")
        return None

    def _enqueue(self, plan: Planned, detail: str) -> TrainingReport:
        self._waiting.add(plan.job)
        report = self._set(plan.job, "queued", detail=detail)
        task = asyncio.get_running_loop().create_task(self._run(plan))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return report

    async def close(self) -> None:
        """Stop what runs; the jobs count as failed."""
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _run(self, job: Planned) -> None:
        try:
            async with self._one_at_a_time:
                self._waiting.discard(job.job)
                await asyncio.to_thread(job.write)
                self._set(job.job, "running", detail="starting")
                done = await self._supervise(job, self._directory / job.job)
                self._set(
                    job.job, "succeeded", progress=1.0, heldout_gain_db=done.heldout_gain_db,
                    heldout_gain_rsum=done.heldout_gain_rsum, detail=done.detail,
                )
        except asyncio.CancelledError:
            self._set(job.job, "failed", detail="the runtime is shutting down")
            raise
        except Exception as error:  # a job must never take the runtime down, whatever it did
            logger.warning("training job failed", extra={"job": job.job, "reason": str(error)})
            self._set(job.job, "failed", detail=str(error) or type(error).__name__)
        finally:
            self._waiting.discard(job.job)

    async def _supervise(self, job: Planned, directory: Path) -> Progress:
        """Run the subprocess to its end; raises RuntimeError with the reason if it fails or overruns."""
        environment = dict(os.environ, OMP_NUM_THREADS="1", MKL_NUM_THREADS="1")
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", job.module, str(directory),
            "--nice", str(self._nice),
            stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE, env=environment,
        )
        limit = max(2.0 * job.budget_s, job.budget_s + _START_UP_S)
        try:
            async with asyncio.timeout(limit):
                errors = asyncio.create_task(_last_line(process.stderr))
                last = await self._follow(job.job, process.stdout)
                code = await process.wait()
                stderr = await errors
        except TimeoutError:
            raise RuntimeError(f"killed after {limit:.0f} s; its budget was {job.budget_s:g} s") from None
        finally:
            if process.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    process.kill()
                await process.wait()
        if code != 0 or last is None or not last.done:
            reason = last.error if last is not None and last.error else stderr
            raise RuntimeError(f"exit code {code}: {reason or 'no result'}")
        return last

    async def _follow(self, job: str, stdout: asyncio.StreamReader | None) -> Progress | None:
        assert stdout is not None
        last: Progress | None = None
        shown = 0.0
        async for line in stdout:
            try:
                last = msgspec.json.decode(line, type=Progress)
            except msgspec.DecodeError:
                continue  # a library printed something
            if not last.done and not last.error and last.progress >= shown + _PROGRESS_STEP:
                shown = last.progress
                self._set(job, "running", progress=last.progress, detail=last.detail)
        return last

    def _set(
        self,
        job: str,
        state: Literal["queued", "running", "succeeded", "failed"],
        *,
        progress: float = 0.0,
        heldout_gain_db: float | None = None,
        heldout_gain_rsum: float | None = None,
        detail: str = "",
    ) -> TrainingReport:
        report = TrainingReport(
            job=job, time_ns=time.time_ns(), state=state, progress=progress,
            heldout_gain_db=heldout_gain_db, heldout_gain_rsum=heldout_gain_rsum, detail=detail[:500],
        )
        self._reports[job] = report
        if state in ("succeeded", "failed"):
            self._finish(job, report)
        self._publish(report)
        return report

    def _finish(self, job: str, report: TrainingReport) -> None:
        directory = self._directory / job
        if directory.is_dir():
            with contextlib.suppress(OSError):
                _forget_data(directory)
                write_atomic(directory / _REPORT_FILE, msgspec.msgpack.encode(report))
        ended = [name for name, r in self._reports.items() if r.state in ("succeeded", "failed")]
        for old in ended[: max(0, len(ended) - _KEPT_JOBS)]:
            del self._reports[old]
            shutil.rmtree(self._directory / old, ignore_errors=True)

    def _recover(self) -> None:
        """Reports of an earlier process; a job that it did not end is failed."""
        for directory in sorted(p for p in self._directory.iterdir() if _JOB_ID.fullmatch(p.name)):
            try:
                report = msgspec.msgpack.decode(
                    (directory / _REPORT_FILE).read_bytes(), type=TrainingReport
                )
            except (OSError, msgspec.DecodeError):
                report = TrainingReport(
                    job=directory.name, time_ns=time.time_ns(), state="failed",
                    detail="the runtime restarted during the job",
                )
                _forget_data(directory)
            self._reports[directory.name] = report


def _forget_data(directory: Path) -> None:
    """Users' pictures and tokens are not kept around."""
    for name in (PICTURES_FILE, PAIRS_FILE):
        (directory / name).unlink(missing_ok=True)


def check_job(job: TrainingJob | AlignmentJob) -> None:
    """Raise JobError unless id, budget and versions are in range."""
    if not _JOB_ID.fullmatch(job.job):
        raise JobError("job: 1..64 characters of [A-Za-z0-9._-], the first a letter or digit")
    if not 0 < job.budget_s <= MAX_BUDGET_S:
        raise JobError(f"budget_s: 0..{MAX_BUDGET_S:g} s, got {job.budget_s}")
    if job.new_version <= job.parent_version:
        raise JobError(f"new_version {job.new_version} must be above parent_version {job.parent_version}")


def write_job(
    directory: Path,
    job: TrainingJob,
    parent: LoadedBundle,
    encoder: LoadedBundle,
    pictures: list[tuple[str, Picture]],
) -> None:
    """Everything the subprocess needs, as files."""
    _copy_bundles(directory, {"parent": parent, "encoder": encoder})
    # The index keeps the order; the user lets held-out pictures be taken from every user.
    tensors = {f"{i:06d}.{user}": torch.from_numpy(picture) for i, (user, picture) in enumerate(pictures)}
    write_atomic(directory / PICTURES_FILE, save_safetensors(tensors))
    write_atomic(directory / JOB_FILE, msgspec.msgpack.encode(job))


def write_alignment_job(
    directory: Path, job: AlignmentJob, parent: LoadedBundle, knowledge: LoadedBundle,
    users: list[UserSamples],
) -> None:
    """As :func:`write_job`."""
    _copy_bundles(directory, {"parent": parent, "knowledge": knowledge})
    write_atomic(directory / PAIRS_FILE, pairs_file(users))
    write_atomic(directory / JOB_FILE, msgspec.msgpack.encode(job))


def _copy_bundles(directory: Path, bundles: Mapping[str, LoadedBundle]) -> None:
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(parents=True)
    for name, bundle in bundles.items():
        (directory / name).mkdir()
        for file in (MANIFEST_FILE, WEIGHTS_FILE):
            shutil.copyfile(bundle.directory / file, directory / name / file)


async def _last_line(stream: asyncio.StreamReader | None) -> str:
    assert stream is not None
    last = ""
    while line := await stream.readline():
        last = line.decode(errors="replace").strip() or last
    return last
