"""Who is concerned: users of a group and decoder family, by the site that serves them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from xapp.telemetry.user_table import UserTable


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
