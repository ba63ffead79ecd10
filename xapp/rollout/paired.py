"""Differences of two decoders on the same pictures: their mean, when they come in the order of a video. Pure.

A device that restores a picture with the version on trial and with its parent, out of the same received
symbols, measures the version's effect with neither content nor channel in it. What is left of the content
(the version gains more on some scenes than on others) changes slowly, so that successive differences are
correlated:

- A user's differences are folded to at most ``2 HALF`` batch means of equal length, which doubles when there
  are more: correlation that is short beside a batch is averaged away (batch means; Schmeiser, Operations
  Research 1982).
- What is left between successive batch means is taken for an autoregression of first order. Its coefficient
  rho is found from the ratio of the squared successive differences (von Neumann, Annals of Mathematical
  Statistics 1941) to the squared deviations from each user's *own* mean, both pooled over the users and both
  with their exact expectations for records of that length: deviations from a mean of few correlated numbers
  are too small, and a plug-in estimate would be too sure of itself.
- rho is then raised by :data:`CAUTION` standard errors of 1 / sqrt(pairs): with few data, independence is not
  assumed. The variance is that which such a process needs for the successive differences seen, which no mean
  is taken from; as an estimate it is worth two thirds of their number in degrees of freedom.

The mean is that of what *these* users send, and says nothing of other users. There is no exact distribution
for an estimated rho; how the interval holds is measured (docs/rollout.md).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Final

import msgspec

from xapp.rollout.sequential import UNKNOWN, Interval, t_interval

HALF: Final = 8
"""Batches at least, of a user with as many numbers."""
FIRST_PAIRS: Final = 16
"""Numbers, of all users, at the first look."""
CAUTION: Final = 2.0
"""Standard errors by which rho is raised."""
LARGEST_RHO: Final = 0.98
_WORTH: Final = 2.0 / 3.0
_BISECTIONS: Final = 30


class Series(msgspec.Struct):
    """Numbers in the order of time, folded to batch means.

    Attributes:
        means: of full batches of ``length`` numbers. begun, total: numbers of the batch begun, and their sum.
    """

    means: list[float] = []
    length: int = 1
    begun: int = 0
    total: float = 0.0

    @property
    def count(self) -> int:
        """Numbers so far."""
        return len(self.means) * self.length + self.begun

    def add(self, value: float) -> None:
        """Fold one number."""
        self.begun += 1
        self.total += value
        if self.begun < self.length:
            return
        self.means.append(self.total / self.length)
        self.begun, self.total = 0, 0.0
        if len(self.means) == 2 * HALF:
            self.means = [0.5 * (a + b) for a, b in zip(self.means[::2], self.means[1::2], strict=True)]
            self.length *= 2


def mean_difference(series: Iterable[Series], alpha: float) -> Interval:
    """Mean over all numbers of all users, with bounds that each miss it with probability ``alpha``.

    Args:
        series: of each user. Infinite bounds while no user has three batches.
    """
    known = [s for s in series if s.means]
    count = sum(len(s.means) * s.length for s in known)
    if not count:
        return UNKNOWN
    estimate = sum(sum(s.means) * s.length for s in known) / count
    sizes = [len(s.means) for s in known]
    if max(sizes) < 3:
        return Interval(estimate, -math.inf, math.inf)
    squares = steps = 0.0
    for s in known:
        mean = sum(s.means) / len(s.means)
        squares += sum((value - mean) ** 2 for value in s.means)
        steps += sum((b - a) ** 2 for a, b in zip(s.means, s.means[1:], strict=False))
    pairs = sum(sizes) - len(sizes)

    def excess(rho: float) -> float:
        """Expected sum of squared steps for the squares seen, minus that seen; falls with rho."""
        return 2.0 * pairs * (1.0 - rho) * squares / _freedom(sizes, rho) - steps

    rho = min(_root(excess) + CAUTION / math.sqrt(pairs), LARGEST_RHO)
    variance = steps / (2.0 * pairs * (1.0 - rho))
    error = math.sqrt(
        sum(variance * _spread(size, rho) * (s.length * size / count) ** 2
            for s, size in zip(known, sizes, strict=True))
    )  # fmt: skip
    return t_interval(estimate, error, _WORTH * pairs, alpha)


def _spread(size: int, rho: float) -> float:
    """Variance of the mean of ``size`` successive values of an autoregression, in units of one's variance."""
    if rho <= 0.0:
        return 1.0 / size
    # Sum of (1 - k/n) rho^k over k = 1 .. n-1, closed.
    tail = rho / (1.0 - rho) - rho * (1.0 - rho**size) / (size * (1.0 - rho) ** 2)
    return (1.0 + 2.0 * tail) / size


def _freedom(sizes: list[int], rho: float) -> float:
    """Expected sum of squared deviations from each user's mean, in units of the variance."""
    return sum(size * (1.0 - _spread(size, rho)) for size in sizes)


def _root(falling: Callable[[float], float]) -> float:
    """Where a falling function crosses 0 from 0 to :data:`LARGEST_RHO`; the nearer end where it does not."""
    low, high = 0.0, LARGEST_RHO
    if falling(low) <= 0.0:
        return low
    for _ in range(_BISECTIONS):
        middle = 0.5 * (low + high)
        low, high = (middle, high) if falling(middle) > 0.0 else (low, middle)
    return high
