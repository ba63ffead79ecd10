"""Cuts in sequence: all of them for a chain, the linear ones of any other network.

Of a network in topological order, every prefix (with the inputs) is a legal cut. A chain has no other, so
that one scan over its prefixes is exact, whatever the constraints. A network with branches has more; its
prefixes are good first candidates, and those at which one tensor crosses are where Neurosurgeon (Kang et
al., ASPLOS 2017) looks.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np

from xapp.split.latency import CutMeasures, Floats
from xapp.split.objective import Prices
from xapp.split.problem import Bools, SplitProblem


@dataclass(frozen=True)
class PrefixCuts:
    """The n + 1 prefixes of a network; index k: the first k nodes, and the inputs, are on the device.

    Attributes:
        problem: its network.
        measures: arrays (n + 1,).
        crossing: (n + 1,) number of tensors that cross.
    """

    problem: SplitProblem
    measures: CutMeasures
    crossing: Floats

    @functools.cached_property
    def memory_bytes(self) -> Floats:
        """(n + 1,) weights and largest activations on the device."""
        parameters = _prefix_sums(self.problem, self.problem.parameter_bytes)
        problem = self.problem
        working = np.where(problem.inputs, 0.0, problem.working_bytes)
        hungriest = np.concatenate(([0.0], np.maximum.accumulate(working)))
        always = problem.working_bytes[problem.inputs].max(initial=0.0)
        return np.asarray(parameters + np.maximum(hungriest, always), dtype=np.float64)

    def device(self, index: int) -> Bools:
        """The cut itself, (n,)."""
        return np.asarray((np.arange(self.problem.size) < index) | self.problem.inputs, dtype=np.bool_)

    def cheapest(self, prices: Prices, allowed: Bools | None = None) -> int | None:
        """The index of the cheapest allowed prefix at these (scalar) prices; None where none is allowed."""
        cost = prices.of(self.measures)
        if allowed is not None:
            cost = np.where(allowed, cost, np.inf)
        best = int(np.argmin(cost))
        return best if np.isfinite(cost[best]) else None


def is_chain(problem: SplitProblem) -> bool:
    """Whether each node reads the one before and nothing else."""
    return problem.graph.edges == tuple((node, node + 1) for node in range(problem.size - 1))


def prefix_cuts(problem: SplitProblem) -> PrefixCuts:
    """All prefixes, in O(nodes + edges)."""
    count = problem.size
    device_s = _prefix_sums(problem, problem.device_s)
    edge_s = float(problem.edge_s.sum()) - _prefix_sums(problem, problem.edge_s)
    # The output of u crosses in the prefixes that hold u and not its last reader.
    changes, tensors = np.zeros(count + 2), np.zeros(count + 2)
    for node, readers in enumerate(problem.consumers):
        if readers:
            first = 0 if problem.inputs[node] else node + 1
            changes[first] += problem.tensor_bytes[node]
            changes[readers[-1] + 1] -= problem.tensor_bytes[node]
            tensors[first] += 1
            tensors[readers[-1] + 1] -= 1
    crossing = np.cumsum(tensors)[: count + 1]
    sizes = np.where(crossing > 0, np.maximum(np.cumsum(changes)[: count + 1], 0.0), 0.0)
    missing = np.concatenate((np.cumsum(~problem.inputs[::-1])[::-1], [0]))
    offloaded = (missing > 0).astype(np.float64)
    edge_s = np.where(offloaded > 0, np.maximum(edge_s, 0.0), 0.0)
    return PrefixCuts(problem, CutMeasures(device_s, sizes, edge_s, offloaded), crossing)


def _prefix_sums(problem: SplitProblem, values: Floats) -> Floats:
    """(n + 1,) sums over each prefix and the inputs outside of it."""
    inputs = np.where(problem.inputs, values, 0.0)
    others = np.where(problem.inputs, 0.0, values)
    return np.asarray(inputs.sum() + np.concatenate(([0.0], np.cumsum(others))), dtype=np.float64)
