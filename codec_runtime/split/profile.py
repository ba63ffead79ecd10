"""Cost profiles: how long each node of a network takes on this machine.

A node is timed inside a run of the whole network, so it finds caches as it would in use. Runs of all
networks, thread counts and both ways of running (clocks between nodes, and none) are interleaved in a random
order in each round, so that drift of the machine (heat, other load) falls on all of them alike; a figure is
the median over rounds. ``whole_seconds`` is without clocks and interpreter: what they cost is the difference.
"""

from __future__ import annotations

import platform
import random
import statistics
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import torch
from torch import fx

from codec_runtime.benchmarks.codec import machine
from codec_runtime.bundle.errors import BundleError
from codec_runtime.bundle.files import read_bounded, write_atomic
from codec_runtime.contract.devices import DeviceClass
from codec_runtime.contract.split import CostProfile
from codec_runtime.split.graph import TracedNetwork

PROFILE_LIMIT = 16 << 20
"""Largest profile file read, bytes."""


class ProfileError(ValueError):
    """A file is no cost profile; the message says which and why."""


@torch.no_grad()
def profile_networks(
    networks: Sequence[TracedNetwork],
    threads: Sequence[int] = (1,),
    rounds: int = 15,
    seed: int = 0,
    device_class: str = "",
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> list[CostProfile]:
    """Measure networks at their example inputs, in the order networks x threads.

    Args:
        threads: torch threads of each profile.
        rounds: runs a median is over; one more before them is thrown away.
        seed: of the order of runs.
        device_class: name to store; ``host-<n>t`` for n threads where empty.
        progress: called with runs done and to do.
    """
    before = torch.get_num_threads()
    cases = [(network, count) for network in networks for count in threads]
    timed: list[list[list[float]]] = [[] for _ in cases]
    whole: list[list[float]] = [[] for _ in cases]
    clocks = [_ClockedRun(network) for network, _ in cases]
    order = [(case, clocked) for case in range(len(cases)) for clocked in (True, False)]
    shuffle = random.Random(seed)
    done, total = 0, (rounds + 1) * len(order)
    try:
        for turn in range(rounds + 1):
            shuffle.shuffle(order)
            for case, clocked in order:
                network, count = cases[case]
                torch.set_num_threads(count)
                if clocked:
                    seconds = clocks[case].measure(network)
                    if turn:
                        timed[case].append(seconds)
                else:
                    started = time.perf_counter()
                    network.module(*network.inputs)
                    if turn:
                        whole[case].append(time.perf_counter() - started)
                done += 1
                progress(done, total)
    finally:
        torch.set_num_threads(before)
    return [
        _profile(network, count, timed[case], whole[case], device_class)
        for case, (network, count) in enumerate(cases)
    ]


def _profile(
    network: TracedNetwork, threads: int, timed: list[list[float]], whole: list[float], device_class: str
) -> CostProfile:
    seconds = tuple(statistics.median(values) for values in zip(*timed, strict=True))
    here = machine()
    return CostProfile(
        graph=network.graph.digest, network=network.graph.name,
        device_class=device_class or f"host-{threads}t", seconds=seconds,
        whole_seconds=statistics.median(whole), host=platform.node(), cpu=str(here["cpu"]),
        dtype=str(network.inputs[0].dtype).removeprefix("torch."), threads=threads,
        torch=str(torch.__version__),
        measured_at=datetime.now(UTC).isoformat(timespec="seconds"), batch=network.graph.batch,
        rounds=len(timed), source="measured", error=_half_spread([sum(values) for values in timed]),
    )


def _half_spread(values: Sequence[float]) -> float:
    """Half the interquartile range over the median; 0 for a single value."""
    if len(values) < 2:
        return 0.0
    low, middle, high = statistics.quantiles(values, n=4)
    return (high - low) / 2 / middle


class _ClockedRun(fx.Interpreter):
    """Runs a captured network with a clock around each operation."""

    def __init__(self, network: TracedNetwork) -> None:
        super().__init__(network.module)
        self._place = {name: index for index, names in enumerate(network.members) for name in names}
        self._seconds = [0.0] * len(network.graph.nodes)

    def measure(self, network: TracedNetwork) -> list[float]:
        """Seconds of each node in one run; 0 for inputs and outputs."""
        self._seconds = [0.0] * len(network.graph.nodes)
        self.run(*network.inputs)
        return self._seconds

    def run_node(self, n: fx.Node) -> Any:
        index = self._place.get(n.name)
        if index is None or not n.op.startswith("call"):
            return super().run_node(n)
        arguments, named = self.fetch_args_kwargs_from_env(n)
        call = getattr(self, n.op)
        started = time.perf_counter()
        value = call(n.target, arguments, named)
        self._seconds[index] += time.perf_counter() - started
        return value


@torch.no_grad()
def measure_limits(threads: int = 1, repeats: int = 5) -> DeviceClass:
    """This machine's GFLOP/s (fp32 product of two 1024 x 1024 matrices) and GB/s (copy of 64 MiB, read and
    written bytes), the best of ``repeats``.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        matrix, vector = torch.randn(1024, 1024), torch.zeros(16 << 20)
        target = torch.empty_like(vector)
        product = _least(lambda: matrix @ matrix, repeats)
        copied = _least(lambda: target.copy_(vector), repeats)
    finally:
        torch.set_num_threads(before)
    return DeviceClass(
        name=f"host-{threads}t", gflops=2 * 1024**3 / product / 1e9,
        memory_gb_per_s=2 * vector.nbytes / copied / 1e9, source="measured here",
    )


def _least(work: Callable[[], object], repeats: int) -> float:
    best = float("inf")
    for _ in range(repeats + 1):
        started = time.perf_counter()
        work()
        best = min(best, time.perf_counter() - started)
    return best


def write_profiles(path: Path, profiles: Sequence[CostProfile]) -> None:
    """Store profiles as one JSON list."""
    write_atomic(path, msgspec.json.format(msgspec.json.encode(list(profiles)), indent=1))


def read_profiles(path: Path) -> list[CostProfile]:
    """Profiles of a file of :func:`write_profiles`.

    Raises:
        ProfileError: not such a file, or it cannot be read.
    """
    try:
        return msgspec.json.decode(read_bounded(path, PROFILE_LIMIT), type=list[CostProfile])
    except (msgspec.DecodeError, BundleError) as error:
        raise ProfileError(f"{path}: {error}") from error
