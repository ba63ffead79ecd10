"""What of an xApp process goes into its snapshot, and how a new process takes it over."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from xapp.persistence import Snapshot

if TYPE_CHECKING:
    from xapp.app import XApp


def take_snapshot(xapp: XApp) -> Snapshot:
    """State that outlives the process."""
    links = xapp.sites.links
    return Snapshot(
        written_ns=time.time_ns(),
        instance=xapp.instance,
        assigned=[entry for link in links if not link.label for entry in link.assigned()],
        site_assigned={link.label: link.assigned() for link in links if link.label},
        adapters_assigned={link.label: link.adapters.entries() for link in links},
        planner=xapp.planner.snapshot(xapp.clock()),
        capabilities=list(xapp.sites.capabilities.values()),
        subscriptions=xapp.nodes.phases() if xapp.nodes else {},
        tuf=xapp.tuf_versions,
    )


def restore_snapshot(xapp: XApp, snapshot: Snapshot) -> None:
    """Take over an earlier process's state. Raises KeyError, TypeError, ValueError for another shape."""
    xapp.planner.restore(snapshot.planner, xapp.clock())
    for link in xapp.sites.links:
        # What was assigned when there was one site holds at each until it has an assignment of its own.
        for group, family, number in snapshot.site_assigned.get(link.label, snapshot.assigned):
            xapp.coordinator.assign(link.name, group, family, number)
        for group, family, number in snapshot.adapters_assigned.get(link.label, []):
            link.adapters.assign(group, family, number)
    for report in snapshot.capabilities:
        xapp.sites.restore_capability(report)
