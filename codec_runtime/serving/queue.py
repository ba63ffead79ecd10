"""Which inference request is let in, which is computed next, and with which others. Pure: time comes in.

Rules:

1. At most ``limit`` requests wait or run; one more is refused as overload (:class:`OverloadedError`).
2. Below half of that everybody is let in. Above it, a user who holds ``limit / (users + 1)`` places is
   refused (:class:`UnfairShareError`): as many equal shares as users have requests in the queue, and one for
   whoever comes next.
3. A request whose deadline passes while it waits is never computed; nor is one whose client went away.
4. The oldest request waiting leads. Those of the same key behind it join, in order of arrival, as far as
   pictures and pixels allow: a batch. Keys differ in model, version object and picture size, so a batch has
   one of each. A request without key is computed alone and waits for nobody.
5. A batch that could still grow waits ``wait_s`` after its leader's arrival, but only while no request of
   another key waits: an idle processor helps nobody.
"""

from __future__ import annotations

import math
from collections import Counter, deque
from collections.abc import Hashable, Iterable
from dataclasses import dataclass
from typing import Generic, TypeVar

WorkT = TypeVar("WorkT")

_SMOOTHING = 0.1
"""Weight of the newest batch in the mean service time: about the last ten count."""
_RETRY_LIMITS_S = (1, 60)


class OverloadedError(RuntimeError):
    """The bounded inference queue is full (HTTP 503)."""


class UnfairShareError(RuntimeError):
    """One user has more than an equal share of a queue that is half full (HTTP 429)."""


class DeadlineError(RuntimeError):
    """The request's deadline passed before its turn came; it was not computed (HTTP 504)."""


@dataclass(eq=False)
class Job(Generic[WorkT]):
    """A request in the queue.

    Attributes:
        work: what to compute.
        key: requests of equal keys may be computed together, one of key None never.
        pictures, pixels: how much it is, all its pictures together.
        user: whose place it takes.
        arrived_s, deadline_s: by the clock of the queue's owner.
        gone: its client went away.
    """

    work: WorkT
    key: Hashable | None
    pictures: int
    pixels: int
    user: str
    arrived_s: float
    deadline_s: float = math.inf
    gone: bool = False


@dataclass(frozen=True)
class BatchLimits:
    """How much is computed at once.

    Attributes:
        pictures, pixels: of a batch together; one request alone may have more pixels.
        wait_s: the longest that a batch waits to grow; 0 computes each request alone.
    """

    pictures: int
    pixels: int
    wait_s: float


class RequestQueue(Generic[WorkT]):
    """Requests waiting or running; used from one thread.

    Args:
        limit: places.
        batch: bounds of a batch.
    """

    def __init__(self, limit: int, batch: BatchLimits) -> None:
        self._limit = limit
        self._batch = batch
        self._waiting: deque[Job[WorkT]] = deque()
        self._held: Counter[str] = Counter()
        self._service_s = 0.0
        self._served = False

    @property
    def depth(self) -> int:
        """Requests waiting or running."""
        return self._held.total()

    def check_room(self) -> None:
        """Raises: OverloadedError: no request would be let in now."""
        depth = self.depth
        if depth >= self._limit:
            raise OverloadedError(f"{depth} inference requests are waiting, {self._limit} are let in")

    def push(self, job: Job[WorkT]) -> None:
        """Let a request in.

        Raises:
            OverloadedError, UnfairShareError: it is not in; try again after :meth:`retry_after_s`.
        """
        self.check_room()
        depth = self.depth
        share = max(1, self._limit // (len(self._held) + 1))
        if 2 * depth >= self._limit and self._held[job.user] >= share:
            raise UnfairShareError(
                f"user {job.user!r} has {self._held[job.user]} of {depth} inference requests waiting; "
                f"the share of one is {share} now"
            )
        self._held[job.user] += 1
        self._waiting.append(job)

    def drop(self, now_s: float) -> list[Job[WorkT]]:
        """Take out who will not be computed: deadline passed or client gone."""
        dropped = [job for job in self._waiting if job.gone or job.deadline_s <= now_s]
        if dropped:
            self._waiting = deque(job for job in self._waiting if job not in dropped)
            self._release(dropped)
        return dropped

    def next_deadline_s(self) -> float:
        """The earliest deadline of those waiting, infinity if there is none."""
        return min((job.deadline_s for job in self._waiting), default=math.inf)

    def take(self, now_s: float) -> tuple[list[Job[WorkT]], float]:
        """The batch to compute now; its places stay taken until :meth:`done`.

        Returns:
            (jobs, infinity), or ([], when to ask again): infinity while nothing waits.
        """
        if not self._waiting:
            return [], math.inf
        lead = self._waiting[0]
        batch = self._company(lead)
        closed = len(batch) < len(self._waiting) or not self._may_grow(batch)
        if not closed and now_s < lead.arrived_s + self._batch.wait_s:
            return [], lead.arrived_s + self._batch.wait_s
        chosen = set(map(id, batch))
        self._waiting = deque(job for job in self._waiting if id(job) not in chosen)
        return batch, math.inf

    def done(self, jobs: list[Job[WorkT]], seconds: float) -> None:
        """Free the places of a batch that took ``seconds``; its rate tells newcomers when to try again."""
        self._release(jobs)
        each = seconds / len(jobs)
        self._service_s = self._service_s + _SMOOTHING * (each - self._service_s) if self._served else each
        self._served = True

    def retry_after_s(self) -> int:
        """Whole seconds until those in the queue are served, at the rate measured; 1..60."""
        low, high = _RETRY_LIMITS_S
        return min(high, max(low, math.ceil(self.depth * self._service_s)))

    def _company(self, lead: Job[WorkT]) -> list[Job[WorkT]]:
        batch, pictures, pixels = [lead], lead.pictures, lead.pixels
        if not self._batch.wait_s or lead.key is None:
            return batch
        for job in self._waiting:
            if job is lead or job.key != lead.key:
                continue
            if pictures + job.pictures > self._batch.pictures or pixels + job.pixels > self._batch.pixels:
                break
            batch.append(job)
            pictures += job.pictures
            pixels += job.pixels
        return batch

    def _may_grow(self, batch: list[Job[WorkT]]) -> bool:
        """Whether one more picture of this size would fit."""
        if batch[0].key is None:
            return False
        pictures, pixels = sum(job.pictures for job in batch), sum(job.pixels for job in batch)
        one = pixels // pictures
        return pictures < self._batch.pictures and pixels + one <= self._batch.pixels

    def _release(self, jobs: Iterable[Job[WorkT]]) -> None:
        for job in jobs:
            self._held[job.user] -= 1
            if not self._held[job.user]:
                del self._held[job.user]
