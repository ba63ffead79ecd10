"""Keeps a set of processes running.

States of a process, and what may follow::

    starting ----> up            its probe answered
    starting ----> waiting       it died, or was not ready in time (then it is killed)
    up       ----> waiting       it died; what it said last is in its log
    waiting  ----> starting      the back-off is over
    waiting  ----> given-up      it died too often in a row
    any      ----> stopped       the supervisor stops it

During the first start a death is an error of the demo (:class:`ProcessStartError`); later it is an event, and
the process is started again on the same command line, hence the same ports. The back-off doubles from
``first_backoff_s`` to ``max_backoff_s`` and is forgotten once the process stayed up for ``stable_s``.

Everything happens in the thread that calls :meth:`Supervisor.start`, :meth:`Supervisor.poll` and
:meth:`Supervisor.stop`; there are no locks and no background threads.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from xapp.lab.demo.child import ChildProcess, ProcessSpec, describe_exit

State = Literal["starting", "up", "waiting", "given-up", "stopped"]

_POLL_S = 0.05


class ProcessStartError(RuntimeError):
    """A process could not be started; the message names it, says why and ends with the tail of its log."""


@dataclass(frozen=True)
class ProcessEvent:
    """Something that happened to a process.

    Attributes:
        time_s: seconds since the supervisor's ``epoch`` (its construction, unless set).
        kind: ``ready``, ``died``, ``restarted``, ``given-up``.
    """

    time_s: float
    process: str
    kind: str
    detail: str = ""


@dataclass
class _Managed:
    spec: ProcessSpec
    child: ChildProcess | None
    state: State
    deadline: float
    since: float
    failures: int = 0
    restarts: int = 0
    next_start: float = 0.0


@dataclass(frozen=True)
class ProcessStatus:
    """What the live view shows of a process."""

    name: str
    state: State
    restarts: int
    pid: int | None
    address: str


class Supervisor:
    """Starts, watches, restarts and stops processes.

    Args:
        log_dir: one ``<name>.log`` for each process.
        first_backoff_s, max_backoff_s: delay before a restart.
        max_failures: deaths in a row after which a process is given up.
        stable_s: time up after which earlier deaths no longer count.
        grace_s: time between SIGTERM and SIGKILL.
    """

    def __init__(
        self,
        log_dir: Path,
        *,
        first_backoff_s: float = 0.5,
        max_backoff_s: float = 8.0,
        max_failures: int = 6,
        stable_s: float = 15.0,
        grace_s: float = 5.0,
    ) -> None:
        self.log_dir = log_dir
        self.events: list[ProcessEvent] = []
        self.epoch = time.monotonic()
        self._first_backoff_s = first_backoff_s
        self._max_backoff_s = max_backoff_s
        self._max_failures = max_failures
        self._stable_s = stable_s
        self._grace_s = grace_s
        self._managed: dict[str, _Managed] = {}

    def start(self, specs: Sequence[ProcessSpec], on_wait: Callable[[], None] = lambda: None) -> None:
        """Start these processes at once and wait until all are ready.

        Args:
            on_wait: called about 20 times a second while waiting (to keep a view moving).

        Raises:
            ProcessStartError: one cannot be executed, dies, or is not ready within its deadline.
        """
        for spec in specs:
            if spec.name in self._managed:
                raise ValueError(f"process {spec.name} is already supervised")
            now = time.monotonic()
            try:
                child = ChildProcess(spec, self._log_file(spec))
            except OSError as error:
                raise ProcessStartError(f"{spec.name} cannot be executed: {error}") from error
            self._managed[spec.name] = _Managed(spec, child, "starting", now + spec.start_deadline_s, now)
        pending = [self._managed[spec.name] for spec in specs]
        while pending:
            pending = [process for process in pending if not self._first_ready(process)]
            on_wait()
            if pending:
                time.sleep(_POLL_S)

    def poll(self) -> list[ProcessEvent]:
        """Notice deaths, restart what is due, and return the events since the last call.

        Blocks for one probe timeout at most, for each process that is starting.
        """
        before = len(self.events)
        for process in self._managed.values():
            self._step(process, time.monotonic())
        return self.events[before:]

    def status(self) -> list[ProcessStatus]:
        """State of every process, in the order of their start."""
        return [
            ProcessStatus(
                p.spec.name, p.state, p.restarts, p.child.pid if p.child is not None else None, p.spec.address
            )
            for p in self._managed.values()
        ]

    def restarts(self) -> dict[str, int]:
        """How often each process was started again."""
        return {name: process.restarts for name, process in self._managed.items()}

    def stop(self, names: Sequence[str] | None = None) -> None:
        """Stop processes one after the other: SIGTERM, then SIGKILL after the grace time.

        Args:
            names: in this order; None for all, last started first, so that sources stop before sinks.
        """
        for name in list(reversed(self._managed)) if names is None else names:
            process = self._managed[name]
            process.state = "stopped"
            if process.child is None:
                continue
            process.child.terminate()
            if not process.child.wait(self._grace_s):
                process.child.kill()

    def kill(self) -> None:
        """SIGKILL everything now (a second Ctrl-C)."""
        for process in reversed(self._managed.values()):
            process.state = "stopped"
            if process.child is not None:
                process.child.kill()

    def _log_file(self, spec: ProcessSpec) -> Path:
        return self.log_dir / f"{spec.name}.log"

    def _record(self, process: _Managed, kind: str, detail: str = "") -> None:
        self.events.append(ProcessEvent(time.monotonic() - self.epoch, process.spec.name, kind, detail))

    def _first_ready(self, process: _Managed) -> bool:
        child = process.child
        assert child is not None
        code = child.ended()
        if code is not None:
            raise ProcessStartError(
                f"{process.spec.name} ended while starting ({describe_exit(code)}).\n"
                f"Last lines of {child.log_file}:\n{child.log_tail()}"
            )
        if child.is_ready():
            process.state, process.since = "up", time.monotonic()
            self._record(process, "ready", f"pid {child.pid}")
            return True
        if time.monotonic() > process.deadline:
            raise ProcessStartError(
                f"{process.spec.name} is not ready after {process.spec.start_deadline_s:.0f} s"
                f"{' at ' + process.spec.address if process.spec.address else ''}.\n"
                f"Last lines of {child.log_file}:\n{child.log_tail()}"
            )
        return False

    def _step(self, process: _Managed, now: float) -> None:
        if process.state in ("stopped", "given-up"):
            return
        if process.state == "waiting":
            if now >= process.next_start:
                self._restart(process, now)
            return
        assert process.child is not None
        code = process.child.ended()
        if code is not None:
            self._failed(process, now, describe_exit(code))
        elif process.state == "starting":
            if process.child.is_ready():
                process.state, process.since = "up", now
                self._record(process, "restarted", f"pid {process.child.pid}")
            elif now > process.deadline:
                process.child.kill()
                self._failed(process, now, f"not ready after {process.spec.start_deadline_s:.0f} s")
        elif now - process.since > self._stable_s:
            process.failures = 0

    def _restart(self, process: _Managed, now: float) -> None:
        process.restarts += 1
        try:
            process.child = ChildProcess(process.spec, self._log_file(process.spec))
        except OSError as error:
            self._failed(process, now, f"cannot be executed: {error}")
            return
        process.state, process.since = "starting", now
        process.deadline = now + process.spec.start_deadline_s

    def _failed(self, process: _Managed, now: float, why: str) -> None:
        if process.state == "up" and now - process.since > self._stable_s:
            process.failures = 0
        process.failures += 1
        self._record(process, "died", why)
        if process.failures > self._max_failures:
            process.state = "given-up"
            self._record(process, "given-up", f"died {process.failures} times in a row")
            return
        delay = min(self._max_backoff_s, self._first_backoff_s * 2 ** (process.failures - 1))
        process.state, process.next_start = "waiting", now + delay
