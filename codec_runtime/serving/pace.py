"""Work beside requests, spread out: all of them wait a little for it, instead of a few for all of it."""

from __future__ import annotations

import time
from collections.abc import Callable

Pause = Callable[[], None]
_WORTH_A_PAUSE_S = 0.002


def unhurried() -> None:
    """The pause of work that nobody waits beside."""


class Pace:
    """Pauses between the steps of one thread's work, so that it takes ``share`` of the time at most.

    Args:
        share: in (0, 1]; 1 never pauses.
        is_busy: whether requests wait or run; if not, there is nobody to be spared. Any thread may call it.
        sleep: seconds -> None.
    """

    def __init__(
        self, share: float, is_busy: Callable[[], bool], sleep: Callable[[float], object] = time.sleep
    ) -> None:
        self._idle_by_work = 1.0 / share - 1.0
        self._is_busy = is_busy
        self._sleep = sleep
        self._paid_s = 0.0

    def pause(self) -> None:
        """Rest in proportion to the CPU time that the calling thread took since the last rest."""
        worked_s = time.thread_time() - self._paid_s
        if worked_s < _WORTH_A_PAUSE_S:
            return
        if self._is_busy():
            self._sleep(worked_s * self._idle_by_work)
        self._paid_s = time.thread_time()
