"""Who is concerned: users of a group and decoder family, or of an adapter, by the site that serves them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Protocol

import numpy as np

from xapp.rollout.orders import RolloutOrder
from xapp.telemetry.user_table import UserTable


class AlignedUsers(Protocol):
    """The part of :class:`xapp.site_alignment.SiteAlignment` needed here."""

    def users_of(self, group: str, adapter: str) -> list[str]: ...


class PopulatedSite(Protocol):
    """The part of :class:`xapp.sites.SiteLink` needed here."""

    @property
    def alignment(self) -> AlignedUsers: ...


class PopulatedSites(Protocol):
    """The part of :class:`xapp.sites.Sites` needed here."""

    def name_of(self, index: int) -> str: ...

    def items(self) -> Iterable[tuple[str, PopulatedSite]]: ...


def population(table: UserTable, sites: PopulatedSites, order: RolloutOrder) -> dict[str, list[str]]:
    """Users that an order concerns, by site."""
    if order.kind == "decoder":
        return users_by_site(table, sites.name_of, order.group, order.family)
    found = {name: site.alignment.users_of(order.group, order.family) for name, site in sites.items()}
    return {name: users for name, users in found.items() if users}


def users_by_site(
    table: UserTable, site_name: Callable[[int], str], group: str, family: str
) -> dict[str, list[str]]:
    """Users by site, as of now; those that no site serves are left out.

    Args:
        site_name: name of a site by its index in the table.
    """
    found: dict[str, list[str]] = {}
    if group not in table.groups.names or family not in table.decoders.names:
        return found
    concerned = (table.group == table.groups.index(group)) & (
        table.decoder == table.decoders.index(family)
    )
    for row in np.flatnonzero(concerned & (table.site >= 0)):
        found.setdefault(site_name(int(table.site[row])), []).append(table.users[row])
    return found
