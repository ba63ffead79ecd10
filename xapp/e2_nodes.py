"""The E2 nodes that the xApp listens to: which there are, what is asked of each, and its subscription.

Nodes come from the settings (``meids``, ``sites``) and from the R-NIB. A configured node is subscribed to
from the start, as the usual KPM function would be (:func:`configured_plan`), and for good; when the R-NIB
knows what it offers, that decides. A node that only the R-NIB knows is subscribed to while it is there. What
neither says (FlexRIC's dialect, units, the carrier) comes from ``e2_nodes`` of the settings.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from typing import Any, Final

import httpx

from xapp.ric.kpm import encode_action_definition, encode_event_trigger
from xapp.ric.measurement_choice import SubscriptionPlan, choose_measurements, configured_plan
from xapp.ric.rnib import E2NodeInfo, RanFunction, RnibChange, RnibReader, RnibSource, RnibWatch
from xapp.ric.sdl import Sdl, SdlKey
from xapp.ric.subscription_phase import Phase
from xapp.ric.subscription_request import ReportAction, SubscriptionRequest
from xapp.ric.subscription_set import SubscriptionSet
from xapp.settings import XAppSettings
from xapp.status import Status
from xapp.telemetry.user_table import UserTable

SUBMGR: Final = "submgr"
RNIB: Final = "rnib"

USABLE_STYLES: Final = (4, 3, 1)
"""Report styles that need no list of users: nobody tells the xApp of users before they are reported."""


class WatchedTransport(httpx.AsyncBaseTransport):
    """Tells the peer list whether a platform service answers."""

    def __init__(self, inner: httpx.AsyncBaseTransport, status: Status, peer: str) -> None:
        self._inner = inner
        self._status = status
        self._peer = peer

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """As the inner transport."""
        try:
            response = await self._inner.handle_async_request(request)
        except httpx.HTTPError as error:
            self._status.peers.down(self._peer, f"{type(error).__name__}: {error}")
            raise
        self._status.peers.up(self._peer)
        return response

    async def aclose(self) -> None:
        """Close the inner transport."""
        await self._inner.aclose()


class E2Nodes:
    """See the module docstring.

    Args:
        settings: configured nodes, period, subscription manager, this xApp's addresses.
        sdl: keeps the ids of subscriptions. rnib: where nodes are discovered; None: the configured ones only.
        status: events and peers. table: told which nodes need the proxy.
        rmr_port, http_port: really bound ones.
        ready: the pod is Ready; nothing is subscribed before.
        clock: monotonic seconds.

    Attributes:
        plans: what is asked of each node, by node id.
        functions: RAN functions of the nodes that the R-NIB knows.
    """

    def __init__(
        self,
        settings: XAppSettings,
        sdl: Sdl,
        status: Status,
        table: UserTable,
        *,
        rnib: RnibSource | None,
        rmr_port: int,
        http_port: int,
        ready: Callable[[], bool] = lambda: True,
        clock: Callable[[], float] = time.monotonic,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self.plans: dict[str, SubscriptionPlan] = {}
        self.functions: dict[str, tuple[RanFunction, ...]] = {}
        self._settings = settings
        self._status = status
        self._table = table
        self._ports = (rmr_port, http_port)
        self._clock = clock
        self._seen: set[str] = set()
        self._leaving: set[asyncio.Task[None]] = set()
        self.on_reconnected: Callable[[str], None] = lambda meid: None
        self._http = httpx.AsyncClient(
            transport=WatchedTransport(transport or httpx.AsyncHTTPTransport(), status, SUBMGR),
            timeout=5.0,
            trust_env=False,
        )
        self.subscriptions = SubscriptionSet(
            settings.submgr_url,
            http=self._http,
            store=lambda meid: SdlKey(sdl, f"subscription/{meid}"),
            ready=ready,
            on_change=self._phase_changed,
            on_event=status.events.add,
            clock=clock,
            admin_url=settings.submgr_admin_url or None,
        )
        self.rnib = RnibWatch(RnibReader(rnib), self.on_change) if rnib is not None else None
        for meid in settings.configured_meids:
            self._adopt(self._configured(meid))

    def plan(self, meid: str) -> SubscriptionPlan | None:
        """What is asked of a node; None for a node that is not listened to."""
        return self.plans.get(meid)

    def on_indication(self, meid: str, sub_id: int) -> bool:
        """An indication arrived; False if it is of no subscription in force."""
        if not self.subscriptions.on_indication(meid, sub_id):
            return False
        if meid not in self._seen:
            self._seen.add(meid)
            self._status.events.add("first_indication", f"{meid}: first indication", e2_node=meid)
        self._status.peers.up(e2_peer(meid))
        return True

    def on_notification(self, body: Mapping[str, Any]) -> bool:
        """Body of ``POST /ric/v1/subscriptions/response``; True if it was for one of the subscriptions."""
        return self.subscriptions.on_notification(body)

    def on_change(self, change: RnibChange) -> None:
        """The R-NIB changed."""
        node = change.node
        if change.kind == "gone":
            self._gone(node)
            return
        self.functions[node.name] = node.functions
        if not node.connected:
            if node.name in self.plans:
                self._status.peers.down(e2_peer(node.name), f"E2 connection {node.status}")
            self.subscriptions.on_node_disconnected(node.name)
            return
        self._offered(node)
        if change.kind == "connected":
            self.subscriptions.on_node_reconnected(node.name)
            self.on_reconnected(node.name)

    def configure(self, settings: XAppSettings) -> None:
        """Follow changed settings: ``meids``, ``e2_nodes``, the carrier, and ``report_period_ms``."""
        dropped = set(self._settings.configured_meids) - set(settings.configured_meids)
        self._settings = settings
        known = self.rnib.state.nodes if self.rnib is not None else {}
        connected = {meid: node for meid, node in known.items() if node.connected}
        for meid in settings.configured_meids:
            if meid not in connected:
                self._adopt(self._configured(meid))
        for meid in dropped - known.keys():
            self._leave(meid)
        for node in connected.values():
            self._offered(node)

    def phases(self) -> dict[str, str]:
        """Phase of the subscription by node."""
        return self.subscriptions.phases()

    async def run(self) -> None:
        """Supervise subscriptions and look for nodes until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self.subscriptions.run())
            if self.rnib is not None:
                group.create_task(self.rnib.run())

    async def close(self, timeout_s: float) -> None:
        """Delete the subscriptions, at most ``timeout_s``."""
        for task in self._leaving:
            task.cancel()
        await self.subscriptions.close(delete=True, timeout_s=timeout_s)
        await self._http.aclose()

    def _configured(self, meid: str) -> SubscriptionPlan:
        settings = self._settings
        options = settings.node_options(meid)
        return configured_plan(
            meid,
            period_ms=settings.report_period_ms,
            version=options.kpm_version,
            carrier=settings.carrier(meid),
            units=options.units,
            ask_for=options.ask_for,
        )

    def _offered(self, node: E2NodeInfo) -> None:
        settings = self._settings
        options = settings.node_options(node.name)
        plan = choose_measurements(
            node.name,
            node.functions,
            period_ms=settings.report_period_ms,
            version=options.kpm_version,
            carrier=settings.carrier(node.name),
            units=options.units,
            ask_for=options.ask_for,
            styles=USABLE_STYLES,
        )
        if plan is not None:
            self._adopt(plan)
        elif node.name in settings.configured_meids:
            self._adopt(self._configured(node.name))
        elif node.name not in self.plans:
            self._status.events.add(
                "e2_node_unusable", f"{node.name}: offers no measurement of use", e2_node=node.name
            )

    def _adopt(self, plan: SubscriptionPlan) -> None:
        """Subscribe to what ``plan`` says, instead of what was subscribed to there."""
        meid = plan.node
        before = self.plans.get(meid)
        if before == plan:
            return
        if before is None:
            self._status.peers.expect(e2_peer(meid))
        self.plans[meid] = plan
        self._table.use_proxy(meid, plan.proxy_hz)
        names = ", ".join(plan.measurements)
        text = f"{meid}: style {plan.style_type}, {names}; radio quality from {plan.source}"
        self._status.events.add("measurements_chosen", text, e2_node=meid, notes=list(plan.notes))
        self.subscriptions.want(self._request(plan))

    def _request(self, plan: SubscriptionPlan) -> SubscriptionRequest:
        settings = self._settings
        rmr_port, http_port = self._ports
        address = httpx.URL(settings.notification_base)
        definition = encode_action_definition(
            plan.measurements,
            plan.period_ms,
            style=plan.style_type,
            action_format=plan.action_format,
            version=plan.version,
        )
        return SubscriptionRequest(
            meid=plan.node,
            ran_function_id=plan.ran_function_id,
            event_trigger=encode_event_trigger(plan.period_ms),
            actions=(ReportAction(1, definition),),
            period_s=plan.period_ms / 1e3,
            host=address.host,
            http_port=address.port if settings.notification_url and address.port else http_port,
            rmr_port=rmr_port,
        )

    def _gone(self, node: E2NodeInfo) -> None:
        self.functions.pop(node.name, None)
        if node.name in self._settings.configured_meids:
            self.subscriptions.on_node_disconnected(node.name)
        else:
            self._leave(node.name)

    def _leave(self, meid: str) -> None:
        """Unsubscribe from a node that is gone or not configured any more."""
        if self.plans.pop(meid, None) is None:
            return
        self._seen.discard(meid)
        self._status.peers.down(e2_peer(meid), "not an E2 node of this RIC any more")
        self._status.events.add("e2_node_gone", f"{meid}: gone", e2_node=meid)
        task = asyncio.create_task(self.subscriptions.forget(meid))
        self._leaving.add(task)
        task.add_done_callback(self._leaving.discard)

    def _phase_changed(self, meid: str, phase: Phase, detail: str) -> None:
        if phase is Phase.ACTIVE:
            self._status.events.add("subscribed", f"{meid}: {detail}", e2_node=meid)
        elif phase is Phase.STALLED:
            self._status.peers.down(e2_peer(meid), detail)


def e2_peer(meid: str) -> str:
    """Peer name of an E2 node."""
    return f"e2:{meid}"
