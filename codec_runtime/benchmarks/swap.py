"""`semcom bench swap`: what users notice of weights being exchanged under them.

A runtime process serves a closed loop of clients over HTTP (:mod:`.swap_load`) while new decoder versions are
delivered and activated as an xApp does it: push, verification, loading, warm-up, swap; then directives move
the users. Phases with and without swaps alternate, so that whatever else the machine does meets both alike;
exchanges that overlap a seam count in neither. The ratio of their 99th percentiles is the result.

Versions alternate between two sets of weights that give visibly different pictures: odd versions one, even
ones the other, the one of the base's parity its own. A picture of the wrong one is a mixed version.

With a control, phases in which a process of its own spends CPU time on nothing (:mod:`.swap_control`) take
turns with the phases with swaps. Their ratio is what the machine does to users for so much work of any kind.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal

import msgspec
import numpy as np

from codec_runtime.benchmarks.codec import BenchError, machine
from codec_runtime.benchmarks.swap_control import SPENT
from codec_runtime.benchmarks.swap_load import PREFIX, READY, SNR_DB, Exchange, LoadSpec, user_name
from codec_runtime.benchmarks.swap_process import Process, ask, free_port
from codec_runtime.benchmarks.swap_statistics import p99_ratio_interval
from codec_runtime.contract import paths
from codec_runtime.contract.directives import Directive, DirectiveBatch
from codec_runtime.contract.updates import ActivationReport
from codec_runtime.serving.priority import lower_priority
from codec_runtime.serving.settings import RuntimeSettings

_PROGRAM = """
import os, signal, sys, threading, msgspec
def end_with_input():
    sys.stdin.read()
    os.kill(os.getpid(), signal.SIGTERM)
threading.Thread(target=end_with_input, daemon=True).start()
from codec_runtime.serving.main import run_runtime
from codec_runtime.serving.settings import RuntimeSettings
run_runtime(msgspec.json.decode(sys.argv[1], type=RuntimeSettings))
"""
"""The runtime process, which ends with its parent."""
_SEAM_S = 0.3
_START_S = 120.0
_KEPT_VERSIONS = 4
_DELIVERY_NICE = 5
_UNCOUNTED_SWAPS = 10
"""Swaps after which memory is measured first: allocators and caches have their size then."""


@dataclass(frozen=True)
class Plan:
    """How the benchmark goes.

    Attributes:
        swaps: activations in all, at an even pace over ``seconds``; as much time passes without swaps.
        phase_s: of one phase, longer if the activations are behind that pace.
        clients, side: of the load.
        control_ms: CPU time of the control in place of a swap; 0: no such phases.
        first_version: of the decoder versions delivered, and so on upwards.
        encoder_version, decoder: the pair that is served.
    """

    swaps: int
    seconds: float
    phase_s: float
    clients: int
    side: int
    first_version: int
    encoder_version: int
    decoder: str
    control_ms: float = 0.0


Kind = Literal["none", "swaps", "control"]


@dataclass
class Phase:
    """A stretch of time, and what happens beside the load."""

    kind: Kind
    begun_s: float
    ended_s: float = 0.0


@dataclass
class SwapBenchmark:
    """What `semcom bench swap` measured; latencies of an exchange (encode and decode) in ms.

    Attributes:
        load_ms, verify_ms: medians over the activations, beside the traffic.
    """

    plan: Plan
    backend: str
    publish_ms: list[float]
    verify_ms: list[float]
    load_ms: list[float]
    exchanges: list[Exchange]
    phases: list[Phase]
    rss_growth_mb: float
    settings: dict[str, Any] = field(default_factory=dict)

    def latencies(self, kind: Kind) -> list[float]:
        """Of the exchanges that lie within phases of that kind, ms."""
        return _within(self.exchanges, [phase for phase in self.phases if phase.kind == kind])

    def seconds(self, kind: Kind) -> float:
        """Duration of the phases of that kind."""
        return sum(phase.ended_s - phase.begun_s for phase in self.phases if phase.kind == kind)

    def pair_ratios(self) -> list[float]:
        """99th percentile of each phase with swaps by the one of the phase before it."""
        pairs = [
            [_within(self.exchanges, [phase]) for phase in pair]
            for pair in zip(self.phases, self.phases[1:], strict=False) if pair[1].kind == "swaps"
        ]
        return [_percentile(on, 99) / _percentile(off, 99) for off, on in pairs if on and off]

    def ratio(self, kind: Kind) -> dict[str, Any]:
        """Of the 99th percentile of the phases of that kind to that of the phases without anything, and its
        95 % confidence interval."""
        on, off = (
            [_within(self.exchanges, [phase]) for phase in self.phases if phase.kind == each]
            for each in (kind, "none")
        )
        ratio = _percentile(self.latencies(kind), 99) / _percentile(self.latencies("none"), 99)
        low, high = p99_ratio_interval(on, off)
        return {"p99_ratio": round(ratio, 3), "p99_ratio_ci95": [round(low, 3), round(high, 3)]}

    def as_dict(self) -> dict[str, Any]:
        on, off = self.latencies("swaps"), self.latencies("none")
        ratios = self.pair_ratios()
        percentiles = {
            f"p{q}_ms": {"swaps": round(_percentile(on, q), 2), "none": round(_percentile(off, q), 2)}
            for q in (50, 90, 99)
        }
        reasons = [e.failed or e.mixed for e in self.exchanges if e.failed or e.mixed]
        return {
            "swaps": len(self.publish_ms),
            "failed": sum(bool(e.failed) for e in self.exchanges),
            "mixed_version": sum(bool(e.mixed) for e in self.exchanges),
            "publish_ms_max": round(max(self.publish_ms), 4),
            **self.ratio("swaps"),
            "p99_ratio_phases": {
                "pairs": len(ratios),
                **{f"p{q}": round(_percentile(ratios, q), 3) for q in (0, 25, 50, 75, 100) if ratios},
            },
            **({"control": {"cpu_ms": self.plan.control_ms, **self.ratio("control")}}
               if self.plan.control_ms else {}),
            "rss_growth_mb": round(self.rss_growth_mb, 1),
            **percentiles,
            "verify_ms_median": round(float(np.median(self.verify_ms)), 1),
            "load_ms_median": round(float(np.median(self.load_ms)), 1),
            "exchanges": {"all": len(self.exchanges), "swaps": len(on), "none": len(off)},
            "versions_seen": len({e.version for e in self.exchanges if e.version}),
            "clients": self.plan.clients,
            "picture": f"{self.plan.side}x{self.plan.side}",
            "seconds": {kind: round(self.seconds(kind), 1) for kind in ("swaps", "none", "control")
                        if self.seconds(kind)},
            "backend": self.backend,
            "settings": self.settings,
            "first_problem": reasons[0] if reasons else "",
            "machine": machine(),
        }

    def as_text(self) -> str:
        """A few lines for people."""
        told = self.as_dict()
        rows = [
            f"{name[:-3]:8}{told[name]['swaps']:10.1f} ms{told[name]['none']:10.1f} ms"
            f"{told[name]['swaps'] / told[name]['none']:8.2f}x"
            for name in ("p50_ms", "p90_ms", "p99_ms")
        ]
        spread, control = told["p99_ratio_phases"], told.get("control")
        low, high = told["p99_ratio_ci95"]
        return "\n".join([
            f"{told['swaps']} swaps in {told['seconds']['swaps']:.0f} s under {told['clients']} clients "
            f"({told['picture']}, {told['backend']}): {told['failed']} failed, "
            f"{told['mixed_version']} mixed versions",
            f"{'exchange':8}{'with swaps':>13}{'without':>13}{'ratio':>9}", *rows,
            f"p99 ratio {told['p99_ratio']:.3f}, 95 % confidence {low:.3f} to {high:.3f}",
            *([f"p99 ratio of {spread['pairs']} pairs of phases: {spread['p0']:.2f} to {spread['p100']:.2f}, "
               f"median {spread['p50']:.2f}"] if spread["pairs"] else []),
            *(["as much CPU time spent on nothing: p99 ratio {:.3f}, {:.3f} to {:.3f}".format(
                control["p99_ratio"], *control["p99_ratio_ci95"])] if control else []),
            f"publish at most {told['publish_ms_max']:.3f} ms; verification {told['verify_ms_median']:.0f} "
            f"and loading {told['load_ms_median']:.0f} ms (medians, beside the traffic); "
            f"memory {told['rss_growth_mb']:+.1f} MB",
            *([f"first problem: {told['first_problem']}"] if told["first_problem"] else []),
        ])


def _within(exchanges: Sequence[Exchange], phases: Sequence[Phase]) -> list[float]:
    """Latencies (ms) of the exchanges that lie within one of ``phases``; the first of those without swaps
    still feel the last swap, and do not count."""
    spans = [(phase.begun_s + (_SEAM_S if phase.kind == "none" else 0.0), phase.ended_s) for phase in phases]
    return [
        1e3 * (e.ended_s - e.begun_s) for e in exchanges
        if not e.failed and any(begun <= e.begun_s and e.ended_s <= ended for begun, ended in spans)
    ]


def _percentile(values: Sequence[float], q: float) -> float:
    if not values:
        raise BenchError("no exchange fell into one kind of phase: more --seconds, or a smaller --side")
    return float(np.percentile(values, q))


def bench_swap(
    settings: RuntimeSettings,
    plan: Plan,
    deliver: Callable[[str, int], ActivationReport],
    on_swap: Callable[[], object] | None = None,
) -> SwapBenchmark:
    """Run the benchmark.

    Args:
        settings: of the runtime process; port, host, state and niceness of the load are set here.
        plan: see :class:`Plan`.
        deliver: pushes and activates a decoder version, called with (base URL, version) in a thread of low
            priority: in the field it runs on another machine.
        on_swap: called after each, for progress bars.

    Raises:
        BenchError: a process does not start or ends early, or an activation is refused.
    """
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        port = free_port()
        settings = msgspec.structs.replace(
            settings, host="127.0.0.1", port=port, state_dir=f"{folder}/state", max_versions=_KEPT_VERSIONS,
            log_level="WARNING",
        )
        site = stack.enter_context(Process("-c", _PROGRAM, msgspec.json.encode(settings).decode()))
        backend = _await_ready(site, port)
        result = Path(folder) / "exchanges"
        spec = LoadSpec(port=port, clients=plan.clients, side=plan.side, result=str(result))
        load = stack.enter_context(
            Process("-m", "codec_runtime.benchmarks.swap_load", msgspec.json.encode(spec).decode())
        )
        load.await_line(READY)
        sender = stack.enter_context(
            ThreadPoolExecutor(1, "delivery", initializer=lower_priority, initargs=(_DELIVERY_NICE,))
        )

        def delivered(url: str, version: int) -> ActivationReport:
            return sender.submit(deliver, url, version).result()

        spinner = stack.enter_context(Process(
            "-m", "codec_runtime.benchmarks.swap_control", str(plan.control_ms),
            str(settings.activation_share), str(settings.activation_nice),
        )) if plan.control_ms else None
        reports, phases, growth = _swaps(site, spinner, port, plan, delivered, on_swap or (lambda: None))
        load.finish()
        exchanges = msgspec.msgpack.decode(result.read_bytes(), type=list[Exchange])
    return SwapBenchmark(
        plan, backend, [r.publish_ms for r in reports], [r.verify_ms for r in reports],
        [r.load_ms for r in reports], exchanges, phases, growth,
        {
            "activation_nice": settings.activation_nice,
            "activation_share": settings.activation_share, "inference_nice": settings.inference_nice,
            "batch_wait_ms": settings.batch_wait_ms, "threads": settings.torch_threads,
        },
    )


def _swaps(
    site: Process,
    spinner: Process | None,
    port: int,
    plan: Plan,
    deliver: Callable[[str, int], ActivationReport],
    on_swap: Callable[[], object],
) -> tuple[list[ActivationReport], list[Phase], float]:
    """Phases without and with swaps, or the control, in turn, until all swaps are done."""
    reports: list[ActivationReport] = []
    phases: list[Phase] = []
    rss: list[float] = []
    interval = plan.seconds / plan.swaps
    at_a_time = max(1, round(plan.phase_s / interval))

    def quiet_phase() -> None:
        phases.append(Phase("none", time.monotonic()))
        time.sleep(_SEAM_S + plan.phase_s)
        phases[-1].ended_s = time.monotonic()

    def busy_phase(kind: Kind, times: int, do: Callable[[], None]) -> None:
        phases.append(Phase(kind, time.monotonic()))
        due = phases[-1].begun_s
        for _ in range(times):
            time.sleep(max(0.0, due - time.monotonic()))
            do()
            due += interval
        time.sleep(max(0.0, due - time.monotonic()))
        phases[-1].ended_s = time.monotonic()

    def swap() -> None:
        version = plan.first_version + len(reports)
        report = deliver(f"http://127.0.0.1:{port}", version)
        if report.outcome != "activated":
            raise BenchError(f"version {version}: {report.outcome} {report.error} {report.detail}")
        _direct(port, plan, version)
        reports.append(report)
        rss.append(site.rss_mb())
        on_swap()

    while len(reports) < plan.swaps:
        quiet_phase()
        times = min(at_a_time, plan.swaps - len(reports))
        busy_phase("swaps", times, swap)
        if spinner is not None:
            quiet_phase()
            busy_phase("control", times, partial(spinner.exchange, "spend", SPENT))
    time.sleep(_SEAM_S)
    return reports, phases, rss[-1] - rss[min(_UNCOUNTED_SWAPS, len(rss)) - 1]


def _direct(port: int, plan: Plan, version: int) -> None:
    """Tell all users to use ``version``, as the xApp does after an activation."""
    batch = DirectiveBatch(
        issuer="bench", sequence=version, issued_ns=time.time_ns(), full=True,
        directives=[
            Directive(
                user=user_name(number), prefix=PREFIX, snr_db=SNR_DB, decoder=plan.decoder,
                decoder_version=version, encoder_version=plan.encoder_version,
            )
            for number in range(plan.clients)
        ],
    )
    status, _ = ask(port, "POST", paths.DIRECTIVES, msgspec.msgpack.encode(batch))
    if status != 200:
        raise BenchError(f"directives were answered {status}")


def _await_ready(site: Process, port: int) -> str:
    """Wait for the runtime; the name of its backend."""
    deadline = time.monotonic() + _START_S
    while time.monotonic() < deadline and site.alive():
        try:
            if ask(port, "GET", "/v2/health/ready")[0] == 200:
                text = ask(port, "GET", "/metrics")[1].decode()
                return text.partition('backend_info{backend="')[2].partition('"')[0]
        except OSError:
            time.sleep(0.1)
    raise BenchError("the runtime process did not become ready")
