"""Client of the RIC's subscription manager (OSC REST API, ``/ric/v1/subscriptions``).

The rules, i.e. which request follows which event, are in :mod:`xapp.ric.subscription_state`; here are the
HTTP calls, the loop that follows the rules, and the ids kept across a restart. The manager's notifications
arrive at the xApp's own HTTP server (``POST /ric/v1/subscriptions/response``), which hands them to
``on_notification``.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import httpx

from xapp.ric.subscription_state import Phase, ReportAction, Step, SubscriptionRequest, SubscriptionState

__all__ = [
    "Phase",
    "ReportAction",
    "SubscriptionClient",
    "SubscriptionCounters",
    "SubscriptionRequest",
    "SubscriptionState",
    "SubscriptionStore",
]

SUBSCRIPTIONS_PATH = "/ric/v1/subscriptions"
_HTTP_TIMEOUT_S = 5.0
_LONGEST_WAIT_S = 1.0

_log = logging.getLogger(__name__)


class SubscriptionStore(Protocol):
    """Where the ids survive a restart; errors are logged and the subscription goes on without."""

    async def load(self) -> bytes | None:
        """What was saved last, None if nothing."""

    async def save(self, value: bytes | None) -> None:
        """Replace it; None removes it."""


@dataclass(slots=True)
class SubscriptionCounters:
    """Each only grows: POSTs sent, refusals (any cause), stalls, notifications taken, deletions."""

    requests: int = 0
    refusals: int = 0
    stalls: int = 0
    notifications: int = 0
    deletions: int = 0


class SubscriptionClient:
    """Keeps one subscription alive.

    Args:
        base_url: of the subscription manager, e.g. ``http://service-ricplt-submgr-http.ricplt:3800``.
        request: what to subscribe to.
        http: shared client; every call has its own timeout.
        store: keeps the ids across a restart; None for none.
        on_change: called with the new phase and one line of detail.
        clock: monotonic seconds; ``on_indication`` takes the same clock.
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
    ) -> None:
        self.request = request
        self.state = SubscriptionState(request.xapp_event_instance_id, request.period_s)
        self.counters = SubscriptionCounters()
        self._url = base_url.rstrip("/") + SUBSCRIPTIONS_PATH
        self._http = http
        self._store = store
        self._on_change = on_change
        self._clock = clock
        self._wakeup = asyncio.Event()
        self._announced: Phase | None = None
        self._saved: bytes | None = None

    async def supervise(self) -> None:
        """Subscribe, watch and resubscribe until cancelled."""
        await self._restore()
        while True:
            step = self.state.step(self._clock())
            self._announce()
            if step is Step.DELETE:
                await self._delete_obsolete()
            elif step is Step.SUBSCRIBE:
                await self._subscribe()
            else:
                await self._persist()
                wait_s = min(self.state.seconds_to_next_step(self._clock()) + 0.001, _LONGEST_WAIT_S)
                # Not wait_for: in Python 3.11 it loses a cancellation that meets the wake-up.
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(wait_s):
                        await self._wakeup.wait()
                self._wakeup.clear()

    def on_notification(self, body: Mapping[str, Any]) -> bool:
        """Hand over the JSON body posted to ``/ric/v1/subscriptions/response``; True if it was ours."""
        before = self.state.phase
        taken = self.state.notified(body, self._clock())
        self.counters.notifications += taken
        if taken and before is not Phase.IDLE and self.state.phase is Phase.IDLE:
            self.counters.refusals += 1
        self._announce()
        self._wakeup.set()
        return taken

    def on_indication(self, sub_id: int, now: float) -> bool:
        """Tell that an indication arrived at ``now``; False if it is not (yet) known as ours."""
        stalled = self.state.phase is Phase.STALLED
        ours = self.state.indication(sub_id, now)
        if ours and stalled:
            self._announce()
            self._wakeup.set()
        return ours

    async def close(self, *, delete: bool) -> None:
        """After :meth:`supervise` was cancelled: delete the subscription, or leave it to the next run."""
        if delete and self.state.subscription_id is not None:
            try:
                await self._http.delete(f"{self._url}/{self.state.subscription_id}", timeout=_HTTP_TIMEOUT_S)
                self.counters.deletions += 1
                await self._save(None)
            except httpx.HTTPError as error:
                _log.warning("subscription %s not deleted: %r", self.state.subscription_id, error)
        else:
            await self._persist()

    async def _subscribe(self) -> None:
        self.state.requested(self._clock())
        self.counters.requests += 1
        self._announce()
        try:
            answer = await self._http.post(self._url, json=self.request.body(), timeout=_HTTP_TIMEOUT_S)
            if not answer.is_success:
                raise ValueError(f"HTTP {answer.status_code}: {answer.text[:200]}")
            body = answer.json()
            if not isinstance(body, dict):
                raise ValueError(f"answer is no JSON object: {answer.text[:200]}")
            self.state.accepted(body, self._clock())
        except (httpx.HTTPError, ValueError) as error:
            self.counters.refusals += 1
            self.state.refused(f"subscription manager: {str(error) or repr(error)}", self._clock())
        await self._persist()

    async def _delete_obsolete(self) -> None:
        identifier = self.state.obsolete_id
        try:
            answer = await self._http.delete(f"{self._url}/{identifier}", timeout=_HTTP_TIMEOUT_S)
            if answer.status_code >= 500:
                raise ValueError(f"HTTP {answer.status_code}")
        except (httpx.HTTPError, ValueError) as error:
            self.state.delete_failed(f"subscription {identifier} not deleted: {error!r}", self._clock())
            return
        self.counters.deletions += 1
        self.state.deleted()

    def _announce(self) -> None:
        phase = self.state.phase
        if phase is self._announced:
            return
        self._announced = phase
        self.counters.stalls += phase is Phase.STALLED
        level = logging.WARNING if phase is Phase.STALLED else logging.INFO
        _log.log(level, "subscription to %s is %s: %s", self.request.meid, phase, self.state.detail)
        if self._on_change is not None:
            self._on_change(phase, self.state.detail)

    async def _restore(self) -> None:
        if self._store is None:
            return
        try:
            raw = await self._store.load()
            kept = json.loads(raw) if raw else None
        except Exception as error:
            _log.warning("stored subscription of %s not read: %r", self.request.meid, error)
            return
        if not isinstance(kept, dict) or not isinstance(kept.get("subscription_id"), str):
            return
        self._saved = raw
        if kept.get("digest") == self.request.digest() and isinstance(kept.get("e2_instance_id"), int):
            self.state.take_over(kept["subscription_id"], kept["e2_instance_id"], self._clock())
        else:
            self.state.obsolete_id = kept["subscription_id"]

    async def _persist(self) -> None:
        """Save the ids if they changed; a store that fails is tried again at the next step."""
        state = self.state
        identifier = state.subscription_id or state.obsolete_id
        value: bytes | None = None
        if identifier is not None:
            value = json.dumps(
                {
                    "subscription_id": identifier,
                    "e2_instance_id": state.e2_instance_id,
                    "digest": self.request.digest() if state.subscription_id else "",
                }
            ).encode()
        if value != self._saved:
            await self._save(value)

    async def _save(self, value: bytes | None) -> None:
        if self._store is None:
            return
        try:
            await self._store.save(value)
            self._saved = value
        except Exception as error:
            _log.warning("subscription of %s not stored: %r", self.request.meid, error)
