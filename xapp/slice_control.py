"""Asks E2 nodes for radio resources: what the policy needs -> PRB quotas -> RIC Control, one node at a time.

Rules:
- One request a node is under way; what is decided meanwhile waits for the next :meth:`SliceControl.step`.
- An acknowledged proposal is in force. A refusal backs off; after silence the quotas in force are unknown
  and asked for again (:mod:`xapp.policy.radio_resources`).
- A node that does not list the action among its control styles is not asked.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from xapp.policy.radio_resources import QuotaRules, RadioResources, SliceDemand
from xapp.ric.control import ControlOutcome, ControlResult
from xapp.ric.kpm.model import UeId
from xapp.ric.rc import RcFunction, quota_groups, quota_header, quota_message

_log = logging.getLogger(__name__)

MAX_NODES = 1000


class ControlClient(Protocol):
    """The part of :class:`xapp.ric.control.RicControl` needed here."""

    async def request(
        self,
        meid: str,
        ran_function_id: int,
        header: bytes,
        message: bytes,
        timeout_s: float = 1.0,
        *,
        idempotent: bool = False,
    ) -> ControlOutcome: ...


@dataclass(frozen=True, slots=True)
class RcTarget:
    """An E2 node that offers control.

    Attributes:
        ran_function_id: of RC at the node. function: what it offers; None: not known, so that it is tried.
    """

    meid: str
    ran_function_id: int
    function: RcFunction | None = None


@dataclass(slots=True)
class SliceControlCounters:
    """Each only grows. ``proposed`` requests began, ``in_force`` of them were acknowledged."""

    proposed: int = 0
    in_force: int = 0
    refused: int = 0
    unknown: int = 0
    errors: int = 0


class SliceControl:
    """See the module docstring.

    Args:
        control: sends requests.
        rules: for all nodes; ``rules.enabled`` is off by default.
        timeout_s: of one attempt.
        clock: monotonic seconds.

    Attributes:
        counters: see :class:`SliceControlCounters`.
    """

    def __init__(
        self,
        control: ControlClient,
        rules: QuotaRules,
        *,
        timeout_s: float = 1.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.counters = SliceControlCounters()
        self._control = control
        self._rules = rules
        self._timeout_s = timeout_s
        self._clock = clock
        self._cells: dict[str, RadioResources] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}

    def resources(self, meid: str) -> RadioResources:
        """The quotas of a node."""
        cell = self._cells.get(meid)
        if cell is None:
            cell = self._cells[meid] = RadioResources(self._rules)
        return cell

    @property
    def idle(self) -> bool:
        """Nothing may be asked, and nothing was: no node has to be given its defaults back."""
        return not self._rules.enabled and not self._cells

    def set_rules(self, rules: QuotaRules) -> None:
        """New rules from now on; switched off, the nodes get their defaults back at the next step."""
        self._rules = rules
        for cell in self._cells.values():
            cell.rules = rules

    def step(self, target: RcTarget, ue: UeId, demands: Sequence[SliceDemand]) -> bool:
        """Begin a request if there is something to ask; whether it did. Call it from time to time, in a loop.

        Args:
            ue: a user of the node; srsRAN takes a quota only together with one of its own (gnb-du).
            demands: of every slice of the node.
        """
        if target.function is not None and not target.function.offers_slice_quota:
            return False
        if target.meid in self._tasks:
            return False
        if target.meid not in self._cells and (not self._rules.enabled or len(self._cells) >= MAX_NODES):
            return False
        cell = self.resources(target.meid)
        quotas = cell.propose(demands, self._clock())
        if quotas is None:
            return False
        try:
            header, message = quota_header(ue), quota_message(quota_groups(quotas))
        except ValueError as error:
            self._failed(cell, target.meid, error)
            return False
        self.counters.proposed += 1
        self._tasks[target.meid] = asyncio.create_task(
            self._ask(cell, target, header, message), name=f"slice-control-{target.meid}"
        )
        return True

    def forget(self, meid: str) -> None:
        """A node started anew: its quotas are its own defaults again."""
        cell = self._cells.get(meid)
        if cell is not None:
            cell.forget()

    async def close(self) -> None:
        """Give up requests that are under way."""
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _ask(self, cell: RadioResources, target: RcTarget, header: bytes, message: bytes) -> None:
        try:
            outcome = await self._control.request(
                target.meid, target.ran_function_id, header, message, self._timeout_s, idempotent=True
            )
        except ValueError as error:
            self._failed(cell, target.meid, error)
            return
        except asyncio.CancelledError:
            cell.refused(self._clock(), unknown=True)
            raise
        finally:
            self._tasks.pop(target.meid, None)
        if outcome.acknowledged:
            self.counters.in_force += 1
            cell.confirmed(self._clock())
            return
        unknown = outcome.result is ControlResult.TIMEOUT
        self.counters.unknown += unknown
        self.counters.refused += not unknown
        cell.refused(self._clock(), unknown=unknown)

    def _failed(self, cell: RadioResources, meid: str, error: ValueError) -> None:
        self.counters.errors += 1
        cell.refused(self._clock())
        _log.warning("quotas for E2 node %s not sent: %s", meid, error)
