"""The R-NIB as the platform's e2mgr would write it, for emulated E2 nodes.

Writes what :mod:`xapp.ric.rnib` documents, and the second key under which e2mgr keeps the same record
(``GNB:<PLMN id>:<node id>``). Blocking calls: the lab's start-up, tests and tools use it, no event loop.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from ricxappframe.entities.rnib import nb_identity_pb2, nodeb_info_pb2

from xapp.ric.rnib import NAMESPACE, RanFunction

KPM_OID: Final = "1.3.6.1.4.1.53148.1.2.2.2"
"""Of KPM 2 and later, as srsRAN writes it."""

_GNB: Final = "GNB"
_STATUS_SINCE_TAG: Final = 14 << 3
"""``status_update_time_stamp``, a varint that ``ricxappframe``'s protobufs do not know."""


@dataclass
class LabRnib:
    """One R-NIB.

    Args:
        e2_termination: RMR address written as the serving E2 termination.
        wrapper: an ``SDLWrapper``; by default one that ``DBAAS_SERVICE_HOST`` and ``DBAAS_SERVICE_PORT`` say.

    Raises:
        ConnectionError: ``DBAAS_SERVICE_HOST`` is not set and no wrapper is given.
    """

    e2_termination: str = "127.0.0.1:38000"
    wrapper: Any = None
    _members: dict[str, bytes] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.wrapper is None:
            if not os.environ.get("DBAAS_SERVICE_HOST"):
                raise ConnectionError("DBAAS_SERVICE_HOST is not set: it names the Redis of the RIC")
            # Delayed: the import pulls redis.
            from ricxappframe.xapp_sdl import SDLWrapper  # noqa: PLC0415

            self.wrapper = SDLWrapper(use_fake_sdl=False)

    def save(
        self,
        name: str,
        functions: Sequence[RanFunction],
        *,
        connected: bool = True,
        plmn_id: str = "00F110",
        node_id: str | None = None,
        status_since_ns: int = 0,
    ) -> None:
        """Write a gNB or replace it; its connection status is that of ``connected``.

        Args:
            name: inventory name, the RMR meid.
            functions: RAN functions; definitions are written as upper-case hexadecimal.
            plmn_id: three octets in hexadecimal. node_id: bit string; made from the name by default.
            status_since_ns: Unix time of the last change of status; 0 leaves it out, as older e2mgr do.
        """
        status = nb_identity_pb2.CONNECTED if connected else nb_identity_pb2.DISCONNECTED
        node_id = node_id or f"{sum(name.encode()):022b}"
        info = nodeb_info_pb2.NodebInfo(
            ran_name=name,
            connection_status=status,
            node_type=nodeb_info_pb2.Node.GNB,
            associated_e2t_instance_address=self.e2_termination if connected else "",
            setup_from_network=True,
        )
        info.global_nb_id.plmn_id, info.global_nb_id.nb_id = plmn_id, node_id
        info.gnb.SetInParent()
        for function in functions:
            info.gnb.ran_functions.add(
                ran_function_id=function.id,
                ran_function_definition=function.definition.hex().upper(),
                ran_function_revision=function.revision,
                ran_function_oid=function.oid,
            )
        record = info.SerializeToString()
        if status_since_ns:
            record += bytes([_STATUS_SINCE_TAG]) + _varint(status_since_ns)
        for key in (f"RAN:{name}", f"{_GNB}:{plmn_id}:{node_id}"):
            self.wrapper.set(NAMESPACE, key, record, usemsgpack=False)
        identity = nb_identity_pb2.NbIdentity(inventory_name=name, connection_status=status)
        identity.global_nb_id.plmn_id, identity.global_nb_id.nb_id = plmn_id, node_id
        member = identity.SerializeToString()
        # In e2mgr's order: the old member goes first.
        self._forget(name, member)
        self.wrapper.add_member(NAMESPACE, _GNB, member, usemsgpack=False)
        self._members[name] = member

    def remove(self, name: str) -> None:
        """Remove a gNB that :meth:`save` wrote; nothing happens if it did not."""
        self._forget(name, b"")
        self.wrapper.delete(NAMESPACE, f"RAN:{name}")

    def _forget(self, name: str, but: bytes) -> None:
        member = self._members.pop(name, None)
        if member is not None and member != but:
            self.wrapper.remove_member(NAMESPACE, _GNB, member, usemsgpack=False)


def _varint(value: int) -> bytes:
    encoded = bytearray()
    while value > 0x7F:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)
