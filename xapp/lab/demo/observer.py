"""Watches a run from outside: what the xApp answers and what the lab writes, twice a second, in a thread.

A process that does not answer is no error here; the supervisor knows whether it lives. What was seen last
stays.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import httpx

from xapp.lab.captioned import IMAGE_ENCODER
from xapp.lab.demo.aligning import is_alignment
from xapp.lab.demo.live import Snapshot, UserRow, ViewEvent
from xapp.lab.demo.processes import DEGRADE_DB, DRIFT_GROUP, DRIFT_KIND
from xapp.lab.demo.summary import RunEvent
from xapp.lab.demo.supervisor import ProcessEvent, ProcessStatus
from xapp.lab.demo.totals import CounterTotals, XAppHistory
from xapp.lab.records import STATE_FILE, LabState, read_lab_state

_PERIOD_S = 0.5
_TIMEOUT_S = 1.0
_HISTORY = 40

_GOOD = {"bundle_swapped", "update_done", "peer_back", "restarted", "subscribed", "candidate_gated"}
_GOOD |= {"rollout_observing", "rollout_done", "round_done", "alignment_recovered"}
_BAD = {
    "drift_detected",
    "alignment_drift",
    "alignment_low",
    "peer_lost",
    "job_failed",
    "candidate_refused",
    "update_failed",
    "rollout_rolling_back",
    "runtime_restarted",
    "died",
    "given-up",
    "drift",
}
_NOISE = {"capability", "ready"}
"""Events that come for each user or process and say nothing about the story."""


class Observer:
    """Collects the state of xApp and lab.

    Attributes:
        live_end_ns: wall clock at which the demo ended the live phase; what the xApp says of peers that the
            demo itself stopped afterwards is no event.

    Args:
        xapp_url: base URL of the xApp.
        lab_dir: folder of the newest lab instance, None before the first.
    """

    def __init__(self, xapp_url: str, lab_dir: Callable[[], Path | None]) -> None:
        self.epoch_ns = time.time_ns()
        self.xapp = XAppHistory()
        self.lab_counters = CounterTotals()
        self.lab: LabState | None = None
        self.drift_s: float | None = None
        self.live_end_ns: int | None = None
        self._events: list[RunEvent] = []
        self._adapter_jobs: set[str] = set()
        self._lab_dir = lab_dir
        self._url = f"{xapp_url}/semcom/v1/state"
        self._history: dict[str, deque[float]] = {}
        self._last_psnr: dict[str, float] = {}
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="observer", daemon=True)
        self._http = httpx.Client(timeout=_TIMEOUT_S, trust_env=False)

    def start(self) -> None:
        """Begin to poll; times count from now."""
        self.epoch_ns = time.time_ns()
        self._thread.start()

    def close(self) -> None:
        """Poll once more, so that nothing that was counted is missed, and end the thread."""
        if self._stop.is_set():
            return
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(timeout=4 * _TIMEOUT_S)
        self.poll()
        self._http.close()

    def poll(self) -> None:
        """Read both sides once."""
        state = self._xapp_state()
        folder = self._lab_dir()
        lab = read_lab_state(folder / STATE_FILE) if folder is not None else None
        with self._lock:
            if state is not None:
                for event in self.xapp.update(state):
                    self._add_xapp_event(event)
            if lab is not None:
                self._take_lab(lab)

    def events(self, processes: Sequence[ProcessEvent] = (), epoch_s: float = 0.0) -> list[RunEvent]:
        """Everything worth telling, in order.

        Args:
            processes: of the supervisor; epoch_s: its clock's reading at the live phase's begin, seconds.
        """
        told = [
            RunEvent(e.time_s - epoch_s, e.kind, _process_text(e), _tone(e.kind))
            for e in processes
            if e.kind not in _NOISE
        ]
        with self._lock:
            return sorted([*self._events, *told], key=lambda event: event.time_s)

    def snapshot(
        self,
        *,
        elapsed_s: float,
        duration_s: float,
        phase: str,
        processes: Sequence[ProcessStatus],
        events: Sequence[RunEvent],
    ) -> Snapshot:
        """What the live view shows now."""
        with self._lock:
            loop = self.xapp.latency("loop")
            counters = self.xapp.counters
            return Snapshot(
                elapsed_s=elapsed_s,
                duration_s=duration_s,
                phase=phase,
                users=self._user_rows(),
                processes=processes,
                loop_ms=(loop.p50, loop.p99) if loop.p50 is not None and loop.p99 is not None else None,
                counters={
                    "reports": counters["ue_reports"],
                    "directives": counters["directives"],
                    "pictures": self.lab_counters["transmissions"],
                    "failed": self.lab_counters["failed_requests"],
                    "updates": counters["swaps"],
                },
                events=[ViewEvent(e.time_s, e.text, e.tone) for e in events],
                alignment=self.xapp.confidence.get(IMAGE_ENCODER),
                quality_target_db=self.xapp.policy.get("quality_target_db"),
            )

    def _run(self) -> None:
        while not self._stop.wait(_PERIOD_S):
            self.poll()

    def _xapp_state(self) -> dict[str, Any] | None:
        try:
            answer = self._http.get(self._url, params={"after": self.xapp.last_seq})
            state = answer.json() if answer.status_code == 200 else None
            if isinstance(state, dict) and self.xapp.instances[-1:] != [state.get("instance")]:
                # Another process numbers its events from 1 again: ask for all of them.
                state = self._http.get(self._url).json()
        except (httpx.HTTPError, ValueError):
            return None
        return state if isinstance(state, dict) else None

    def _add_xapp_event(self, event: dict[str, Any]) -> None:
        kind = str(event.get("kind", ""))
        if kind in _NOISE:
            return
        time_ns = int(event.get("time_ns", self.epoch_ns))
        if self.live_end_ns is not None and time_ns > self.live_end_ns:
            return
        seconds = (time_ns - self.epoch_ns) / 1e9
        of_adapter = is_alignment(event, self._adapter_jobs)
        text = str(event.get("text") or kind)
        self._events.append(RunEvent(seconds, kind, text, _tone(kind), of_adapter))

    def _take_lab(self, lab: LabState) -> None:
        self.lab_counters.update(
            {
                "requests": lab.requests,
                "failed_requests": lab.failed_requests,
                "retried": lab.retried,
                "transmissions": lab.transmissions,
                "indications_sent": lab.indications_sent,
            }
        )
        if lab.drift_active and self.drift_s is None:
            self.drift_s = (lab.time_ns - self.epoch_ns) / 1e9
            self._events.append(
                RunEvent(
                    self.drift_s,
                    "drift",
                    f"{DRIFT_GROUP} users: channel {DEGRADE_DB:g} dB worse, {DRIFT_KIND} pictures",
                    "bad",
                )
            )
        self.lab = lab
        for user in lab.users:
            if user.psnr_db is not None and self._last_psnr.get(user.user) != user.psnr_db:
                self._last_psnr[user.user] = user.psnr_db
                self._history.setdefault(user.user, deque(maxlen=_HISTORY)).append(user.psnr_db)

    def _user_rows(self) -> list[UserRow]:
        told = {str(user.get("user")): user for user in self.xapp.users}
        rows = []
        for user in self.lab.users if self.lab else ():
            decided = told.get(user.user, {})
            rows.append(
                UserRow(
                    user=user.user,
                    device_class=user.device_class,
                    snr_db=decided.get("snr_db", user.snr_db),
                    prefix=decided.get("prefix") or user.prefix or None,
                    decoder=decided.get("decoder") or user.decoder,
                    decoder_version=decided.get("decoder_version") or user.decoder_version or None,
                    psnr_db=user.psnr_db,
                    history=tuple(self._history.get(user.user, ())),
                )
            )
        return rows


def _tone(kind: str) -> str:
    return "good" if kind in _GOOD else "bad" if kind in _BAD else "info"


def _process_text(event: ProcessEvent) -> str:
    text = {"died": "died", "restarted": "is up again", "given-up": "is given up"}.get(event.kind, event.kind)
    return f"process {event.process} {text}" + (f" ({event.detail})" if event.detail else "")
