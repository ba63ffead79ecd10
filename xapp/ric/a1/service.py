"""The A1 handler with its surroundings: answers to the transport, instances in the data layer, queries.

Rules:
- Requests are handled and answered from the first moment, with or without the data layer and the mediator.
- Nothing is written before an earlier snapshot was looked for. Writing follows every change, with delays that
  double while the data layer is away; a change that is lost with the process comes back by the next query.
- At the start (after the snapshot, or ``RESTORE_PATIENCE_S`` without one) the mediator is queried, again with
  doubling delays while it is silent, and from then on every ``requery_s``.
- A *round* ends ``answer_window_s`` after a query. It counts as answered when at least one instance in force
  was repeated unchanged. An instance that two answered rounds in a row did not bring was deleted while
  nobody listened, and is forgotten. Silence forgets nothing: a mediator that has no instance left answers
  nothing, just as one that is away.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable
from typing import Final, Protocol

from xapp.ric.a1.handler import A1Handler
from xapp.ric.a1.instances import SnapshotError
from xapp.ric.a1.messages import encode_query
from xapp.ric.sdl import SdlRejected, SdlUnavailable

STORE_KEY: Final = "a1/instances"
"""Key of the snapshot in the data layer."""

RESTORE_PATIENCE_S: Final = 3.0
_ROUNDS_TO_FORGET: Final = 2
_BACKOFF_S: Final = (0.5, 30.0)

_log = logging.getLogger(__name__)


class SnapshotKey(Protocol):
    """The part of :class:`xapp.ric.sdl.SdlKey` needed here."""

    async def load(self) -> bytes | None: ...

    async def save(self, value: bytes | None) -> None: ...


class A1Service:
    """See the module docstring.

    Args:
        handler: answers; its ``store`` is what is kept.
        key: where the snapshot lives.
        send_query: sends a payload as message type 20012, subscription id -1, along the route table; False
            when the transport does not take it.
        answer_window_s: wait for the answers of a query.
        requery_s: between queries once the mediator has answered, or has been silent for long.
        backoff_s: first and longest delay between attempts, of queries and of reading and writing.
    """

    def __init__(
        self,
        handler: A1Handler,
        key: SnapshotKey,
        send_query: Callable[[bytes], bool],
        *,
        answer_window_s: float = 3.0,
        requery_s: float = 600.0,
        backoff_s: tuple[float, float] = _BACKOFF_S,
    ) -> None:
        self.handler = handler
        self._key = key
        self._send_query = send_query
        self._answer_window_s = answer_window_s
        self._requery_s = requery_s
        self._backoff_s = backoff_s
        self._looked = asyncio.Event()
        self._changed = asyncio.Event()
        self._requery = asyncio.Event()
        self._written_revision = 0
        self._missing: dict[str, int] = {}

    @property
    def unconfirmed(self) -> list[str]:
        """Instances in force that the last answered round did not bring."""
        return list(self._missing)

    def on_message(self, payload: bytes, reply: Callable[[bytes], bool]) -> None:
        """Take a request (20010).

        Args:
            payload: of the RMR message.
            reply: returns a payload to the sender as message type 20011; False when that is not possible.
        """
        answer = self.handler.handle(payload)
        if self.handler.store.revision != self._written_revision:
            self._changed.set()
        if answer is not None and not reply(answer):
            self.handler.counters.answers_lost += 1

    def query(self) -> None:
        """Query the mediator soon, e.g. because it is back."""
        self._requery.set()

    async def run(self) -> None:
        """Restore, then write and query, until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._keep_written())
            tasks.create_task(self._keep_asking())

    async def write(self) -> bool:
        """Write now if there is anything to write; False when it could not be."""
        store = self.handler.store
        revision = store.revision
        if revision == self._written_revision:
            return True
        if not self._looked.is_set():
            return False
        try:
            await self._key.save(store.snapshot())
        except SdlUnavailable:
            return False
        except SdlRejected as error:
            _log.error("A1 instances cannot be kept", extra={"reason": str(error)})
            return False
        self._written_revision = revision
        return True

    async def _keep_written(self) -> None:
        first, longest = self._backoff_s
        delay = first
        while not self._looked.is_set():
            if not await self._restore():
                await asyncio.sleep(delay)
                delay = min(2 * delay, longest)
        delay = first
        while True:
            self._changed.clear()
            if await self.write():
                delay = first
                if self.handler.store.revision == self._written_revision:
                    await self._changed.wait()
            else:
                await asyncio.sleep(delay)
                delay = min(2 * delay, longest)

    async def _restore(self) -> bool:
        handler, store = self.handler, self.handler.store
        try:
            snapshot = await self._key.load()
        except SdlUnavailable:
            return False
        except SdlRejected as error:
            _log.error("A1 instances of an earlier run cannot be read", extra={"reason": str(error)})
            snapshot = None
        before, empty = len(store), store.revision == 0
        try:
            refused = store.restore(snapshot, handler.check)
        except SnapshotError as error:
            handler.on_event("a1_restore_failed", f"A1 instances of an earlier run are ignored: {error}")
            refused = {}
        for instance_id, reason in refused.items():
            handler.counters.forgotten += 1
            handler.on_event(
                "a1_policy_forgotten", f"A1 policy {instance_id[:80]} of an earlier run: {reason[:300]}"
            )
        restored = len(store) - before
        self._looked.set()
        if restored > 0:
            handler.counters.restored += restored
            handler.on_event("a1_restored", f"{restored} A1 policies of an earlier run are in force again")
            handler.on_change()
        if empty and not refused:
            self._written_revision = store.revision
        return True

    async def _keep_asking(self) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(RESTORE_PATIENCE_S):
                await self._looked.wait()
        first, longest = self._backoff_s
        delay = first
        while True:
            self._requery.clear()
            answered = await self._round()
            if answered and self._missing:
                continue
            if answered or delay > longest:
                wait = self._requery_s
                delay = first
            else:
                wait = delay
                delay *= 2
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(wait):
                    await self._requery.wait()

    async def _round(self) -> bool:
        """One query and its answers; False when there were none."""
        handler, store = self.handler, self.handler.store
        store.begin_round()
        if not self._send_query(encode_query(handler.policy_type_id)):
            return False
        handler.counters.queries += 1
        await asyncio.sleep(self._answer_window_s)
        if not store.answered:
            return False
        self._missing = {key: self._missing.get(key, 0) + 1 for key in store.unconfirmed()}
        gone = [key for key, rounds in self._missing.items() if rounds >= _ROUNDS_TO_FORGET]
        for instance_id in gone:
            del self._missing[instance_id]
            store.delete(instance_id)
            handler.counters.forgotten += 1
            handler.on_event(
                "a1_policy_forgotten", f"A1 policy {instance_id[:80]}: the mediator does not have it any more"
            )
        if gone:
            handler.on_change()
            self._changed.set()
        return True
