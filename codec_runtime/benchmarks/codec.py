"""`semcom bench codec`: the serving backend against eager fp32 PyTorch, two processes measured in turn.

Both processes stay alive and take turns, one inference each, so that whatever else the machine does meets
both alike. The minimum of many runs is what the code needs; the rest is what the machine was doing. CPU time
is measured beside wall time: on a crowded machine it is the truer of the two.
"""

from __future__ import annotations

import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean
from types import TracebackType
from typing import Any, Self

import msgspec
import numpy as np

from codec_runtime.benchmarks.codec_worker import CASES, PREFIX, SNR_DB, WorkerSpec
from codec_runtime.bundle.store import SHIPPED_WEIGHTS
from codec_runtime.serving.backends.cpu import REPORTED_FLAGS, cpu_flags


class BenchError(RuntimeError):
    """A worker could not start or died; the message is its reason."""


@dataclass(frozen=True)
class CodecBenchmark:
    """What `semcom bench codec` measured; times in ms, one inference, minima.

    Attributes:
        ms, ms_eager_fp32: wall time; cpu_ms, cpu_ms_eager_fp32: CPU time of all threads.
        relative_error: Euclidean norm of the difference to eager fp32 by that of eager's result, per case.
        psnr_db, psnr_eager_fp32_db: mean over the pictures, encoded, sent and decoded by either.
    """

    backend: str
    precision: str
    threads: int
    runs: int
    codec: str
    ms: dict[str, float] = field(default_factory=dict)
    ms_eager_fp32: dict[str, float] = field(default_factory=dict)
    cpu_ms: dict[str, float] = field(default_factory=dict)
    cpu_ms_eager_fp32: dict[str, float] = field(default_factory=dict)
    relative_error: dict[str, float] = field(default_factory=dict)
    psnr_db: float = 0.0
    psnr_eager_fp32_db: float = 0.0
    pictures: int = 1

    @property
    def speedup(self) -> dict[str, float]:
        return {case: self.ms_eager_fp32[case] / self.ms[case] for case in self.ms}

    def as_dict(self) -> dict[str, Any]:
        flags = cpu_flags()
        return {
            "speedup_vs_eager_fp32": {case: round(value, 3) for case, value in self.speedup.items()},
            "ms": {case: round(value, 2) for case, value in self.ms.items()},
            "ms_eager_fp32": {case: round(value, 2) for case, value in self.ms_eager_fp32.items()},
            "cpu_time": {
                "speedup": {
                    case: round(self.cpu_ms_eager_fp32[case] / self.cpu_ms[case], 3) for case in self.cpu_ms
                },
                "ms": {case: round(value, 2) for case, value in self.cpu_ms.items()},
                "ms_eager_fp32": {case: round(value, 2) for case, value in self.cpu_ms_eager_fp32.items()},
            },
            "relative_error": {case: float(f"{value:.3g}") for case, value in self.relative_error.items()},
            "psnr_difference_db": round(self.psnr_db - self.psnr_eager_fp32_db, 5),
            "psnr_eager_fp32_db": round(self.psnr_eager_fp32_db, 3),
            "pictures": self.pictures,
            "backend": self.backend,
            "precision": self.precision,
            "cpu_features": [flag for flag in REPORTED_FLAGS if flag in flags],
            "threads": self.threads,
            "runs": self.runs,
            "codec": self.codec,
            "operating_point": {"snr_db": SNR_DB, "rate": f"{PREFIX}/96"},
            "machine": machine(),
        }

    def as_text(self) -> str:
        """A table with a line a case."""
        lines = [
            f"{self.codec}: backend {self.backend} ({self.precision}) against eager fp32 torch, "
            f"{self.threads} thread(s), minima of {self.runs} interleaved runs",
            f"{'':16}{'eager':>12}{self.backend:>12}{'speed-up':>10}{'CPU time':>10}{'relative error':>16}",
        ]
        lines += [
            f"{case:16}{self.ms_eager_fp32[case]:9.1f} ms{self.ms[case]:9.1f} ms{self.speedup[case]:9.2f}x"
            f"{self.cpu_ms_eager_fp32[case] / self.cpu_ms[case]:9.2f}x{self.relative_error[case]:16.1e}"
            for case in self.ms
        ]
        difference = self.psnr_db - self.psnr_eager_fp32_db
        lines.append(f"PSNR {difference:+.4f} dB against eager's {self.psnr_eager_fp32_db:.2f} dB "
                     f"({self.pictures} picture(s), R = {PREFIX}/96, {SNR_DB:g} dB)")
        return "\n".join(lines)


def machine() -> dict[str, Any]:
    """Processor, cores, load of the last minute and versions: what a number has to be read with."""
    from importlib.metadata import PackageNotFoundError, version  # noqa: PLC0415

    versions = {}
    for package in ("torch", "openvino", "numpy"):
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            versions[package] = ""
    return {
        "cpu": _cpu_name(), "cores": os.cpu_count(), "load_1min": round(os.getloadavg()[0], 2),
        "python": platform.python_version(), **versions,
    }


def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(named, platform.processor())


def bench_codec(
    spec: WorkerSpec, *, runs: int, pictures: Sequence[Path] = (),
    on_round: Callable[[], object] | None = None,
) -> CodecBenchmark:
    """Measure ``spec`` against eager fp32 torch.

    Args:
        spec: the backend to measure.
        runs: of each case and process; one more before, which does not count, warms up.
        pictures: files for the PSNR difference; one synthetic picture if none.
        on_round: called after each round, for progress bars.

    Raises:
        BenchError: a process does not start or ends early.
    """
    eager = msgspec.structs.replace(spec, engine="eager")
    codec = _codec_name(spec)
    with _Worker(eager) as reference, _Worker(spec) as candidate, tempfile.TemporaryDirectory() as folder:
        errors = {case: _relative_error(reference, candidate, case, Path(folder)) for case in CASES}
        times: dict[tuple[_Worker, str, str], float] = {}
        for _ in range(runs):
            for case in CASES:
                for worker in (reference, candidate):
                    for kind, elapsed in worker.ask(run=case).items():
                        known = times.get((worker, case, kind), elapsed)
                        times[worker, case, kind] = min(known, elapsed)
            if on_round is not None:
                on_round()
        files: list[str | None] = [str(path) for path in pictures] or [None]
        psnrs = [[w.ask(restore=file)["psnr_db"] for file in files] for w in (reference, candidate)]
        return CodecBenchmark(
            backend=candidate.backend, precision=candidate.precision, threads=spec.threads, runs=runs,
            codec=codec,
            ms={case: times[candidate, case, "ms"] for case in CASES},
            ms_eager_fp32={case: times[reference, case, "ms"] for case in CASES},
            cpu_ms={case: times[candidate, case, "cpu_ms"] for case in CASES},
            cpu_ms_eager_fp32={case: times[reference, case, "cpu_ms"] for case in CASES},
            relative_error=errors, psnr_eager_fp32_db=fmean(psnrs[0]), psnr_db=fmean(psnrs[1]),
            pictures=len(files),
        )


def _codec_name(spec: WorkerSpec) -> str:
    if not spec.weights:
        settings = "".join(f", {name} {value}" for name, value in spec.config.items())
        return f"family {spec.family}{settings}, random weights, decoder {spec.decoder}"
    shipped = Path(spec.weights) == SHIPPED_WEIGHTS
    return f"{'shipped weights' if shipped else spec.weights}, decoder {spec.decoder}"


def _relative_error(reference: _Worker, candidate: _Worker, case: str, folder: Path) -> float:
    results = []
    for worker in (reference, candidate):
        path = folder / "result"
        worker.ask(save=case, path=str(path))
        results.append(np.fromfile(path, np.float32).astype(np.float64))
    expected, got = results
    return float(np.linalg.norm(got - expected) / np.linalg.norm(expected))


class _Worker:
    """A :mod:`.codec_worker` process; a context that ends it."""

    def __init__(self, spec: WorkerSpec) -> None:
        threads, text = str(spec.threads), msgspec.json.encode(spec).decode()
        self._process = subprocess.Popen(
            [sys.executable, "-m", "codec_runtime.benchmarks.codec_worker", text],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            env=dict(os.environ, OMP_NUM_THREADS=threads, MKL_NUM_THREADS=threads),
        )
        self.backend = self.precision = ""

    def __enter__(self) -> Self:
        ready = self._read()
        self.backend, self.precision = ready["backend"], ready["precision"]
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def ask(self, **command: Any) -> dict[str, Any]:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(msgspec.json.encode(command).decode() + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            raise BenchError("a worker process ended early") from None
        return self._read()

    def _read(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if line.startswith("{"):  # a library may print
                answer: dict[str, Any] = msgspec.json.decode(line)
                if "error" in answer:
                    raise BenchError(str(answer["error"]))
                return answer
        raise BenchError(f"a worker process ended early, exit code {self._process.wait()}")
