"""Client of the RIC's subscription manager: keeps the subscription to one E2 node alive.

The rules, i.e. which request follows which event, are in :mod:`xapp.ric.subscription_state`, the HTTP calls
in :mod:`xapp.ric.submgr_api`; here are the loop that follows the rules and the ids kept across a restart.
The manager's notifications arrive at the xApp's own HTTP server (``POST /ric/v1/subscriptions/response``),
which hands them to ``on_notification``; it must answer 200, else the manager tries ten times, 5 s apart.

Changing what is subscribed makes a second subscription first, and gives the old one up once the new one is
confirmed: no indication is missed, and for a moment both arrive.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import httpx

from xapp.ric.submgr_api import SubmgrApi, SubmgrError
from xapp.ric.subscription_counters import Cause, Reason, SubscriptionCounters
from xapp.ric.subscription_ids import dump_ids, parse_ids
from xapp.ric.subscription_phase import Phase, Step, Verdict
from xapp.ric.subscription_request import (
    E2Directives,
    ReportAction,
    SubscriptionDetail,
    SubscriptionRequest,
)
from xapp.ric.subscription_state import SubscriptionState

__all__ = [
    "Cause",
    "E2Directives",
    "Phase",
    "Reason",
    "ReportAction",
    "SubscriptionClient",
    "SubscriptionCounters",
    "SubscriptionDetail",
    "SubscriptionRequest",
    "SubscriptionState",
    "SubscriptionStore",
    "Verdict",
    "count_notification",
]

_LONGEST_WAIT_S = 1.0
_READY_POLL_S = 0.1
_LOAD_ATTEMPTS = 3
_LOAD_RETRY_S = 0.05

_log = logging.getLogger(__name__)


class SubscriptionStore(Protocol):
    """Where the ids survive a restart; errors are logged and the subscription goes on without."""

    async def load(self) -> bytes | None:
        """What was saved last, None if nothing."""

    async def save(self, value: bytes | None) -> None:
        """Replace it; None removes it."""


def count_notification(counters: SubscriptionCounters, verdict: Verdict) -> None:
    """Count what a notification was."""
    counters.notifications += verdict is Verdict.TAKEN
    counters.duplicate_notifications += verdict is Verdict.DUPLICATE
    counters.late_notifications += verdict is Verdict.LATE
    counters.foreign_notifications += verdict is Verdict.FOREIGN


class SubscriptionClient:
    """Keeps one subscription alive.

    Args:
        base_url: of the subscription manager, e.g. ``http://service-ricplt-submgr-http.ricplt:8088``.
        request: what to subscribe to.
        http: shared client; every call has a timeout of its own.
        store: keeps the ids across a restart; None for none.
        on_change: called with the new phase and one line of detail.
        clock: monotonic seconds; ``on_indication`` takes the same clock.
        ready: the manager can reach this xApp (its pod is Ready); no request is sent before.
        counters: shared with other clients; None makes some.
        in_use: an id with these E2 event instances serves another subscription of this xApp too (equal
            requests are merged), so it must not be deleted.
        timeout_s: of each HTTP call.
    """

    def __init__(
        self,
        base_url: str,
        request: SubscriptionRequest,
        *,
        http: httpx.AsyncClient,
        store: SubscriptionStore | None = None,
        on_change: Callable[[Phase, str], None] | None = None,
        clock: Callable[[], float] = time.monotonic,
        ready: Callable[[], bool] = lambda: True,
        counters: SubscriptionCounters | None = None,
        in_use: Callable[[str, frozenset[int]], bool] = lambda identifier, instances: False,
        timeout_s: float = 5.0,
    ) -> None:
        self.state = SubscriptionState(request)
        self.counters = counters or SubscriptionCounters()
        self.successor: SubscriptionState | None = None
        self._api = SubmgrApi(base_url, http, timeout_s=timeout_s)
        self._store = store
        self._on_change = on_change
        self._clock = clock
        self._ready = ready
        self._in_use = in_use
        self._wakeup = asyncio.Event()
        self._announced: Phase | None = None
        self._saved: bytes | None = None
        self._told_failure = ""
        self._store_failing = False

    @property
    def request(self) -> SubscriptionRequest:
        """What is subscribed to now; a change counts once it is confirmed."""
        return self.state.request

    @property
    def ids(self) -> dict[str, frozenset[int]]:
        """Every id at the manager that is ours, with its E2 event instances."""
        return self.state.ids | (self.successor.ids if self.successor else {})

    @property
    def settled(self) -> bool:
        """Nothing is under way: the list of the manager and ours should agree."""
        return self.state.phase in (Phase.ACTIVE, Phase.STALLED) and self.successor is None

    async def supervise(self) -> None:
        """Subscribe, watch and resubscribe until cancelled."""
        await self._restore()
        while True:
            busy = False
            for state in self._states():
                if state in self._states():  # a step of the one before may have replaced it
                    busy |= await self._advance(state)
                if state not in self._states():  # it was replaced while its request was under way
                    self.state.obsolete |= {
                        key: had for key, had in state.ids.items() if key not in self.state.ids
                    }
            self._succeed()
            await self._persist()
            if busy:
                continue
            now = self._clock()
            wait_s = min(state.seconds_to_next_step(now) for state in self._states())
            longest_s = _LONGEST_WAIT_S if self._ready() else _READY_POLL_S
            # Not wait_for: in Python 3.11 it loses a cancellation that meets the wake-up.
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(min(wait_s + 0.001, longest_s)):
                    await self._wakeup.wait()
            self._wakeup.clear()

    def change(self, request: SubscriptionRequest, *, overlap: bool = True) -> None:
        """Subscribe to something else at the same node.

        While reports flow, the old subscription stays until the new one is confirmed, however long that is
        refused. Without ``overlap`` (for a node that takes only one) it is deleted first; the gap is then a
        DELETE, a POST and the node's answer to each, longer if it refuses.

        Raises:
            ValueError: another node.
        """
        if request.meid != self.request.meid:
            raise ValueError(f"subscription to {self.request.meid} cannot change to {request.meid}")
        wanted = (self.successor or self.state).request
        if request.digest() == wanted.digest():
            return
        state = SubscriptionState(request, attempt=(self.successor or self.state).attempt)
        state.connected = self.state.connected
        if self.successor is not None:
            state.inherit(self.successor)
            self.successor = None
        if request.digest() == self.request.digest():
            self.state.obsolete |= state.obsolete
        elif overlap and self.state.phase is Phase.ACTIVE:
            state.reason = Reason.CHANGE
            self.successor = state
        else:
            state.inherit(self.state)
            state.reason = Reason.CHANGE if self.state.attempt >= 0 else None
            self.state = state
        self._wakeup.set()

    def on_node_disconnected(self) -> None:
        """The E2 node left the RIC; nothing is asked for until it is back."""
        for state in self._states():
            state.disconnected()
        self._announce()
        self._wakeup.set()

    def on_node_reconnected(self) -> None:
        """The E2 node came back and knows nothing of before: subscribe anew, without waiting for a stall."""
        for state in self._states():
            state.reconnected()
        self._announce()
        self._wakeup.set()

    def on_forgotten(self) -> None:
        """The manager does not list the subscription any more."""
        self.state.renew(Reason.FORGOTTEN, "the subscription manager has forgotten it")
        self._announce()
        self._wakeup.set()

    def on_notification(self, body: Mapping[str, Any]) -> bool:
        """Hand over the JSON body posted to ``/ric/v1/subscriptions/response``; True if it was ours."""
        verdict = self.hear(body)
        count_notification(self.counters, verdict)
        return verdict in (Verdict.TAKEN, Verdict.DUPLICATE)

    def hear(self, body: Mapping[str, Any]) -> Verdict:
        """As :meth:`on_notification`, uncounted: for one of several clients."""
        verdict = Verdict.FOREIGN
        for state in self._states():
            verdict = min(verdict, state.notified(body, self._clock()), key=lambda known: known.value)
            self._count_failure(state)
        self._succeed()
        self._announce()
        self._wakeup.set()
        return verdict

    def on_indication(self, sub_id: int, now: float) -> bool:
        """Tell that an indication arrived at ``now``; False if it is of no subscription in force."""
        stalled = self.state.phase is Phase.STALLED
        ours = any(state.indication(sub_id, now) for state in self._states())
        if ours and stalled:
            self._announce()
            self._wakeup.set()
        if ours:
            self.counters.indications += 1
        elif self.state.was_ours(sub_id):
            self.counters.old_sub_ids += 1
        else:
            self.counters.unknown_sub_ids += 1
        return ours

    async def close(self, *, delete: bool) -> None:
        """After :meth:`supervise` was cancelled: delete the subscription, or leave it to the next run."""
        if delete:
            for identifier, instances in self.ids.items():
                if not self._in_use(identifier, instances):
                    try:
                        await self._api.delete(identifier)
                    except SubmgrError as error:
                        self.counters.delete_failures[error.cause] += 1
                        _log.warning("subscription %s not deleted: %s", identifier, error)
                        continue
                    self.counters.deletions += 1
                self._let_go(identifier)
            self.state.instances = {}
        await self._persist()

    def _let_go(self, identifier: str) -> None:
        for state in self._states():
            state.obsolete.pop(identifier, None)
            if state.subscription_id == identifier:
                state.subscription_id = None

    def _states(self) -> list[SubscriptionState]:
        return [self.state] if self.successor is None else [self.state, self.successor]

    async def _advance(self, state: SubscriptionState) -> bool:
        """Take the next step of one subscription; True if there was one."""
        step = state.step(self._clock(), ready=self._ready())
        self._count_failure(state)
        self._announce()
        if step is Step.SUBSCRIBE:
            await self._subscribe(state)
        elif step is Step.DELETE and (identifier := state.deletable()) is not None:
            await self._delete(state, identifier)
        return step is not Step.WAIT

    async def _subscribe(self, state: SubscriptionState) -> None:
        if state.reason is not None:
            self.counters.resubscriptions[state.reason] += 1
        state.requested(self._clock())
        self.counters.requests += 1
        self._announce()
        try:
            state.accepted(await self._api.subscribe(state.request.body(state.attempt)), self._clock())
        except SubmgrError as error:
            state.refuse(error.cause, f"subscription manager: {error}", self._clock())
        except ValueError as error:
            state.refuse(Cause.BAD_ANSWER, f"subscription manager: {error}", self._clock())
        self._count_failure(state)

    async def _delete(self, state: SubscriptionState, identifier: str) -> None:
        if self._in_use(identifier, state.obsolete[identifier]):
            state.deleted(identifier)
            return
        state.deleting(identifier)
        try:
            await self._api.delete(identifier)
        except SubmgrError as error:
            self.counters.delete_failures[error.cause] += 1
            text = f"subscription {identifier} not deleted: {error}"
            known = len(state.abandoned)
            state.delete_failed(identifier, text, self._clock(), answered=error.answered)
            if len(state.abandoned) > known:
                self.counters.abandoned += 1
                _log.warning("%s; left behind", text)
            return
        self.counters.deletions += 1
        state.deleted(identifier)

    def _succeed(self) -> None:
        """Put a successor that is confirmed, or all there is left, in the place of the old one."""
        if self.successor is None:
            return
        if self.successor.phase is Phase.ACTIVE or self.state.phase is not Phase.ACTIVE:
            self.successor.inherit(self.state)
            self.state, self.successor = self.successor, None
            self._announced = None
            self._announce()
            self._wakeup.set()

    def _count_failure(self, state: SubscriptionState) -> None:
        if (cause := state.take_failure()) is not None:
            self.counters.failures[cause] += 1
            # The same failure again and again is one line; the counters tell how often.
            level = logging.WARNING if state.detail != self._told_failure else logging.DEBUG
            self._told_failure = state.detail
            _log.log(level, "subscription to %s failed: %s", self.request.meid, state.detail)

    def _announce(self) -> None:
        phase = self.state.phase
        if phase is self._announced:
            return
        self._announced = phase
        self.counters.stalls += phase is Phase.STALLED
        if phase is Phase.ACTIVE:
            self._told_failure = ""
        level = logging.WARNING if phase is Phase.STALLED else logging.INFO
        _log.log(level, "subscription to %s is %s: %s", self.request.meid, phase, self.state.detail)
        if self._on_change is not None:
            self._on_change(phase, self.state.detail)

    async def _restore(self) -> None:
        """Go on with the subscription of an earlier run if it asked for the same, else delete it."""
        raw: bytes | None = None
        for attempt in range(_LOAD_ATTEMPTS if self._store is not None else 0):
            try:
                assert self._store is not None
                raw = await self._store.load()
                break
            except Exception as error:
                self.counters.store_failures += 1
                _log.warning("stored subscription of %s not read: %r", self.request.meid, error)
                await asyncio.sleep(_LOAD_RETRY_S * 2**attempt)
        try:
            kept = parse_ids(raw)
        except ValueError as error:
            _log.warning("subscription of %s: %s", self.request.meid, error)
            return
        self._saved = raw
        self.state.attempt = max(self.state.attempt, kept.attempt)
        self.state.obsolete |= kept.obsolete
        if kept.live is None:
            return
        if kept.digest == self.request.digest() and kept.instances:
            self.state.take_over(kept.live, kept.instances, self._clock())
            self.counters.taken_over += 1
        else:
            self.state.obsolete[kept.live] = frozenset(kept.instances.values())
            self.state.reason = Reason.RESTART

    async def _persist(self) -> None:
        """Save the ids if they changed; a store that fails is tried again at the next step."""
        value = dump_ids(self.state, self.successor)
        if self._store is None or value == self._saved:
            return
        try:
            await self._store.save(value)
            self._saved = value
            self._store_failing = False
        except Exception as error:
            self.counters.store_failures += 1
            level = logging.DEBUG if self._store_failing else logging.WARNING
            self._store_failing = True
            _log.log(level, "subscription of %s not stored, trying on: %r", self.request.meid, error)
