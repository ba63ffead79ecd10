"""The policy instances in force, in the order in which they came, and their snapshot.

Rules:
- A repeated instance with the same content changes nothing, nor its place in the order; a changed one
  becomes the latest. A1 messages carry no sequence number: what came last counts, and a query heals a
  reordering.
- A snapshot never undoes what was heard since the start: an instance received or deleted meanwhile stays so,
  and counts as later than every restored one.
- A *round* is the time between a query and the look at its answers (:mod:`xapp.ric.a1.service`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Final

import msgspec

from xapp.ric.a1.policy_type import A1Policy, PolicyContentError, decode_policy

MAX_INSTANCES: Final = 64
MAX_ID_CHARACTERS: Final = 256
SNAPSHOT_VERSION: Final = 1

_MAX_HEARD = 4096

Check = Callable[[A1Policy, Mapping[str, A1Policy]], None]
"""Called with an instance and the others in force; raises ValueError with the reason it cannot be
followed."""


class SnapshotError(ValueError):
    """Bytes are no snapshot of this version."""


@dataclass(frozen=True, slots=True)
class Instance:
    """One instance; of two with the same scope kind the one with the larger ``order`` came later."""

    instance_id: str
    order: int
    policy: A1Policy


class _Kept(msgspec.Struct, array_like=True):
    instance_id: str
    order: int
    content: bytes


class _Snapshot(msgspec.Struct):
    version: int
    instances: list[_Kept]


class InstanceStore:
    """Instances by id.

    Args:
        max_instances: further ones are refused.

    Attributes:
        revision: grows with every change.
    """

    def __init__(self, max_instances: int = MAX_INSTANCES) -> None:
        self.revision = 0
        self._max_instances = max_instances
        self._instances: dict[str, Instance] = {}
        self._last_order = 0
        self._heard: set[str] | None = set()
        self._confirmed: set[str] = set()
        self._repeated = 0

    def __len__(self) -> int:
        return len(self._instances)

    def all(self) -> tuple[Instance, ...]:
        """Instances, earliest first."""
        return tuple(sorted(self._instances.values(), key=lambda instance: instance.order))

    def others(self, instance_id: str) -> dict[str, A1Policy]:
        """Contents of all instances but one."""
        return {key: kept.policy for key, kept in self._instances.items() if key != instance_id}

    def put(self, instance_id: str, policy: A1Policy) -> bool:
        """Add or replace an instance; returns whether anything changed.

        Raises:
            PolicyContentError: too many instances, or an id that is empty or longer than 256 characters.
        """
        known = self._instances.get(instance_id)
        if known is None:
            if not 1 <= len(instance_id) <= MAX_ID_CHARACTERS:
                raise PolicyContentError(
                    f"policy_instance_id of {len(instance_id)} characters: 1..{MAX_ID_CHARACTERS} are needed"
                )
            if len(self._instances) >= self._max_instances:
                raise PolicyContentError(f"the limit of {self._max_instances} instances is reached")
        self._note(instance_id)
        self._confirmed.add(instance_id)
        if known is not None and known.policy == policy:
            self._repeated += 1
            return False
        self._last_order += 1
        self._instances[instance_id] = Instance(instance_id, self._last_order, policy)
        self.revision += 1
        return True

    def delete(self, instance_id: str) -> bool:
        """Remove an instance; returns whether it was there."""
        self._note(instance_id)
        if self._instances.pop(instance_id, None) is None:
            return False
        self.revision += 1
        return True

    def begin_round(self) -> None:
        """Forget which instances were heard of."""
        self._confirmed.clear()
        self._repeated = 0

    @property
    def answered(self) -> bool:
        """An instance in force was repeated in this round: a query was answered, no operator wrote."""
        return self._repeated > 0

    def unconfirmed(self) -> list[str]:
        """Instances in force that were not heard of in this round."""
        return [key for key in self._instances if key not in self._confirmed]

    def snapshot(self) -> bytes:
        """All instances as bytes."""
        kept = [
            _Kept(instance.instance_id, instance.order, msgspec.json.encode(instance.policy))
            for instance in self.all()
        ]
        return msgspec.msgpack.encode(_Snapshot(SNAPSHOT_VERSION, kept))

    def restore(self, snapshot: bytes | None, check: Check) -> dict[str, str]:
        """Take over a snapshot (None: there is none), once.

        Returns:
            Instances that were left out, with the reason: no longer valid, or too many.

        Raises:
            SnapshotError: nothing was taken over.
        """
        heard, self._heard = self._heard or set(), None
        if snapshot is None:
            return {}
        try:
            read = msgspec.msgpack.decode(snapshot, type=_Snapshot)
        except msgspec.DecodeError as error:
            raise SnapshotError(str(error)) from error
        if read.version != SNAPSHOT_VERSION:
            raise SnapshotError(f"version {read.version}, {SNAPSHOT_VERSION} is known")
        received = self.all()
        refused: dict[str, str] = {}
        self._instances.clear()
        self._last_order = 0
        for kept in sorted(read.instances, key=lambda kept: kept.order):
            if kept.instance_id in heard:
                continue
            try:
                policy = decode_policy(kept.content)
                check(policy, self.others(kept.instance_id))
                if len(self._instances) + len(received) >= self._max_instances:
                    raise PolicyContentError(f"more than {self._max_instances} instances")
            except ValueError as error:
                refused[kept.instance_id] = str(error)
                continue
            self._last_order += 1
            self._instances[kept.instance_id] = Instance(kept.instance_id, self._last_order, policy)
        for instance in received:
            self._last_order += 1
            self._instances[instance.instance_id] = replace(instance, order=self._last_order)
        self.revision += 1
        return refused

    def _note(self, instance_id: str) -> None:
        """Before the snapshot is read: what was heard of is newer than it."""
        if self._heard is not None and len(self._heard) < _MAX_HEARD:
            self._heard.add(instance_id)
