"""Many users, one edge server: cuts and shares of the server, decided together.

User i's tail takes e_i seconds on the whole server and e_i / s_i with a share s_i of it. Everything else
that i's cut costs does not depend on the others: f_i, weighted as in :mod:`xapp.split.objective`, with c_i
the cost of a second of edge time. To be minimised:

    sum of f_i + c_i * e_i / s_i   subject to   sum of s_i <= 1

*Shares for fixed cuts.* By Lagrange: s_i proportional to sqrt(c_i e_i), which leaves

    potential = sum of f_i + (sum of x_i)^2,   x_i = sqrt(c_i e_i)                        (square-root rule)

*Cuts.* One user at a time takes the cut that lowers the potential most, given the others' x: best response
in a game of which it is an exact potential (every user pays what its choice costs all). A change lowers the
potential by a fixed relative amount at least, so no state comes twice, and the number of states is finite:
it ends. A sweep cap stands beside that. The end is a point that no single user can improve, not always the
optimum. The potential is concave in the measures of each cut (a sum of geometric means), so that its
optimum lies at extreme points of the hulls: the candidates of :mod:`xapp.split.candidates` are enough.

*Bound.* X^2 is the maximum over m of 2 m X - m^2, therefore for any m >= 0

    sum over i of min over cuts of (f_i + 2 m x_i)  -  m^2

is not above the optimum: one pass over the users, for any number of them. Its maximum over m is told as the
bound, and the choices at that m and at some others are the starting points.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq, minimize_scalar

from xapp.split.latency import Floats

_SMALLEST_GAIN = 1e-9
_STARTS = 8
MAX_SWEEPS = 100


@dataclass(frozen=True)
class SharedEdge:
    """Costs of N users' candidates; ragged sets are padded with ``inf`` in ``own``.

    Attributes:
        own: (N, C) cost without edge computing, f.
        root: (N, C) sqrt(cost of edge seconds * edge seconds on the whole server), x.
    """

    own: Floats
    root: Floats

    def potential(self, choice: NDArray[np.int64]) -> float:
        """Cost of all users together with the best shares for the cuts (N,) chosen."""
        users = np.arange(len(choice))
        return float(self.own[users, choice].sum() + self.root[users, choice].sum() ** 2)


@dataclass(frozen=True)
class SharedCuts:
    """The answer.

    Attributes:
        choice: (N,) candidate of each user.
        shares: (N,) of the edge server, sum 1 (or 0, where nobody uses it).
        cost: of all users together.
        lower_bound: of the optimum.
        sweeps: passes over all users until nobody moved, of the best start.
        stable: whether nobody moved in the last of them.
    """

    choice: NDArray[np.int64]
    shares: Floats
    cost: float
    lower_bound: float
    sweeps: int
    stable: bool

    @property
    def gap(self) -> float:
        """Relative distance to the bound."""
        return max(0.0, self.cost - self.lower_bound) / self.cost if self.cost > 0 else 0.0


def square_root_shares(root: Floats) -> Floats:
    """Shares (N,) that minimise a weighted sum of tail times, for x (N,)."""
    total = float(root.sum())
    return root / total if total > 0 else np.zeros_like(root)


def earliest_shares(fixed_s: Floats, edge_s: Floats) -> tuple[Floats, float]:
    """Shares (N,) that make the largest latency smallest, and this latency in seconds.

    All who use the edge server end at the same t, s_i = e_i / (t - fixed_i), with t such that the shares
    sum to 1; unless somebody without use for it is later anyway.

    Args:
        fixed_s: (N,) latency without edge computing; subtract the deadlines to make the largest *lateness*
            smallest.
        edge_s: (N,) edge computing on the whole server.
    """
    busy = edge_s > 0
    if not busy.any():
        return np.zeros_like(edge_s), float(fixed_s.max(initial=0.0))
    fixed, edge = fixed_s[busy], edge_s[busy]
    # At the lower end one share alone is 1, at the upper all users together take the time of all tails.
    low, high = float((fixed + edge).max()), float(fixed.max() + edge.sum())

    def surplus(time: float) -> float:
        return float((edge / (time - fixed)).sum() - 1.0)

    time = high if surplus(low) <= 0.0 or high <= low else float(brentq(surplus, low, high, xtol=1e-12))
    if surplus(low) <= 0.0:
        time = low
    shares = np.zeros_like(edge_s)
    shares[busy] = edge / (time - fixed)
    return shares, max(time, float(fixed_s[~busy].max(initial=-np.inf)))


def deadline_shares(fixed_s: Floats, edge_s: Floats, deadline_s: Floats) -> Floats | None:
    """Shares (N,) that keep all deadlines, with what is left over in proportion; None where there are
    none."""
    left = deadline_s - fixed_s
    if (left < 0).any() or ((left <= 0) & (edge_s > 0)).any():
        return None
    needed = np.divide(edge_s, left, out=np.zeros_like(edge_s), where=edge_s > 0)
    total = float(needed.sum())
    if total > 1.0:
        return None
    return needed / total if total > 0 else needed


def share_edge(problem: SharedEdge, starts: Sequence[NDArray[np.int64]] = ()) -> SharedCuts:
    """Cuts and shares of all users.

    Args:
        starts: further points to begin at, (N,) each, such as the cuts in force.

    Raises:
        ValueError: a user without any candidate of finite cost.
    """
    if not np.isfinite(problem.own).any(axis=1).all():
        raise ValueError("a user has no candidate of finite cost")
    lower, price = edge_price(problem)
    prices = (price, *np.linspace(0.0, _most_root(problem), _STARTS))
    relaxed = {choice.tobytes(): choice for choice in (_relaxed_choice(problem, value) for value in prices)}
    ends = [_best_response(problem, start) for start in (*relaxed.values(), *starts)]
    choice, sweeps, stable = min(ends, key=lambda end: problem.potential(end[0]))
    cost = problem.potential(choice)
    shares = square_root_shares(problem.root[np.arange(len(choice)), choice])
    return SharedCuts(choice, shares, cost, min(lower, cost), sweeps, stable)


def edge_price(problem: SharedEdge) -> tuple[float, float]:
    """The best lower bound and its m; the dual function is concave in m.

    At that price, ``own + 2 m root``, users who each take their cheapest cut load the edge about as much as
    is good for all together.
    """

    def negative(price: float) -> float:
        return price**2 - float((problem.own + 2.0 * price * problem.root).min(axis=1).sum())

    most = _most_root(problem)
    if most == 0.0:
        return -negative(0.0), 0.0
    found = minimize_scalar(negative, bounds=(0.0, most), method="bounded", options={"xatol": 1e-6 * most})
    return -negative(float(found.x)), float(found.x)


def exact_share(problem: SharedEdge) -> tuple[NDArray[np.int64], float]:
    """The optimum by trying all combinations: small cases only.

    Raises:
        ValueError: more than a million combinations.
    """
    users, candidates = problem.own.shape
    if candidates**users > 1_000_000:
        raise ValueError(f"{candidates}^{users} combinations are too many to try")
    every = np.array(list(itertools.product(range(candidates), repeat=users)), dtype=np.int64)
    own = problem.own[np.arange(users), every].sum(axis=1)
    costs = own + problem.root[np.arange(users), every].sum(axis=1) ** 2
    best = int(np.argmin(costs))
    return every[best], float(costs[best])


def _relaxed_choice(problem: SharedEdge, price: float) -> NDArray[np.int64]:
    """The cuts (N,) that users take at a price of 2 m for their x."""
    return np.asarray((problem.own + 2.0 * price * problem.root).argmin(axis=1), dtype=np.int64)


def _most_root(problem: SharedEdge) -> float:
    """The largest possible sum of x."""
    return float(np.where(np.isfinite(problem.own), problem.root, 0.0).max(axis=1).sum())


def _best_response(problem: SharedEdge, start: NDArray[np.int64]) -> tuple[NDArray[np.int64], int, bool]:
    """Users in turn, until nobody moves or the cap is reached: choices, sweeps, and whether it is stable."""
    choice = start.copy()
    users = np.arange(len(choice))
    total = float(problem.root[users, choice].sum())
    smallest = _SMALLEST_GAIN * max(problem.potential(choice), 1e-300) / max(len(choice), 1)
    for sweep in range(1, MAX_SWEEPS + 1):
        moved = False
        for user in range(len(choice)):
            old = choice[user]
            others = total - problem.root[user, old]
            costs = problem.own[user] + problem.root[user] ** 2 + 2.0 * others * problem.root[user]
            new = int(np.argmin(costs))
            if not costs[new] < costs[old] - smallest:
                continue
            choice[user], total, moved = new, others + problem.root[user, new], True
        total = float(problem.root[users, choice].sum())
        if not moved:
            return choice, sweep, True
    return choice, MAX_SWEEPS, False
