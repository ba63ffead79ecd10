"""The xApp as a part of the RIC platform: registered, configured, alarmed, governed by A1 policies.

Owns what ric-plt offers to an xApp beside E2: appmgr (registration), the ConfigMap, the alarm manager and the
A1 mediator. What the messages mean for users is :mod:`xapp.policy`'s.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Final, Protocol

import httpx

from xapp.config_watch import ConfigWatch
from xapp.policy.pools import ConfiguredPolicy
from xapp.policy.site_pools import SitePools
from xapp.ric.a1.handler import HANDLER_ID, A1Handler
from xapp.ric.a1.instances import InstanceStore
from xapp.ric.a1.policy_type import POLICY_TYPE_ID
from xapp.ric.a1.service import STORE_KEY, A1Service
from xapp.ric.alarms import CONFIG_REFUSED, ActiveAlarmList, alarm_target
from xapp.ric.registration import AppmgrRegistration, Registration, Standing, registration_from
from xapp.ric.rmr import messages
from xapp.ric.rmr.frame import RmrMessage
from xapp.ric.rmr.sender import RmrSender
from xapp.ric.rmr.transport import RmrTransport
from xapp.ric.sdl import Sdl, SdlKey
from xapp.ric.subscription_set import MAX_NODES
from xapp.settings import XAppSettings
from xapp.status import Status

_log = logging.getLogger(__name__)

APPMGR: Final = "appmgr"
XAPP_NAME: Final = HANDLER_ID
"""Where no descriptor names it."""

_ALARM_FRAMES: Final = 64

Work = tuple[str, Callable[[], Awaitable[None]]]


class Reconfigured(Protocol):
    """Takes changed settings, all or (ValueError) none."""

    def __call__(self, settings: XAppSettings, changed: frozenset[str]) -> None: ...


@dataclass(frozen=True)
class ConfigSource:
    """Where the settings came from, so that changes of it can be followed.

    Attributes:
        path: the descriptor, ``config-file.json``; None on a laptop without one.
        overrides: settings given on the command line, which keep winning.
    """

    path: Path | None = None
    overrides: Mapping[str, Any] | None = None

    def descriptor(self) -> dict[str, Any]:
        """Content of the file; empty where there is none or it cannot be read."""
        if self.path is None:
            return {}
        with contextlib.suppress(OSError, ValueError):
            content = json.loads(self.path.read_text())
            if isinstance(content, dict):
                return content
        return {}


def configured_policy(settings: XAppSettings) -> ConfiguredPolicy:
    """The policy that the settings name, which decides where no A1 instance does."""
    return ConfiguredPolicy(
        settings.policy,
        {
            "quality_target_db": settings.quality_target_db,
            "budget_prefix": settings.budget_prefix,
            **settings.policy_parameters,
        },
    )


class RicPlatform:
    """See the module docstring.

    Args:
        settings: at the start. source: where they came from.
        status: events, peers and counters. sdl: keeps the A1 instances. pools: governed by them.
        ready: the readiness probe's answer.
        on_reconfigured: applies settings that changed while running.

    Attributes:
        alarms: raise and clear here. a1: answers the mediator. config: None without a file to watch.
        registration: None where no appmgr is configured.
    """

    def __init__(
        self,
        settings: XAppSettings,
        source: ConfigSource,
        status: Status,
        sdl: Sdl,
        pools: SitePools,
        *,
        ready: Callable[[], bool],
        on_reconfigured: Reconfigured,
    ) -> None:
        self._status = status
        self._ready = ready
        self._transport: RmrTransport | None = None
        self._settings = settings
        self._source = source
        self._http = httpx.AsyncClient(timeout=10.0, trust_env=False)
        self._alarm_way: RmrSender | None = None
        self._http_port = 0
        self._descriptor = source.descriptor()
        self._name = str(self.descriptor()["xapp_name"])
        self.alarms = ActiveAlarmList(self._name, self._name, self._send_alarm)
        store = InstanceStore()
        handler = A1Handler(
            store,
            check=pools.check,
            on_change=lambda: pools.replace(store.all()),
            on_event=status.events.add,
            handler_id=self._name,
        )
        self.a1 = A1Service(handler, SdlKey(sdl, STORE_KEY), self._query)
        self.config: ConfigWatch | None = None
        if source.path is not None:
            self.config = ConfigWatch(
                source.path,
                settings,
                on_reconfigured,
                self._config_refused,
                on_recovered=self._config_recovered,
                on_taken=self._config_taken,
                validate=_check,
                overrides=source.overrides,
            )
        self.registration: AppmgrRegistration | None = None

    def connect(self, transport: RmrTransport, http_port: int) -> None:
        """The ports are open: from now on there is something to register and a way to send."""
        self._transport, self._http_port = transport, http_port
        if self._settings.appmgr_url:
            self._status.peers.expect(APPMGR)
            self.registration = AppmgrRegistration(
                self._settings.appmgr_url,
                self._our_registration(),
                http=self._http,
                ready=self._ready,
                on_change=self._standing,
            )

    def descriptor(self) -> dict[str, Any]:
        """The descriptor as it was last readable, completed by what appmgr cannot do without."""
        self._descriptor = self._source.descriptor() or self._descriptor
        return {**_least_descriptor(self._settings), **self._descriptor}

    def work(self) -> list[Work]:
        """Long-running parts by name."""
        parts: list[Work] = [("a1", self.a1.run), ("alarms", self._keep_alarms)]
        if self.config is not None:
            parts.append(("config", self.config.run))
        if self.registration is not None:
            parts.append((APPMGR, self.registration.supervise))
        return parts

    def on_a1_request(self, message: RmrMessage, received_ns: int) -> None:
        """RMR message 20010."""

        def reply(payload: bytes) -> bool:
            answer = RmrMessage(messages.A1_POLICY_RESP, payload, sub_id=message.sub_id)
            return self._transport is not None and self._transport.reply(message, answer)

        self.a1.on_message(message.payload, reply)

    async def leave(self, timeout_s: float) -> None:
        """Deregister, before the ports close."""
        if self.registration is not None:
            await self.registration.close(timeout_s)

    async def close(self) -> None:
        """Write what is to be kept and close connections."""
        with contextlib.suppress(Exception):
            await self.a1.write()
        if self._alarm_way is not None:
            await self._alarm_way.close()
        await self._http.aclose()

    def _query(self, payload: bytes) -> bool:
        if self._transport is None:
            return False
        return self._transport.send(RmrMessage(messages.A1_POLICY_QUERY, payload))

    async def _keep_alarms(self) -> None:
        """Tell the alarm manager, over a connection of its own: the routing manager makes no route for it."""
        host, port = alarm_target(os.environ)
        if self._settings.alarm_manager:
            host, _, text = self._settings.alarm_manager.rpartition(":")
            port = int(text)
        elif not os.environ.get("KUBERNETES_SERVICE_HOST"):
            await asyncio.Event().wait()  # no platform, nobody to tell: the log has the alarms
        if self._alarm_way is None:
            self._alarm_way = await RmrSender.connect(
                host, port, source=self._name, queue_frames=_ALARM_FRAMES
            )
        way = self._alarm_way
        await self.alarms.run(connections=lambda: way.connects)

    def _send_alarm(self, mtype: int, payload: bytes) -> bool:
        way = self._alarm_way
        return way is not None and way.connected and way.send(RmrMessage(mtype, payload))

    def _standing(self, standing: Standing, detail: str) -> None:
        if standing is Standing.REGISTERED:
            self._status.peers.up(APPMGR)
            self._status.events.add("registered", f"registered with appmgr: {detail}")
            # What the mediator sent while nothing was routed here is lost.
            self.a1.query()
        elif standing is Standing.UNKNOWN:
            self._status.peers.down(APPMGR, detail)

    def _our_registration(self) -> Registration:
        """What appmgr is told. Raises ValueError: the descriptor breaks a rule of it."""
        assert self._transport is not None
        settings = self._settings
        address = httpx.URL(settings.notification_base)
        port = address.port if settings.notification_url and address.port else self._http_port
        return registration_from(
            self.descriptor(),
            environ=os.environ,
            http_endpoint=f"{address.host}:{port}",
            rmr_endpoint=f"{address.host.replace('http', 'rmr')}:{self._transport.port}",
        )

    def _config_taken(self) -> None:
        """The file's other sections are appmgr's: messages, policy types, version."""
        if self.registration is None:
            return
        try:
            self.registration.update(self._our_registration())
        except ValueError as error:
            self._config_refused(f"appmgr is not told of the changed descriptor: {error}")

    def _config_refused(self, reason: str) -> None:
        self._status.events.add("config_refused", f"settings refused: {reason}")
        self.alarms.clear_alarm(CONFIG_REFUSED)
        self.alarms.raise_alarm(CONFIG_REFUSED, additional_info=reason)

    def _config_recovered(self) -> None:
        self._status.events.add("config_recovered", "the settings file is good again")
        self.alarms.clear_alarm(CONFIG_REFUSED)


def _least_descriptor(settings: XAppSettings) -> dict[str, Any]:
    """What appmgr needs, where the settings file is no whole descriptor."""
    return {
        "xapp_name": XAPP_NAME,
        "version": _version(),
        "messaging": {
            "ports": [
                {
                    "name": "rmrdata",
                    "port": settings.rmr_port,
                    "rxMessages": [
                        "RIC_INDICATION",
                        "RIC_CONTROL_ACK",
                        "RIC_CONTROL_FAILURE",
                        "A1_POLICY_REQ",
                    ],
                    "txMessages": ["RIC_CONTROL_REQ", "A1_POLICY_RESP", "A1_POLICY_QUERY"],
                    "policies": [POLICY_TYPE_ID],
                }
            ]
        },
    }


def _check(settings: XAppSettings) -> None:
    """Whether a running xApp can follow these settings: whatever fails must do so before one is applied.

    Raises:
        ValueError: no such policy, parameter or log level, or too many E2 nodes.
    """
    configured_policy(settings).make()
    meids = settings.configured_meids
    if len(meids) > MAX_NODES:
        raise ValueError(f"meids, sites: {len(meids)} E2 nodes, at most {MAX_NODES} can be subscribed to")


def _version() -> str:
    try:
        return version(XAPP_NAME)
    except PackageNotFoundError:
        return "0.0.0"
