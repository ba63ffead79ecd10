"""When to move a cut: after as much was lost by staying as moving costs, and not for noise.

For each user one number, the *arrears*: what the cut in force has cost more than the best one, beyond a
dead band, since the last move.

    arrears <- max(0, arrears + requests * (cost(current) - (1 + band) * cost(best)))
    move to the best cut when arrears >= patience * (cost of moving there)

What follows:

- While the current cut stays within the band, arrears fall, and nothing moves. Costs known within a factor
  1 +- e lead to no move once the best looking cut is in force, if 1 + band >= ((1 + e) / (1 - e))^2.
- Between two moves at least patience * (least cost of a move) was lost beyond the band: the number of moves
  is at most 1 + (what a cut in force ever lost beyond the band) / that. There is no flapping without loss.
- With patience 1 this is rent-or-buy (Karlin et al., "Competitive snoopy caching", 1988): regret beyond the
  band between two moves is about what the move costs, so being early and being late cost about the same.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from xapp.split.latency import Floats

Choices = NDArray[np.int64]


@dataclass(frozen=True)
class SwitchingRule:
    """Parameters of the hysteresis.

    Attributes:
        band: relative excess of the current cut's cost that is put up with.
        patience: arrears, in costs of the move, at which it is made.
    """

    band: float = 0.1
    patience: float = 1.0

    def __post_init__(self) -> None:
        if not (self.band >= 0.0 and self.patience >= 0.0):
            raise ValueError(f"band {self.band} and patience {self.patience} must not be below 0")


def switch_step(
    current: Choices,
    arrears: Floats,
    costs: Floats,
    price: Callable[[Choices, Choices], Floats],
    requests: Floats | float,
    rule: SwitchingRule,
) -> tuple[Choices, Floats]:
    """One decision about N users: the cuts (N,) from now on, and their arrears.

    Args:
        current: (N,) candidates in force, -1 for a user without one, who gets the best at once.
        arrears: (N,) before.
        costs: (N, C) of a request with each candidate, as known now; ``inf`` where it is not possible.
        price: (from, to) -> (N,) cost of moving there.
        requests: since the last decision.
    """
    users = np.arange(len(costs))
    best = np.asarray(costs.argmin(axis=1), dtype=np.int64)
    held = np.where(current >= 0, current, best)
    now, least = costs[users, held], costs[users, best]
    with np.errstate(invalid="ignore"):
        lost = requests * np.where(np.isfinite(now), now - (1.0 + rule.band) * least, np.inf)
    owed = np.maximum(arrears + lost, 0.0)
    move = (owed > 0.0) & (owed >= rule.patience * price(held, best)) & (best != held)
    chosen = np.where(move, best, held)
    owed[move | (best == chosen) | (current < 0)] = 0.0
    return chosen, owed


class CutSwitcher:
    """The cuts in force of N users of one device class.

    Args:
        users: N.
        rule: when to move.
    """

    def __init__(self, users: int, rule: SwitchingRule) -> None:
        self._rule = rule
        self._users = np.arange(users)
        self._current: Choices = np.full(users, -1, dtype=np.int64)
        self._arrears = np.zeros(users)

    def step(self, costs: Floats, moving: Floats, requests: Floats | float = 1.0) -> Choices:
        """The cuts (N,) from now on; the first call takes the best ones, at no cost.

        Args:
            costs: (N, C) of a request with each candidate, as known now; ``inf`` where it is not possible.
            moving: (C, C) or (N, C, C) cost of going from one candidate to another.
            requests: since the last call, (N,) or one number.
        """

        def price(held: Choices, best: Choices) -> Floats:
            return moving[held, best] if moving.ndim == 2 else moving[self._users, held, best]

        self._current, self._arrears = switch_step(
            self._current, self._arrears, costs, price, requests, self._rule
        )
        return self._current.copy()


def best_sequences(costs: Floats, moving: Callable[[int], Floats], requests: float = 1.0) -> Choices:
    """The cheapest sequences of cuts, moves included, with the whole future known (dynamic programming).

    Args:
        costs: (N, T, C) of a request.
        moving: (N, C, C) or (C, C) cost of the move before a step.
        requests: a step.

    Returns:
        (N, T) candidates.
    """
    users, steps, count = costs.shape
    value = requests * costs[:, 0]
    came = np.zeros((users, steps, count), dtype=np.int64)
    for step in range(1, steps):
        arriving = value[:, :, None] + moving(step)
        came[:, step] = arriving.argmin(axis=1)
        value = arriving.min(axis=1) + requests * costs[:, step]
    choices = np.empty((users, steps), dtype=np.int64)
    choices[:, -1] = value.argmin(axis=1)
    everyone = np.arange(users)
    for step in range(steps - 1, 0, -1):
        choices[:, step - 1] = came[everyone, step, choices[:, step]]
    return choices
