"""Which pictures a device restores a second time, with the parent of the version that it has got. Pure.

The first ones with a version that is new to it: what the version does is then known from the same pictures,
whatever their content (:mod:`xapp.rollout.paired`), and the cost, one more decoding each, comes to an end.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping

COMPARED = 64
"""Pictures of a device and version."""

Version = tuple[str, int]
"""Decoder family and version."""


class Comparisons:
    """Of all devices.

    Attributes:
        parents: of every version that the site serves its parent, None for a base; kept up by
            :mod:`xapp.lab.device_updates`.
    """

    def __init__(self) -> None:
        self.parents: Mapping[Version, int | None] = {}
        self._begun: Counter[tuple[int, Version]] = Counter()

    def parent(self, device: int, version: Version, held: Collection[Version] | None) -> int | None:
        """Parent version to restore this picture with too, None for no second time; counts it.

        Args:
            held: versions on the device, None for whatever the site serves.
        """
        parent = self.parents.get(version)
        if parent is None or (version[0], parent) not in (self.parents if held is None else held):
            return None
        if self._begun[device, version] >= COMPARED:
            return None
        self._begun[device, version] += 1
        return parent
