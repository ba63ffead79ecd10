"""The cheapest cut within limits: Lagrange multipliers, then a search around the cuts that they give.

For multipliers l >= 0 of the bounded sums g(S) <= b, the minimum of

    J(S) + l * (g(S) - b)

is a minimum cut, and no feasible cut is cheaper than it. The multipliers that make this bound largest are
found by cutting planes (Kelley, 1960): every cut seen so far is a plane, a linear program gives the next
multipliers, the minimum cut at these is the next plane. There are finitely many cuts, so it ends; here
after ``MAX_PLANES`` at most. The best feasible cut among the planes, the prefixes and their neighbours (one
node moved, best first, at most ``MAX_NEIGHBOURS`` looked at) is the answer, with the difference to the
bound told as its gap.

The gap is of the answer against the *bound*: 0 proves that it is optimal; above 0 it may be optimal all the
same, as the multipliers reach only cuts on the lower convex hull. For a chain all cuts are scanned, and the
gap is 0.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import linprog

from xapp.split.chain import is_chain, prefix_cuts
from xapp.split.constraints import Bound, Constraints, keeps, restricted
from xapp.split.latency import Floats
from xapp.split.mincut import CutNetwork, NoCutError
from xapp.split.problem import Bools, LinearCost, SplitProblem

MAX_PLANES = 40
MAX_NEIGHBOURS = 400
_CONVERGED = 1e-7


class InfeasibleError(ValueError):
    """No cut keeps to the limits.

    Attributes:
        proven: whether there is none, or none was found.
    """

    def __init__(self, message: str, *, proven: bool) -> None:
        super().__init__(message)
        self.proven = proven


@dataclass(frozen=True)
class ConstrainedCut:
    """The answer.

    Attributes:
        device: (n,) the cut.
        cost: its cost.
        lower_bound: no cut within the limits is cheaper.
        multipliers: of the bounds, cost units by unit of the bound.
        looked_at: cuts evaluated.
    """

    device: Bools
    cost: float
    lower_bound: float
    multipliers: tuple[float, ...]
    looked_at: int

    @property
    def gap(self) -> float:
        """Relative distance to the bound, 0 or above."""
        return max(0.0, self.cost - self.lower_bound) / self.cost if self.cost > 0 else 0.0


class _Pool:
    """Cuts seen, each once, with cost and distance to each limit; the planes of the linear program."""

    def __init__(
        self, problem: SplitProblem, cost: LinearCost, constraints: Constraints, limits: Sequence[Bound]
    ) -> None:
        self._problem, self._cost, self._constraints, self._limits = problem, cost, constraints, limits
        self._seen: set[bytes] = set()
        self.cuts: list[Bools] = []
        self.costs: list[float] = []
        self.over: list[Floats] = []
        self.best: tuple[float, Bools] | None = None

    def add(self, device: Bools) -> bool:
        """Look at a legal cut; False if it was seen before or is forbidden."""
        key = np.packbits(device).tobytes()
        if key in self._seen:
            return False
        self._seen.add(key)
        cost = self._problem.cost(device, self._cost)
        if not np.isfinite(cost):
            return False
        self.cuts.append(device)
        self.costs.append(cost)
        self.over.append(
            np.array([self._problem.cost(device, bound.cost) - bound.limit for bound in self._limits])
        )
        if (self.best is None or cost < self.best[0]) and keeps(
            self._problem, device, self._constraints, self._limits
        ):
            self.best = (cost, device)
        return True

    def multipliers(self, most: Floats) -> Floats:
        """Those, between 0 and ``most``, at which the lowest of the planes is highest."""
        over = np.array(self.over)
        result = linprog(
            c=np.concatenate(([-1.0], np.zeros(len(most)))),
            A_ub=np.column_stack((np.ones(len(over)), -over * most)),
            b_ub=np.array(self.costs),
            bounds=[(None, None)] + [(0.0, 1.0)] * len(most),
            method="highs",
        )
        if result.x is None:
            raise ArithmeticError(f"linear program of the multipliers: {result.message}")
        return np.asarray(result.x[1:] * most, dtype=np.float64)


def constrained_cut(
    problem: SplitProblem,
    cost: LinearCost,
    constraints: Constraints,
    limits: Sequence[Bound],
    network: CutNetwork | None = None,
) -> ConstrainedCut:
    """The cheapest cut that keeps to the constraints, and how far from it the answer may be.

    Args:
        cost: what is minimised.
        limits: the bounded sums, from :func:`xapp.split.constraints.bounds`.
        network: of the problem's graph, to be used again.

    Raises:
        InfeasibleError: nothing keeps to the constraints, or nothing was found that does.
    """
    network = network or CutNetwork(problem)
    allowed = restricted(problem, cost, constraints)
    pool = _Pool(problem, allowed, constraints, limits)
    prefixes = prefix_cuts(problem)
    for index in range(problem.size + 1):
        pool.add(prefixes.device(index))
    if is_chain(problem):
        if pool.best is None:
            raise InfeasibleError(f"{problem.graph.name}: no cut keeps to the limits", proven=True)
        return ConstrainedCut(pool.best[1], pool.best[0], pool.best[0], (), len(pool.costs))
    try:
        first = network.solve(allowed)
    except NoCutError as error:
        raise InfeasibleError(str(error), proven=True) from error
    pool.add(first.device)
    if keeps(problem, first.device, constraints, limits):
        return ConstrainedCut(first.device, first.cost, first.lower_bound, (), len(pool.costs))
    for bound in limits:
        least = network.solve(restricted(problem, bound.cost, constraints))
        if least.lower_bound > bound.limit * (1 + 1e-9):
            raise InfeasibleError(
                f"{problem.graph.name}: {bound.name} is at least {least.cost:.6g}, limit {bound.limit:.6g}",
                proven=True,
            )
        pool.add(least.device)
    lower, multipliers = _dual(network, allowed, limits, pool, first.lower_bound)
    for device in _neighbours(problem, pool, multipliers):
        pool.add(device)
    if pool.best is None:
        names = ", ".join(bound.name for bound in limits)
        raise InfeasibleError(f"{problem.graph.name}: no cut found that keeps to {names}", proven=False)
    return ConstrainedCut(
        pool.best[1],
        pool.best[0],
        min(lower, pool.best[0]),
        tuple(float(value) for value in multipliers),
        len(pool.costs),
    )


def _dual(
    network: CutNetwork, cost: LinearCost, limits: Sequence[Bound], pool: _Pool, lower: float
) -> tuple[float, Floats]:
    """The highest lower bound and its multipliers; the cuts met on the way go to the pool."""
    best = np.zeros(len(limits))
    if not limits:
        return lower, best
    # A multiplier that outweighs all costs at a thousandth of the limit acts as infinite.
    most = np.array([1e3 * max(pool.costs) / max(abs(bound.limit), 1e-12) for bound in limits])
    for _ in range(MAX_PLANES):
        multipliers = pool.multipliers(most)
        priced, constant = cost, 0.0
        for bound, value in zip(limits, multipliers, strict=True):
            priced = priced.plus(bound.cost, float(value))
            constant += float(value) * bound.limit
        found = network.solve(priced)
        if found.lower_bound - constant > lower:
            lower, best = found.lower_bound - constant, multipliers
        if not pool.add(found.device) or (
            pool.best is not None and pool.best[0] - lower <= _CONVERGED * pool.best[0]
        ):
            break
    return lower, best


def _neighbours(problem: SplitProblem, pool: _Pool, multipliers: Floats) -> Iterator[Bools]:
    """Legal cuts one move from those in the pool, best first by penalised cost; new cuts are followed too."""
    scores = [value + float(over @ multipliers) for value, over in zip(pool.costs, pool.over, strict=True)]
    queue = [(score, index) for index, score in enumerate(scores)]
    heapq.heapify(queue)
    given = 0
    while queue and given < MAX_NEIGHBOURS:
        index = heapq.heappop(queue)[1]
        for device in _one_move(problem, pool.cuts[index]):
            before = len(pool.costs)
            yield device
            given += 1
            if len(pool.costs) > before:
                score = pool.costs[-1] + float(pool.over[-1] @ multipliers)
                heapq.heappush(queue, (score, len(pool.costs) - 1))


def _one_move(problem: SplitProblem, device: Bools) -> Iterator[Bools]:
    for node in range(problem.size):
        if problem.inputs[node]:
            continue
        if device[node]:
            legal = not any(device[reader] for reader in problem.consumers[node])
        else:
            legal = all(device[producer] for producer in problem.producers[node])
        if legal:
            moved = device.copy()
            moved[node] = not device[node]
            yield moved
