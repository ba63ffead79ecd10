"""What the users' devices hold: they download what their site serves, each after a while of its own.

:class:`Fleet` is pure (time comes in); :class:`DeviceUpdates` asks the runtime what it serves.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence

import httpx
import msgspec
import numpy as np

from codec_runtime.contract import paths
from codec_runtime.contract.telemetry import DeviceClass
from codec_runtime.contract.updates import SiteStatus
from xapp.lab.comparison import Comparisons, Version
from xapp.lab.telemetry_reports import DEVICE_CAPABILITY

logger = logging.getLogger(__name__)

KEPT = 8
"""Versions of a family that a device keeps; the oldest give way."""


class Fleet:
    """Devices of all users.

    A device is sold with what its site serves at the first look, and downloads what appears later. Of a class
    without decoders it holds none ever; of one without updates only the first ones.

    Args:
        classes: device class of each user.
        delay_s: mean time from the appearance of a version to its being on board; 0.5 to 1.5 times that.
        seed: of the delays.
        no_updates, no_decoders: device classes, empty for none.
    """

    def __init__(
        self,
        classes: Sequence[DeviceClass],
        delay_s: float,
        seed: int,
        *,
        no_updates: str = "",
        no_decoders: str = "",
    ) -> None:
        self._classes = classes
        self._delay_s = delay_s
        self._random = np.random.default_rng([seed, 909])
        self._no_updates = no_updates
        self._no_decoders = no_decoders
        self._seen: frozenset[Version] | None = None
        self._held: list[frozenset[Version]] = [frozenset() for _ in classes]
        self._due: list[tuple[float, int, Version]] = []

    def holds(self, index: int) -> frozenset[Version] | None:
        """What the device of a user holds; None before the first look, when it takes what comes."""
        if self._classes[index] == self._no_decoders:
            return frozenset()
        return None if self._seen is None else self._held[index]

    def look(self, served: frozenset[Version], now_s: float) -> list[int]:
        """The site serves these versions now; returns the users whose device holds something new."""
        first = self._seen is None
        new = served - (self._seen or frozenset())
        self._seen = served if self._seen is None else self._seen | served
        for index, device_class in enumerate(self._classes):
            families = () if device_class == self._no_decoders else DEVICE_CAPABILITY[device_class].decoders
            mine = frozenset(version for version in new if version[0] in families)
            if first:
                self._held[index] = mine
            elif device_class != self._no_updates:
                waits = self._random.uniform(0.5, 1.5, len(mine)) * self._delay_s
                self._due += [(now_s + wait, index, v) for wait, v in zip(waits, sorted(mine), strict=True)]
        changed = self._download(now_s)
        return list(range(len(self._classes))) if first else changed

    def _download(self, now_s: float) -> list[int]:
        """Take over what has arrived."""
        arrived = [item for item in self._due if item[0] <= now_s]
        self._due = [item for item in self._due if item[0] > now_s]
        for _, index, (family, version) in arrived:
            ours = sorted(v for f, v in self._held[index] if f == family)
            dropped = {(family, v) for v in ours[: max(0, len(ours) + 1 - KEPT)]}
            self._held[index] = (self._held[index] - dropped) | {(family, version)}
        return sorted({index for _, index, _ in arrived})


class DeviceUpdates:
    """Keeps a fleet up with the runtime.

    Args:
        fleet: of devices. http: client whose base URL is the runtime.
        on_change: told of the users whose device holds something new.
        clock: seconds.
        comparisons: told the parents of what is served.
        timeout_s: of one request.
    """

    def __init__(
        self,
        fleet: Fleet,
        http: httpx.AsyncClient,
        on_change: Callable[[list[int]], None],
        clock: Callable[[], float],
        comparisons: Comparisons | None = None,
        timeout_s: float = 2.0,
    ) -> None:
        self._fleet = fleet
        self._http = http
        self._on_change = on_change
        self._clock = clock
        self._comparisons = comparisons or Comparisons()
        self._timeout_s = timeout_s

    async def run(self, period_s: float = 0.5) -> None:
        """Look every period until cancelled; waits longer while the runtime is away."""
        wait = period_s
        while True:
            wait = period_s if await self.look() else min(2.0 * wait, 4.0)
            await asyncio.sleep(wait)

    async def look(self) -> bool:
        """Look once; False when the runtime did not answer."""
        try:
            async with asyncio.timeout(self._timeout_s):
                response = await self._http.get(paths.SITE)
            response.raise_for_status()
            status = msgspec.msgpack.decode(response.content, type=SiteStatus)
        except (httpx.HTTPError, TimeoutError, msgspec.MsgspecError) as error:
            logger.debug("devices cannot see what is served", extra={"reason": str(error)})
            return False
        parents = {(m.name, m.version): m.parent for m in status.models if m.kind == "decoder"}
        self._comparisons.parents = parents
        changed = self._fleet.look(frozenset(parents), self._clock())
        if changed:
            self._on_change(changed)
        return True
