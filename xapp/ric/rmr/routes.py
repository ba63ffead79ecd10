"""RMR route tables: which endpoints get a message.

A table is text, one record a line, fields separated by ``|``, a comment from a ``#`` at the start or behind
white space::

    newrt | start [| table id]                    a table that replaces the routes, keeps the meid owners
    rte   | type[,sender...] | groups             the same as mse with subscription id -1
    mse   | type[,sender...] | sub id | groups
    newrt | end [| count]
    updatert | start [| table id] ... updatert | end [| count]      changes: rte, mse, and
    del   | type[,sender...] | sub id
    meid_map | start [| table id]                 changes of the meid owners
    mme_ar  | endpoint | meid meid ...            endpoint owns these
    mme_del | meid meid ...
    meid_map | end [| count [| md5]]

Groups are separated by ``;`` and a message goes to one endpoint of each, in turn; the endpoints of a group
are separated by ``,``. The group ``%meid`` stands for the owner of the message's meid. An entry that names
senders holds only for them. A message is looked up with its subscription id first, then with -1.

Rules of the reader (those of librmr):
- Only an ``end`` of the same kind puts a table into force, all at once. Until then, the old one holds.
- ``end`` with a count that is not the number of entries refuses the table, as does a new ``start`` before
  the ``end``.
- ``updatert`` counts only after a whole ``newrt`` table: from a route manager, or in the same seed file.
- The last of several entries for one type and subscription id holds. Endpoints that are this process are
  left out of groups: nobody sends to himself.
- A record that cannot be understood is left out, and reported. (librmr reads a number that is none as 0; here
  it is a record that cannot be understood. The md5 is not looked at, there neither.)

Source: librmr 4.9, ``rt_generic_static.c``, ``rtable_si_static.c``; "Route Table Guide" of its documentation.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Final, Literal

from xapp.ric.rmr.frame import NO_SUBSCRIPTION

BY_MEID: Final = "%meid"
MAX_RECORDS = 65536
"""More entries in one table refuse it."""

_Kind = Literal["newrt", "updatert", "meid_map"]
_COMMENT = re.compile(r"(^|\s)#.*$")


def parse_endpoint(text: str) -> tuple[str, int]:
    """``host:port``, ``address:port`` or ``[IPv6]:port`` as host (without brackets) and port.

    Raises:
        ValueError: it is none of these.
    """
    host, colon, port = text.rpartition(":")
    if not (colon and host and port.isascii() and port.isdigit() and 0 < int(port) < 65536):
        raise ValueError(f"endpoint {text!r}: host:port is expected")
    return host.removeprefix("[").removesuffix("]"), int(port)


@dataclass(slots=True)
class Route:
    """Where one message type (and subscription id) goes.

    Attributes:
        groups: endpoints by round robin group; ``((BY_MEID,),)`` for the owner of the meid.
        turns: messages that each group has had.
    """

    groups: tuple[tuple[str, ...], ...]
    turns: list[int] = field(default_factory=list)

    def next_endpoints(self) -> tuple[str, ...]:
        """One endpoint of each group; the turn moves on."""
        if not self.turns:
            self.turns = [0] * len(self.groups)
        chosen = tuple(group[turn % len(group)] for group, turn in zip(self.groups, self.turns, strict=True))
        self.turns = [turn + 1 for turn in self.turns]
        return chosen


@dataclass(frozen=True, slots=True)
class RouteTable:
    """A complete table.

    Attributes:
        routes: by message type and subscription id (-1: any).
        owners: endpoint by meid.
    """

    routes: Mapping[tuple[int, int], Route] = field(default_factory=dict)
    owners: Mapping[str, str] = field(default_factory=dict)

    def endpoints(self, mtype: int, sub_id: int, meid: str) -> tuple[str, ...]:
        """Endpoints that get this message; none if there is no route or the meid has no owner."""
        route = self.routes.get((mtype, sub_id))
        if route is None:
            route = self.routes.get((mtype, NO_SUBSCRIPTION))
        if route is None:
            return ()
        if route.groups == ((BY_MEID,),):
            owner = self.owners.get(meid)
            return () if owner is None else (owner,)
        return route.next_endpoints()

    def known_endpoints(self) -> frozenset[str]:
        """All endpoints that the table can choose."""
        listed = {name for route in self.routes.values() for group in route.groups for name in group}
        return frozenset(listed - {BY_MEID} | set(self.owners.values()))


@dataclass(frozen=True, slots=True)
class TableOutcome:
    """What became of one table: taken, or the reason why not. ``table_id`` is empty if it had none."""

    table_id: str
    taken: bool
    reason: str = ""


@dataclass(slots=True)
class _Draft:
    kind: _Kind
    table_id: str
    routes: dict[tuple[int, int], Route]
    owners: dict[str, str]
    records: int = 0


class RouteTableReader:
    """Reads records and keeps the table in force.

    Args:
        own_names: ``host:port`` names of this process.

    Attributes:
        table: the one in force; empty at first.
        problems: what could not be understood in the last :meth:`feed`.
    """

    def __init__(self, own_names: Collection[str] = ()) -> None:
        self.table = RouteTable()
        self.problems: list[str] = []
        self._own_names = frozenset(own_names)
        self._draft: _Draft | None = None
        self._whole_table = False

    def feed(self, text: str, *, seed: bool = False) -> list[TableOutcome]:
        """Take whole records.

        Args:
            seed: the text is a seed file, not sent by a route manager; it starts with no table begun.

        Returns:
            Of every table that ended in them.
        """
        self.problems = []
        whole_table = self._whole_table
        if seed:
            self._draft = None
        outcomes: list[TableOutcome] = []
        for line in text.replace("\0", "\n").splitlines():
            record = _COMMENT.sub("", line).strip()
            if not record:
                continue
            fields = [part.strip() for part in record.split("|")]
            try:
                outcomes += self._take(fields)
            except (ValueError, IndexError) as error:
                cause = "too few fields" if isinstance(error, IndexError) else str(error)
                self.problems.append(f"{record[:120]!r}: {cause}")
        if seed:
            self._draft = None
            self._whole_table = whole_table
        return outcomes

    def _take(self, fields: list[str]) -> list[TableOutcome]:
        # librmr looks at the first letter only, except in m..., so that "nonsense" begins a table there.
        match fields[0]:
            case "newrt" | "meid_map" as kind:
                return self._frame(kind, fields)
            case "updatert" | "update":
                return self._frame("updatert", fields)
            case "rte" | "mse" | "del" | "mme_ar" | "mme_del" as kind:
                self._enter(kind, fields)
            case name:
                raise ValueError(f"unknown record {name!r}")
        return []

    def _frame(self, kind: _Kind, fields: list[str]) -> list[TableOutcome]:
        if fields[1] == "end":
            return [self._end(kind, fields[2] if len(fields) > 2 else "")]
        if kind == "updatert" and not self._whole_table:
            raise ValueError("an update before a whole table from a route manager")
        dropped = [] if self._draft is None else [self._refuse("table not complete")]
        self._draft = _Draft(
            kind,
            fields[2] if len(fields) > 2 else "",
            {} if kind == "newrt" else dict(self.table.routes),
            dict(self.table.owners),
        )
        return dropped

    def _end(self, kind: _Kind, count: str) -> TableOutcome:
        draft = self._draft
        if draft is None or draft.kind != kind:
            raise ValueError("end of a table that was not begun")
        if count and int(count) != draft.records:
            return self._refuse(f"missing table records: expected {count} got {draft.records}")
        if draft.records > MAX_RECORDS:
            return self._refuse(f"{draft.records} records: at most {MAX_RECORDS} are taken")
        self.table = RouteTable(draft.routes, draft.owners)
        self._whole_table = self._whole_table or kind == "newrt"
        self._draft = None
        return TableOutcome(draft.table_id, taken=True)

    def _refuse(self, reason: str) -> TableOutcome:
        table_id = self._draft.table_id if self._draft is not None else ""
        self._draft = None
        return TableOutcome(table_id, taken=False, reason=reason)

    def _enter(self, kind: str, fields: list[str]) -> None:
        draft = self._draft
        if draft is None:
            raise ValueError("a record outside of a table")
        draft.records += 1
        if draft.records > MAX_RECORDS:  # refused at its end; what follows must not fill the memory
            return
        if kind == "mme_ar":
            parse_endpoint(fields[1])
            draft.owners.update(dict.fromkeys(fields[2].split(), fields[1]))
        elif kind == "mme_del":
            for meid in fields[1].split():
                draft.owners.pop(meid, None)
        elif kind == "mse":
            self._enter_route(draft, fields[1], int(fields[2]), fields[3])
        elif kind == "rte":
            sub_id = int(fields[3]) if len(fields) > 3 else NO_SUBSCRIPTION
            self._enter_route(draft, fields[1], sub_id, fields[2])
        else:
            mtype, mine = self._type_field(fields[1])
            if mine:
                draft.routes.pop((mtype, int(fields[2])), None)

    def _type_field(self, text: str) -> tuple[int, bool]:
        """Message type, and whether the entry holds for this process."""
        mtype, *senders = (part.strip() for part in text.split(","))
        return int(mtype), not senders or not self._own_names.isdisjoint(senders)

    def _enter_route(self, draft: _Draft, type_field: str, sub_id: int, group_field: str) -> None:
        mtype, mine = self._type_field(type_field)
        if not mine:
            return
        groups: list[tuple[str, ...]] = []
        for group in group_field.split(";"):
            names = [name.strip() for name in group.split(",") if name.strip()]
            if BY_MEID in names:
                groups = [(BY_MEID,)]
                break
            for name in names:
                parse_endpoint(name)
            others = tuple(name for name in names if name not in self._own_names)
            if others:
                groups.append(others)
        draft.routes[mtype, sub_id] = Route(tuple(groups))
