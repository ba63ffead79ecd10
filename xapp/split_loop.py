"""The split control of one site at work: graphs fetched, decisions made once a period, cuts sent, told.

It is no part of the indications' path: a decision about all users of the site is made once a period, in one
vectorised call, and shares the actuator's batches.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Sequence

from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from codec_runtime.contract.classification import SplitDirective
from codec_runtime.contract.split import SplitGraph
from xapp.policy.split_control import SplitController
from xapp.runtime_client import RuntimeRefused, RuntimeUnavailable
from xapp.status import Status

_log = logging.getLogger(__name__)

_NAMED = 4
"""Users named in one event; of the others only the number is told."""


class SplitLoop:
    """See the module docstring.

    Args:
        controller: decides. graph: fetches a graph by its digest.
        submit: takes changed directives.
        clock: monotonic seconds, of the user table.
        site: label in metrics and events.
    """

    def __init__(
        self,
        controller: SplitController,
        graph: Callable[[str], Awaitable[SplitGraph]],
        status: Status,
        *,
        submit: Callable[[list[SplitDirective]], None],
        clock: Callable[[], float],
        site: str = "",
    ) -> None:
        self.controller = controller
        self._graph = graph
        self._status = status
        self._submit = submit
        self._clock = clock
        self.site = site
        self._told: set[str] = set()

    async def run(self) -> None:
        """Decide once a period until cancelled."""
        while True:
            await asyncio.sleep(self.controller.options.period_s)
            await self.fetch_graphs()
            self.decide()

    async def fetch_graphs(self) -> None:
        """Ask for graphs that published cuts name; what fails is tried again next period, told once."""
        missing = self.controller.missing_graphs()
        self._told &= set(missing)
        for digest in missing:
            try:
                self.controller.add_graph(await self._graph(digest))
            except (RuntimeUnavailable, RuntimeRefused) as error:
                if digest not in self._told:
                    self._told.add(digest)
                    _log.warning(
                        "graph of a classifier is not to be had: its users get no cuts",
                        extra={"site": self.site, "graph": digest[:12], "reason": str(error)},
                    )

    def decide(self) -> None:
        """One decision about all users of the site."""
        before = self.controller.counters.decisions
        start = time.perf_counter()
        changed = self.controller.decide(self._clock())
        if self.controller.counters.decisions > before:
            self._status.metrics.split_decision.observe(time.perf_counter() - start)
        self._submit(changed)
        moved = self.controller.moved
        if moved:
            first = [f"{user} to {cut[:8]} of {network}" for user, (network, _, cut) in moved[:_NAMED]]
            more = f" and {len(moved) - _NAMED} more" if len(moved) > _NAMED else ""
            self._status.events.add(
                "cut_moved", f"cut moved: {', '.join(first)}{more}", site=self.site, users=len(moved)
            )

    def on_rejected(self, users: list[str]) -> None:
        """The site cannot follow the cuts of these users: others are tried."""
        self.controller.on_rejected(users, self._clock())


class UsersByCut(Collector):
    """``semcom_xapp_users_on_cut{network, version, cut, site}``, read when scraped.

    Args:
        loops: of all sites.
    """

    def __init__(self, loops: Sequence[SplitLoop]) -> None:
        self._loops = loops

    def collect(self) -> list[Metric]:
        """The gauge, as of the last decisions."""
        family = GaugeMetricFamily(
            "semcom_xapp_users_on_cut",
            "Users by the cut of their classifier",
            labels=("network", "version", "cut", "site"),
        )
        for loop in self._loops:
            for (network, version, cut), users in sorted(loop.controller.users_by_cut().items()):
                family.add_metric((network, str(version), cut, loop.site), users)
        return [family]
