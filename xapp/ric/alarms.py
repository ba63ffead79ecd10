"""Alarms to the RIC's alarm manager, in the schema of ``ricxappframe.alarm`` (whose module cannot be imported
where there is no librmr).

Facts (ric-plt/alarm-go: ``alarm/types.go``, ``manager/cmd/manager.go``, ``schemas/alarm-schema.json``):

- The identity of an alarm is (managedObjectId, applicationId, specificProblem, identifyingInfo). RAISE of an
  active one is ignored, of one with another severity replaces it; CLEAR of an unknown one is ignored.
- The manager takes RMR type 13111 and drops every other, 110 of ricxappframe 3.2.2 included.
- It drops alarms whose specificProblem it has no definition of; definitions are posted to
  ``/ric/v1/alarms/define`` (:func:`alarm_definitions`).
- It reads ``AlarmTime`` as nanoseconds since the epoch, though its schema says milliseconds.
- The routing manager makes no route for 13111: the message needs a connection of its own (a wormhole) to
  :func:`alarm_target`.

:class:`ActiveAlarmList` keeps what *should* be active beside what the manager was *told*, and sends the
difference. So there is no queue to overflow, and an alarm that came and went in between is not sent.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

RIC_ALARM_UPDATE: Final = 13111
"""RMR message type that the alarm manager takes."""

MAX_ALARMS: Final = 256
FIRST_BACKOFF_S: Final = 1.0
LONGEST_BACKOFF_S: Final = 60.0
MAX_INFO_CHARACTERS: Final = 500

_log = logging.getLogger(__name__)


class Severity(StrEnum):
    """Perceived severity (ITU-T X.733) in the manager's spelling."""

    CRITICAL = "CRITICAL"
    MAJOR = "MAJOR"
    MINOR = "MINOR"
    WARNING = "WARNING"


@dataclass(frozen=True, slots=True)
class Problem:
    """A specific problem: number, text and what to do about it, as the manager's definitions have them."""

    number: int
    text: str
    severity: Severity
    event_type: str
    instructions: str


RUNTIME_UNREACHABLE: Final = Problem(
    84001, "CODEC RUNTIME UNREACHABLE", Severity.MAJOR, "communication",
    "Check runtime_url or sites, the runtime's pod and its certificates; users keep their last directives.",
)  # fmt: skip
NO_INDICATIONS: Final = Problem(
    84002, "NO INDICATIONS FROM E2 NODE", Severity.MAJOR, "communication",
    "Check the E2 connection of the node (e2mgr) and the routes of the subscription (rtmgr).",
)  # fmt: skip
CONFIG_REFUSED: Final = Problem(
    84003, "CONFIGURATION REFUSED", Severity.MINOR, "processingError",
    "Correct the ConfigMap as the alarm says; the old settings stay in force.",
)  # fmt: skip
UPDATE_REFUSED: Final = Problem(
    84004, "CODEC UPDATE REFUSED", Severity.CRITICAL, "integrityViolation",
    "A site refused signed weights or metadata: find out who changed them before updating again.",
)  # fmt: skip
SUBSCRIPTION_FAILING: Final = Problem(
    84005, "SUBSCRIPTION FAILING", Severity.MAJOR, "communication",
    "Check the subscription manager and what the E2 node offers; the cause is in the alarm.",
)  # fmt: skip
SAME_VALUE_METRIC: Final = Problem(
    84006, "E2 NODE REPORTS ONE VALUE FOR ALL USERS", Severity.WARNING, "qualityOfService",
    "The node's radio metric is not per user; the xApp trusts it less. Update the RAN software.",
)  # fmt: skip
NOT_REGISTERED: Final = Problem(
    84007, "XAPP NOT REGISTERED", Severity.MAJOR, "communication",
    "Check appmgr; without a registration the routing manager sends no indications.",
)  # fmt: skip
NO_USABLE_PAIR: Final = Problem(
    84008, "USERS WITHOUT A USABLE CODEC", Severity.MAJOR, "qualityOfService",
    "Their devices hold no decoder that the site serves, nor a codec to fall back to: assign an older pair.",
)  # fmt: skip

UPDATE_ROLLED_BACK: Final = Problem(
    84009, "CODEC UPDATE ROLLED BACK", Severity.MAJOR, "qualityOfService",
    "A version on trial was taken back: `semcom rollout history` says which gate and on what evidence.",
)  # fmt: skip

PROBLEMS: Final = (
    RUNTIME_UNREACHABLE, NO_INDICATIONS, CONFIG_REFUSED, UPDATE_REFUSED, SUBSCRIPTION_FAILING,
    SAME_VALUE_METRIC, NOT_REGISTERED, NO_USABLE_PAIR,
    UPDATE_ROLLED_BACK,
)  # fmt: skip


def alarm_definitions() -> dict[str, list[dict[str, Any]]]:
    """Body of ``POST /ric/v1/alarms/define``, without which the manager drops this xApp's alarms."""
    return {
        "alarmdefinitions": [
            {
                "alarmId": problem.number,
                "alarmText": problem.text,
                "eventType": problem.event_type,
                "operationInstructions": problem.instructions,
                "raiseDelay": 0,
                "clearDelay": 0,
                "timeToLive": 0,
            }
            for problem in PROBLEMS
        ]
    }


def alarm_target(environ: Mapping[str, str]) -> tuple[str, int]:
    """Host and RMR port of the alarm manager: ``ALARM_MGR_SERVICE_NAME`` and ``_PORT``, else the platform's.

    Raises:
        ValueError: the port is none.
    """
    host = environ.get("ALARM_MGR_SERVICE_NAME") or "service-ricplt-alarmmanager-rmr.ricplt"
    port = environ.get("ALARM_MGR_SERVICE_PORT") or "4560"
    if not port.isdecimal() or not 0 < int(port) < 65536:
        raise ValueError(f"ALARM_MGR_SERVICE_PORT = {port!r}: 1..65535 is needed")
    return host, int(port)


def encode_alarm(
    problem: Problem,
    action: str,
    *,
    managed_object: str,
    application: str,
    identifying_info: str,
    additional_info: str,
    time_ns: int,
) -> bytes:
    """Payload of one alarm message; ``action`` is RAISE or CLEAR."""
    return json.dumps(
        {
            "managedObjectId": managed_object,
            "applicationId": application,
            "specificProblem": problem.number,
            "perceivedSeverity": problem.severity.value,
            "identifyingInfo": identifying_info,
            "additionalInfo": additional_info,
            "AlarmAction": action,
            "AlarmTime": time_ns,
        }
    ).encode()


@dataclass(slots=True)
class AlarmCounters:
    """Each only grows: alarms raised and cleared by the xApp, messages sent, sends that failed, alarms not
    kept because :data:`MAX_ALARMS` were."""

    raised: int = 0
    cleared: int = 0
    sent: int = 0
    failures: int = 0
    dropped: int = 0


@dataclass(slots=True)
class _Alarm:
    problem: Problem
    identifying_info: str
    additional_info: str
    time_ns: int
    active: bool = True
    maybe_known: bool = False
    """A RAISE was tried; one that failed may have arrived all the same, so the end must be told too."""
    in_doubt: bool = True
    """The manager may not know the state: the next flush sends it."""


class ActiveAlarmList:
    """The alarms of this xApp (module docstring).

    Args:
        managed_object, application: both part of each alarm's identity, e.g. ``semcom-xapp``.
        send: takes RMR type and payload; True if the message left. Exceptions count as False.
        refresh_s: every active alarm is sent again after this long: a restarted manager has lost them, one
            that has them ignores the repetition.
        clock: monotonic seconds; time_ns: since the epoch.
    """

    def __init__(
        self,
        managed_object: str,
        application: str,
        send: Callable[[int, bytes], bool],
        *,
        refresh_s: float = 300.0,
        clock: Callable[[], float] = time.monotonic,
        time_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        self.counters = AlarmCounters()
        self._managed_object = managed_object
        self._application = application
        self._send = send
        self._refresh_s = refresh_s
        self._clock = clock
        self._time_ns = time_ns
        self._alarms: dict[tuple[int, str], _Alarm] = {}
        self._backoff_s = FIRST_BACKOFF_S
        self._not_before = float("-inf")
        self._refresh_at = clock() + refresh_s

    def raise_alarm(self, problem: Problem, identifying_info: str = "", additional_info: str = "") -> bool:
        """Make an alarm active; True if it was not. ``identifying_info`` tells alarms of one problem apart
        (the E2 node), ``additional_info`` explains. An active alarm keeps its first explanation."""
        key = (problem.number, identifying_info[:MAX_INFO_CHARACTERS])
        alarm = self._alarms.get(key)
        if alarm is not None and alarm.active:
            return False
        if alarm is None and len(self._alarms) >= MAX_ALARMS:
            self.counters.dropped += 1
            return False
        known = alarm is not None and alarm.maybe_known
        self._alarms[key] = _Alarm(
            problem, key[1], additional_info[:MAX_INFO_CHARACTERS], self._time_ns(), maybe_known=known
        )
        self.counters.raised += 1
        level = logging.WARNING if problem.severity in (Severity.MINOR, Severity.WARNING) else logging.ERROR
        _log.log(level, "alarm %d %s %s: %s", problem.number, problem.text, key[1], additional_info)
        return True

    def clear_alarm(self, problem: Problem, identifying_info: str = "") -> bool:
        """End an alarm; True if it was active."""
        key = (problem.number, identifying_info[:MAX_INFO_CHARACTERS])
        alarm = self._alarms.get(key)
        if alarm is None or not alarm.active:
            return False
        alarm.active = False
        self.counters.cleared += 1
        _log.info("alarm %d %s %s is over", problem.number, problem.text, key[1])
        if alarm.maybe_known:
            alarm.in_doubt = True
            alarm.time_ns = self._time_ns()
        else:
            del self._alarms[key]
        return True

    def active(self) -> list[dict[str, Any]]:
        """The active alarms as plain values, oldest first."""
        return [
            {
                "problem": alarm.problem.number,
                "text": alarm.problem.text,
                "severity": alarm.problem.severity.value,
                "identifying_info": alarm.identifying_info,
                "additional_info": alarm.additional_info,
                "since_ns": alarm.time_ns,
                "told": not alarm.in_doubt,
            }
            for alarm in self._alarms.values()
            if alarm.active
        ]

    def reconnected(self) -> None:
        """The way to the manager is new: whatever it was told may be lost, so tell it again, at once."""
        for alarm in self._alarms.values():
            alarm.in_doubt = True
        self._not_before = float("-inf")

    def flush(self) -> int:
        """Send what the manager may not know, unless a failure's back-off runs; number of messages sent."""
        now = self._clock()
        if now >= self._refresh_at:
            self._refresh_at = now + self._refresh_s
            for alarm in self._alarms.values():
                alarm.in_doubt = True
        if now < self._not_before:
            return 0
        sent = 0
        for key, alarm in list(self._alarms.items()):
            if not alarm.in_doubt:
                continue
            if not self._tell(alarm):
                self.counters.failures += 1
                self._not_before = now + self._backoff_s
                self._backoff_s = min(2 * self._backoff_s, LONGEST_BACKOFF_S)
                return sent
            sent += 1
            self._backoff_s = FIRST_BACKOFF_S
            alarm.in_doubt = False
            if not alarm.active:
                del self._alarms[key]
        return sent

    async def run(self, period_s: float = 1.0, connections: Callable[[], int] = lambda: 1) -> None:
        """Flush every ``period_s`` until cancelled; so an alarm that flaps is sent once a period at most.

        Args:
            connections: to the manager that were made so far. By this count a connection that was lost and
                made anew between two looks is noticed; whether it is up *now* would not tell.
        """
        seen = connections()
        while True:
            if connections() != seen:
                seen = connections()
                self.reconnected()
            self.flush()
            await asyncio.sleep(period_s)

    def _tell(self, alarm: _Alarm) -> bool:
        payload = encode_alarm(
            alarm.problem,
            "RAISE" if alarm.active else "CLEAR",
            managed_object=self._managed_object,
            application=self._application,
            identifying_info=alarm.identifying_info,
            additional_info=alarm.additional_info,
            time_ns=alarm.time_ns,
        )
        alarm.maybe_known |= alarm.active
        try:
            taken = self._send(RIC_ALARM_UPDATE, payload)
        except Exception:
            _log.exception("alarm not sent")
            return False
        self.counters.sent += taken
        return taken
