"""The sites that the xApp serves: what belongs to each, and which one serves which E2 node.

A site is a base station with a codec runtime. It has connections, a catalog, decisions, directives and
telemetry of its own; users, policies and the update repository are shared. ``sites`` of the settings names
them; where it is empty, the runtime of ``runtime_url`` is the only one and serves every node.

A user belongs to the site that serves the E2 node it was heard at last. After a handover to a node of another
site, that site gets a directive at once. The old one keeps its own for a while, since pictures on their way
there are still to be restored; at most every :data:`FORGET_AFTER_S` its whole table is sent, without those
who left (the contract has no removal of single users).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from codec_runtime.contract.classification import SplitDirective
from codec_runtime.contract.directives import RejectedDirective
from codec_runtime.contract.telemetry import CapabilityReport
from xapp.actuator import Actuator
from xapp.policy.adapters import AdapterCatalog
from xapp.policy.catalog import DecoderCatalog
from xapp.policy.controller import DirectiveController
from xapp.policy.site_pools import SitePools
from xapp.policy.split_control import SplitController
from xapp.runtime_client import RuntimeClient, tls_context
from xapp.settings import XAppSettings
from xapp.site_alignment import SiteAlignment
from xapp.site_watch import SiteListener, SiteWatch
from xapp.split_loop import SplitLoop
from xapp.status import Status
from xapp.telemetry.user_table import UserTable

FORGET_AFTER_S: Final = 10.0
"""Shortest time between two whole tables to a site that users left."""


@dataclass(frozen=True)
class SharedParts:
    """What all sites have in common.

    Attributes:
        issuer: of directives. capabilities: last report of each device, whichever site it came from.
    """

    settings: XAppSettings
    table: UserTable
    status: Status
    pools: SitePools
    issuer: str
    listener: SiteListener
    clock: Callable[[], float]
    capabilities: dict[str, CapabilityReport]


class SiteLink:
    """One site.

    Args:
        label: its name in ``sites``; empty for the one of ``runtime_url``. index: in the user table's column
            ``site``. url: of its runtime. parts: shared with the others.
        meids: E2 nodes whose users it serves; None: every node.
    """

    def __init__(
        self, label: str, index: int, url: str, parts: SharedParts, meids: Collection[str] | None = None
    ) -> None:
        settings = parts.settings
        self.label = label
        self.index = index
        self.meids = meids
        self.catalog = DecoderCatalog()
        self.client = RuntimeClient(
            url,
            timeout_s=settings.runtime_timeout_s,
            verify=tls_context(settings.tls_ca, settings.tls_cert, settings.tls_key),
            on_instance=self._instance_changed,
        )
        self.controller = DirectiveController(
            parts.table,
            self.catalog,
            parts.pools[index],
            settings.stale_after_s,
            site=index if meids is not None else None,
        )
        self.splits = SplitLoop(
            SplitController(
                parts.table, settings.split, settings.stale_after_s, index if meids is not None else None
            ),
            self.client.graph,
            parts.status,
            submit=self._submit_splits,
            clock=parts.clock,
            site=label,
        )
        self.actuator = Actuator(
            self.client,
            parts.issuer,
            parts.status,
            full=self.controller.full,
            full_splits=self.splits.controller.full,
            on_rejected=self._rejected,
            site=label,
        )
        self.alignment = SiteAlignment(
            self.client.put_adapter_table, parts.table, parts.issuer, parts.clock, label
        )
        self.watch = SiteWatch(
            label,
            index,
            self.client,
            self.catalog,
            parts.table,
            parts.status,
            parts.capabilities,
            parts.listener,
            self.splits.controller,
            alignment=self.alignment,
            on_restart=self.actuator.resend_all,
        )
        self._status = parts.status
        self._table = parts.table
        self._forgotten = 0
        self._forgot_s = parts.clock()

    @property
    def name(self) -> str:
        """Name by which metadata, roll-outs and people know it."""
        return self.watch.name

    @property
    def adapters(self) -> AdapterCatalog:
        """Adapters that it serves."""
        return self.alignment.catalog

    def forget_departed(self, now_s: float) -> bool:
        """Send the whole table if users left and the last time is long enough ago; True if it will be."""
        departed = self._table.departures[self.index]
        if departed == self._forgotten or now_s - self._forgot_s < FORGET_AFTER_S:
            return False
        self._forgotten, self._forgot_s = departed, now_s
        self.actuator.resend_all()
        return True

    def expect_peers(self) -> None:
        """Name the site's peers before the first contact."""
        for peer in ("runtime", "telemetry"):
            self._status.peers.expect(peer, self.label)

    def work(self) -> list[tuple[str, Callable[[], Awaitable[None]]]]:
        """The site's long-running parts, by task name."""
        suffix = f":{self.label}" if self.label else ""
        return [
            (f"actuator{suffix}", self.actuator.run),
            (f"site{suffix}", self.watch.watch_models),
            (f"telemetry{suffix}", self.watch.consume_telemetry),
            (f"alignment{suffix}", self.alignment.run),
            (f"splits{suffix}", self.splits.run),
        ]

    def assigned(self) -> list[tuple[str, str, int]]:
        """(group, decoder family, version) assigned here."""
        return self.catalog.entries()

    async def flush(self, timeout_s: float) -> bool:
        """Wait until its directives are acknowledged; True at once for a site that is away."""
        return not self._status.peers.is_up("runtime", self.label) or await self.actuator.flush(timeout_s)

    # The client and the actuator are built before the watch that they report to.
    def _instance_changed(self, old: str, new: str) -> None:
        self.watch.on_instance(old, new)
        self.alignment.resend()

    def _submit_splits(self, splits: list[SplitDirective]) -> None:
        self.actuator.submit_splits(splits)

    def _rejected(self, rejected: list[RejectedDirective]) -> None:
        self.splits.on_rejected([item.user for item in rejected if item.about == "split"])
        self.watch.on_rejected(rejected)


@dataclass(slots=True)
class SiteCounters:
    """Each only grows.

    Attributes:
        departures: users that left a site for another, by the site left.
        reports_without_site: user reports of E2 nodes that no site serves, by node.
    """

    departures: dict[str, int]
    reports_without_site: dict[str, int]


class Sites(Mapping[str, SiteLink]):
    """All sites, by name.

    Args:
        parts: shared by them; its settings say which there are.

    Attributes:
        links: in the order of their index.
        capabilities: last report of each device.
    """

    def __init__(self, parts: SharedParts) -> None:
        settings = parts.settings
        self.capabilities = parts.capabilities
        self.links: tuple[SiteLink, ...] = tuple(
            SiteLink(name, index, site.url, parts, frozenset(site.meids))
            for index, (name, site) in enumerate(settings.sites.items())
        ) or (SiteLink("", 0, settings.runtime_url, parts),)
        self._table = parts.table
        self._by_meid: dict[str, SiteLink] = {
            meid: link for link in self.links if link.meids is not None for meid in link.meids
        }
        self._every = next((link for link in self.links if link.meids is None), None)

    def __getitem__(self, name: str) -> SiteLink:
        for link in self.links:
            if link.name == name:
                return link
        raise KeyError(name)

    def __iter__(self) -> Iterator[str]:
        return (link.name for link in self.links)

    def __len__(self) -> int:
        return len(self.links)

    def by_meid(self, meid: str) -> SiteLink | None:
        """The site that serves an E2 node; None if none does."""
        return self._by_meid.get(meid, self._every)

    def name_of(self, index: int) -> str:
        """Name of a site by its index in the user table; empty for -1."""
        return self.links[index].name if index >= 0 else ""

    def counters(self, without_site: Mapping[str, int]) -> SiteCounters:
        """What is counted of sites, with the user reports of nodes that have none."""
        return SiteCounters(
            {link.name: self._table.departures[link.index] for link in self.links}, dict(without_site)
        )

    def restore_capability(self, report: CapabilityReport) -> None:
        """Take over an earlier report of a device that has not said anything yet."""
        if report.user not in self.capabilities:
            self.links[0].watch.fold_capability(report)

    async def close(self) -> None:
        """Close the connections."""
        for link in self.links:
            await link.client.close()
