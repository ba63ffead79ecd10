"""Which E2 nodes there are and what they offer: the R-NIB that the platform's e2mgr keeps in the data layer.

Layout (o-ran-sc ``ric-plt/nodeb-rnib``: ``common/utils.go``, ``entities/*.proto``; ``ric-plt/e2mgr``:
``rNibWriter.go``): namespace ``e2Manager``; sets ``GNB`` and ``ENB`` of serialised ``NbIdentity``; key
``RAN:<inventory name>`` a serialised ``NodebInfo``, whose ``gnb`` part lists the RAN functions. The
definition in there is the RANfunction-Description as a hexadecimal string, from the XML of the E2
termination, white space included. The R-NIB keeps no RAN functions of an eNB. Values are bare bytes, no
msgpack.

e2mgr changes an identity by removing the old member of the set and then adding the new one
(``UpdateNbIdentities``), so a node may be absent for a moment: it counts as gone when
:data:`GONE_AFTER` polls in a row miss it. A node whose record is missing or unreadable keeps what was last
known of it. The connection status is that of ``NodebInfo``. Its ``status_update_time_stamp`` (field 14, newer
than ``ricxappframe``'s protobufs) changes with every change of status, which shows a node that went and came
back between two polls.

One poll reads two sets and one key a node; :class:`RnibWatch` bounds its time and backs off while the data
layer is away.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal, Protocol

from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
from ricxappframe.entities.rnib import nb_identity_pb2, nodeb_info_pb2

from xapp.ric.sdl import Sdl, SdlRejected, SdlUnavailable

NAMESPACE: Final = "e2Manager"
NODE_TYPES: Final = ("GNB", "ENB")
GONE_AFTER: Final = 2
MOST_NODES: Final = 4096
"""More identities than this in one set are not read; the rest is ignored and counted."""

_STATUS: Final = (
    "unknown",
    "connected",
    "disconnected",
    "setup-failed",
    "connecting",
    "shutting-down",
    "shut-down",
    "under-reset",
)
"""By number of ``ConnectionStatus`` in ``nb_identity.proto``."""

_STATUS_SINCE: Final = 14

_SERVICE_MODEL = re.compile(r"1\.3\.6\.1\.4\.1\.53148\.1\.(\d+)\.2\.(\d+)")
_MODELS: Final = {"2": "KPM", "3": "RC"}

_log = logging.getLogger(__name__)

ChangeKind = Literal["appeared", "connected", "disconnected", "functions", "gone"]


@dataclass(frozen=True, slots=True)
class RanFunction:
    """One RAN function of an E2 node.

    Attributes:
        id: RANfunctionID, 0..4095.
        definition: RANfunction-Description, APER; empty where the R-NIB's string is not hexadecimal.
        revision: changes with the definition.
        oid: of the service model, e.g. ``1.3.6.1.4.1.53148.1.2.2.2`` (KPM 2) or ``...53148.1.1.2.3`` (RC 1);
            may be empty.
    """

    id: int
    definition: bytes
    revision: int
    oid: str

    @property
    def service_model(self) -> tuple[str, int] | None:
        """Name (KPM, RC) and major version from the OID; None if it says something else or nothing."""
        found = _SERVICE_MODEL.fullmatch(self.oid.strip())
        if found is None or found[2] not in _MODELS:
            return None
        return _MODELS[found[2]], int(found[1])


@dataclass(frozen=True, slots=True)
class E2NodeInfo:
    """One E2 node as the R-NIB has it.

    Attributes:
        name: inventory name, which is the RMR meid.
        kind: ``GNB`` or ``ENB``.
        status: ``connected``, ``disconnected``, ... (``ConnectionStatus``).
        functions: by id.
        e2_termination: RMR address of the E2 termination that serves it; may be empty.
        status_since_ns: Unix time of the last change of status; 0 where e2mgr does not write it.
    """

    name: str
    kind: str
    status: str
    functions: tuple[RanFunction, ...] = ()
    e2_termination: str = ""
    status_since_ns: int = 0

    @property
    def connected(self) -> bool:
        """It can be subscribed to."""
        return self.status == "connected"


@dataclass(frozen=True, slots=True)
class RnibChange:
    """What happened to a node.

    Attributes:
        kind: ``appeared`` (connected or not: see the node), ``connected`` (also again, between two polls: its
            subscriptions are lost), ``disconnected`` (any status that is not connected), ``functions`` (while
            connected), ``gone``.
        node: as it is now; as it was last, for ``gone``.
    """

    kind: ChangeKind
    node: E2NodeInfo


@dataclass(slots=True)
class RnibCounters:
    """Since the start.

    Attributes:
        polls, failed_polls: completed; given up because the data layer failed or was too slow.
        bad_records: identities or nodes that are not the protobuf they should be.
        missing_records: identities without a ``RAN:`` key.
        bad_definitions: RAN functions whose definition is not hexadecimal.
        callback_errors: exceptions of the change callback.
    """

    polls: int = 0
    failed_polls: int = 0
    bad_records: int = 0
    missing_records: int = 0
    bad_definitions: int = 0
    callback_errors: int = 0


class RnibSource(Protocol):
    """Raw access to the R-NIB's namespace."""

    async def members(self, group: str) -> set[bytes]:
        """Members of a set; empty if there is none."""

    async def get(self, key: str) -> bytes | None:
        """Value of a key."""


class RnibSdl(Sdl):
    """The R-NIB's namespace in the shared data layer, with a thread and connection of its own.

    Args: as :class:`xapp.ric.sdl.Sdl`, without the namespace.
    """

    def __init__(self, *, timeout_s: float = 1.0, max_waiting: int = 64) -> None:
        super().__init__(namespace=NAMESPACE, timeout_s=timeout_s, max_waiting=max_waiting)

    async def members(self, group: str) -> set[bytes]:
        """Members of a set; empty if there is none.

        Raises:
            SdlUnavailable, SdlRejected.
        """
        found = await self._call(lambda wrapper: wrapper.get_members(NAMESPACE, group, usemsgpack=False))
        return {bytes(member) for member in found}


@dataclass
class RnibReader:
    """Reads whole states of the R-NIB.

    Args:
        source: where from.
        counters: what went wrong is counted here.
    """

    source: RnibSource
    counters: RnibCounters = field(default_factory=RnibCounters)
    _logged: set[str] = field(default_factory=set)

    async def read(self) -> dict[str, E2NodeInfo | None]:
        """All nodes by inventory name; None for one whose record is missing or unreadable.

        Raises:
            SdlUnavailable, SdlRejected.
        """
        nodes: dict[str, E2NodeInfo | None] = {}
        for kind in NODE_TYPES:
            for name in self._names(kind, await self.source.members(kind)):
                raw = await self.source.get(f"RAN:{name}")
                if raw is None:
                    self.counters.missing_records += 1
                    nodes[name] = None
                    continue
                try:
                    nodes[name] = parse_node(name, kind, raw, self.counters)
                except ValueError as error:
                    self.counters.bad_records += 1
                    self._warn_once(name, str(error))
                    nodes[name] = None
        return nodes

    def _names(self, kind: str, members: Iterable[bytes]) -> list[str]:
        names: set[str] = set()
        for member in members:
            identity = nb_identity_pb2.NbIdentity()
            try:
                identity.ParseFromString(member)
            except (DecodeError, ValueError):  # ValueError: a string that is not UTF-8
                identity.Clear()
            if not identity.inventory_name:
                self.counters.bad_records += 1
                self._warn_once(kind, f"a member of {kind} is no NbIdentity with a name: {member[:32].hex()}")
            elif len(names) >= MOST_NODES:
                self.counters.bad_records += 1
                self._warn_once(kind, f"more than {MOST_NODES} members of {kind}; the rest is ignored")
            else:
                names.add(identity.inventory_name)
        return sorted(names)

    def _warn_once(self, subject: str, text: str) -> None:
        if subject not in self._logged and len(self._logged) < MOST_NODES:
            self._logged.add(subject)
            _log.warning("R-NIB record is not usable", extra={"e2_node": subject[:100], "reason": text})


def parse_node(name: str, kind: str, raw: bytes, counters: RnibCounters | None = None) -> E2NodeInfo:
    """Parse the value of ``RAN:<name>``.

    Raises:
        ValueError: not a ``NodebInfo``, or one of another node.
    """
    info = nodeb_info_pb2.NodebInfo()
    try:
        info.ParseFromString(raw)
    except (DecodeError, ValueError) as error:
        raise ValueError(f"RAN:{name} is no NodebInfo protobuf: {error}") from None
    if info.ran_name != name:
        raise ValueError(f"RAN:{name} is the record of {info.ran_name!r}")
    functions = []
    for function in info.gnb.ran_functions:
        try:
            definition = bytes.fromhex("".join(function.ran_function_definition.split()))
        except ValueError:
            definition = b""
            if counters is not None:
                counters.bad_definitions += 1
        functions.append(
            RanFunction(
                id=function.ran_function_id,
                definition=definition,
                revision=function.ran_function_revision,
                oid=function.ran_function_oid,
            )
        )
    status = int(info.connection_status)
    return E2NodeInfo(
        name=name,
        kind=kind,
        status=_STATUS[status] if 0 <= status < len(_STATUS) else "unknown",
        functions=tuple(sorted(functions, key=lambda function: function.id)),
        e2_termination=info.associated_e2t_instance_address,
        status_since_ns=next((f.data for f in info.UnknownFields() if f.field_number == _STATUS_SINCE), 0),
    )


class RnibState:
    """The nodes known so far; pure.

    Attributes:
        nodes: by name.
    """

    def __init__(self) -> None:
        self.nodes: dict[str, E2NodeInfo] = {}
        self._missed: dict[str, int] = {}

    def update(self, read: Mapping[str, E2NodeInfo | None]) -> list[RnibChange]:
        """Take one reading; returns what changed, a reconnection together with new functions as one change
        ``connected``."""
        changes: list[RnibChange] = []
        for name, node in read.items():
            self._missed.pop(name, None)
            before = self.nodes.get(name)
            if node is None or node == before:
                continue
            self.nodes[name] = node
            if before is None:
                changes.append(RnibChange("appeared", node))
            elif node.connected and (not before.connected or node.status_since_ns != before.status_since_ns):
                changes.append(RnibChange("connected", node))
            elif before.connected and not node.connected:
                changes.append(RnibChange("disconnected", node))
            elif node.connected and node.functions != before.functions:
                changes.append(RnibChange("functions", node))
        for name in [name for name in self.nodes if name not in read]:
            self._missed[name] = self._missed.get(name, 0) + 1
            if self._missed[name] >= GONE_AFTER:
                del self._missed[name]
                changes.append(RnibChange("gone", self.nodes.pop(name)))
        return changes


class RnibWatch:
    """Polls the R-NIB and tells of changes.

    Args:
        reader: of the R-NIB.
        on_change: called on the event loop for every change; an exception of it is counted and logged.
        period_s: between polls; doubles up to ``longest_period_s`` while polls fail.
        timeout_s: longest time of one poll.

    Attributes:
        state: what is known.
        reachable: None before the first poll, then whether the last one succeeded.
    """

    def __init__(
        self,
        reader: RnibReader,
        on_change: Callable[[RnibChange], None],
        *,
        period_s: float = 2.0,
        longest_period_s: float = 30.0,
        timeout_s: float = 10.0,
    ) -> None:
        self.state = RnibState()
        self.reachable: bool | None = None
        self._reader = reader
        self._on_change = on_change
        self._period_s = period_s
        self._longest_period_s = max(longest_period_s, period_s)
        self._timeout_s = timeout_s

    @property
    def counters(self) -> RnibCounters:
        """What happened so far."""
        return self._reader.counters

    async def poll(self) -> Sequence[RnibChange]:
        """Read once and tell of the changes; none when the data layer fails (counted)."""
        try:
            async with asyncio.timeout(self._timeout_s):
                read = await self._reader.read()
        except (SdlUnavailable, SdlRejected, TimeoutError) as error:
            self.counters.failed_polls += 1
            if self.reachable is not False:
                text = str(error) or f"no answer within {self._timeout_s:g} s"
                _log.warning("R-NIB cannot be read; the known E2 nodes stay", extra={"reason": text})
            self.reachable = False
            return ()
        self.counters.polls += 1
        self.reachable = True
        changes = self.state.update(read)
        for change in changes:
            try:
                self._on_change(change)
            except Exception:
                self.counters.callback_errors += 1
                _log.exception(
                    "change of an E2 node was not handled",
                    extra={"e2_node": change.node.name, "change": change.kind},
                )
        return changes

    async def run(self) -> None:
        """Poll until cancelled."""
        wait = self._period_s
        while True:
            await self.poll()
            wait = self._period_s if self.reachable else min(2.0 * wait, self._longest_period_s)
            await asyncio.sleep(wait)
