"""The life of a subscription at the RIC's subscription manager: the rules, without I/O.

======================  =====================================================  ==========
from                    on                                                     to
======================  =====================================================  ==========
IDLE                    ready, nothing left to delete, back-off over: POST     REQUESTED
REQUESTED               every detail answered, one at least confirmed          ACTIVE
REQUESTED               POST refused, every detail refused, or silence         IDLE
IDLE                    confirmation after all of a POST whose answer failed   ACTIVE
ACTIVE                  no indication for three periods (at least 1 s)         STALLED
STALLED                 an indication after all                                ACTIVE
STALLED                 back-off over: the old subscription is to be deleted   IDLE
REQUESTED, ACTIVE, ...  the E2 node went, or came anew; forgotten              IDLE
======================  =====================================================  ==========

Rules, each with what the OSC manager (``ric-plt-submgr``, ``pkg/control``) does:

- The notification may come before the 201: then it is matched by XappEventInstanceId. Once the 201 is there,
  its SubscriptionId decides; what a notification with another one said is undone, but believed if nothing
  better comes in time: a request that equals one still being worked on (sent by a run that crashed) gets a
  201 with an id that does not exist, and the notification has the true one.
- An E2EventInstanceId of 0 is a refusal (the manager's ids are 1..65534), with or without an ErrorCause. One
  above 0 confirms, whatever the ErrorCause: that is a single space after full success, and lists what the
  node left out after a partial one.
- Every POST has XappEventInstanceIds of its own. The manager takes equal requests for one and would answer
  with the subscription it is just deleting; and so a late notification is told from the present one.
- An id that is given up is deleted before the next POST, as the manager merges what is equal in trigger and
  actions even if the requests differ. DELETE is refused with 400 as long as the manager works on the request.
- Ids at the manager may share an E2 event instance, after such a merge. An id is never deleted while an
  instance of it is in force here: that would end the reports.
- When an E2 node disconnects the manager forgets its subscriptions, and answers 503 until it is back.
- Delays double from 1 s to 30 s with each failure; an indication or the return of the node resets them.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import Any, Final, TypeGuard

from xapp.ric.subscription_counters import Cause, Reason
from xapp.ric.subscription_phase import Phase, Step, Verdict
from xapp.ric.subscription_request import INSTANCE_ID_STRIDE, SubscriptionRequest

ANSWER_TIMEOUT_S: Final = 10.0
"""Least wait for the notification. The manager repeats one that the xApp did not take after 5 s."""

STALL_PERIODS: Final = 3
MIN_STALL_S: Final = 1.0
FIRST_BACKOFF_S: Final = 1.0
LONGEST_BACKOFF_S: Final = 30.0
DELETE_ATTEMPTS: Final = 6
"""Refusals of a DELETE after which an id is left behind."""

_NEVER: Final = float("-inf")
_MAX_LATE: Final = 16


class SubscriptionState:
    """The rules above, without I/O. All times are seconds of one monotonic clock.

    Attributes:
        request: what is subscribed to.
        phase: see :class:`Phase`.
        subscription_id: the manager's id, None while unknown.
        instances: E2EventInstanceId by detail: the ``sub_id`` of its RMR messages.
        refused: cause by detail that was refused.
        obsolete: ids to be deleted, each with the E2 event instances it had.
        abandoned: ids left behind, see :data:`DELETE_ATTEMPTS`.
        attempt: number of the last POST, from 0; -1 before the first.
        reason: why the next POST follows an earlier one; None for the first.
        failed: cause of the last failure, until somebody counts it with :meth:`take_failure`.
        connected: the E2 node is there, as far as is known.
        silent: it stalled, and no indication has come since, however often it was asked for anew.
        detail: one line on how it came to this phase.
    """

    def __init__(self, request: SubscriptionRequest, *, attempt: int = -1) -> None:
        self.request = request
        self.phase = Phase.IDLE
        self.subscription_id: str | None = None
        self.instances: dict[int, int] = {}
        self.refused: dict[int, str] = {}
        self.obsolete: dict[str, frozenset[int]] = {}
        self.abandoned: list[str] = []
        self.attempt = attempt
        self.reason: Reason | None = None
        self.failed: Cause | None = None
        self.connected = True
        self.silent = False
        self.detail = "not yet requested"
        directives = request.directives
        node_s = directives.timeout_s * (directives.retries + 1) + 5.0 if directives else 0.0
        self.answer_timeout_s = max(ANSWER_TIMEOUT_S, node_s)
        self._stall_s = max(STALL_PERIODS * request.period_s, MIN_STALL_S)
        self._backoff_s = self._delete_backoff_s = FIRST_BACKOFF_S
        self._not_before = self._delete_not_before = _NEVER
        self._alive_at = self._requested_at = _NEVER
        self._refusals: dict[str, int] = {}
        self._deleting: str | None = None
        self._unconfirmed = False
        self._rumour: tuple[str, dict[int, int]] = ("", {})
        self._late: dict[str, int] = {}
        self._retired: deque[int] = deque(maxlen=64)

    @property
    def e2_instance_id(self) -> int | None:
        """E2 event instance of the first confirmed detail."""
        return self.instances[min(self.instances)] if self.instances else None

    @property
    def ids(self) -> dict[str, frozenset[int]]:
        """Every id at the manager that is still ours to delete, the one in force included."""
        if self.subscription_id is None:
            return dict(self.obsolete)
        return self.obsolete | {self.subscription_id: frozenset(self.instances.values())}

    def take_failure(self) -> Cause | None:
        """Cause of a failure since the last call."""
        failed, self.failed = self.failed, None
        return failed

    def take_over(self, subscription_id: str, instances: Mapping[int, int], now: float) -> None:
        """Go on with the subscription of an earlier run; it stalls if it is dead."""
        self.subscription_id, self.instances = subscription_id, dict(instances)
        self._alive_at = now
        self._enter(Phase.ACTIVE, "taken over from an earlier run")

    def step(self, now: float, *, ready: bool = True) -> Step:
        """Apply what time alone changes, and say what to do. ``ready``: the xApp can be reached."""
        if self.phase is Phase.REQUESTED and now - self._requested_at >= self.answer_timeout_s:
            if not self.instances and self._rumour[1]:
                self._believe()
            if self.instances:
                self._confirmed(now)
            else:
                self.failed = Cause.NO_NOTIFICATION
                self._give_up(f"no notification within {self.answer_timeout_s:g} s", now, hopeful=True)
        elif self.phase is Phase.ACTIVE and now - self._alive_at >= self._stall_s:
            self._back_off(now)
            self.silent = True
            self._enter(Phase.STALLED, f"no indication for {self._stall_s:g} s")
        elif self.phase is Phase.STALLED and now >= self._not_before:
            self._forget("stalled subscription given up", Reason.STALL)
        pausing = self.phase is Phase.IDLE and now < self._not_before
        if pausing or self.phase is Phase.REQUESTED:
            return Step.WAIT
        if self.deletable() is not None and now >= self._delete_not_before:
            return Step.DELETE
        may = self.phase is Phase.IDLE and self.connected and ready and not self.obsolete
        return Step.SUBSCRIBE if may else Step.WAIT

    def deletable(self) -> str | None:
        """An id to be deleted, none of whose E2 event instances is in force."""
        live = set(self.instances.values())
        return next((key for key, had in self.obsolete.items() if not had & live), None)

    def requested(self, now: float) -> None:
        """The POST of :attr:`attempt` is about to be sent."""
        self.attempt += 1
        self.refused = {}
        self.reason = None
        self._rumour = ("", {})
        self._unconfirmed = True
        self._requested_at = now
        self._enter(Phase.REQUESTED, "requested")

    def accepted(self, body: Mapping[str, Any], now: float) -> None:
        """The POST was answered with success.

        Raises:
            ValueError: the body has no SubscriptionId.
        """
        identifier = body.get("SubscriptionId")
        if not isinstance(identifier, str) or not identifier:
            raise ValueError(f"answer without a SubscriptionId: {str(dict(body))[:200]}")
        if self.phase not in (Phase.REQUESTED, Phase.ACTIVE) or not self._unconfirmed:
            # Refused, timed out or overtaken while the answer was under way: it must not linger.
            self.obsolete.setdefault(identifier, frozenset())
            return
        if self.subscription_id not in (None, identifier):
            self._rumour = (self.subscription_id or "", self.instances)
            self.instances, self.refused = {}, {}
            self._enter(Phase.REQUESTED, "requested; an early notification named another subscription")
        self.subscription_id = identifier
        self._unconfirmed = self.phase is Phase.REQUESTED
        if self._unconfirmed and body.get("SubscriptionInstances"):
            self.notified(body, now)

    def refuse(self, kind: Cause, cause: str, now: float) -> None:
        """The POST failed. Changes nothing if a notification has confirmed the subscription meanwhile."""
        if self.phase is Phase.REQUESTED:
            self.failed = kind
            self._give_up(cause, now, hopeful=True)

    def notified(self, body: Mapping[str, Any], now: float) -> Verdict:
        """Take a notification."""
        identifier = body.get("SubscriptionId")
        instances = body.get("SubscriptionInstances")
        if not isinstance(instances, list) or not (identifier is None or isinstance(identifier, str)):
            return Verdict.FOREIGN
        verdict = Verdict.FOREIGN
        for instance in instances:
            if not isinstance(instance, Mapping) or not _is_id(name := instance.get("XappEventInstanceId")):
                continue
            index = (name - self.request.instance_id(self.attempt, 0)) & 0xFFFF
            if self.attempt < 0 or index >= len(self.request.details):
                heard = self._heard_late(identifier, name, instance)
            else:
                heard = self._heard(identifier or None, index, instance, now)
            verdict = min(verdict, heard, key=lambda known: known.value)
        return verdict

    def indication(self, sub_id: int, now: float) -> bool:
        """An indication arrived; False if its ``sub_id`` is not (yet, or any more) in force here."""
        if sub_id not in self.instances.values():
            return False
        self._alive_at = now
        self.silent = False
        self._backoff_s = FIRST_BACKOFF_S
        if self.phase is Phase.STALLED:
            self._enter(Phase.ACTIVE, "indications are back")
        return True

    def was_ours(self, sub_id: int) -> bool:
        """A subscription given up lately had this E2 event instance."""
        return sub_id in self._retired

    def disconnected(self) -> None:
        """The E2 node went: nothing is asked for until :meth:`reconnected`."""
        self.connected = self.silent = False
        if self.phase is not Phase.IDLE:
            self._forget("E2 node disconnected", Reason.RECONNECT)

    def reconnected(self) -> None:
        """The E2 node came (anew): it knows nothing of before."""
        self.connected = True
        self._backoff_s, self._not_before = FIRST_BACKOFF_S, _NEVER
        if self.phase in (Phase.ACTIVE, Phase.STALLED):
            self._forget("E2 node reconnected", Reason.RECONNECT)

    def renew(self, reason: Reason, detail: str) -> None:
        """Give the present subscription up and ask anew at once."""
        self._backoff_s, self._not_before = FIRST_BACKOFF_S, _NEVER
        self._forget(detail, reason)

    def inherit(self, other: SubscriptionState) -> None:
        """Take the place of ``other``: what it has at the manager is to be deleted."""
        self.obsolete = other.ids | self.obsolete
        self._retired.extend([*other._retired, *other.instances.values()])

    def deleting(self, identifier: str) -> None:
        """A DELETE is about to be sent."""
        self._deleting = identifier

    def deleted(self, identifier: str) -> None:
        """The obsolete subscription is gone, or unknown to the manager."""
        self._deleting = None
        self.obsolete.pop(identifier, None)
        self._refusals.pop(identifier, None)
        self._delete_backoff_s, self._delete_not_before = FIRST_BACKOFF_S, _NEVER

    def delete_failed(self, identifier: str, cause: str, now: float, *, answered: bool = True) -> None:
        """The manager refused (``answered``) or could not be asked; retried after a delay of its own."""
        self._deleting = None
        self.detail = cause
        self._delete_not_before = now + self._delete_backoff_s
        self._delete_backoff_s = min(self._delete_backoff_s * 2, LONGEST_BACKOFF_S)
        self._refusals[identifier] = self._refusals.get(identifier, 0) + answered
        if self._refusals[identifier] >= DELETE_ATTEMPTS:
            self.deleted(identifier)
            self.abandoned.append(identifier)

    def seconds_to_next_step(self, now: float) -> float:
        """Longest time until :meth:`step` could say something new without an event."""
        due = {
            Phase.ACTIVE: self._alive_at + self._stall_s,
            Phase.REQUESTED: self._requested_at + self.answer_timeout_s,
        }.get(self.phase, self._not_before)
        if self.deletable() is not None and self.phase is not Phase.REQUESTED:
            due = max(due, self._delete_not_before) if self.phase is Phase.IDLE else self._delete_not_before
        return max(due - now, 0.0)

    def _heard(self, identifier: str | None, index: int, said: Mapping[str, Any], now: float) -> Verdict:
        """One instance of a notification about the present attempt."""
        e2_instance, cause = said.get("E2EventInstanceId"), said.get("ErrorCause")
        another = bool(self.subscription_id and identifier and identifier != self.subscription_id)
        if not _is_id(e2_instance) or another:
            if identifier and _is_id(e2_instance) and e2_instance and self.phase is Phase.REQUESTED:
                told = self._rumour[1] if self._rumour[0] == identifier else {}
                self._rumour = (identifier, told | {index: e2_instance})
            return Verdict.FOREIGN
        if self.phase is Phase.IDLE and not (self._unconfirmed and identifier not in (None, self._deleting)):
            return Verdict.LATE
        text = cause.strip() if isinstance(cause, str) else ""
        if e2_instance == 0:
            return self._heard_refusal(identifier, index, text or "no cause given", said, now)
        known = self.instances.get(index)
        if self.phase is not Phase.REQUESTED and known == e2_instance:
            return Verdict.DUPLICATE
        if known is not None and known != e2_instance:
            self._retired.append(known)
        self.subscription_id = identifier or self.subscription_id
        if self.subscription_id:
            self.obsolete.pop(self.subscription_id, None)
        self.instances[index] = e2_instance
        self.refused.pop(index, None)
        if e2_instance in self._retired:
            self._retired.remove(e2_instance)
        if self.phase is Phase.IDLE:
            # The POST had failed, it seemed; the other details may follow.
            self._requested_at = now
            self._enter(Phase.REQUESTED, "confirmed although its answer was lost")
        whole = len(self.instances) + len(self.refused) == len(self.request.details)
        if self.phase is Phase.REQUESTED and whole:
            self._confirmed(now, text)
        return Verdict.TAKEN

    def _heard_late(self, identifier: str | None, name: int, said: Mapping[str, Any]) -> Verdict:
        """One instance of a notification about an earlier attempt, or about nothing of ours."""
        since_first = (name - self.request.xapp_event_instance_id) % INSTANCE_ID_STRIDE
        if since_first >= len(self.request.details):
            return Verdict.FOREIGN
        e2_instance = said.get("E2EventInstanceId")
        if identifier and identifier != self.subscription_id and _is_id(e2_instance) and e2_instance:
            if len(self._late) < _MAX_LATE:
                self._late[identifier] = e2_instance
            self._note_aliases()
        return Verdict.LATE

    def _note_aliases(self) -> None:
        """An attempt whose answer was lost was merged with the present one: its id goes with it."""
        live = set(self.instances.values())
        for identifier in [key for key, e2_instance in self._late.items() if e2_instance in live]:
            self.obsolete[identifier] = frozenset({self._late.pop(identifier)})

    def _heard_refusal(
        self, identifier: str | None, index: int, text: str, said: Mapping[str, Any], now: float
    ) -> Verdict:
        if self.phase is Phase.IDLE or index in self.refused:
            return Verdict.DUPLICATE
        self.failed = Cause.of_notification(said.get("ErrorSource"), said.get("TimeoutType"))
        self.refused[index] = f"{self.failed}: {text}"
        self.subscription_id = identifier or self.subscription_id
        if (gone := self.instances.pop(index, None)) is not None:
            self._retired.append(gone)
        if len(self.instances) + len(self.refused) == len(self.request.details):
            if self.instances:
                self._confirmed(now)
            else:
                self._give_up(f"refused by the E2 node or manager: {self.refused[index]}", now)
        return Verdict.TAKEN

    def _believe(self) -> None:
        """Take the word of notifications that named another id; ours may yet stand for the same."""
        if self.subscription_id is not None:
            self.obsolete[self.subscription_id] = frozenset(self._rumour[1].values())
        self.subscription_id, self.instances = self._rumour
        self._rumour = ("", {})

    def _confirmed(self, now: float, text: str = "") -> None:
        self._alive_at = now
        # The 201 of this attempt may still come.
        self._unconfirmed = self.subscription_id is None or self.phase is Phase.REQUESTED
        missing = "; ".join([*self.refused.values(), *([text] if text else [])])
        events = ", ".join(str(self.instances[index]) for index in sorted(self.instances))
        self._note_aliases()
        remark = f" ({missing})" if missing else ""
        self._enter(Phase.ACTIVE, f"confirmed as E2 event instance {events}{remark}")

    def _enter(self, phase: Phase, detail: str) -> None:
        self.phase, self.detail = phase, detail

    def _back_off(self, now: float) -> None:
        self._not_before = now + self._backoff_s
        self._backoff_s = min(self._backoff_s * 2, LONGEST_BACKOFF_S)

    def _forget(self, detail: str, reason: Reason) -> None:
        self.obsolete = self.ids
        self._retired.extend(self.instances.values())
        self.subscription_id, self.instances = None, {}
        self._unconfirmed = False
        self.reason = reason if self.attempt >= 0 or self.obsolete else None
        self._enter(Phase.IDLE, detail)

    def _give_up(self, cause: str, now: float, *, hopeful: bool = False) -> None:
        """``hopeful``: a confirmation that comes after all is welcome until the next POST."""
        self._back_off(now)
        self._forget(cause, Reason.RETRY)
        self._unconfirmed = hopeful


def _is_id(value: Any) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= 0xFFFF
