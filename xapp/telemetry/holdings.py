"""What devices hold: decoder versions on board and conventional codecs, interned as small integers.

Reports come from outside: entries out of range are counted and left out, lengths are bounded. Versions change
for ever, so sets that no user has any more are dropped now and then.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Final

import numpy as np

from codec_runtime.contract.directives import ConventionalCodec
from codec_runtime.contract.telemetry import CapabilityReport
from xapp.telemetry.columns import IntArray

MOST_HELD: Final = 64
"""Decoder versions that one device may report; further ones are left out."""

MOST_NAME: Final = 64
"""Characters of a decoder family's name."""

MOST_VERSION: Final = 2**31 - 1


@dataclass(frozen=True, slots=True)
class Holdings:
    """What one device can restore with.

    Attributes:
        decoders: (family, version) on board; None for a device that takes whatever its site serves.
        fallbacks: conventional codecs, best first.
    """

    decoders: frozenset[tuple[str, int]] | None = None
    fallbacks: tuple[ConventionalCodec, ...] = ()

    def holds(self, family: str, version: int) -> bool:
        """Whether the device restores with that decoder version."""
        return self.decoders is None or (family, version) in self.decoders


UNKNOWN: Final = Holdings()
"""Of a device that said nothing: takes what its site serves, and no conventional codec."""


def read_holdings(report: CapabilityReport, bad: Counter[str]) -> Holdings:
    """Holdings of a report; entries that are left out are counted in ``bad`` under ``holds``."""
    fallbacks = tuple(dict.fromkeys(report.fallbacks))
    if report.holds is None:
        return Holdings(None, fallbacks)
    sound = [
        (held.family, held.version)
        for held in report.holds
        if 0 < len(held.family) <= MOST_NAME and 1 <= held.version <= MOST_VERSION
    ]
    kept = frozenset(sound[:MOST_HELD])
    left_out = len(report.holds) - len(sound[:MOST_HELD])
    if left_out:
        bad["holds"] += left_out
    return Holdings(kept, fallbacks)


class HeldSets:
    """Holdings by index; -1 is :data:`UNKNOWN`.

    Attributes:
        sets: Holdings of index 0, 1, ...
    """

    def __init__(self) -> None:
        self.sets: list[Holdings] = []
        self._index: dict[Holdings, int] = {}

    def index(self, holdings: Holdings) -> int:
        """Index of ``holdings``; new ones get the next."""
        if holdings == UNKNOWN:
            return -1
        found = self._index.get(holdings)
        if found is None:
            found = self._index[holdings] = len(self.sets)
            self.sets.append(holdings)
        return found

    def at(self, index: int) -> Holdings:
        """Holdings of an index."""
        return UNKNOWN if index < 0 else self.sets[index]

    def compact(self, column: IntArray) -> None:
        """Drop the sets that ``column`` (int64 [N], rewritten in place) does not name."""
        used = np.unique(column[column >= 0])
        self.sets = [self.sets[index] for index in used]
        self._index = {holdings: index for index, holdings in enumerate(self.sets)}
        renamed = np.searchsorted(used, column)
        column[:] = np.where(column >= 0, renamed, -1)
