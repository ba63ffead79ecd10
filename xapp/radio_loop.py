"""Once a second: what the decided rates come to per slice, and whether that is worth asking the RAN for.

Off unless ``radio_resources`` is set. A user's slice is the one that it was reported in (KPM label or
capability report), else the one that the settings give its group; users of neither ask for nothing.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from typing import Final

import numpy as np

from codec_runtime.contract.directives import RATE_DENOMINATOR
from xapp.policy.radio_resources import QuotaRules, SliceDemand, cell_symbols_per_s, slice_needs
from xapp.ric.aper import E2DecodeError
from xapp.ric.control import RicControl
from xapp.ric.kpm import UeId
from xapp.ric.rc import SliceId, parse_function
from xapp.ric.rc.slice_quota import NO_SD
from xapp.ric.rnib import RanFunction
from xapp.settings import XAppSettings, parse_slice
from xapp.slice_control import RcTarget, SliceControl
from xapp.telemetry.columns import IntArray
from xapp.telemetry.user_table import UserTable

_log = logging.getLogger(__name__)

PERIOD_S: Final = 1.0
_VALUES_PER_PIXEL: Final = 3
_MOST_TARGETS: Final = 4096


class RadioLoop:
    """See the module docstring.

    Args:
        settings: carrier, slices, on or off. table: users with their decided rates.
        functions: RAN functions by E2 node. users: a user of each node, which srsRAN wants in a request.
        control: sends requests.
        stale_after_s, clock: who is active.
    """

    def __init__(
        self,
        settings: XAppSettings,
        table: UserTable,
        functions: Mapping[str, tuple[RanFunction, ...]],
        users: Mapping[str, UeId],
        control: RicControl,
        *,
        clock: Callable[[], float],
    ) -> None:
        self._table = table
        self._functions = functions
        self._users = users
        self._clock = clock
        self._targets: dict[tuple[str, RanFunction], RcTarget | None] = {}
        self.slices = SliceControl(control, QuotaRules(), timeout_s=settings.rc_timeout_s, clock=clock)
        self.configure(settings)

    async def run(self) -> None:
        """Ask from time to time until cancelled."""
        while True:
            await asyncio.sleep(PERIOD_S)
            self.step()

    def configure(self, settings: XAppSettings) -> None:
        """Follow changed settings; switched off, the nodes get their defaults back."""
        self._settings = settings
        self._by_group = {group: _slice_id(text) for group, text in settings.slices.items()}
        self.slices.set_rules(QuotaRules(enabled=settings.radio_resources))

    def step(self) -> int:
        """Look at every node once; requests begun."""
        if self.slices.idle:
            return 0
        begun = 0
        for meid, functions in self._functions.items():
            ue = self._users.get(meid)
            target = next((t for f in functions if (t := self._target(meid, f)) is not None), None)
            if ue is not None and target is not None:
                begun += self.slices.step(target, ue, self.demands(meid))
        return begun

    def demands(self, meid: str) -> list[SliceDemand]:
        """What the active users of a node need, by slice."""
        table, settings = self._table, self._settings
        if meid not in table.e2_nodes.names:
            return []
        active = table.active(self._clock(), settings.stale_after_s)
        rows: IntArray = np.flatnonzero(active & (table.e2_node == table.e2_nodes.index(meid)))
        slices: list[SliceId] = list(dict.fromkeys(self._by_group.values()))
        plmns = {one.plmn for one in slices}
        index = np.full(len(rows), -1, np.int64)
        for position, row in enumerate(rows):
            found = self._by_group.get(table.group_name(int(row)))
            reported = table.slices.name(int(table.slice[row]))
            if reported and plmns:
                found = SliceId(min(plmns), int(reported[:2], 16), int(reported[2:] or f"{NO_SD:x}", 16))
            if found is not None:
                if found not in slices:
                    slices.append(found)
                index[position] = slices.index(found)
        values = _VALUES_PER_PIXEL * settings.picture_pixels
        symbols = table.prefix[rows] / RATE_DENOMINATOR * values * table.sending_rate[rows]
        carrier = settings.carrier(meid)
        carried = carrier.downlink_share * cell_symbols_per_s(carrier.blocks, carrier.spacing_khz)
        return slice_needs(slices, index, symbols, carried)

    def _target(self, meid: str, function: RanFunction) -> RcTarget | None:
        """How to ask this RAN function of a node for quotas; None if it is not RC."""
        key = (meid, function)
        if key not in self._targets:
            if len(self._targets) >= _MOST_TARGETS:  # of nodes that changed or are gone
                self._targets.clear()
            self._targets[key] = None
            model = function.service_model
            if model is not None and model[0] == "RC":
                try:
                    self._targets[key] = RcTarget(meid, function.id, parse_function(function.definition))
                except E2DecodeError as error:
                    _log.warning(
                        "RC description cannot be decoded", extra={"e2_node": meid, "reason": str(error)}
                    )
        return self._targets[key]


def _slice_id(text: str) -> SliceId:
    plmn, sst, sd = parse_slice(text)
    return SliceId(plmn, sst, NO_SD if sd is None else sd)
