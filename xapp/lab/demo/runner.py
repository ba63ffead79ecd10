"""One demo run from start to report.

Order: prepare the folder and the update repository -> start the processes -> live phase (drift after a third)
-> stop the lab and the xApp -> repeat the transmissions at a static rate and with the parent decoder -> stop
the rest -> summary and report. An interruption skips the repetition; what was measured is still reported.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import signal
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from types import FrameType

from rich.console import Console

from xapp.lab.classification_records import Classification
from xapp.lab.demo.aligning import AlignedRun, adapter_versions, encoder_bytes, run_alignments
from xapp.lab.demo.bundles import SiteBundles, adapter_maker, classifier_maker
from xapp.lab.demo.display import Display, choose_display, closing_table
from xapp.lab.demo.live import Snapshot
from xapp.lab.demo.observer import Observer
from xapp.lab.demo.options import DemoOptions, DemoOptionsError, Timeline
from xapp.lab.demo.processes import DRIFT_GROUP, DemoProcesses, Ports
from xapp.lab.demo.replaying import Records, ReplayWorker, count_updated, read_records
from xapp.lab.demo.splitting import run_classifications
from xapp.lab.demo.summary import RunData, RunEvent, summarise, write_atomically, write_summary
from xapp.lab.demo.supervisor import ProcessStartError, Supervisor

REPORT_FILE = "report.html"
SUMMARY_FILE = "summary.json"

_MARKER = ".semcom-demo"
_TICK_S = 0.25
_GRACE_S = 10.0
_REPORT_S = 3.0
_UPDATED_WANTED = 12
# A busy machine may need longer for the update than was planned, and a candidate may be refused or taken back
# and trained again. The live phase goes on so long for one to begin, for the next step of one, and in all.
_BEGIN_WAIT_S, _STEP_WAIT_S, _LONGEST_WAIT_S = 45.0, 120.0, 300.0
# Likewise for the adapter's update, a small one: to begin (its drift to be noticed), for its next step, and
# for another attempt.
_ADAPTER_BEGIN_WAIT_S, _ADAPTER_STEP_WAIT_S, _ADAPTER_AGAIN_WAIT_S = 4.0, 60.0, 15.0
_FAILURES = {"update_failed", "candidate_refused", "rollout_rolled_back"}
_CLASSIFIER, _ADAPTER = "classifier", "adapter"
_STEPS = ("job", "candidate", "bundle", "rollout", "update")


class _Interrupted(Exception):
    """A signal asked to stop."""


class _Signals:
    """SIGINT and SIGTERM: the first interrupts what runs, the second kills the processes at once.

    Once ``finishing``, the first one does not interrupt either: stopping and writing the report go on.
    """

    def __init__(self, supervisor: Supervisor) -> None:
        self.finishing = False
        self.received: signal.Signals | None = None
        self._supervisor = supervisor

    @contextlib.contextmanager
    def installed(self) -> Iterator[None]:
        """Handle both signals; only the main thread can."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {
            number: signal.signal(number, self._on_signal) for number in (signal.SIGINT, signal.SIGTERM)
        }
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    @property
    def exit_code(self) -> int:
        """128 + signal number, 0 without one."""
        return 0 if self.received is None else 128 + self.received

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        if self.received is not None:
            signal.signal(number, signal.SIG_DFL)
            self._supervisor.kill()
            return
        self.received = signal.Signals(number)
        if not self.finishing:
            raise _Interrupted


def run_demo(options: DemoOptions) -> int:
    """Run the demo and leave ``report.html`` and ``summary.json`` in ``options.out``.

    Returns:
        0 after a complete run; 1 if a process could not be started or kept running, or nothing was measured;
        2 for unusable options; 130 and 143 after Ctrl-C and SIGTERM. The reason is on standard error.
    """
    try:
        options.check()
        prepare_folder(options.out)
        run = _Run(options)
    except DemoOptionsError as error:
        print(f"semcom demo: {error}", file=sys.stderr)
        return 2
    with run.signals.installed():
        return run.run()


def prepare_folder(out: Path) -> None:
    """Make ``out`` ready: created, and free of what an earlier demo left.

    Raises:
        DemoOptionsError: it is not a folder, or holds files that no demo wrote.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
        marker = out / _MARKER
        if any(out.iterdir()) and not marker.exists():
            raise DemoOptionsError(
                f"{out} is not empty and was not written by a demo; name another folder with --out"
            )
        marker.touch()
        for name in ("run", "logs", "lab"):
            shutil.rmtree(out / name, ignore_errors=True)
        for name in (REPORT_FILE, SUMMARY_FILE):
            (out / name).unlink(missing_ok=True)
    except OSError as error:
        raise DemoOptionsError(f"cannot use {out} for the results: {error}") from error


def adapter_settled(events: Sequence[RunEvent], elapsed_s: float, end_s: float) -> bool:
    """Whether confidence with a new adapter is known, or that is waited for no longer.

    Args:
        events: oldest first. end_s: planned end of the live phase.
    """
    told = [event for event in events if event.of_adapter]
    if any(event.kind in ("alignment_recovered", "alignment_low") for event in told):
        return True
    if not told:
        return elapsed_s >= end_s + _ADAPTER_BEGIN_WAIT_S
    wait = _ADAPTER_AGAIN_WAIT_S if told[-1].kind in _FAILURES else _ADAPTER_STEP_WAIT_S
    return elapsed_s >= min(told[-1].time_s + wait, end_s + _LONGEST_WAIT_S)


class _Run:
    """State of one run; :meth:`run` is the story."""

    def __init__(self, options: DemoOptions) -> None:
        from xapp.delivery.repository import init_repository  # noqa: PLC0415 - needs the xApp's packages
        from xapp.delivery.roles import THRESHOLD  # noqa: PLC0415

        self.options = options
        self.timeline = Timeline.plan(options.duration_s)
        out = options.out.resolve()
        root = init_repository(out / "run" / "xapp" / "tuf", layout=THRESHOLD)
        self.processes = DemoProcesses(
            replace(options, out=out), self.timeline, Ports.choose(options.ports), Path(root)
        )
        images = str(options.images.resolve()) if options.images else ""
        self.repository = out / "run" / "xapp" / "tuf"
        self.bundles = SiteBundles(self.repository, out / "run" / "bundles")
        self.makers = {_CLASSIFIER: classifier_maker(images, options.seed), _ADAPTER: adapter_maker}
        self.supervisor = Supervisor(out / "logs", grace_s=_GRACE_S)
        self.signals = _Signals(self.supervisor)
        lab_dirs = self.processes.lab_dirs
        self.observer = Observer(self.processes.xapp_url, lambda: lab_dirs[-1] if lab_dirs else None)
        self.live_s = 0.0
        self._epoch: float | None = None
        self._epoch_supervisor_s = 0.0
        self._problems: list[str] = []

    def run(self) -> int:
        """Everything; returns the exit code."""
        code = 0
        worker = ReplayWorker(self.processes)
        try:
            with choose_display(self.options.live) as display:
                self._start(display)
                self._live(display)
                self._quiet(display)
                self._replay(display, worker)
        except ProcessStartError as error:
            self._complain(str(error))
            code = 1
        except _Interrupted:
            print("semcom demo: stopping", file=sys.stderr, flush=True)
        finally:
            self.signals.finishing = True
            self.supervisor.stop()
        self.observer.close()
        return self._finish(code, worker) if self._epoch is not None else code or self.signals.exit_code

    def _start(self, display: Display) -> None:
        begun = time.monotonic()
        for name, maker in self.makers.items():
            display.say(f"making a small {name}")
            self.bundles.make(name, maker)
        for group in self.processes.groups():
            names = ", ".join(spec.name for spec in group)
            display.say(f"starting {names}")

            def waiting(names: str = names) -> None:
                display.show(self._snapshot(f"starting {names}", time.monotonic() - begun))

            self.supervisor.start(group, on_wait=waiting)
            if any(spec.name == "runtime" for spec in group):
                # Now, while nobody else wants the processor: the classifier's activation traces a network.
                self.bundles.deliver(self.processes.runtime_url)
        self._epoch = time.monotonic()
        self._epoch_supervisor_s = self._epoch - self.supervisor.epoch
        self.processes.live_begins()
        self.observer.start()

    def _live(self, display: Display) -> None:
        while True:
            self.supervisor.poll()
            self.live_s = elapsed = self._elapsed()
            waits = elapsed >= self.timeline.live_end_s
            updated = waits and (self._update_seen() or elapsed >= self._latest_s())
            what = "the adapter's update" if updated else "the update"
            display.show(self._snapshot(f"waiting for {what}" if waits else self._phase(), elapsed))
            if updated and adapter_settled(self.observer.events(), elapsed, self.timeline.live_end_s):
                return
            time.sleep(_TICK_S)

    def _phase(self) -> str:
        if self.observer.drift_s is None:
            return "live: rates follow the channel"
        if not any(e.kind == "bundle_swapped" for e in self._of_decoders("bundle")):
            return f"live: {DRIFT_GROUP}s drifted"
        return "live: update in use"

    def _latest_s(self) -> float:
        """When to wait for an update no longer."""
        end = self.timeline.live_end_s
        latest = end + max(_BEGIN_WAIT_S, 0.5 * self.options.duration_s)
        steps = [e.time_s for e in self._of_decoders(*_STEPS)]
        return max(latest, min(max(steps, default=0.0) + _STEP_WAIT_S, end + _LONGEST_WAIT_S))

    def _of_decoders(self, *kinds: str) -> list[RunEvent]:
        """Events of their updates whose kind begins with one of these words."""
        events = self.observer.events()
        return [e for e in events if not e.of_adapter and e.kind.partition("_")[0] in kinds]

    def _update_seen(self) -> bool:
        """Whether the updated decoder was promoted, and in use for enough pictures to be measured."""
        if not self._of_decoders("update"):
            return False
        return count_updated(self._records().transmissions) >= _UPDATED_WANTED

    def _quiet(self, display: Display) -> None:
        """Stop the traffic, read the last counters, stop the control loop."""
        display.show(self._snapshot("stopping the traffic", self._elapsed()))
        self.observer.live_end_ns = time.time_ns()
        self.supervisor.stop(["lab"])
        self.observer.close()
        self.supervisor.stop(["xapp"])

    def _replay(self, display: Display, worker: ReplayWorker) -> None:
        records = self._records()
        if not any(not t.failed for t in records.transmissions):
            return
        left = self.timeline.end_s - self._elapsed() - _REPORT_S
        display.say("repeating the transmissions at the static rate and with the parent decoder")
        worker.start(records, max(left, 0.15 * self.options.duration_s), self.options.seed)
        try:
            while worker.running:
                self.supervisor.poll()
                phase = f"comparing with the static rate {worker.progress}"
                display.show(self._snapshot(phase, self._elapsed()))
                time.sleep(_TICK_S)
        finally:
            worker.cancel()

    def _finish(self, code: int, worker: ReplayWorker) -> int:
        """Summary and report of whatever there is."""
        records = self._records()
        data = RunData(
            duration_s=self.options.duration_s,
            users=self.options.users,
            seed=self.options.seed,
            epoch_ns=self.observer.epoch_ns,
            transmissions=records.transmissions,
            static=worker.static,
            parent=worker.parent,
            left_out=worker.left_out,
            xapp=self.observer.xapp,
            lab=self.observer.lab_counters,
            events=self._events(),
            restarts=self.supervisor.restarts(),
            drift_s=self.observer.drift_s,
            drift_group=DRIFT_GROUP,
            live_s=self.live_s,
            samples=records.samples,
            classifications=self._classifications(),
            classifier_problem=self.bundles.problems.get(_CLASSIFIER, ""),
            aligned=self._aligned(),
            interrupted=self.signals.received is not None,
        )
        summary = summarise(data)
        self._judge(data, worker)
        write_summary(summary, self.options.out / SUMMARY_FILE)
        from xapp.lab.demo.report import build_report  # noqa: PLC0415 - loads matplotlib

        write_atomically(self.options.out / REPORT_FILE, build_report(data, summary))
        if self.options.json:
            print(json.dumps(summary))
        else:
            console = Console()
            console.print(closing_table(summary))
            console.print(f"Report: {self.options.out / REPORT_FILE}", soft_wrap=True)
        return self.signals.exit_code or code or (1 if self._problems else 0)

    def _judge(self, data: RunData, worker: ReplayWorker) -> None:
        """Say what makes this run a failure."""
        logs = self.supervisor.log_dir
        for event in self.supervisor.events:
            if event.kind == "given-up":
                self._complain(f"{event.process} kept dying; see {logs / (event.process + '.log')}")
        if data.interrupted:
            return
        if data.xapp.counters["indications"] == 0:
            self._complain(f"the xApp received no indication; see {logs / 'xapp.log'} and {logs / 'lab.log'}")
        if not data.delivered:
            self._complain(f"no picture was delivered; see {logs / 'lab.log'} and {logs / 'runtime.log'}")
        elif worker.error:
            self._complain(f"the comparison with the static rate failed: {worker.error}")
        elif not worker.static and any(t.repeatable for t in data.transmissions):
            reasons = worker.left_out.get("static_same_bandwidth", {"time is over": len(data.delivered)})
            self._complain(f"nothing could be compared with the static rate: {'; '.join(reasons)}")

    def _complain(self, text: str) -> None:
        self._problems.append(text)
        print(f"semcom demo: {text}", file=sys.stderr, flush=True)

    def _elapsed(self) -> float:
        return 0.0 if self._epoch is None else time.monotonic() - self._epoch

    def _events(self) -> list[RunEvent]:
        return self.observer.events(self.supervisor.events, self._epoch_supervisor_s)

    def _records(self) -> Records:
        try:
            return read_records(self.processes.lab_dirs, self.observer.epoch_ns)
        except ValueError as error:
            if not self._problems:
                self._complain(f"a record of the lab is unreadable: {error}")
            return Records([], {})

    def _classifications(self) -> list[Classification]:
        try:
            return run_classifications(self.processes.lab_dirs, self.observer.epoch_ns)
        except ValueError as error:
            self._complain(f"a record of the lab is unreadable: {error}")
            return []

    def _aligned(self) -> AlignedRun:
        try:
            records = run_alignments(self.processes.lab_dirs, self.observer.epoch_ns)
        except ValueError as error:
            self._complain(f"a record of the lab is unreadable: {error}")
            return AlignedRun()
        problem = self.bundles.problems.get(_ADAPTER, "")
        return AlignedRun(records, adapter_versions(self.repository), encoder_bytes(), problem)

    def _snapshot(self, phase: str, elapsed_s: float) -> Snapshot:
        return self.observer.snapshot(
            elapsed_s=elapsed_s,
            duration_s=self.options.duration_s,
            phase=phase,
            processes=self.supervisor.status(),
            events=self._events(),
        )
