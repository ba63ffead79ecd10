"""Split computing: the graph of a network, what its nodes cost on a device, and where it is cut.

The site traces networks and measures devices (:mod:`codec_runtime.split`, with torch); the xApp decides on
these structs alone. All three go through MessagePack or JSON unchanged.

A *cut* is a set of nodes computed on the device. It is legal when it holds every input node and, with each
node, all that node's predecessors (downward closed): then nothing returns to the device. The outputs of
device nodes that a node off the device reads cross the radio, each once however many read it.
"""

from __future__ import annotations

import hashlib
import heapq
from collections.abc import Collection, Iterable, Sequence
from typing import Literal

import msgspec

INPUT_OP = "input"
OUTPUT_OP = "output"


class SplitGraphError(ValueError):
    """The graph has a cycle or an edge out of place, or does not fit its digest; the message says which."""


class CutError(ValueError):
    """The set of nodes is no legal cut of the graph; the message names the nodes."""


class SplitNode(msgspec.Struct, frozen=True, kw_only=True):
    """One operation of a network, or an input or output of it. Costs are for the batch of the trace.

    Attributes:
        name: unique in the graph: module path and operation, e.g. ``layer1.0.conv1.conv2d``.
        op: operation, e.g. ``conv2d``; ``input`` and ``output`` for those of the network. A fused node joins
            its members with ``+``.
        output_bytes: of what it yields (all of its tensors); 0 for an output node.
        output_shapes: of its output tensors, in order: one but for operations such as ``split``.
        dtype: of the first output tensor, e.g. ``float32``.
        macs: multiply-accumulates of convolutions and matrix products; 0 for element-wise work.
        parameters: values of the weights and constants it reads.
        parameter_bytes: their bytes. Nodes that share weights each count them.
        input_bytes: of the activations it reads, each once.
        working_bytes: activations read and written while it runs, all its members' largest for a fused node.
        depth: edges on the longest path from an input, 0 for inputs.
        module: path of the module it comes from, "" for the network itself.
    """

    name: str
    op: str
    output_bytes: int
    macs: int = 0
    parameters: int = 0
    parameter_bytes: int = 0
    input_bytes: int = 0
    working_bytes: int = 0
    depth: int = 0
    output_shapes: tuple[tuple[int, ...], ...] = ()
    dtype: str = "float32"
    module: str = ""


class SplitGraph(msgspec.Struct, frozen=True, kw_only=True):
    """A network as a directed acyclic graph, nodes in a topological order.

    Attributes:
        name: of the network, for people; not part of the digest.
        nodes: every edge leads from a lower to a higher index.
        edges: (producer, consumer) indices, sorted, no doubles. Weights are no nodes.
        digest: sha256 (hex) of nodes and edges (:func:`graph_digest`); identifies the graph.
        batch: pictures (or other samples) in the traced input, which output_bytes and macs are for.

    Raises:
        SplitGraphError: on building or decoding, if edges are out of range, out of order or doubled, names
            are doubled, or the digest is another graph's.
    """

    name: str
    nodes: tuple[SplitNode, ...]
    edges: tuple[tuple[int, int], ...]
    digest: str
    batch: int = 1

    def __post_init__(self) -> None:
        count = len(self.nodes)
        for source, target in self.edges:
            if not 0 <= source < target < count:
                raise SplitGraphError(f"{self.name}: edge {source} -> {target}: want 0 <= from < to")
        if any(after <= before for before, after in zip(self.edges, self.edges[1:], strict=False)):
            raise SplitGraphError(f"edges of {self.name} are not sorted or doubled")
        if len({node.name for node in self.nodes}) != count:
            raise SplitGraphError(f"node names of {self.name} are doubled")
        if self.digest != graph_digest(self.nodes, self.edges):
            raise SplitGraphError(f"{self.name}: digest {self.digest[:12]} is that of another graph")

    @property
    def inputs(self) -> tuple[int, ...]:
        """Indices of the input nodes."""
        return tuple(index for index, node in enumerate(self.nodes) if node.op == INPUT_OP)

    @property
    def outputs(self) -> tuple[int, ...]:
        """Indices of the output nodes."""
        return tuple(index for index, node in enumerate(self.nodes) if node.op == OUTPUT_OP)

    @property
    def macs(self) -> int:
        """Multiply-accumulates of the whole network."""
        return sum(node.macs for node in self.nodes)

    def predecessors(self) -> list[list[int]]:
        """Producers of each node, ascending."""
        found: list[list[int]] = [[] for _ in self.nodes]
        for source, target in self.edges:
            found[target].append(source)
        return found

    def successors(self) -> list[list[int]]:
        """Consumers of each node, ascending."""
        found: list[list[int]] = [[] for _ in self.nodes]
        for source, target in self.edges:
            found[source].append(target)
        return found


class LeakageTable(msgspec.Struct, frozen=True, kw_only=True):
    """What a network's tensors tell about its pictures.

    Attributes:
        network: by name. pictures: that it was measured on; data_sha256: of them.
        leakage: distance correlation with the input, 0..1, by node name of the fused graph.
    """

    network: str
    pictures: int
    data_sha256: str
    leakage: dict[str, float]


class CostProfile(msgspec.Struct, frozen=True, kw_only=True):
    """Seconds that each node of one graph takes on one class of device.

    Attributes:
        graph: digest of the graph; ``network`` is its name, for people.
        device_class: e.g. ``host-cpu-1``, or ``phone-mid`` of the scaled classes.
        seconds: one figure a node, in the graph's order, for the graph's batch.
        whole_seconds: the network in one piece, without clocks between nodes; 0 where not measured.
        host, cpu, dtype, threads, torch: what it was measured on; empty and 0 where it was not.
        measured_at: UTC, ISO 8601.
        batch: of the graph.
        rounds: runs that each median is over; 0 where not measured.
        source: ``measured``; ``regression``: predicted from layer features; ``scaled``: a measured or
            predicted profile of another device, scaled by compute and memory bandwidth.
        error: expected relative error of the sum: for a measured profile half the interquartile range of the
            rounds' sums over their median, for a regression the median over networks left out of the fit.
    """

    graph: str
    network: str
    device_class: str
    seconds: tuple[float, ...]
    whole_seconds: float = 0.0
    host: str = ""
    cpu: str = ""
    dtype: str = "float32"
    threads: int = 0
    torch: str = ""
    measured_at: str = ""
    batch: int = 1
    rounds: int = 0
    source: Literal["measured", "regression", "scaled"] = "measured"
    error: float = 0.0


class CutSpec(msgspec.Struct, frozen=True, kw_only=True):
    """One cut of one graph; :func:`make_cut` builds it.

    Attributes:
        graph: digest of the graph.
        device: nodes on the device, ascending; the inputs alone are "all on the edge".
        crossing: device nodes whose output some node off the device reads, ascending; each crosses once.
        id: 16 hex digits; same graph and same device set, same id. Travels with the features.
    """

    graph: str
    device: tuple[int, ...]
    crossing: tuple[int, ...]
    id: str


def graph_digest(nodes: Sequence[SplitNode], edges: Sequence[tuple[int, int]]) -> str:
    """sha256 (hex) of nodes and edges in their MessagePack form."""
    return hashlib.sha256(msgspec.msgpack.encode((nodes, edges))).hexdigest()


def make_graph(
    name: str, nodes: Sequence[SplitNode], edges: Iterable[tuple[int, int]], batch: int = 1
) -> SplitGraph:
    """Build a graph from nodes in any order: sorts them topologically (ties by given order), fills in depths.

    Args:
        edges: (producer, consumer) indices into ``nodes``; doubles are dropped.

    Raises:
        SplitGraphError: on a cycle, with the names of its nodes; on an edge out of range.
    """
    distinct = set(edges)
    order = _topological_order([node.name for node in nodes], distinct)
    place = {old: new for new, old in enumerate(order)}
    moved = tuple(sorted((place[source], place[target]) for source, target in distinct))
    depths = [0] * len(nodes)
    for source, target in sorted(moved, key=lambda edge: edge[1]):
        depths[target] = max(depths[target], depths[source] + 1)
    placed = tuple(
        msgspec.structs.replace(nodes[old], depth=depth) for old, depth in zip(order, depths, strict=True)
    )
    return SplitGraph(
        name=name, nodes=placed, edges=moved, digest=graph_digest(placed, moved), batch=batch
    )


def make_cut(graph: SplitGraph, device: Collection[int]) -> CutSpec:
    """The cut with those nodes on the device, which must hold all inputs.

    Raises:
        CutError: an index out of range, an input left out, or a set that is not downward closed: the message
            names a node and the predecessor off the device whose output would have to return to it.
    """
    chosen = set(device)
    names = [node.name for node in graph.nodes]
    unknown = [index for index in chosen if not 0 <= index < len(names)]
    if unknown:
        raise CutError(f"nodes {sorted(unknown)} are not in {graph.name}, which has {len(names)}")
    missing = [names[index] for index in graph.inputs if index not in chosen]
    if missing:
        raise CutError(f"inputs {', '.join(missing)} of {graph.name} must be on the device")
    crossing = set()
    for source, target in graph.edges:
        if target in chosen and source not in chosen:
            raise CutError(
                f"{names[target]} of {graph.name} is on the device but reads {names[source]}, which is not: "
                "nothing may return to the device"
            )
        if source in chosen and target not in chosen:
            crossing.add(source)
    sorted_device = tuple(sorted(chosen))
    bits = sum(1 << index for index in sorted_device)
    identity = hashlib.sha256(f"{graph.digest}:{bits:x}".encode()).hexdigest()[:16]
    return CutSpec(graph=graph.digest, device=sorted_device, crossing=tuple(sorted(crossing)), id=identity)


def crossing_bytes(graph: SplitGraph, cut: CutSpec) -> int:
    """Bytes of the uncompressed tensors that cross, for the graph's batch."""
    return sum(graph.nodes[index].output_bytes for index in cut.crossing)


def _topological_order(names: Sequence[str], edges: Collection[tuple[int, int]]) -> list[int]:
    """Indices, producers first; among the free ones the lowest first: the same order in every run."""
    consumers: list[list[int]] = [[] for _ in names]
    waiting = [0] * len(names)
    for source, target in edges:
        if not (0 <= source < len(names) and 0 <= target < len(names)):
            raise SplitGraphError(f"edge {source} -> {target}: the graph has {len(names)} nodes")
        consumers[source].append(target)
        waiting[target] += 1
    free = [index for index, count in enumerate(waiting) if not count]
    order = []
    while free:
        node = heapq.heappop(free)
        order.append(node)
        for target in consumers[node]:
            waiting[target] -= 1
            if not waiting[target]:
                heapq.heappush(free, target)
    if len(order) < len(names):
        left = [names[index] for index, count in enumerate(waiting) if count]
        raise SplitGraphError(f"cycle among or before {', '.join(left[:8])}")
    return order
