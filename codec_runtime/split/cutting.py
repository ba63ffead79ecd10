"""Head and tail of a network cut in two: composed they are the network, bit for bit.

Both run the captured operations in the captured order with the network's own weights, so the same kernels see
the same values. The head gives the tensors that cross, each once, in the order of ``CutSpec.crossing``; an
operation with several outputs crosses as several tensors. The tail takes just these, so nothing can return
to the device.
"""

from __future__ import annotations

import copy
import operator
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor, fx, nn

from codec_runtime.bundle.errors import BundleError
from codec_runtime.bundle.tensor_file import parse_header, read_tensors, tensor_file
from codec_runtime.contract.split import CutError, CutSpec, make_cut
from codec_runtime.split.capture import constants, pruned
from codec_runtime.split.graph import TracedNetwork

_Module = TypeVar("_Module", bound=nn.Module)


@dataclass(frozen=True)
class SplitNetwork:
    """A network in two parts.

    Attributes:
        head: (inputs) -> (features, results): what crosses, and outputs of the network on the device.
        tail: (features) -> results: the other outputs.
        features: names of the tensors that cross, e.g. ``stem.conv2d``, or ``split[1]`` for the second
            output of an operation.
        on_device: for each output of the network whether the head gives it.
    """

    cut: CutSpec
    head: fx.GraphModule
    tail: fx.GraphModule
    features: tuple[str, ...]
    on_device: tuple[bool, ...]

    @torch.no_grad()
    def run(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """Outputs of the network, by way of head and tail."""
        features, here = self.head(*inputs)
        results, there = iter(here), iter(self.tail(*features))
        return tuple(next(results if local else there) for local in self.on_device)


def cut_network(traced: TracedNetwork, cut: CutSpec) -> SplitNetwork:
    """Head and tail for a cut of that network.

    Raises:
        CutError: the cut is of another graph, is not downward closed, or its crossing tensors or id are not
            those of its device nodes.
    """
    if cut.graph != traced.graph.digest:
        raise CutError(f"cut {cut.id} is of graph {cut.graph[:12]}, not of {traced.graph.digest[:12]}")
    if make_cut(traced.graph, cut.device) != cut:
        raise CutError(f"cut {cut.id}: crossing tensors or id do not belong to its device nodes")
    named = {node.name: node for node in traced.module.graph.nodes}
    values = {index: named[names[-1]] for index, names in enumerate(traced.members) if names}
    device = {named[name] for index in cut.device for name in traced.members[index]}
    crossing = [(values[index], traced.layouts[index]) for index in cut.crossing]
    results = traced.module.graph.output_node().args[0]
    assert isinstance(results, tuple)
    chosen = set(cut.device)
    on_device = tuple(index in chosen for index in traced.graph.outputs)
    head = _Part(traced.module)
    for node in traced.module.graph.nodes:
        if node in device:
            head.add(node)
    features = tuple(head.element(node, path) for node, layout in crossing for path in layout)
    kept = tuple(head.value(node) for node, local in zip(results, on_device, strict=True) if local)
    tail = _Part(traced.module)
    names: list[str] = []
    for index, (node, layout) in zip(cut.crossing, crossing, strict=True):
        tail.receive(node, layout)
        stem = traced.graph.nodes[index].name
        names.extend(stem + "".join(f"[{place}]" for place in path) for path in layout)
    for node in traced.module.graph.nodes:
        if node.op.startswith("call") and node not in device and node not in tail.constants:
            tail.add(node)
    others = tuple(tail.value(node) for node, local in zip(results, on_device, strict=True) if not local)
    return SplitNetwork(cut, head.build((features, kept)), tail.build(others), tuple(names), on_device)


def part_bytes(part: fx.GraphModule) -> bytes:
    """A head's or tail's weights as a safetensors file, under the network's names."""
    return tensor_file(part.state_dict())


def load_part(part: fx.GraphModule, data: bytes, origin: str) -> None:
    """Take a head's or tail's weights from a safetensors file; the values are copied.

    Raises:
        BundleError: the file is damaged. ``origin`` names it.
        RuntimeError: its tensors are not those of the part; torch's message names them.
    """
    part.load_state_dict(read_tensors(data, parse_header(data, origin)))


def with_weights(part: _Module, state: Mapping[str, Tensor], origin: str) -> _Module:
    """A copy of captured operations around the tensors of ``state`` that they read.

    Raises:
        BundleError: they do not fit, or some are missing. ``origin`` says whose.
    """
    weighted = copy.deepcopy(part)
    wanted = weighted.state_dict()
    try:
        weighted.load_state_dict({n: state[n] for n in wanted if n in state}, strict=True, assign=True)
    except RuntimeError as error:
        raise BundleError(f"{origin}: {error}") from error
    return weighted.eval().requires_grad_(False)


class _Part:
    """A graph under construction from nodes of a captured one; weights come along where they are read."""

    def __init__(self, module: fx.GraphModule) -> None:
        self.constants = constants(module.graph)
        self._module = module
        self._graph = fx.Graph()
        self._values: dict[fx.Node, Any] = {}

    def add(self, node: fx.Node) -> None:
        self._values[node] = self._graph.node_copy(node, self.value)

    def value(self, node: fx.Node) -> Any:
        if node not in self._values and node in self.constants:
            self.add(node)
        return self._values[node]

    def element(self, node: fx.Node, path: tuple[int, ...]) -> fx.Node:
        """The tensor at a place of a node's value."""
        found = self.value(node)
        for place in path:
            found = self._graph.call_function(operator.getitem, (found, place))
        assert isinstance(found, fx.Node)
        return found

    def receive(self, node: fx.Node, layout: tuple[tuple[int, ...], ...]) -> None:
        """A placeholder for each tensor of a node computed elsewhere, put together as the node had them."""
        received = [self._graph.placeholder(f"{node.name}_{place}") for place in range(len(layout))]
        self._values[node] = _assembled(list(zip(layout, received, strict=True)))

    def build(self, results: Any) -> fx.GraphModule:
        self._graph.output(results)
        return pruned(self._module, self._graph)


def _assembled(parts: list[tuple[tuple[int, ...], fx.Node]]) -> Any:
    """Nested lists with each node at its path; a single node where the path is empty."""
    if parts and not parts[0][0]:
        return parts[0][1]
    places = sorted({path[0] for path, _ in parts})
    return [_assembled([(path[1:], node) for path, node in parts if path[0] == place]) for place in places]
