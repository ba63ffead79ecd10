"""What the devices of this site hold, from their capability reports: so that nothing is withdrawn by mistake.

A device that was not heard of for :data:`FORGET_S` is forgotten, and so are the longest silent ones beyond
:data:`MAX_DEVICES`: who left must not keep a version loaded for ever.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass

from codec_runtime.contract.directives import ConventionalCodec
from codec_runtime.contract.telemetry import CapabilityReport

FORGET_S = 3600.0
MAX_DEVICES = 100_000
MAX_HELD = 64
"""Versions of one device that count."""

DecoderKey = tuple[str, int]
"""Family and version."""


@dataclass(frozen=True)
class Device:
    """What one device said last.

    Attributes:
        holds: decoders on board, None for a device that takes whatever the site serves.
        families: that it can run, best first.
        fallbacks: conventional codecs, best first.
    """

    heard_s: float
    holds: frozenset[DecoderKey] | None
    families: tuple[str, ...]
    fallbacks: tuple[ConventionalCodec, ...]

    def takes(self, decoder: DecoderKey) -> bool:
        """Whether it restores with that decoder version."""
        return self.holds is None or decoder in self.holds


class Devices:
    """Devices by user; used from the event loop.

    Args:
        clock: seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._by_user: OrderedDict[str, Device] = OrderedDict()

    def __len__(self) -> int:
        return len(self._by_user)

    def note(self, report: CapabilityReport) -> None:
        """Take over what a device says about itself."""
        now = self._clock()
        holds = None
        if report.holds is not None:
            holds = frozenset((held.family, held.version) for held in report.holds[:MAX_HELD])
        families = tuple(dict.fromkeys(report.decoders[:MAX_HELD]))
        fallbacks = tuple(dict.fromkeys(report.fallbacks))
        self._by_user[report.user] = Device(now, holds, families, fallbacks)
        self._by_user.move_to_end(report.user)
        self._forget(now)

    def _forget(self, now: float) -> None:
        while self._by_user:
            oldest = next(iter(self._by_user.values()))
            if len(self._by_user) <= MAX_DEVICES and now - oldest.heard_s <= FORGET_S:
                return
            self._by_user.popitem(last=False)

    def of(self, user: str) -> Device | None:
        """What is known of a user's device."""
        return self._by_user.get(user)

    def spared(
        self, served: Collection[DecoderKey], spare: Iterable[DecoderKey], most: int
    ) -> list[DecoderKey]:
        """Which of ``spare``, the first ones first, can go without leaving a device with nothing.

        A device that holds none of ``served`` has nothing to lose.

        Args:
            most: how many are to go.
        """
        self._forget(self._clock())
        remaining = set(served)
        holdings = {d.holds & remaining for d in self._by_user.values() if d.holds is not None}
        going: list[DecoderKey] = []
        for key in spare:
            if len(going) >= most:
                break
            if not any(key in held and not (held & remaining) - {key} for held in holdings):
                going.append(key)
                remaining.discard(key)
        return going
