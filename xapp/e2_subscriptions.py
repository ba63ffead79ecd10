"""One subscription for each configured E2 node, and what their changes mean for people."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from typing import Any, Final

import httpx

from xapp.ingest import MEASUREMENTS
from xapp.ric.kpm import encode_action_definition, encode_event_trigger
from xapp.ric.sdl import Sdl, SdlKey
from xapp.ric.subscription import Phase, ReportAction, SubscriptionClient, SubscriptionRequest
from xapp.settings import XAppSettings
from xapp.status import Status

KPM_RAN_FUNCTION: Final = 2
SUBMGR: Final = "submgr"


class WatchedTransport(httpx.AsyncBaseTransport):
    """Tells the peer list whether the subscription manager answered."""

    def __init__(self, inner: httpx.AsyncBaseTransport, status: Status) -> None:
        self._inner = inner
        self._status = status

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """As the inner transport."""
        try:
            response = await self._inner.handle_async_request(request)
        except httpx.HTTPError as error:
            self._status.peers.down(SUBMGR, f"{type(error).__name__}: {error}")
            raise
        self._status.peers.up(SUBMGR)
        return response

    async def aclose(self) -> None:
        """Close the inner transport."""
        await self._inner.aclose()


class E2Subscriptions:
    """Subscriptions by E2 node id.

    Args:
        settings: nodes, period, subscription manager, this xApp's addresses.
        sdl: keeps the ids. status: events and peers. rmr_port, http_port: really bound ones.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        settings: XAppSettings,
        sdl: Sdl,
        status: Status,
        *,
        rmr_port: int,
        http_port: int,
        clock: Callable[[], float] = time.monotonic,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self._status = status
        self._clock = clock
        self._http = httpx.AsyncClient(
            transport=WatchedTransport(transport or httpx.AsyncHTTPTransport(), status),
            timeout=5.0,
            trust_env=False,
        )
        address = httpx.URL(settings.notification_base)
        period_s = settings.report_period_ms / 1e3
        self.clients: dict[str, SubscriptionClient] = {}
        self._seen: set[str] = set()
        for index, meid in enumerate(settings.meids, start=1):
            status.peers.expect(e2_peer(meid))
            request = SubscriptionRequest(
                meid=meid,
                ran_function_id=KPM_RAN_FUNCTION,
                event_trigger=encode_event_trigger(settings.report_period_ms),
                actions=(ReportAction(1, encode_action_definition(MEASUREMENTS, settings.report_period_ms)),),
                period_s=period_s,
                host=address.host,
                http_port=address.port if settings.notification_url and address.port else http_port,
                rmr_port=rmr_port,
                xapp_event_instance_id=index,
            )
            self.clients[meid] = SubscriptionClient(
                settings.submgr_url,
                request,
                http=self._http,
                store=SdlKey(sdl, f"subscription/{meid}"),
                on_change=self._changed(meid),
                clock=clock,
            )

    def on_indication(self, meid: str, sub_id: int) -> None:
        """An indication of a configured node arrived."""
        client = self.clients.get(meid)
        if client is None:
            return
        client.on_indication(sub_id, self._clock())
        if meid not in self._seen:
            self._seen.add(meid)
            self._status.events.add("first_indication", f"{meid}: first indication", e2_node=meid)
        self._status.peers.up(e2_peer(meid))

    def on_notification(self, body: Mapping[str, Any]) -> bool:
        """Body of ``POST /ric/v1/subscriptions/response``; True if it was for one of the subscriptions."""
        # Before the 201 only the XappEventInstanceId, different for each node, says whose it is.
        taken = [client.on_notification(body) for client in self.clients.values()]
        return any(taken)

    def phases(self) -> dict[str, str]:
        """Phase by node."""
        return {meid: str(client.state.phase) for meid, client in self.clients.items()}

    async def run(self) -> None:
        """Supervise all until cancelled."""
        async with asyncio.TaskGroup() as group:
            for client in self.clients.values():
                group.create_task(client.supervise())

    async def close(self, timeout_s: float) -> None:
        """Delete the subscriptions, at most ``timeout_s``."""
        try:
            async with asyncio.timeout(timeout_s):
                await asyncio.gather(
                    *(client.close(delete=True) for client in self.clients.values()), return_exceptions=True
                )
        except TimeoutError:
            pass
        await self._http.aclose()

    def _changed(self, meid: str) -> Callable[[Phase, str], None]:
        def changed(phase: Phase, detail: str) -> None:
            if phase is Phase.ACTIVE:
                self._status.events.add("subscribed", f"{meid}: {detail}", e2_node=meid)
            elif phase is Phase.STALLED:
                self._status.peers.down(e2_peer(meid), detail)

        return changed


def e2_peer(meid: str) -> str:
    """Peer name of an E2 node."""
    return f"e2:{meid}"
