"""What outlives the xApp process: a snapshot in the RIC's shared data layer, written every few seconds.

Rules: nothing is written before an earlier snapshot was looked for, so that a start while Redis is away does
not erase it; a snapshot of an unknown shape is reported and ignored.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from typing import Any, Final, Protocol

import msgspec

from codec_runtime.contract.telemetry import CapabilityReport
from xapp.ric.sdl import SdlRejected, SdlUnavailable

_log = logging.getLogger(__name__)

SNAPSHOT_KEY: Final = "snapshot"
SNAPSHOT_VERSION: Final = 1


class KeyValueStore(Protocol):
    """The part of :class:`xapp.ric.sdl.Sdl` needed here."""

    async def get(self, key: str) -> bytes | None: ...

    async def set(self, key: str, value: bytes) -> None: ...


class Snapshot(msgspec.Struct, frozen=True, kw_only=True):
    """Persisted state.

    Attributes:
        assigned: (group, decoder family, version) delivered to the one site of ``runtime_url``.
        site_assigned: the same by name of the site where ``sites`` names them.
        adapters_assigned: (group, adapter, version) by label of the site, empty for the one of
            ``runtime_url``.
        planner: from :meth:`xapp.updates.planner.UpdatePlanner.snapshot`.
        capabilities: last report of each user: devices announce themselves rarely.
        subscriptions: phase by E2 node; tuf: metadata versions. Both for people.
    """

    version: int = SNAPSHOT_VERSION
    written_ns: int
    instance: str
    assigned: list[tuple[str, str, int]]
    planner: dict[str, Any]
    capabilities: list[CapabilityReport]
    subscriptions: dict[str, str]
    tuf: dict[str, int]
    site_assigned: dict[str, list[tuple[str, str, int]]] = {}
    adapters_assigned: dict[str, list[tuple[str, str, int]]] = {}


class StateKeeper:
    """Loads the snapshot once, then writes it every ``period_s`` while the store answers.

    Args:
        store: shared data layer. take: makes a snapshot. restore: takes an earlier one over.
    """

    def __init__(
        self,
        store: KeyValueStore,
        take: Callable[[], Snapshot],
        restore: Callable[[Snapshot], None],
        period_s: float,
    ) -> None:
        self._store = store
        self._take = take
        self._restore = restore
        self._period_s = period_s
        self._looked = False
        self.written = 0

    async def run(self) -> None:
        """Load, then write, until cancelled."""
        while True:
            await self.write()
            await asyncio.sleep(self._period_s if self._looked else min(self._period_s, 0.5))

    async def write(self) -> bool:
        """Write now (after having looked for an earlier snapshot); False when the store is away."""
        try:
            if not self._looked:
                self._take_over(await self._store.get(SNAPSHOT_KEY))
                self._looked = True
            await self._store.set(SNAPSHOT_KEY, msgspec.msgpack.encode(self._take()))
        except SdlUnavailable:
            return False
        except SdlRejected as error:
            _log.error("snapshot was rejected", extra={"reason": str(error)})
            return False
        self.written += 1
        return True

    def _take_over(self, value: bytes | None) -> None:
        if value is None:
            return
        try:
            snapshot = msgspec.msgpack.decode(value, type=Snapshot)
            if snapshot.version != SNAPSHOT_VERSION:
                raise ValueError(f"version {snapshot.version}, {SNAPSHOT_VERSION} is known")
            self._restore(snapshot)
        except (msgspec.DecodeError, KeyError, TypeError, ValueError) as error:
            _log.error("earlier snapshot is ignored", extra={"reason": f"{type(error).__name__}: {error}"})
            return
        age_s = (time.time_ns() - snapshot.written_ns) / 1e9
        _log.info("state of an earlier run taken over", extra={"age_s": round(age_s, 1)})
