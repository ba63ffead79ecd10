"""One network on one device class and one edge server: the arrays that all methods of this package work on.

Beside the network's own nodes there is one more, the *answer*, a consumer of every node that nobody else
reads. It is on the device if and only if all nodes are. What an offloaded request pays whatever the cut
(delay, queue, the way back) is therefore the cost of having the answer on the edge, and costs of cuts are
sums over nodes and tensors (:class:`LinearCost`).
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from codec_runtime.contract.split import CostProfile, CutSpec, SplitGraph, make_cut
from xapp.split.latency import CutMeasures, Floats
from xapp.split.objective import Prices

Bools = NDArray[np.bool_]


class ProblemError(ValueError):
    """Graph, profiles and sizes do not fit together; the message says which do not."""


@dataclass(frozen=True)
class LinearCost:
    """A cost that is a sum over nodes and crossing tensors; n nodes, none below 0, ``inf`` forbids.

    Attributes:
        device: (n,) of node v on the device.
        edge: (n,) of node v on the edge.
        tensor: (n,) of the output of v crossing, once.
        answer: of anything at all being on the edge.
    """

    device: Floats
    edge: Floats
    tensor: Floats
    answer: float

    def plus(self, other: LinearCost, factor: float) -> LinearCost:
        """The sum ``self + factor * other``; ``other`` is finite."""
        return LinearCost(
            self.device + factor * other.device,
            self.edge + factor * other.edge,
            self.tensor + factor * other.tensor,
            self.answer + factor * other.answer,
        )


@dataclass(frozen=True)
class SplitProblem:
    """Static part of a decision: everything but link, load and battery.

    Attributes:
        graph: n nodes in topological order.
        device_s, edge_s: (n,) seconds of each node on the device and on the idle edge server.
        tensor_bytes: (n,) bytes that cross with the output of each node, as coded for the radio.
        result_bytes: of the answer on its way back.
    """

    graph: SplitGraph
    device_s: Floats
    edge_s: Floats
    tensor_bytes: Floats
    result_bytes: float = 4000.0

    def __post_init__(self) -> None:
        count = len(self.graph.nodes)
        for name in ("device_s", "edge_s", "tensor_bytes"):
            values = getattr(self, name)
            if values.shape != (count,):
                raise ProblemError(f"{name}: {values.shape} values, {self.graph.name} has {count} nodes")
            if not (np.isfinite(values).all() and (values >= 0).all()):
                raise ProblemError(f"{name}: values must be finite and not below 0")
        if not self.graph.inputs:
            raise ProblemError(f"{self.graph.name} has no input node")

    @property
    def size(self) -> int:
        """Nodes of the network, n."""
        return len(self.graph.nodes)

    @functools.cached_property
    def consumers(self) -> list[list[int]]:
        """Indices of the readers of each node's output."""
        return self.graph.successors()

    @functools.cached_property
    def producers(self) -> list[list[int]]:
        """Indices of what each node reads."""
        return self.graph.predecessors()

    @functools.cached_property
    def inputs(self) -> Bools:
        """(n,) True for the input nodes."""
        mask = np.zeros(self.size, dtype=np.bool_)
        mask[list(self.graph.inputs)] = True
        return mask

    @functools.cached_property
    def ancestors(self) -> Bools:
        """(n, n): row v is True at v and at all that v depends on."""
        closed = np.eye(self.size, dtype=np.bool_)
        for node, producers in enumerate(self.producers):
            for producer in producers:
                closed[node] |= closed[producer]
        return closed

    @functools.cached_property
    def parameter_bytes(self) -> Floats:
        """(n,) weights of each node."""
        return np.array([node.parameter_bytes for node in self.graph.nodes], dtype=np.float64)

    @functools.cached_property
    def working_bytes(self) -> Floats:
        """(n,) activations that each node needs while it runs."""
        return np.array([node.working_bytes for node in self.graph.nodes], dtype=np.float64)

    def is_legal(self, device: Bools) -> bool:
        """Whether the set (n,) holds all inputs and is downward closed."""
        if not device[self.inputs].all():
            return False
        return all(device[source] or not device[target] for source, target in self.graph.edges)

    def crossing(self, device: Bools) -> Bools:
        """(n,) True where a device node's output is read off the device."""
        mask = np.zeros(self.size, dtype=np.bool_)
        for source, target in self.graph.edges:
            if device[source] and not device[target]:
                mask[source] = True
        return mask

    def measures(self, device: Bools) -> CutMeasures:
        """The four numbers of a legal cut (n,)."""
        return CutMeasures(
            float(self.device_s[device].sum()),
            float(self.tensor_bytes[self.crossing(device)].sum()),
            float(self.edge_s[~device].sum()),
            0.0 if device.all() else 1.0,
        )

    def memory_bytes(self, device: Bools) -> float:
        """What a cut takes on the device: its weights, and the activations of its hungriest node."""
        return float(self.parameter_bytes[device].sum() + self.working_bytes[device].max(initial=0.0))

    def linear(self, prices: Prices) -> LinearCost:
        """The cost of each node and tensor at these (scalar) prices."""
        return LinearCost(
            float(prices.device_s) * self.device_s,
            float(prices.edge_s) * self.edge_s,
            float(prices.crossing_bytes) * self.tensor_bytes,
            float(prices.offloaded),
        )

    def cost(self, device: Bools, cost: LinearCost) -> float:
        """Value of a linear cost at a legal cut (n,)."""
        total = cost.device[device].sum() + cost.edge[~device].sum()
        total += cost.tensor[self.crossing(device)].sum()
        return float(total + (0.0 if device.all() else cost.answer))

    def cut(self, device: Bools) -> CutSpec:
        """The cut as the runtime knows it.

        Raises:
            CutError: not legal.
        """
        return make_cut(self.graph, np.flatnonzero(device).tolist())


def split_problem(
    graph: SplitGraph,
    device: CostProfile,
    edge: CostProfile,
    *,
    tensor_bytes: Sequence[float] | None = None,
    result_bytes: float = 4000.0,
) -> SplitProblem:
    """Join a graph with the profiles of a device class and of the edge server.

    Args:
        tensor_bytes: what crosses for each node, where a bottleneck codes it; default: the tensors as they
            are.
        result_bytes: of the answer; 4000 is a thousand float32 logits.

    Raises:
        ProblemError: a profile is of another graph or batch, or of another number of nodes.
    """
    for profile in (device, edge):
        if profile.graph != graph.digest:
            raise ProblemError(
                f"profile {profile.device_class} is of graph {profile.graph[:12]}, "
                f"{graph.name} is {graph.digest[:12]}"
            )
    sizes = [node.output_bytes for node in graph.nodes] if tensor_bytes is None else tensor_bytes
    return SplitProblem(
        graph,
        np.array(device.seconds, dtype=np.float64),
        np.array(edge.seconds, dtype=np.float64),
        np.array(sizes, dtype=np.float64),
        result_bytes,
    )
