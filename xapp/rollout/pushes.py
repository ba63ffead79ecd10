"""The pushes of the roll-outs: one task a site and roll-out, so that no site waits for another.

A site that is owed its step is asked again after :data:`FIRST_RETRY_S`, later up to :data:`LONGEST_RETRY_S`.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Collection, Mapping
from typing import Final

from xapp.rollout.actions import Delivery, RolloutSite, SignedAssignments, SiteOutcome, deliver, withdraw
from xapp.rollout.state import Rollout, sites_to_deliver, sites_to_withdraw

FIRST_RETRY_S: Final = 5.0
LONGEST_RETRY_S: Final = 60.0

_log = logging.getLogger(__name__)

_Key = tuple[str, str]
"""Id of a roll-out and name of a site."""


class SitePushes:
    """See the module docstring.

    Args:
        sites: by name. signed: what is pushed. delivery: how.
        clock: seconds.
        remember: writes down that a push is about to begin.
        answered: called with the roll-out's id, the site's name and what came of its push.
    """

    def __init__(
        self,
        sites: Mapping[str, RolloutSite],
        signed: SignedAssignments,
        delivery: Delivery,
        clock: Callable[[], float],
        *,
        remember: Callable[[], Awaitable[None]],
        answered: Callable[[str, str, SiteOutcome], None],
    ) -> None:
        self._sites = sites
        self._signed = signed
        self._delivery = delivery
        self._clock = clock
        self._remember = remember
        self._answered = answered
        self._places = asyncio.Semaphore(delivery.options.parallel_sites)
        self._tasks: dict[_Key, asyncio.Task[None]] = {}
        self._retries: dict[_Key, tuple[float, float]] = {}

    def due(self, rollout: Rollout) -> list[str]:
        """Sites to which a push of the roll-out should begin now."""
        found = []
        for name in sites_to_deliver(rollout) or sites_to_withdraw(rollout):
            key = rollout.id, name
            not_before, _ = self._retries.get(key, (self._clock(), 0.0))
            waits = bool(rollout.sites[name].owed) and self._clock() < not_before
            if name in self._sites and key not in self._tasks and not waits:
                found.append(name)
        return found

    def begin(self, rollout: Rollout, names: Collection[str]) -> None:
        """Begin those pushes: the bundle, or the metadata that takes it back."""
        bring = bool(sites_to_deliver(rollout))
        for name in names:
            key = rollout.id, name
            task = asyncio.create_task(self._push(rollout, name, bring), name=f"rollout:{rollout.id}:{name}")
            self._tasks[key] = task
            task.add_done_callback(lambda done, key=key: self._ended(key, done))  # type: ignore[misc]

    def cancel(self, rollout_id: str | None = None) -> None:
        """End the pushes of a roll-out, or all; nobody is told of them."""
        for key in [key for key in self._tasks if rollout_id in (None, key[0])]:
            self._tasks.pop(key).cancel()

    def forget(self, known: Collection[str]) -> None:
        """Of roll-outs that are not ``known`` any more, nothing is kept."""
        self._retries = {key: retry for key, retry in self._retries.items() if key[0] in known}

    async def settle(self) -> None:
        """Wait for the pushes in flight."""
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)

    async def _push(self, rollout: Rollout, name: str, bring: bool) -> None:
        # What is about to be done is remembered first, so that it is known of after a crash.
        await self._remember()
        step = deliver if bring else withdraw
        try:
            async with self._places:
                outcome = await step(self._signed, self._sites[name], rollout, self._delivery)
        except Exception as error:  # a defect must not be repeated four times a second either
            _log.exception("a push failed", extra={"rollout": rollout.id, "site": name})
            outcome = SiteOutcome(rollout.sites[name].bundle, owed=f"{type(error).__name__}: {error}"[:200])
        key = rollout.id, name
        if outcome.owed:
            _, waited_s = self._retries.get(key, (0.0, 0.0))
            wait_s = min(max(2.0 * waited_s, FIRST_RETRY_S), LONGEST_RETRY_S)
            self._retries[key] = self._clock() + wait_s, wait_s
        else:
            self._retries.pop(key, None)
        self._answered(rollout.id, name, outcome)
        await self._remember()

    def _ended(self, key: _Key, task: asyncio.Task[None]) -> None:
        if self._tasks.get(key) is task:
            del self._tasks[key]
        if not task.cancelled() and task.exception() is not None:
            _log.error("the answer of a site was lost", exc_info=task.exception())
