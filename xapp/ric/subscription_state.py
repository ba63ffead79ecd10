"""The life of a subscription at the RIC's subscription manager: requests and rules, without I/O.

The life of one subscription, kept by :class:`SubscriptionState`:

======================  =====================================================  ==========
from                    on                                                     to
======================  =====================================================  ==========
IDLE                    nothing left to delete, back-off over: POST is sent    REQUESTED
REQUESTED               notification with an E2EventInstanceId                 ACTIVE
REQUESTED               POST refused, notification with an ErrorCause, or no
                        notification for ``ANSWER_TIMEOUT_S``                  IDLE
ACTIVE                  no indication for three periods (at least 1 s)         STALLED
STALLED                 an indication after all                                ACTIVE
STALLED                 back-off over: the old subscription is to be deleted   IDLE
======================  =====================================================  ==========

Rules:
- The notification may come before the answer to the POST (201): then it is matched by XappEventInstanceId,
and the
  201 only adds the id. A notification that names another SubscriptionId is not ours and changes nothing.
- An id that is given up is deleted before the next POST: the manager merges identical requests, and would
answer
  with the dead one. An id the manager does not know counts as deleted.
- Delays double from 1 s to 30 s with each failure; the first indication resets them.
- The ids are stored with a digest of the request. After a restart they are taken over if the request is the
same
  (and stall, like any other, if nothing flows); otherwise the old subscription is deleted.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

ANSWER_TIMEOUT_S = 10.0
STALL_PERIODS = 3
MIN_STALL_S = 1.0
FIRST_BACKOFF_S = 1.0
LONGEST_BACKOFF_S = 30.0


class Phase(StrEnum):
    """Where a subscription stands; see the table at the top of the module."""

    IDLE = "idle"
    REQUESTED = "requested"
    ACTIVE = "active"
    STALLED = "stalled"


class Step(StrEnum):
    """What the I/O side should do now."""

    WAIT = "wait"
    DELETE = "delete"
    SUBSCRIBE = "subscribe"


@dataclass(frozen=True)
class ReportAction:
    """One report action: its id (0..255) and the service model's action definition."""

    action_id: int
    definition: bytes


@dataclass(frozen=True)
class SubscriptionRequest:
    """What to subscribe to and where the answers go.

    Attributes:
        meid: E2 node name as the RIC knows it (RAN name).
        ran_function_id: of the service model at that node.
        event_trigger: the service model's event trigger definition.
        period_s: reporting period that the trigger asks for; used to notice a stall.
        host, http_port, rmr_port: this xApp, as the manager and the E2 termination reach it.
        xapp_event_instance_id: our own name of the subscription; distinct among the subscriptions of one
            xApp.
    """

    meid: str
    ran_function_id: int
    event_trigger: bytes
    actions: tuple[ReportAction, ...]
    period_s: float
    host: str
    http_port: int
    rmr_port: int
    xapp_event_instance_id: int = 1

    def body(self) -> dict[str, Any]:
        """JSON body of the POST; octet strings are arrays of integers there."""
        return {
            "ClientEndpoint": {"Host": self.host, "HTTPPort": self.http_port, "RMRPort": self.rmr_port},
            "Meid": self.meid,
            "RANFunctionID": self.ran_function_id,
            "SubscriptionDetails": [
                {
                    "XappEventInstanceId": self.xapp_event_instance_id,
                    "EventTriggers": list(self.event_trigger),
                    "ActionToBeSetupList": [
                        {
                            "ActionID": action.action_id,
                            "ActionType": "report",
                            "ActionDefinition": list(action.definition),
                            "SubsequentAction": {"SubsequentActionType": "continue", "TimeToWait": "w10ms"},
                        }
                        for action in self.actions
                    ],
                }
            ],
        }

    def digest(self) -> str:
        """Same for requests the manager would treat as one."""
        return hashlib.sha256(json.dumps(self.body(), sort_keys=True).encode()).hexdigest()


class SubscriptionState:
    """The rules above, without I/O. All times are seconds of one monotonic clock.

    Attributes:
        phase: see :class:`Phase`.
        subscription_id: the manager's id, None while unknown.
        e2_instance_id: E2EventInstanceId, the ``sub_id`` of its RMR messages; None while unknown.
        obsolete_id: given up, to be deleted before the next request.
        detail: one line on how it came to this phase.
    """

    def __init__(self, xapp_event_instance_id: int, period_s: float) -> None:
        self.phase = Phase.IDLE
        self.subscription_id: str | None = None
        self.e2_instance_id: int | None = None
        self.obsolete_id: str | None = None
        self.detail = "not yet requested"
        self._xapp_event_instance_id = xapp_event_instance_id
        self._stall_s = max(STALL_PERIODS * period_s, MIN_STALL_S)
        self._backoff_s = FIRST_BACKOFF_S
        self._not_before = float("-inf")
        self._alive_at = float("-inf")
        self._requested_at = float("-inf")

    def take_over(self, subscription_id: str, e2_instance_id: int, now: float) -> None:
        """Go on with the subscription of an earlier run; it stalls if it is dead."""
        self.subscription_id, self.e2_instance_id = subscription_id, e2_instance_id
        self._alive_at = now
        self._enter(Phase.ACTIVE, "taken over from an earlier run")

    def step(self, now: float) -> Step:
        """Apply what time alone changes, and say what to do."""
        if self.phase is Phase.REQUESTED and now - self._requested_at >= ANSWER_TIMEOUT_S:
            self._give_up(f"no notification within {ANSWER_TIMEOUT_S:g} s", now)
        elif self.phase is Phase.ACTIVE and now - self._alive_at >= self._stall_s:
            self._back_off(now)
            self._enter(Phase.STALLED, f"no indication for {self._stall_s:g} s")
        elif self.phase is Phase.STALLED and now >= self._not_before:
            self._forget("stalled subscription given up")
        if self.phase is not Phase.IDLE or now < self._not_before:
            return Step.WAIT
        return Step.DELETE if self.obsolete_id is not None else Step.SUBSCRIBE

    def requested(self, now: float) -> None:
        """The POST is about to be sent."""
        self._requested_at = now
        self._enter(Phase.REQUESTED, "requested")

    def accepted(self, body: Mapping[str, Any], now: float) -> None:
        """The POST was answered with success.

        Raises:
            ValueError: the body has no SubscriptionId.
        """
        identifier = body.get("SubscriptionId")
        if not isinstance(identifier, str) or not identifier:
            raise ValueError(f"answer without a SubscriptionId: {dict(body)!r}")
        if self.phase in (Phase.REQUESTED, Phase.ACTIVE):
            self.subscription_id = identifier
            if self.phase is Phase.REQUESTED and body.get("SubscriptionInstances"):
                self.notified(body, now)
        else:
            # Refused or timed out while the answer was under way: it must not linger at the manager.
            self.obsolete_id = identifier

    def refused(self, cause: str, now: float) -> None:
        """The POST failed. Changes nothing if a notification has confirmed the subscription meanwhile."""
        if self.phase is Phase.REQUESTED:
            self._give_up(cause, now)

    def notified(self, body: Mapping[str, Any], now: float) -> bool:
        """Take a notification; False if it is not about this subscription (or malformed)."""
        identifier = body.get("SubscriptionId")
        instances = body.get("SubscriptionInstances")
        if not isinstance(instances, list) or (identifier is not None and not isinstance(identifier, str)):
            return False
        if self.subscription_id and identifier and identifier != self.subscription_id:
            return False
        ours = [
            instance
            for instance in instances
            if isinstance(instance, Mapping)
            and instance.get("XappEventInstanceId") == self._xapp_event_instance_id
        ]
        if not ours or self.phase not in (Phase.REQUESTED, Phase.ACTIVE, Phase.STALLED):
            return False
        cause = str(ours[0].get("ErrorCause") or "").strip()
        instance_id = ours[0].get("E2EventInstanceId")
        self.subscription_id = identifier or self.subscription_id
        if cause:
            self._give_up(f"refused by the E2 node or manager: {cause}", now)
        elif isinstance(instance_id, int) and not isinstance(instance_id, bool):
            self.e2_instance_id = instance_id
            if self.phase is Phase.REQUESTED:
                self._alive_at = now
                self._enter(Phase.ACTIVE, f"confirmed as E2 event instance {instance_id}")
        else:
            return False
        return True

    def indication(self, sub_id: int, now: float) -> bool:
        """An indication arrived; False if its ``sub_id`` is not (yet) known as ours."""
        if self.e2_instance_id is None or sub_id != self.e2_instance_id:
            return False
        self._alive_at = now
        self._backoff_s = FIRST_BACKOFF_S
        if self.phase is Phase.STALLED:
            self._enter(Phase.ACTIVE, "indications are back")
        return True

    def deleted(self) -> None:
        """The obsolete subscription is gone, or unknown to the manager."""
        self.obsolete_id = None

    def delete_failed(self, cause: str, now: float) -> None:
        """The manager could not be asked; retried after the back-off."""
        self.detail = cause
        self._back_off(now)

    def seconds_to_next_step(self, now: float) -> float:
        """Longest time until :meth:`step` could say something new without an event."""
        if self.phase is Phase.ACTIVE:
            return max(self._alive_at + self._stall_s - now, 0.0)
        if self.phase is Phase.REQUESTED:
            return max(self._requested_at + ANSWER_TIMEOUT_S - now, 0.0)
        return max(self._not_before - now, 0.0)

    def _enter(self, phase: Phase, detail: str) -> None:
        self.phase, self.detail = phase, detail

    def _back_off(self, now: float) -> None:
        self._not_before = now + self._backoff_s
        self._backoff_s = min(self._backoff_s * 2, LONGEST_BACKOFF_S)

    def _forget(self, detail: str) -> None:
        self.obsolete_id = self.subscription_id or self.obsolete_id
        self.subscription_id = self.e2_instance_id = None
        self._enter(Phase.IDLE, detail)

    def _give_up(self, cause: str, now: float) -> None:
        self._back_off(now)
        self._forget(cause)
