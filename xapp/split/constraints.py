"""What a cut must keep to: memory, computing, energy, deadline, privacy.

Three kinds, by how they are met:

- *forbidden*: a tensor that says too much of the input, or comes too early, may not cross; a node that cannot
  run on the device together with all it depends on stays on the edge. Infinite costs: exact, no multiplier.
- *bounded sums*: device time, edge time, energy, latency, weights on the device. Linear costs with a limit;
  :mod:`xapp.split.constrained` prices them.
- *memory*: weights plus the largest activations. Checked of every answer; its linear part is a bounded sum.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from xapp.split.latency import EdgeLoad, Link
from xapp.split.objective import DevicePower, Weights, prices
from xapp.split.problem import Bools, LinearCost, SplitProblem

_RELATIVE = 1e-9


@dataclass(frozen=True)
class Constraints:
    """Limits of one user; None: no limit.

    Attributes:
        deadline_s: latency of a request.
        energy_j: of the device for a request.
        device_s: computing of the device for a request; (share of its time) / (requests a second).
        edge_s: computing of the idle edge server for a request, likewise.
        memory_bytes: of the device, for weights and activations.
        min_depth: edges from the input that a crossing tensor must be away at least.
        max_leakage: largest distance correlation (Székely et al., 2007; 0..1) of a crossing tensor with the
            input.
        leakage: that number for each node, measured offline; needed with ``max_leakage``.
    """

    deadline_s: float | None = None
    energy_j: float | None = None
    device_s: float | None = None
    edge_s: float | None = None
    memory_bytes: float | None = None
    min_depth: int | None = None
    max_leakage: float | None = None
    leakage: Sequence[float] = ()


@dataclass(frozen=True)
class Bound:
    """``cost`` of a cut must not be above ``limit``."""

    name: str
    cost: LinearCost
    limit: float

    def excess(self, problem: SplitProblem, device: Bools) -> float:
        """How far a cut is above the limit, in its unit; rounding of sums forgiven."""
        over = problem.cost(device, self.cost) - self.limit
        return 0.0 if over <= _RELATIVE * abs(self.limit) else over


def forbidden_tensors(problem: SplitProblem, constraints: Constraints) -> Bools:
    """(n,) True where the output of a node may not cross.

    Raises:
        ValueError: ``max_leakage`` without a number for each node.
    """
    forbidden = np.zeros(problem.size, dtype=np.bool_)
    if constraints.min_depth is not None:
        depths = np.array([node.depth for node in problem.graph.nodes])
        forbidden |= depths < constraints.min_depth
    if constraints.max_leakage is not None:
        leakage = np.array(constraints.leakage, dtype=np.float64)
        if leakage.shape != (problem.size,):
            raise ValueError(
                f"leakage: {leakage.size} numbers, {problem.graph.name} has {problem.size} nodes"
            )
        forbidden |= ~(leakage <= constraints.max_leakage)
    return forbidden


def too_large_nodes(problem: SplitProblem, memory_bytes: float) -> Bools:
    """(n,) True where a node with all it depends on does not fit into the device's memory."""
    with_ancestors = problem.ancestors
    weights = with_ancestors @ problem.parameter_bytes
    working = np.where(with_ancestors, problem.working_bytes, 0.0).max(axis=1)
    return np.asarray((weights + working > memory_bytes) & ~problem.inputs, dtype=np.bool_)


def restricted(problem: SplitProblem, cost: LinearCost, constraints: Constraints) -> LinearCost:
    """The cost with what is forbidden made infinite."""
    tensor = np.where(forbidden_tensors(problem, constraints), np.inf, cost.tensor)
    device = cost.device
    if constraints.memory_bytes is not None:
        device = np.where(too_large_nodes(problem, constraints.memory_bytes), np.inf, device)
    return replace(cost, tensor=tensor, device=device)


def bounds(
    problem: SplitProblem, constraints: Constraints, link: Link, edge: EdgeLoad, power: DevicePower
) -> list[Bound]:
    """The bounded sums of a user with this (scalar) link and load."""
    nothing = np.zeros(problem.size)
    found = []
    if constraints.deadline_s is not None:
        latency = prices(link, edge, power, Weights(1.0, 0.0), problem.result_bytes)
        found.append(Bound("deadline_s", problem.linear(latency), constraints.deadline_s))
    if constraints.energy_j is not None:
        energy = prices(link, edge, power, Weights(0.0, 1.0), problem.result_bytes)
        found.append(Bound("energy_j", problem.linear(energy), constraints.energy_j))
    if constraints.device_s is not None:
        cost = LinearCost(problem.device_s, nothing, nothing, 0.0)
        found.append(Bound("device_s", cost, constraints.device_s))
    if constraints.edge_s is not None:
        found.append(Bound("edge_s", LinearCost(nothing, problem.edge_s, nothing, 0.0), constraints.edge_s))
    if constraints.memory_bytes is not None:
        least_working = float(problem.working_bytes[problem.inputs].max(initial=0.0))
        weights = LinearCost(problem.parameter_bytes, nothing, nothing, 0.0)
        found.append(Bound("memory_bytes", weights, constraints.memory_bytes - least_working))
    return found


def keeps(problem: SplitProblem, device: Bools, constraints: Constraints, limits: Sequence[Bound]) -> bool:
    """Whether a legal cut (n,) keeps to all of it."""
    if (problem.crossing(device) & forbidden_tensors(problem, constraints)).any():
        return False
    memory = constraints.memory_bytes
    if memory is not None and problem.memory_bytes(device) > memory:
        return False
    return all(bound.excess(problem, device) == 0.0 for bound in limits)
