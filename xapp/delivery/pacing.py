"""How fast, and how stubbornly, a push goes on: token buckets and the one retry policy of deliveries."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

from xapp.runtime_client import RuntimeBusy, RuntimeUnavailable

ResultT = TypeVar("ResultT")
Sleep = Callable[[float], Awaitable[None]]

LONGEST_BACKOFF: Final = 16
"""Times the first delay."""

_log = logging.getLogger(__name__)


class TokenBucket:
    """Bytes a second over time; tasks that share one are served in the order in which they ask.

    Args:
        rate: bytes/s, above 0; ``math.inf`` for no limit.
        burst_s: how much of an idle time may be made up for, seconds.
        clock, sleep: for tests.
    """

    def __init__(
        self,
        rate: float,
        burst_s: float = 0.25,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Sleep = asyncio.sleep,
    ) -> None:
        self._rate = rate
        self._burst_s = burst_s
        self._clock = clock
        self._sleep = sleep
        self._paid_until = float("-inf")

    async def take(self, size: int) -> float:
        """Wait until ``size`` bytes may be sent; returns the seconds waited.

        A size beyond the burst is let through at once when nothing is owed, and paid for by the next.
        """
        now = self._clock()
        due = max(self._paid_until, now - self._burst_s)
        self._paid_until = due + size / self._rate
        wait = max(0.0, due - now)
        if wait:
            await self._sleep(wait)
        return wait


class Patience:
    """The retry policy of one push, and what it has cost.

    A site that is away is asked again after delays that double; one that puts the push off because its users
    go first is asked again when it says, and that is no failure, but has an end too.

    Args:
        attempts: tries of each request at a site that is away. backoff_s: first delay, doubled up to 16 times
            that.
        busy_limit_s: seconds that the whole push waits for a busy site.

    Attributes:
        retries: requests made again. waited_s: seconds spent waiting before them.
    """

    def __init__(
        self, attempts: int, backoff_s: float, busy_limit_s: float, sleep: Sleep = asyncio.sleep
    ) -> None:
        self.retries = 0
        self.waited_s = 0.0
        self._attempts = attempts
        self._backoff_s = backoff_s
        self._busy_left_s = busy_limit_s
        self._sleep = sleep

    async def ask(self, request: Callable[[], Awaitable[ResultT]]) -> ResultT:
        """The answer to ``request``, made as often as needed.

        Raises:
            RuntimeUnavailable: away, or busy, to the end. Whatever else the request raises, at once.
        """
        failures, delay = 0, self._backoff_s
        while True:
            try:
                return await request()
            except RuntimeBusy as error:
                wait = error.retry_after_s
                self._busy_left_s -= wait
                if self._busy_left_s < 0:
                    raise
            except RuntimeUnavailable as error:
                wait = delay
                failures += 1
                if failures >= self._attempts:
                    raise
                delay = min(2 * delay, LONGEST_BACKOFF * self._backoff_s)
                _log.warning("push is retried", extra={"reason": str(error), "wait_s": wait})
            self.retries += 1
            self.waited_s += wait
            await self._sleep(wait)
