"""The supervisor with tiny children instead of the real processes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from xapp.lab.demo.child import ChildProcess, ProcessSpec, describe_exit, free_ports, http_probe
from xapp.lab.demo.supervisor import ProcessStartError, Supervisor

SLEEPER = "import time\nwhile True: time.sleep(0.02)"


def child(name: str, code: str, **kwargs: object) -> ProcessSpec:
    return ProcessSpec(name, (sys.executable, "-I", "-S", "-c", code), **kwargs)  # type: ignore[arg-type]


def file_probe(path: Path):
    return path.exists


def wait_until(condition, deadline_s: float = 15.0) -> None:
    end = time.monotonic() + deadline_s
    while not condition():
        assert time.monotonic() < end, "condition not met in time"
        time.sleep(0.02)


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    with open(f"/proc/{pid}/stat") as stat:
        return stat.read().rsplit(")", 1)[1].split()[0] != "Z"


@pytest.fixture
def supervisor(tmp_path):
    supervisor = Supervisor(tmp_path / "logs", first_backoff_s=0.01, max_backoff_s=0.05, max_failures=3)
    yield supervisor
    supervisor.kill()


def test_a_process_that_dies_at_start_is_named_with_the_tail_of_its_log(supervisor):
    spec = child(
        "runtime", "print('weights are missing', flush=True); raise SystemExit(3)", ready=lambda: False
    )
    with pytest.raises(ProcessStartError) as error:
        supervisor.start([spec])
    assert "runtime ended while starting (exit code 3)" in str(error.value)
    assert "weights are missing" in str(error.value)


def test_a_process_that_is_never_ready_is_named(supervisor):
    spec = child("xapp", SLEEPER, ready=lambda: False, start_deadline_s=0.2, address="127.0.0.1:1")
    with pytest.raises(ProcessStartError, match=r"xapp is not ready after 0 s at 127.0.0.1:1"):
        supervisor.start([spec])


def test_a_command_that_does_not_exist_is_named(supervisor):
    spec = ProcessSpec("redis", ("/does/not/exist",), ready=lambda: False)
    with pytest.raises(ProcessStartError, match=r"(?s)redis ended.*cannot execute /does/not/exist"):
        supervisor.start([spec])


def test_a_killed_process_is_restarted_on_the_same_command_line(supervisor, tmp_path):
    starts = tmp_path / "starts"
    code = f"import sys\nopen({str(starts)!r}, 'a').write(sys.argv[1] + '\\n')\n" + SLEEPER
    base = child("lab", code, ready=file_probe(starts))
    supervisor.start([ProcessSpec("lab", (*base.command, "port-1234"), ready=base.ready)])
    first = supervisor.status()[0].pid
    os.kill(first, signal.SIGKILL)

    def restarted() -> bool:
        supervisor.poll()
        return supervisor.status()[0].state == "up" and supervisor.status()[0].restarts == 1

    wait_until(restarted)
    wait_until(lambda: len(starts.read_text().splitlines()) == 2)
    assert starts.read_text().splitlines() == ["port-1234", "port-1234"]
    assert [event.kind for event in supervisor.events] == ["ready", "died", "restarted"]
    assert supervisor.events[1].detail == "killed by SIGKILL"
    assert supervisor.status()[0].pid != first


def test_prepare_runs_before_every_start(supervisor):
    calls: list[int] = []
    supervisor.start([child("lab", SLEEPER, prepare=lambda: calls.append(1))])
    os.kill(supervisor.status()[0].pid, signal.SIGKILL)
    wait_until(lambda: bool(supervisor.poll()) or supervisor.restarts()["lab"] == 1)
    wait_until(lambda: (supervisor.poll(), len(calls))[1] == 2)


def test_a_process_that_keeps_dying_is_given_up_after_a_bounded_number_of_starts(supervisor, tmp_path):
    once = tmp_path / "once"
    code = (
        f"import os,time\nif os.path.exists({str(once)!r}): raise SystemExit(1)\nopen({str(once)!r},'w')\n"
        + SLEEPER
    )
    supervisor.start([child("xapp", code, ready=file_probe(once))])
    os.kill(supervisor.status()[0].pid, signal.SIGKILL)
    # The probe would answer for a dead process too: the death must win.
    wait_until(lambda: (supervisor.poll(), supervisor.status()[0].state)[1] == "given-up")
    assert [event.kind for event in supervisor.events].count("died") == 4
    assert supervisor.restarts() == {"xapp": 3}


def test_processes_stop_in_reverse_order_of_start(supervisor, tmp_path):
    order = tmp_path / "order"

    def polite(name: str) -> ProcessSpec:
        up = tmp_path / f"{name}.up"
        code = (
            "import signal,sys,time\n"
            f"def stop(*_):\n open({str(order)!r}, 'a').write('{name}\\n')\n sys.exit(0)\n"
            f"signal.signal(signal.SIGTERM, stop)\nopen({str(up)!r}, 'w')\n" + SLEEPER
        )
        return child(name, code, ready=file_probe(up))

    supervisor.start([polite("redis")])
    supervisor.start([polite("runtime"), polite("xapp")])
    supervisor.start([polite("lab")])
    supervisor.stop()
    assert order.read_text().split() == ["lab", "xapp", "runtime", "redis"]
    assert {status.state for status in supervisor.status()} == {"stopped"}
    assert supervisor.poll() == []


def test_a_process_that_ignores_sigterm_is_killed_after_the_grace_time(tmp_path):
    supervisor = Supervisor(tmp_path, grace_s=0.2)
    up = tmp_path / "up"
    code = f"import signal\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\nopen({str(up)!r}, 'w')\n" + SLEEPER
    supervisor.start([child("runtime", code, ready=file_probe(up))])
    pid = supervisor.status()[0].pid
    supervisor.stop()
    assert not Path(f"/proc/{pid}").exists()


def test_what_a_dead_process_left_running_is_killed_with_it(supervisor, tmp_path):
    grandchild = tmp_path / "pid"
    code = (
        "import subprocess,sys,os\n"
        f"p = subprocess.Popen([sys.executable, '-I', '-S', '-c', {SLEEPER!r}])\n"
        f"open({str(grandchild)!r}, 'w').write(str(p.pid))\n" + SLEEPER
    )
    supervisor.start(
        [child("runtime", code, ready=lambda: grandchild.exists() and grandchild.read_text() != "")]
    )
    orphan = int(grandchild.read_text())
    os.kill(supervisor.status()[0].pid, signal.SIGKILL)
    wait_until(lambda: bool(supervisor.poll()))
    wait_until(lambda: not alive(orphan))


@pytest.mark.skipif(sys.platform != "linux", reason="parent-death signal is a Linux feature")
def test_children_die_with_a_killed_supervisor(tmp_path):
    script = (
        "import sys, time\nfrom pathlib import Path\n"
        "from xapp.lab.demo.child import ProcessSpec\nfrom xapp.lab.demo.supervisor import Supervisor\n"
        f"s = Supervisor(Path({str(tmp_path)!r}))\n"
        f"s.start([ProcessSpec('x', (sys.executable, '-I', '-S', '-c', {SLEEPER!r}))])\n"
        "print(s.status()[0].pid, flush=True)\ntime.sleep(60)\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    pid = int(parent.stdout.readline())
    # The tether sets the parent-death signal before it becomes the command.
    wait_until(lambda: b"tether" not in Path(f"/proc/{pid}/cmdline").read_bytes())
    parent.kill()
    parent.wait()
    parent.stdout.close()
    wait_until(lambda: not Path(f"/proc/{pid}").exists() or not alive(pid))


def test_free_ports_are_different_and_nobody_answers_on_them():
    ports = free_ports(5)
    assert len(set(ports)) == 5
    assert not http_probe(f"http://127.0.0.1:{ports[0]}/")()


def test_exit_codes_read_well(tmp_path):
    assert describe_exit(3) == "exit code 3"
    assert describe_exit(-9) == "killed by SIGKILL"
    process = ChildProcess(child("x", "print('a'); print('b')"), tmp_path / "x.log")
    assert process.wait(10)
    assert process.ended() == 0
    assert process.log_tail(1) == "b"
