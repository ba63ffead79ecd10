"""The few cuts of a network that can be best, found once; a decision is then a lookup.

The cost of a cut is linear in its four measures (:mod:`xapp.split.latency`), with prices that depend on
link, load, power and weights, and are never below 0. Whatever they are, some cheapest cut is all-on-device
or lies on the lower convex hull of the offloading cuts' (device_s, crossing_bytes, edge_s). This hull is
found by parametric minimisation (Eisner and Severance, "Mathematical techniques for efficient record
segmentation in large shared databases", JACM 1976): over prices normalised to sum 1, the lowest cost known
so far is a concave, piecewise linear *envelope*; a minimum cut at each of its vertices either lies below
it, and is a new candidate, or confirms the vertex. With all vertices confirmed the envelope is exact
everywhere: the true minimum is concave, agrees with the envelope at the vertices of each piece, and is not
above it, and a concave function is not below the linear interpolation of its own values.

So for the plain weighted sum nothing is lost (but rounding: ``TOLERANCE``, relative). Two uses ask more:

- shares of the edge server: a user's cost is then concave and increasing in its measures, which also has its
  minimum at an extreme point of the hull (:mod:`xapp.split.sharing`): exact;
- limits (deadline, energy, memory of one user): the best cut within them may lie inside the hull. The
  non-dominated prefixes can be had beside the hull for this; :mod:`xapp.split.constrained` tells what is
  lost.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np
from scipy.spatial import HalfspaceIntersection

from xapp.split.chain import prefix_cuts
from xapp.split.constraints import Constraints, restricted
from xapp.split.latency import CutMeasures, Floats
from xapp.split.mincut import CutNetwork, NoCutError
from xapp.split.objective import Prices
from xapp.split.problem import Bools, LinearCost, SplitProblem

TOLERANCE = 1e-6
_MAX_ROUNDS = 60


@dataclass(frozen=True)
class CandidateCuts:
    """Cuts of one network on one device class.

    Attributes:
        problem: of these cuts.
        device: (C, n) True for nodes on the device, in order of device time.
        measures: arrays (C,).
        memory_bytes: (C,) of the device.
        minimisations: minimum cuts that it took.
    """

    problem: SplitProblem
    device: Bools
    measures: CutMeasures
    memory_bytes: Floats
    minimisations: int

    def __len__(self) -> int:
        return len(self.device)

    def costs(self, prices: Prices) -> Floats:
        """(N, C) costs for the prices, scalars or (N,), of N users."""
        rows = np.broadcast_arrays(*prices)
        return np.stack(rows, axis=-1).reshape(-1, 4) @ self._rows

    @functools.cached_property
    def _rows(self) -> Floats:
        """(4, C) the measures."""
        return np.vstack(self.measures)

    def extra_head_bytes(self) -> Floats:
        """(C, C): weights that a device with the head of cut a lacks for the head of cut b."""
        held = self.device * self.problem.parameter_bytes
        return np.asarray(held.sum(axis=1) - held @ self.device.T.astype(np.float64), dtype=np.float64).clip(
            0
        )


def extra_head_bytes(problem: SplitProblem, devices: Bools) -> Floats:
    """(C, C) weights of the head of cut b that the head of cut a lacks, for cuts (C, n)."""
    held = devices * problem.parameter_bytes
    extra = held.sum(axis=1)[None, :] - devices.astype(np.float64) @ held.T
    return np.asarray(extra.clip(0.0), dtype=np.float64)


def candidate_cuts(
    problem: SplitProblem, constraints: Constraints | None = None, *, with_prefixes: bool = False
) -> CandidateCuts:
    """Find the set; takes some tens to hundreds of minimum cuts.

    Args:
        constraints: of these, privacy and memory of the device class are kept to by every candidate;
            bounded sums depend on the user and are not looked at.
        with_prefixes: also the prefixes that no other cut beats in everything: for users with limits.

    Raises:
        NoCutError: nothing keeps to the constraints.
    """
    constraints = constraints or Constraints()
    network = CutNetwork(problem)
    prefixes = prefix_cuts(problem)
    zero = restricted(problem, problem.linear(Prices(0.0, 0.0, 0.0, 0.0)), constraints)
    cuts: dict[bytes, Bools] = {}
    for index in range(problem.size + 1):
        device = prefixes.device(index)
        cuts.setdefault(device.tobytes(), device)
    allowed = [device for device in cuts.values() if _is_allowed(problem, device, zero, constraints)]
    whole = [device for device in allowed if device.all()]
    offloading = [device for device in allowed if not device.all()]
    search = _Search(problem, network, zero, _scales(problem), offloading)
    hull = search.run()
    every = [*whole, *(device for device in hull if _is_allowed(problem, device, zero, constraints))]
    if with_prefixes:
        every += offloading
    if not every:
        raise NoCutError(f"{problem.graph.name}: no cut keeps to the constraints")
    return _assembled(problem, every, search.minimisations)


def _is_allowed(problem: SplitProblem, device: Bools, zero: LinearCost, constraints: Constraints) -> bool:
    memory = constraints.memory_bytes
    fits = memory is None or problem.memory_bytes(device) <= memory
    return fits and bool(np.isfinite(problem.cost(device, zero)))


def _scales(problem: SplitProblem) -> Floats:
    """One unit of each measure: all on the device, the input crossing, all on the edge."""
    values = (
        problem.device_s.sum(),
        problem.tensor_bytes[problem.inputs].sum(),
        problem.edge_s.sum(),
    )
    return np.array([value if value > 0 else 1.0 for value in values])


class _Search:
    """The loop of vertices and minimum cuts over offloading cuts."""

    def __init__(
        self,
        problem: SplitProblem,
        network: CutNetwork,
        zero: LinearCost,
        scale: Floats,
        start: list[Bools],
    ) -> None:
        self._problem, self._network, self._zero, self._scale = problem, network, zero, scale
        self._cuts = {device.tobytes(): device for device in start}
        self._points = [self._point(device) for device in start]
        self.minimisations = 0

    def _point(self, device: Bools) -> Floats:
        return np.array(self._problem.measures(device)[:3], dtype=np.float64) / self._scale

    def run(self) -> list[Bools]:
        """The cuts of the hull; none where no offloading cut is allowed."""
        third = np.full(3, 1.0 / 3.0)
        if self._minimise(third) is None:
            return []
        confirmed: set[tuple[float, ...]] = set()
        for _ in range(_MAX_ROUNDS):
            vertices, heights = self._vertices()
            found = False
            for weights, height in zip(vertices, heights, strict=True):
                key = tuple(np.round(weights, 9))
                if key in confirmed:
                    continue
                confirmed.add(key)
                cost = self._minimise(weights)
                if cost is not None and cost < height * (1 - TOLERANCE) - 1e-12:
                    found = True
            if not found:
                return self._tight(*self._vertices())
        raise ArithmeticError(f"{self._problem.graph.name}: envelope not closed after {_MAX_ROUNDS} rounds")

    def _minimise(self, weights: Floats) -> float | None:
        prices = np.maximum(weights, 0.0) / self._scale
        cost = self._problem.linear(Prices(prices[0], prices[1], prices[2], 0.0))
        # 0 * inf is not a number, so what is forbidden is added.
        cost = LinearCost(cost.device + self._zero.device, cost.edge, cost.tensor + self._zero.tensor, 0.0)
        self.minimisations += 1
        try:
            found = self._network.solve(cost, all_device=False)
        except NoCutError:
            return None
        if found.device.tobytes() not in self._cuts:
            self._cuts[found.device.tobytes()] = found.device
            self._points.append(self._point(found.device))
        return found.cost

    def _vertices(self) -> tuple[Floats, Floats]:
        """(V, 3) normalised prices at the vertices of the envelope, and its height (V,) there."""
        points = np.unique(np.array(self._points), axis=0)
        # z <= w . p with w3 = 1 - w1 - w2, as rows a . (w1, w2, z) + b <= 0.
        slopes = np.column_stack((points[:, 2] - points[:, 0], points[:, 2] - points[:, 1]))
        planes = np.column_stack((slopes, np.ones(len(points)), -points[:, 2]))
        sides = np.array([[-1.0, 0, 0, 0], [0, -1.0, 0, 0], [1, 1, 0, -1.0], [0, 0, -1.0, -1.0]])
        inside = np.array([1 / 3, 1 / 3, -0.5])
        corners = HalfspaceIntersection(np.vstack((planes, sides)), inside).intersections
        corners = corners[np.isfinite(corners).all(axis=1) & (corners[:, 2] > -0.999)]
        weights = np.column_stack((corners[:, :2], 1.0 - corners[:, 0] - corners[:, 1])).clip(0.0, 1.0)
        heights = (weights @ points.T).min(axis=1)
        return weights, heights

    def _tight(self, weights: Floats, heights: Floats) -> list[Bools]:
        """Of cuts with equal measures one; those that touch the envelope at a vertex."""
        kept: dict[tuple[float, ...], Bools] = {}
        for device, point in zip(self._cuts.values(), self._points, strict=True):
            if (weights @ point <= heights * (1 + TOLERANCE) + 1e-12).any():
                kept.setdefault(tuple(np.round(point, 12)), device)
        return list(kept.values())


def _assembled(problem: SplitProblem, cuts: list[Bools], minimisations: int) -> CandidateCuts:
    rows = np.array([problem.measures(device) for device in cuts], dtype=np.float64)
    memory = np.array([problem.memory_bytes(device) for device in cuts])
    attributes = np.column_stack((rows, memory))
    kept = [index for index in range(len(cuts)) if not _is_dominated(attributes, index)]
    kept.sort(key=lambda index: (rows[index, 0], -rows[index, 2]))
    return CandidateCuts(
        problem,
        np.array([cuts[index] for index in kept]),
        CutMeasures(*rows[kept].T),
        memory[kept],
        minimisations,
    )


def _is_dominated(rows: Floats, index: int) -> bool:
    """Whether another cut is no worse in all and better in one, or equal and earlier."""
    no_worse = (rows <= rows[index]).all(axis=1)
    better = (rows < rows[index]).any(axis=1)
    earlier = np.arange(len(rows)) < index
    return bool((no_worse & (better | earlier)).any())
