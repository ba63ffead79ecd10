"""The alignment of one site: adapters that it serves, who uses them, and the table that says who gets which.

The table is always a whole one, so whatever is lost on the way, in a restart of the runtime or of this
process, is made good by the next. It is sent when it changed, when the runtime restarted, and until it is
acknowledged, with a growing pause.
"""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Final

from codec_runtime.contract.alignment import (
    AdapterAssignment,
    AdapterTable,
    AdapterTableAck,
    AlignmentReport,
)
from codec_runtime.contract.bundle import BundleManifest
from xapp.policy.adapters import AdapterCatalog
from xapp.runtime_client import RuntimeRefused, RuntimeUnavailable
from xapp.telemetry.user_table import UNKNOWN_GROUP, UserTable

PERIOD_S: Final = 0.5
LONGEST_S: Final = 10.0
FORGET_S: Final = 60.0
"""After which a user that aligns nothing any more is left out of tables and roll-outs."""
MAX_USERS: Final = 10_000

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class AlignedUser:
    """Attributes: adapter: that its tokens went through at last; heard_s: when that was told."""

    adapter: str
    heard_s: float


class SiteAlignment:
    """See the module docstring.

    Args:
        put: brings a table to the runtime.
        table: knows the users' groups. issuer: of the tables. clock: monotonic seconds.
        site: label, for people.
    """

    def __init__(
        self,
        put: Callable[[AdapterTable], Awaitable[AdapterTableAck]],
        table: UserTable,
        issuer: str,
        clock: Callable[[], float],
        site: str = "",
    ) -> None:
        self.catalog = AdapterCatalog()
        self._put = put
        self._table = table
        self._issuer = issuer
        self._clock = clock
        self._site = site
        self._users: OrderedDict[str, AlignedUser] = OrderedDict()
        self._acknowledged: list[AdapterAssignment] | None = []
        self._sequence = 0

    def publish(self, models: Sequence[BundleManifest]) -> bool:
        """The site serves these bundles; returns whether its adapters changed."""
        return self.catalog.update(models)

    def note_report(self, report: AlignmentReport) -> None:
        """A user's samples were aligned."""
        self._users[report.user] = AlignedUser(report.adapter, self._clock())
        self._users.move_to_end(report.user)
        if len(self._users) > MAX_USERS:
            self._users.popitem(last=False)

    def resend(self) -> None:
        """The runtime restarted: it holds no table."""
        self._acknowledged = None

    def users_of(self, group: str, adapter: str) -> list[str]:
        """Users of a group whose tokens the adapter aligned lately, by name."""
        self._forget()
        return sorted(
            user
            for user, known in self._users.items()
            if known.adapter == adapter and self._group(user) == group
        )

    def assignments(self) -> list[AdapterAssignment]:
        """The table as it should be: users for whom the site's own choice is not the right one."""
        self._forget()
        found = []
        for user in sorted(self._users):
            adapter = self._users[user].adapter
            version = self.catalog.told(user, self._group(user), adapter)
            if version is not None:
                found.append(AdapterAssignment(user=user, adapter=adapter, version=version))
        return found

    async def run(self) -> None:
        """Keep the runtime's table right until cancelled."""
        wait = PERIOD_S
        while True:
            await asyncio.sleep(wait)
            wait = PERIOD_S if await self.send() else min(2.0 * wait, LONGEST_S)

    async def send(self) -> bool:
        """Send the table if it is due; False when that should be tried again later."""
        wanted = self.assignments()
        if wanted == self._acknowledged:
            return True
        self._sequence += 1
        table = AdapterTable(issuer=self._issuer, sequence=self._sequence, assignments=wanted)
        restarted = self._acknowledged is None
        try:
            ack = await self._put(table)
        except (RuntimeUnavailable, RuntimeRefused) as error:
            if not restarted or wanted:
                _log.warning("adapters are not assigned", extra={"site": self._site, "reason": str(error)})
            return False
        if ack.rejected:
            # It lost a version since it was asked; the catalog will say so, and another table follows.
            _log.warning("adapters rejected", extra={"site": self._site, "first": ack.rejected[0]})
            return False
        self._acknowledged = wanted
        return True

    def _group(self, user: str) -> str:
        row = self._table.row(user)
        return UNKNOWN_GROUP if row is None else self._table.group_name(row)

    def _forget(self) -> None:
        oldest = self._clock() - FORGET_S
        while self._users and next(iter(self._users.values())).heard_s < oldest:
            self._users.popitem(last=False)
