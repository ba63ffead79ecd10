"""Answers A1 requests and keeps the instances; pure, no I/O.

What is answered:

    CREATE, UPDATE   valid: OK, in force from now on (both replace; the same content again changes nothing)
                     invalid, too large, one too many, not ours: ERROR with the reason, nothing changes; an
                     earlier valid content of the same instance stays in force
    DELETE           DELETED, also when there is no such instance: it may have been lost or repeated
    anything else    ERROR
    no readable ids  nothing: an answer without them would stop the mediator (:mod:`xapp.ric.a1.messages`)
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from xapp.ric.a1.instances import Check, InstanceStore
from xapp.ric.a1.messages import A1MessageError, PolicyRequest, decode_request, encode_response
from xapp.ric.a1.policy_type import POLICY_TYPE_ID, decode_policy

HANDLER_ID: Final = "semcom-xapp"

EventCallback = Callable[[str, str], None]
"""Called with a kind for programs and a line for people."""

_log = logging.getLogger(__name__)


@dataclass(slots=True)
class A1Counters:
    """What happened since the start; each only grows.

    Attributes:
        requests: received. created, updated, deleted: changes made. repeated: requests that changed nothing.
        refused: answered ERROR. malformed: not answerable.
        queries: sent. restored: instances taken over from a snapshot. forgotten: restored instances that the
            mediator no longer has, or that are no longer valid.
        answers_lost: not taken by the transport.
    """

    requests: int = 0
    created: int = 0
    updated: int = 0
    deleted: int = 0
    repeated: int = 0
    refused: int = 0
    malformed: int = 0
    queries: int = 0
    restored: int = 0
    forgotten: int = 0
    answers_lost: int = 0


class A1Handler:
    """See the module docstring.

    Args:
        store: instances in force.
        check: whether a well-formed instance can be followed, e.g. that its policy exists.
        on_change: called after every change of the store.
        on_event: see :data:`EventCallback`; kinds ``a1_policy``, ``a1_policy_refused``, ``a1_malformed``.
        policy_type_id, handler_id: put into answers.
    """

    def __init__(
        self,
        store: InstanceStore,
        *,
        check: Check,
        on_change: Callable[[], None] = lambda: None,
        on_event: EventCallback = lambda kind, text: None,
        policy_type_id: int = POLICY_TYPE_ID,
        handler_id: str = HANDLER_ID,
    ) -> None:
        self.store = store
        self.check = check
        self.on_change = on_change
        self.on_event = on_event
        self.policy_type_id = policy_type_id
        self.counters = A1Counters()
        self._handler_id = handler_id
        self._last_complaint = ""

    def handle(self, message: bytes) -> bytes | None:
        """Take the payload of a request (20010); returns that of the response (20011), None for none."""
        self.counters.requests += 1
        try:
            request = decode_request(message)
        except A1MessageError as error:
            self.counters.malformed += 1
            self._complain("a1_malformed", f"A1 request dropped: {error}")
            return None
        if request.policy_type_id != self.policy_type_id:
            return self._refuse(
                request, f"policy type {request.policy_type_id}: only {self.policy_type_id} is handled here"
            )
        if request.operation in ("CREATE", "UPDATE"):
            return self._put(request)
        if request.operation == "DELETE":
            return self._delete(request)
        return self._refuse(
            request, f"operation {request.operation[:40]!r}: CREATE, UPDATE or DELETE is needed"
        )

    def _put(self, request: PolicyRequest) -> bytes:
        instance_id = request.policy_instance_id
        others = self.store.others(instance_id)
        known = len(others) < len(self.store)
        try:
            policy = decode_policy(request.content)
            self.check(policy, others)
            changed = self.store.put(instance_id, policy)
        except ValueError as error:
            # Of a valid instance that cannot be followed, too, the earlier content stays in force.
            return self._refuse(request, str(error))
        if not changed:
            self.counters.repeated += 1
        else:
            if known:
                self.counters.updated += 1
            else:
                self.counters.created += 1
            done = "updated" if known else "created"
            self.on_event("a1_policy", f"A1 policy {instance_id[:80]} {done}, scope {policy.scope.kind}")
            self.on_change()
        return encode_response(self.policy_type_id, instance_id, self._handler_id, "OK")

    def _delete(self, request: PolicyRequest) -> bytes:
        instance_id = request.policy_instance_id
        if self.store.delete(instance_id):
            self.counters.deleted += 1
            self.on_event("a1_policy", f"A1 policy {instance_id[:80]} deleted")
            self.on_change()
        else:
            self.counters.repeated += 1
        return encode_response(self.policy_type_id, instance_id, self._handler_id, "DELETED")

    def _refuse(self, request: PolicyRequest, reason: str) -> bytes:
        self.counters.refused += 1
        self._complain(
            "a1_policy_refused", f"A1 policy {request.policy_instance_id[:80]} refused: {reason[:300]}"
        )
        return encode_response(
            request.policy_type_id, request.policy_instance_id, self._handler_id, "ERROR", reason
        )

    def _complain(self, kind: str, text: str) -> None:
        """Tell people, but not the same thing many times in a row."""
        if text == self._last_complaint:
            return
        self._last_complaint = text
        _log.warning(text)
        self.on_event(kind, text)
