"""The cheapest cut of any network, exactly: a minimum s-t cut.

Source side is the device, sink side the edge (Hu et al., "Dynamic adaptive DNN surgery for inference
acceleration on the edge", INFOCOM 2019, build the same network; there is no other way). Arcs:

    source -> v      edge[v]      cut when v is on the edge (infinite for inputs)
    v -> sink        device[v]    cut when v is on the device
    u -> v           tensor[u]    u has one reader: cut when the tensor crosses
    u -> u', u' -> v tensor[u], infinite: u has several readers; the tensor is paid once, by its virtual
    node u' v -> u           infinite     nothing returns to the device source -> answer answer       the
    answer reads every node that nobody reads (:mod:`xapp.split.problem`)

``scipy.sparse.csgraph.maximum_flow`` computes with 32-bit integers (64-bit capacities are truncated without a
word), so costs are scaled and rounded *down*. Rounded down, the flow is a lower bound of the true minimum;
the cost of the cut found is an upper bound; the difference, at most (arcs in the cut) / scale, is checked
and told. With scale = 2^29 / (cost of a known cut), that is below 1e-6 of this cost for 500 arcs.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array
from scipy.sparse.csgraph import breadth_first_order, maximum_flow

from xapp.split.problem import Bools, LinearCost, SplitProblem

_TOP = 2**29
_INFINITE = 2**30
_NOTHING = 1e-200
"""A cost below it, in any unit, is none; scaled up it would overflow."""


class NoCutError(ValueError):
    """Every legal cut has infinite cost."""


@dataclass(frozen=True)
class MinimumCut:
    """The result of one minimisation.

    Attributes:
        device: (n,) True for the nodes on the device.
        cost: of this cut, in floating point.
        lower_bound: no legal cut is cheaper; ``cost - lower_bound`` is the rounding error, at most
            ``rounding``.
        rounding: arcs in the cut / scale.
    """

    device: Bools
    cost: float
    lower_bound: float
    rounding: float


class CutNetwork:
    """The flow network of one graph; built once, solved for many costs.

    Args:
        problem: only its graph counts.
    """

    def __init__(self, problem: SplitProblem) -> None:
        self._problem = problem
        count = problem.size
        answer, self._source, self._sink = count, count + 1, count + 2
        virtual = count + 3
        # Each arc: from, to, index into the concatenated costs; -1 for an infinite capacity.
        arcs: list[tuple[int, int, int]] = []
        for node in range(count):
            arcs.append((self._source, node, -1 if problem.inputs[node] else node))
            arcs.append((node, self._sink, count + node))
            readers = problem.consumers[node]
            if len(readers) == 1:
                arcs.append((node, readers[0], 2 * count + node))
            elif readers:
                arcs.append((node, virtual, 2 * count + node))
                arcs.extend((virtual, reader, -1) for reader in readers)
                virtual += 1
            arcs.extend((reader, node, -1) for reader in readers or [answer])
        arcs.append((self._source, answer, 3 * count))
        arcs.append((answer, self._sink, 3 * count + 1))
        self._arcs = np.array(arcs, dtype=np.int64)
        order = np.lexsort((self._arcs[:, 1], self._arcs[:, 0]))
        self._arcs = self._arcs[order]
        self._nodes = virtual
        starts = np.searchsorted(self._arcs[:, 0], np.arange(virtual + 1))
        self._indptr = starts.astype(np.int32)
        self._indices = self._arcs[:, 1].astype(np.int32)
        self._infinite = self._arcs[:, 2] < 0

    def solve(self, cost: LinearCost, *, all_device: bool = True) -> MinimumCut:
        """The cheapest legal cut.

        Args:
            cost: to be minimised; ``inf`` on a tensor forbids that it crosses, on ``device[v]`` that v is on
                the device.
            all_device: whether a cut with everything on the device may be the answer.

        Raises:
            NoCutError: all legal cuts are infinite.
        """
        problem = self._problem
        whole = 0.0 if all_device else np.inf
        costs = np.concatenate((cost.edge, cost.device, cost.tensor, (cost.answer, whole)))
        bound = self._known_cost(cost, costs, all_device)
        if bound < _NOTHING:
            bound = 1.0
        scale = _TOP / bound
        capacities = np.full(len(self._arcs), _INFINITE, dtype=np.int32)
        finite = ~self._infinite
        priced = costs[self._arcs[finite, 2]]
        scaled = np.floor(np.minimum(priced * scale, _INFINITE))
        capacities[finite] = scaled.astype(np.int32)
        shape = (self._nodes, self._nodes)
        network = csr_array((capacities, self._indices, self._indptr), shape=shape)
        result = maximum_flow(network, self._source, self._sink)
        if result.flow_value >= _INFINITE:
            raise NoCutError(f"{problem.graph.name}: every cut is forbidden")
        device = self._device_side(network, result.flow)
        found = problem.cost(device, cost)
        lower = result.flow_value / scale
        rounding = (3 * problem.size + 2) / scale
        if not (
            problem.is_legal(device) and lower <= found * (1 + 1e-9) and found <= lower + rounding * 1.01
        ):
            raise ArithmeticError(
                f"minimum cut of {problem.graph.name}: cost {found!r}, flow {lower!r}, rounding {rounding!r}"
            )
        return MinimumCut(device, found, min(lower, found), rounding)

    def _known_cost(self, cost: LinearCost, costs: NDArray[np.float64], all_device: bool) -> float:
        """Cost of some legal cut; where none is at hand, all finite costs together."""
        problem = self._problem
        known = [problem.cost(problem.inputs, cost)]
        if all_device:
            known.append(problem.cost(np.ones(problem.size, dtype=np.bool_), cost))
        best = min(known)
        return best if np.isfinite(best) else float(costs[np.isfinite(costs)].sum())

    def _device_side(self, network: csr_array, flow: csr_array) -> Bools:
        """What the source still reaches: the smallest device set among the minimum cuts."""
        residual = network - flow
        residual.data = np.where(residual.data > 0, 1, 0).astype(np.int8)
        residual.eliminate_zeros()
        reached = breadth_first_order(residual, self._source, return_predecessors=False)
        device = np.zeros(self._nodes, dtype=np.bool_)
        device[reached] = True
        return np.asarray(device[: self._problem.size], dtype=np.bool_)
