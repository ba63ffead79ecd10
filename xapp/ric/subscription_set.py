"""The subscriptions of one xApp: one client for each E2 node, nodes may come and go while it runs.

Besides the clients' own rules there is an audit, some seconds after a change and then once a minute: the
manager's list of E2 subscriptions (``GET /ric/v1/subscriptions``) is compared with ours, by RMR endpoint.

- One of ours that is missing twice in a row was forgotten by the manager (restarted without its database): it
  is asked for again, even if the node still reports, since nobody could delete it later.
- One with our endpoint that nobody here knows is leaked (the ids were lost with the data layer): it is
  deleted. That needs the manager's id, which its list does not tell; the list by xApp service on the
  manager's other port does. Where that cannot be had the leak is only counted and told once.
- A subscription to a node that is not wanted here counts as leaked only when the xApp has run for a minute:
  nodes are discovered one by one.

The audit never deletes an id that shares an E2 event instance with one in force here.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import logging
import time
from collections.abc import Callable, Mapping
from typing import Any, Final

import httpx

from xapp.ric.submgr_api import E2Subscription, SubmgrApi, SubmgrError
from xapp.ric.subscription import SubscriptionClient, SubscriptionStore, count_notification
from xapp.ric.subscription_counters import SubscriptionCounters
from xapp.ric.subscription_phase import Phase, Verdict
from xapp.ric.subscription_request import INSTANCE_ID_STRIDE, MAX_DETAILS, SubscriptionRequest

MAX_NODES: Final = INSTANCE_ID_STRIDE // MAX_DETAILS - 1
AUDIT_PERIOD_S: Final = 60.0
AUDIT_DELAY_S: Final = 2.0
"""From a confirmed subscription to the audit that follows it."""

STRANGER_GRACE_S: Final = 60.0
_MISSES: Final = 2

_log = logging.getLogger(__name__)


class SubscriptionSet:
    """Subscriptions by E2 node name.

    Args:
        base_url: of the subscription manager, e.g. ``http://service-ricplt-submgr-http.ricplt:8088``.
        http: shared client.
        store: a store of the ids for each node name; None keeps nothing.
        ready: the manager can reach this xApp (its pod is Ready); no request is sent before.
        on_change: called with node, phase and one line of detail.
        on_event: called with a kind and a text for people.
        clock: monotonic seconds.
        admin_url: of the manager's other server (port 8080), where leaked ids can be found.
        timeout_s: of each HTTP call.

    Attributes:
        counters: of all clients together.
        clients: by node name; read only.
    """

    def __init__(
        self,
        base_url: str,
        *,
        http: httpx.AsyncClient,
        store: Callable[[str], SubscriptionStore] | None = None,
        ready: Callable[[], bool] = lambda: True,
        on_change: Callable[[str, Phase, str], None] | None = None,
        on_event: Callable[[str, str], None] | None = None,
        clock: Callable[[], float] = time.monotonic,
        admin_url: str | None = None,
        timeout_s: float = 5.0,
    ) -> None:
        self.counters = SubscriptionCounters()
        self.clients: dict[str, SubscriptionClient] = {}
        self._api = SubmgrApi(base_url, http, timeout_s=timeout_s, admin_url=admin_url)
        self._base_url, self._http, self._timeout_s = base_url, http, timeout_s
        self._store, self._ready, self._clock = store, ready, clock
        self._on_change, self._on_event = on_change, on_event
        self._slots: dict[str, int] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._group: asyncio.TaskGroup | None = None
        self._started = clock()
        self._audit_due = asyncio.Event()
        self._misses: dict[str, int] = {}
        self._told: set[int] = set()

    def want(self, request: SubscriptionRequest, *, overlap: bool = True) -> None:
        """Subscribe to ``request.meid``, or change what is subscribed there.

        Changes are as in ``SubscriptionClient.change``. The request's XappEventInstanceId is replaced by one
        of the node's own.

        Raises:
            ValueError: more than :data:`MAX_NODES` nodes.
        """
        meid = request.meid
        request = dataclasses.replace(request, xapp_event_instance_id=1 + MAX_DETAILS * self._slot(meid))
        if meid in self.clients:
            self.clients[meid].change(request, overlap=overlap)
            return
        self.clients[meid] = SubscriptionClient(
            self._base_url,
            request,
            http=self._http,
            store=self._store(meid) if self._store is not None else None,
            on_change=lambda phase, detail: self._changed(meid, phase, detail),
            clock=self._clock,
            ready=self._ready,
            counters=self.counters,
            in_use=lambda identifier, instances: self._in_use(meid, identifier),
            timeout_s=self._timeout_s,
        )
        if self._group is not None:
            self._tasks[meid] = self._group.create_task(self.clients[meid].supervise())

    async def forget(self, meid: str) -> None:
        """End the subscription to a node that is gone for good or not wanted; deletes it at the manager."""
        client = self.clients.get(meid)
        if client is None:
            return
        task = self._tasks.pop(meid, None)
        if task is not None:
            task.cancel()
            await asyncio.wait([task])
        await client.close(delete=True)
        # Only now: until then the audit must know its ids, and its names must not be given to another.
        self.clients.pop(meid, None)
        self._slots.pop(meid, None)
        self._misses.pop(meid, None)

    def on_node_disconnected(self, meid: str) -> None:
        """The E2 node left the RIC, perhaps for a while: keep it wanted, ask for nothing."""
        if meid in self.clients:
            self.clients[meid].on_node_disconnected()

    def on_node_reconnected(self, meid: str) -> None:
        """The E2 node connected anew: subscribe at once. Harmless for one that was never subscribed."""
        if meid in self.clients:
            self.clients[meid].on_node_reconnected()

    def on_notification(self, body: Mapping[str, Any]) -> bool:
        """Body of ``POST /ric/v1/subscriptions/response``; True if it was for one of the subscriptions.

        Answer 200 in any case: the manager repeats a notification that is not, and waits meanwhile.
        """
        verdict = Verdict.FOREIGN
        for client in self.clients.values():
            verdict = min(verdict, client.hear(body), key=lambda known: known.value)
            if verdict in (Verdict.TAKEN, Verdict.DUPLICATE):
                break
        count_notification(self.counters, verdict)
        return verdict in (Verdict.TAKEN, Verdict.DUPLICATE)

    def on_indication(self, meid: str, sub_id: int) -> bool:
        """An indication of a node arrived; False if it is of no subscription in force: do not use it."""
        client = self.clients.get(meid)
        if client is None:
            self.counters.unknown_sub_ids += 1
            return False
        return client.on_indication(sub_id, self._clock())

    def phases(self) -> dict[str, str]:
        """Phase by node."""
        return {meid: str(client.state.phase) for meid, client in self.clients.items()}

    async def run(self) -> None:
        """Supervise all, those that come later too, until cancelled."""
        try:
            async with asyncio.TaskGroup() as group:
                self._group = group
                for meid, client in self.clients.items():
                    self._tasks[meid] = group.create_task(client.supervise())
                group.create_task(self._audit_forever())
        finally:
            self._group = None
            self._tasks.clear()

    async def close(self, *, delete: bool, timeout_s: float = 5.0) -> None:
        """After :meth:`run` was cancelled: delete all subscriptions, or leave them to the next run."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                clients = list(self.clients.values())
                await asyncio.gather(*(client.close(delete=delete) for client in clients))

    async def audit(self) -> None:
        """Compare the manager's list with ours, once; see the top of the module. Never raises."""
        requests = [client.request for client in self.clients.values()]
        endpoints = {request.rmr_endpoint for request in requests}
        if not endpoints:
            return
        settled = {meid: client.state for meid, client in self.clients.items() if client.settled}
        try:
            everybodys = await self._api.e2_subscriptions()
        except SubmgrError as error:
            _log.info("subscriptions not audited: %s", error)
            return
        listed = [entry for entry in everybodys if not endpoints.isdisjoint(entry.endpoints)]
        here = {(entry.meid, entry.instance_id) for entry in listed}
        for meid, state in settled.items():
            client = self.clients.get(meid)
            # What changed while the list was fetched is looked at next time.
            if client is None or not client.settled or client.state is not state:
                continue
            missing = any((meid, instance) not in here for instance in state.instances.values())
            self._misses[meid] = self._misses.get(meid, 0) + 1 if missing else 0
            if self._misses[meid] >= _MISSES:
                self._misses[meid] = 0
                client.on_forgotten()
            elif missing:
                self._audit_due.set()
        leaked = [entry for entry in listed if self._is_leaked(entry)]
        if leaked:
            await self._delete_leaked(leaked, {request.host for request in requests})

    def _is_leaked(self, entry: E2Subscription) -> bool:
        client = self.clients.get(entry.meid)
        if client is None:
            return self._clock() - self._started >= STRANGER_GRACE_S
        return client.settled and all(entry.instance_id not in had for had in client.ids.values())

    async def _delete_leaked(self, leaked: list[E2Subscription], hosts: set[str]) -> None:
        new = {entry.instance_id for entry in leaked} - self._told
        self.counters.leaked += len(new)
        self._told |= new
        nodes = {(entry.meid, entry.instance_id) for entry in leaked}
        deleted: set[int] = set()
        try:
            for host in sorted(hosts):
                for rest in await self._api.rest_subscriptions(host):
                    ours = any(
                        rest.identifier == key or rest.instances & had
                        for client in self.clients.values()
                        for key, had in client.ids.items()
                    )
                    found = {instance for instance in rest.instances if (rest.meid, instance) in nodes}
                    if found and not ours and not rest.busy:
                        await self._api.delete(rest.identifier)
                        self.counters.leaked_deleted += 1
                        deleted |= found
        except SubmgrError as error:
            self.counters.delete_failures[error.cause] += 1
            _log.warning("leaked subscriptions %s not deleted: %s", sorted(new), error)
        self._told -= deleted
        for entry in leaked:
            if entry.instance_id in new and self._on_event is not None:
                done = "deleted" if entry.instance_id in deleted else "its id cannot be found, so it stays"
                self._on_event(
                    "subscription_leaked",
                    f"{entry.meid}: E2 event instance {entry.instance_id} of an earlier run: {done}",
                )

    async def _audit_forever(self) -> None:
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(AUDIT_PERIOD_S):
                    await self._audit_due.wait()
            await asyncio.sleep(AUDIT_DELAY_S)
            self._audit_due.clear()
            await self.audit()

    def _slot(self, meid: str) -> int:
        """Number of a node: the lowest free one, so that the same nodes have the same after a restart."""
        if meid not in self._slots:
            taken = set(self._slots.values())
            slot = next(number for number in range(MAX_NODES + 1) if number not in taken)
            if slot == MAX_NODES:
                raise ValueError(f"{meid}: at most {MAX_NODES} E2 nodes can be subscribed to")
            self._slots[meid] = slot
        return self._slots[meid]

    def _in_use(self, meid: str, identifier: str) -> bool:
        """The client of another node has this id in force. (E2 event instances are of one node.)"""
        return any(
            other != meid and client.state.subscription_id == identifier
            for other, client in self.clients.items()
        )

    def _changed(self, meid: str, phase: Phase, detail: str) -> None:
        if phase is Phase.ACTIVE:
            self._audit_due.set()
        if self._on_change is not None:
            self._on_change(meid, phase, detail)
