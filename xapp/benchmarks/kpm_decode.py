"""`semcom bench kpm-decode`: the hand-written KPM decoder against pycrate and asn1tools, on the same bytes.

The three take turns, each with a block of calls of about the same length, so that whatever else the machine
does meets all alike. What counts is CPU time, the minimum over the rounds: it is what the code needs. On an
idle machine wall time is the same; on a crowded one it is mostly waiting, which meets the long calls of one
decoder and the short ones of another by chance (8x and 196x were seen where the CPU times gave 39x and 63x).
Wall times and their spread, which says how crowded it was, are told beside. Before anything is timed, all
three must have given the same values.
"""

from __future__ import annotations

import importlib.metadata
import math
import platform
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import quantiles
from typing import Any, Final

from xapp.benchmarks.kpm_reference import MESSAGE, asn1tools_kpm, pycrate_kpm, unlabelled_reports
from xapp.ric.e2ap import RicIndication, decode_ric_indication, encode_ric_indication
from xapp.ric.kpm import (
    MeasurementList,
    Value,
    decode_kpm_indication,
    encode_indication_header,
    encode_indication_message,
)

REFERENCES: Final = ("asn1tools", "pycrate")
MAX_USERS: Final = 1000
MAX_MEASUREMENTS: Final = 100

Report = tuple[int, tuple[Value, ...]]


class BenchError(RuntimeError):
    """The measurement makes no sense: a decoder gave other values, or the size is out of range."""


def _sinr(draw: random.Random) -> float:
    return draw.randrange(-20, 80) / 2  # dB, in steps of 0.5


def _throughput(draw: random.Random) -> float:
    return draw.lognormvariate(9, 1.5)  # kbit/s, a full mantissa


_CATALOGUE: Final[tuple[tuple[str, Callable[[random.Random], Value]], ...]] = (
    ("SINR", _sinr),
    ("CQI", lambda draw: draw.randint(1, 15)),
    ("RSRP", lambda draw: draw.uniform(-120.0, -70.0)),
    ("RSRQ", lambda draw: draw.randrange(-40, -6) / 2),
    ("DRB.UEThpDl", _throughput),
    ("DRB.UEThpUl", _throughput),
    ("RRU.PrbTotDl", lambda draw: draw.randint(0, 106)),
    ("DRB.PdcpSduVolumeDL", lambda draw: draw.randint(0, 3_000_000)),
)
"""Measurements of a report and values such as a RAN sends: half INTEGER and short REALs, half full REALs."""


def sample_reports(users: int, measurements: int, seed: int = 1) -> tuple[tuple[str, ...], list[Report]]:
    """Names and reports of ``users`` users, the same for the same seed.

    Raises:
        BenchError: 1..1000 users and 1..100 measurements are possible.
    """
    if not 1 <= users <= MAX_USERS or not 1 <= measurements <= MAX_MEASUREMENTS:
        legal = f"1..{MAX_USERS} and 1..{MAX_MEASUREMENTS} are legal"
        raise BenchError(f"{users} users with {measurements} measurements: {legal}")
    draw = random.Random(seed)
    chosen = [_CATALOGUE[index % len(_CATALOGUE)] for index in range(measurements)]
    names = tuple(
        name if index < len(_CATALOGUE) else f"{name}.{index}" for index, (name, _) in enumerate(chosen)
    )
    return names, [(1000 + user, tuple(value(draw) for _, value in chosen)) for user in range(users)]


@dataclass(frozen=True)
class KpmDecodeBenchmark:
    """What `semcom bench kpm-decode` measured.

    Attributes:
        ms: CPU time of one call of each decoder, minimum over the rounds.
        wall_ms: wall time of one call, minimum over the rounds.
        spread: interquartile range of a round's wall time by its median.
        e2ap_envelope_us: CPU time of the E2AP envelope around the same message, minimum.
        bytes: size of the KPM message.
    """

    users: int
    measurements: int
    rounds: int
    bytes: int
    ms: dict[str, float]
    wall_ms: dict[str, float]
    spread: dict[str, float]
    e2ap_envelope_us: float

    @property
    def speedup(self) -> dict[str, float]:
        """Ratio of CPU times by reference."""
        return {name: self.ms[name] / self.ms["ours"] for name in REFERENCES}

    @property
    def speedup_wall(self) -> dict[str, float]:
        """Ratio of wall times by reference."""
        return {name: self.wall_ms[name] / self.wall_ms["ours"] for name in REFERENCES}

    def as_dict(self) -> dict[str, Any]:
        """The keys of ``--json``."""
        return {
            "speedup": {name: round(value, 1) for name, value in self.speedup.items()},
            "ms": {name: round(value, 4) for name, value in self.ms.items()},
            "users": self.users,
            "measurements": self.measurements,
            "e2ap_envelope_us": round(self.e2ap_envelope_us, 1),
            "speedup_wall": {name: round(value, 1) for name, value in self.speedup_wall.items()},
            "wall_ms": {name: round(value, 4) for name, value in self.wall_ms.items()},
            "spread": {name: round(value, 3) for name, value in self.spread.items()},
            "rounds": self.rounds,
            "message_bytes": self.bytes,
            "cpu": cpu_name(),
            "versions": {
                "python": platform.python_version(),
                **{name: importlib.metadata.version(name) for name in REFERENCES},
            },
        }

    def as_text(self) -> str:
        """A short table for a terminal."""
        size = f"{self.users} users x {self.measurements} measurements, {self.bytes} bytes"
        lines = [f"KPM indication, format 3, {size}"]
        for name in ("ours", *REFERENCES):
            ratio = "" if name == "ours" else f"  {self.speedup[name]:6.1f}x slower"
            lines.append(f"  {name:10} {self.ms[name]:9.3f} ms{ratio}")
        lines.append(f"  E2AP envelope {self.e2ap_envelope_us:.1f} us")
        return "\n".join(lines)


def cpu_name(cpuinfo: Path = Path("/proc/cpuinfo")) -> str:
    """Model name of the CPU; what Python knows of it where Linux does not tell."""
    try:
        lines = cpuinfo.read_text().splitlines()
    except OSError:
        return platform.processor()
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(named, platform.processor())


@dataclass
class Times:
    """Seconds of one call, of each round: wall and CPU time."""

    wall: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)

    def add_block(self, call: Callable[[], object], calls: int) -> None:
        """Measure ``calls`` calls in a row."""
        cpu, wall = time.thread_time(), time.perf_counter()
        for _ in range(calls):
            call()
        self.wall.append((time.perf_counter() - wall) / calls)
        self.cpu.append((time.thread_time() - cpu) / calls)


def interleaved(
    calls: dict[str, Callable[[], object]], rounds: int, on_round: Callable[[], object] | None = None
) -> dict[str, Times]:
    """Times of one call of each, one block a round, the order rotating.

    A block lasts about as long as one call of the slowest, so that a short call is not measured in caches
    that a long one has emptied, and none meets a luckier moment than the others.
    """
    first = {}
    for name, call in calls.items():
        trial = Times()
        trial.add_block(call, 1)
        trial.add_block(call, 1)
        first[name] = min(trial.wall)
    longest = max(first.values())
    counts = {name: max(1, math.ceil(longest / seconds)) for name, seconds in first.items()}
    times = {name: Times() for name in calls}
    order = list(calls)
    for _ in range(rounds):
        for name in order:
            times[name].add_block(calls[name], counts[name])
        order.append(order.pop(0))
        if on_round is not None:
            on_round()
    return times


def _spread(times: Sequence[float]) -> float:
    if len(times) < 2:
        return 0.0
    low, middle, high = quantiles(times, n=4)
    return (high - low) / middle


def bench_kpm_decode(
    users: int = 32, measurements: int = 8, *, rounds: int = 30, on_round: Callable[[], object] | None = None
) -> KpmDecodeBenchmark:
    """Measure; takes about 0.1 s a round with the default size.

    Raises:
        BenchError: the size is out of range, two decoders disagree, or the CPU clock is too coarse.
        ReferenceMissingError: pycrate or asn1tools is not installed.
    """
    names, reports = sample_reports(users, measurements)
    header = encode_indication_header(1_700_000_000.5)
    message = encode_indication_message(reports, MeasurementList(names), granularity_ms=100)
    pdu = encode_ric_indication(RicIndication(1, 2, 3, 4, 0, header, message, 7))
    asn1tools, pycrate = asn1tools_kpm(), pycrate_kpm()

    expected = [(ue, dict(zip(names, values, strict=True))) for ue, values in reports]
    decoded = decode_kpm_indication(header, message)
    given = {
        "ours": [(report.ue.value, report.values) for report in decoded.users],
        "asn1tools": unlabelled_reports(asn1tools.decode(MESSAGE, message)),
        "pycrate": unlabelled_reports(pycrate.decode(MESSAGE, message)),
    }
    for name, values in given.items():
        if values != expected:
            raise BenchError(f"{name} decodes other values than were encoded; nothing was timed")

    calls: dict[str, Callable[[], object]] = {
        # Ours gives the table with the header; the others give the message in their notation, to be read yet.
        "ours": lambda: decode_kpm_indication(header, message),
        "asn1tools": lambda: asn1tools.decode(MESSAGE, message),
        "pycrate": lambda: pycrate.decode(MESSAGE, message),
        "e2ap": lambda: decode_ric_indication(pdu),
    }
    times = interleaved(calls, rounds, on_round)
    if not all(min(values.cpu) > 0 for values in times.values()):
        raise BenchError("the thread's CPU clock did not advance while a block of calls ran; nothing is told")
    envelope = times.pop("e2ap")
    return KpmDecodeBenchmark(
        users=users,
        measurements=measurements,
        rounds=rounds,
        bytes=len(message),
        ms={name: min(values.cpu) * 1e3 for name, values in times.items()},
        wall_ms={name: min(values.wall) * 1e3 for name, values in times.items()},
        spread={name: _spread(values.wall) for name, values in times.items()},
        e2ap_envelope_us=min(envelope.cpu) * 1e6,
    )
