"""One child process: start, readiness, end, log file. Starting again is the supervisor's business.

A child is the leader of its own session, so that Ctrl-C in the terminal reaches the supervisor alone, which
then stops the children in order; and so that its own children (a training job, say) can be ended with it. On
Linux it also gets SIGKILL on its parent's death (``tether.py``): a killed demo leaves nothing behind.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

Probe = Callable[[], bool]
"""Tells whether a process answers; returns within about a second and does not raise."""

_PROBE_TIMEOUT_S = 0.5
# Loopback never goes through a proxy, whatever the environment says.
_OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))
_TETHER = Path(__file__).with_name("tether.py")


def http_probe(url: str) -> Probe:
    """Ready once a GET of ``url`` answers with a 2xx status."""

    def probe() -> bool:
        try:
            with _OPENER.open(url, timeout=_PROBE_TIMEOUT_S) as answer:
                return bool(200 <= answer.status < 300)
        except (OSError, ValueError, urllib.error.URLError):
            return False

    return probe


def redis_probe(host: str, port: int) -> Probe:
    """Ready once a Redis server answers PING with PONG (not while it is still loading)."""

    def probe() -> bool:
        try:
            with socket.create_connection((host, port), timeout=_PROBE_TIMEOUT_S) as connection:
                connection.settimeout(_PROBE_TIMEOUT_S)
                connection.sendall(b"PING\r\n")
                return connection.recv(64).startswith(b"+PONG")
        except OSError:
            return False

    return probe


def _nothing() -> None:
    """The default of ``prepare``."""


@dataclass(frozen=True)
class ProcessSpec:
    """How to run one process.

    Attributes:
        name: short name, also of its log file.
        command: argument vector.
        prepare: called before every start, e.g. to write a settings file that depends on the time.
        ready: probe, None where being alive is all that can be asked.
        env: added to the environment of the parent.
        start_deadline_s: seconds from start to ready.
        address: where it can be reached, for people.
    """

    name: str
    command: tuple[str, ...]
    prepare: Callable[[], None] = _nothing
    ready: Probe | None = None
    env: Mapping[str, str] = field(default_factory=dict)
    start_deadline_s: float = 60.0
    address: str = ""


def free_port(host: str = "127.0.0.1") -> int:
    """A TCP port that nobody listens on at the moment of the call."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.bind((host, 0))
        port: int = probe.getsockname()[1]
        return port


def free_ports(count: int, host: str = "127.0.0.1") -> list[int]:
    """``count`` different free ports: all are held until the last is found."""
    with contextlib.ExitStack() as held:
        ports = []
        for _ in range(count):
            probe = held.enter_context(socket.socket(socket.AF_INET, socket.SOCK_STREAM))
            probe.bind((host, 0))
            ports.append(int(probe.getsockname()[1]))
        return ports


class ChildProcess:
    """A running (or ended) instance of a :class:`ProcessSpec`; output is appended to ``log_file``.

    Must be started from a thread that lives as long as the supervisor: the kernel's parent-death signal
    follows the *thread* that forked.
    """

    def __init__(self, spec: ProcessSpec, log_file: Path) -> None:
        self.spec = spec
        self.log_file = log_file
        log_file.parent.mkdir(parents=True, exist_ok=True)
        tethered = (sys.executable, "-I", "-S", str(_TETHER), str(os.getpid()), *spec.command)
        spec.prepare()
        with log_file.open("ab") as log:
            self._process = subprocess.Popen(
                tethered,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env={**os.environ, **spec.env},
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        """Process id, also that of its process group."""
        return self._process.pid

    def ended(self) -> int | None:
        """Exit code (negative: killed by that signal) or None while it runs.

        What the process itself left running in its session is killed before its id is released, so the group
        id cannot have been given to somebody else.
        """
        if self._process.returncode is not None:
            return self._process.returncode
        try:
            state = os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        except ChildProcessError:
            return self._process.poll()
        if state is None:
            return None
        self._signal_group(signal.SIGKILL)
        return self._process.wait()

    def is_ready(self) -> bool:
        """Alive and answering."""
        return self.ended() is None and (self.spec.ready is None or self.spec.ready())

    def terminate(self) -> None:
        """Ask it to drain and stop (SIGTERM to the process alone, which stops its own children)."""
        if self.ended() is None:
            self._process.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """SIGKILL to the process and everything in its session; returns once it is gone."""
        if self.ended() is None:
            self._signal_group(signal.SIGKILL)
            self._process.wait()

    def wait(self, timeout_s: float) -> bool:
        """Whether it ended within ``timeout_s``."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            if self._process.returncode is None:
                _wait_without_reaping(self._process, timeout_s)
        return self.ended() is not None

    def log_tail(self, lines: int = 15, limit: int = 4000) -> str:
        """Last lines of its log, for an error message."""
        try:
            with self.log_file.open("rb") as log:
                log.seek(0, os.SEEK_END)
                log.seek(max(0, log.tell() - limit))
                text = log.read().decode("utf-8", "replace")
        except OSError as error:
            return f"(no log: {error})"
        return "\n".join(text.splitlines()[-lines:]) or "(log is empty)"

    def _signal_group(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, number)


def describe_exit(code: int) -> str:
    """``exit code 3`` or ``killed by SIGKILL``."""
    if code >= 0:
        return f"exit code {code}"
    try:
        return f"killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"killed by signal {-code}"


def _wait_without_reaping(process: subprocess.Popen[bytes], timeout_s: float) -> None:
    """Sleep until the process is a zombie or the time is over; :meth:`ChildProcess.ended` reaps it."""
    pidfd_open = getattr(os, "pidfd_open", None)
    if pidfd_open is None:
        process.wait(timeout_s)
        return
    try:
        descriptor = pidfd_open(process.pid)
    except OSError:
        process.wait(timeout_s)
        return
    try:
        import select  # noqa: PLC0415 - only where pidfd exists

        poller = select.poll()
        poller.register(descriptor, select.POLLIN)
        poller.poll(max(0.0, timeout_s) * 1000)
    finally:
        os.close(descriptor)
