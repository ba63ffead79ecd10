"""What a RIC platform has around its E2 nodes, for the lab: R-NIB entry, appmgr, A1 mediator, alarm manager.

One web application answers for all of them, as the services of a platform do under names of their own:
``/ric/v1/subscriptions`` (subscription manager), ``/ric/v1/register`` and its like (appmgr), ``/A1-P/v2``
(A1 mediator, which sends what it is given to the xApp's RMR port), ``/ric/v1/alarms`` (alarm manager). The
mediator knows this repository's policy type from the start and the alarm manager its alarms, which on a
platform an operator tells them.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Final

import httpx
from starlette.applications import Starlette
from starlette.routing import Mount

from xapp.lab.a1_mediator import A1Mediator
from xapp.lab.a1_rest import create_app as create_a1_app
from xapp.lab.alarm_manager import LabAlarmManager
from xapp.lab.appmgr import LabAppmgr
from xapp.lab.e2_node import MEASUREMENTS, E2Node
from xapp.lab.rnib import LabRnib
from xapp.lab.settings import LabSettings
from xapp.lab.subscription_manager import create_app as create_submgr
from xapp.ric.alarms import alarm_definitions
from xapp.ric.kpm.function import (
    EventTriggerStyle,
    KpmRanFunction,
    OfferedMeasurement,
    ReportStyle,
    encode_ran_function,
)
from xapp.ric.rnib import RanFunction

_log = logging.getLogger(__name__)

LAB_OID: Final = "1.3.6.1.4.1.53148.1.3.2.2"
"""KPM 3: time stamps of eight octets, which the emulated node sends."""

POLICY_TYPE_FILE: Final = Path(__file__).parents[2] / "descriptors" / "a1-policy-type.json"
"""In a checkout; an installed package has no descriptors."""

_RNIB_PERIOD_S: Final = 2.0


class PolicyTypeError(ValueError):
    """A file holds no A1 policy type."""


def lab_function(function_id: int) -> RanFunction:
    """KPM as the emulated node offers it: every user, every measurement, periodically."""
    offered = tuple(OfferedMeasurement(name) for name in MEASUREMENTS)
    description = KpmRanFunction(
        short_name="ORAN-E2SM-KPM",
        oid=LAB_OID,
        description="KPM Monitor",
        event_trigger_styles=(EventTriggerStyle(1, "Periodic Report", 1),),
        report_styles=(ReportStyle(4, "Common Condition-based, UE-level", 4, offered, 1, 3),),
        version="3.00",
    )
    return RanFunction(function_id, encode_ran_function(description), 1, LAB_OID)


class LabPlatform:
    """See the module docstring.

    Args:
        settings: where the xApp is, for the mediator; ports and policy type.
        node: the emulated E2 node.
    """

    def __init__(self, settings: LabSettings, node: E2Node) -> None:
        self._settings = settings
        self._node = node
        self._http = httpx.AsyncClient(timeout=5.0, trust_env=False)
        self.appmgr = LabAppmgr(self._http)
        self.mediator: A1Mediator | None = None
        self.alarms: LabAlarmManager | None = None

    async def create_app(self) -> Starlette:
        """The web application; opens the RMR ports of mediator and alarm manager.

        Raises:
            OSError: one of them cannot be bound, or the policy type of the settings cannot be read.
            PolicyTypeError: it is none.
        """
        settings = self._settings
        self.mediator = await A1Mediator.start(
            settings.xapp_rmr_host,
            settings.xapp_rmr_port,
            host=settings.submgr_host,
            port=settings.a1_rmr_port,
        )
        self.alarms = await LabAlarmManager.start(settings.submgr_host, settings.alarm_rmr_port)
        self.alarms.define(json.dumps(alarm_definitions()).encode())
        _log.info(
            "platform services listen",
            extra={
                "a1_rmr_port": self.mediator.port,
                "alarm_rmr_port": self.alarms.port,
                "a1_policy_types": self._teach(self.mediator),
            },
        )
        submgr = create_submgr(self._node)
        a1, appmgr, alarms = create_a1_app(self.mediator), self.appmgr.create_app(), self.alarms.create_app()

        @contextlib.asynccontextmanager
        async def lifespan(app: Starlette) -> AsyncIterator[None]:
            # A mounted application's own lifespan is not run.
            async with submgr.router.lifespan_context(app):
                yield

        app = Starlette(
            routes=[*a1.routes, *appmgr.routes, *alarms.routes, Mount("/", submgr)],
            lifespan=lifespan,
        )
        app.state.manager = submgr.state.manager
        return app

    async def keep_in_rnib(self) -> None:
        """Write the node's entry, as e2mgr does at E2 setup, again and again: a Redis may start empty."""
        if not os.environ.get("DBAAS_SERVICE_HOST"):
            return
        told = False
        while True:
            try:
                await asyncio.to_thread(self._write_entry)
                told = False
            except Exception as error:
                if not told:
                    _log.warning("R-NIB entry not written, retrying: %s", error)
                told = True
            await asyncio.sleep(_RNIB_PERIOD_S)

    async def close(self) -> None:
        """Close mediator, alarm manager and connections."""
        if self.mediator is not None:
            await self.mediator.close()
        if self.alarms is not None:
            await self.alarms.close()
        await self._http.aclose()

    def _teach(self, mediator: A1Mediator) -> list[int]:
        """Give the mediator the policy type of the settings or, if it is there, of the checkout."""
        named = self._settings.a1_policy_type
        path = Path(named) if named else POLICY_TYPE_FILE
        if named or path.is_file():
            try:
                body = json.loads(path.read_bytes())
                wrong = mediator.put_type(body["policy_type_id"], body)
            except (ValueError, TypeError, KeyError) as error:
                wrong = repr(error)
            if wrong:
                raise PolicyTypeError(f"{path} is no A1 policy type: {wrong}")
        return sorted(mediator.types)

    def _write_entry(self) -> None:
        LabRnib().save(self._node.meid, [lab_function(self._node.ran_function_id)])
