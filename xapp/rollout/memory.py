"""What is kept of roll-outs across restarts: one value in the RIC's shared data layer.

Written after every move and, while reports are being counted, every few seconds. Nothing is written before an
earlier value was looked for. A value of an unknown version or shape is reported and left unread.
"""

from __future__ import annotations

import logging
from typing import Final

import msgspec

from xapp.persistence import KeyValueStore
from xapp.ric.sdl import SdlRejected, SdlUnavailable
from xapp.rollout.observations import Observations
from xapp.rollout.state import Rollout

ROLLOUTS_KEY: Final = "rollouts"
ROLLOUTS_VERSION: Final = 1
MAX_ROLLOUTS: Final = 50
"""Ended roll-outs that are remembered."""

_log = logging.getLogger(__name__)


class Remembered(msgspec.Struct, frozen=True, kw_only=True):
    """The value: oldest roll-out first; observations of those that have not ended, by id."""

    version: int = ROLLOUTS_VERSION
    rollouts: list[Rollout]
    observations: dict[str, Observations] = {}


class _Versioned(msgspec.Struct, frozen=True):
    version: int


def decode(value: bytes) -> Remembered | None:
    """What was remembered; None, with a log line, for what this program cannot read."""
    try:
        version = msgspec.msgpack.decode(value, type=_Versioned).version
        if version != ROLLOUTS_VERSION:
            raise ValueError(f"version {version}, {ROLLOUTS_VERSION} is known")
        return msgspec.msgpack.decode(value, type=Remembered)
    except (msgspec.DecodeError, ValueError) as error:
        _log.error("earlier roll-outs are ignored", extra={"reason": str(error)})
        return None


def bounded(rollouts: list[Rollout]) -> list[Rollout]:
    """The newest ones; none that is still active or owes a site something is forgotten for an ended one."""
    ended = [r for r in rollouts if not r.active and not any(s.owed for s in r.sites.values())]
    surplus = {r.id for r in ended[: max(len(ended) - MAX_ROLLOUTS, 0)]}
    return [r for r in rollouts if r.id not in surplus][-4 * MAX_ROLLOUTS :]


class RolloutMemory:
    """Loads once, then writes.

    Args:
        store: shared data layer.

    Attributes:
        looked: whether an earlier value has been looked for.
    """

    def __init__(self, store: KeyValueStore) -> None:
        self._store = store
        self.looked = False

    async def load(self) -> Remembered | None:
        """What an earlier process left, the first time that the store answers; None before and afterwards."""
        if self.looked:
            return None
        try:
            value = await self._store.get(ROLLOUTS_KEY)
        except SdlUnavailable:
            return None
        except SdlRejected as error:
            _log.error("earlier roll-outs cannot be read", extra={"reason": str(error)})
            value = None
        self.looked = True
        return None if value is None else decode(value)

    async def save(self, rollouts: list[Rollout], observations: dict[str, Observations]) -> bool:
        """Write; False when the store is away, and then it should be tried again."""
        if not self.looked:
            return False
        kept = {r.id: observations[r.id] for r in rollouts if r.active and r.id in observations}
        try:
            value = msgspec.msgpack.encode(Remembered(rollouts=rollouts, observations=kept))
            await self._store.set(ROLLOUTS_KEY, value)
        except SdlUnavailable:
            return False
        except SdlRejected as error:
            _log.error("roll-outs were rejected by the store", extra={"reason": str(error)})
            return False
        return True
