"""A captured network as a :class:`SplitGraph`: what each node reads, writes and multiplies.

MACs are counted by running the network once with torch's own FLOP counter (two FLOPs a MAC), so convolutions,
matrix products and attention of any spelling are counted, whichever operation they come from. Element-wise
work, normalisation and pooling count nothing.

With ``fuse`` chains of cheap operations (:data:`CHEAP`) are folded into the node whose output they alone
read, as long as they do not change its size: a cut inside such a chain carries the bytes of one after it and
hardly moves work. A graph has half the nodes or fewer then, and its best cut costs about the same.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.utils.flop_counter import FlopCounterMode, sdpa_flop_count

from codec_runtime.contract.split import INPUT_OP, OUTPUT_OP, SplitGraph, SplitNode, make_graph
from codec_runtime.split.capture import Capture, capture, constants, only_output

CHEAP = frozenset({
    "add", "batch_norm", "clone", "contiguous", "detach", "div", "dropout", "elu", "expand", "flatten",
    "gelu", "hardsigmoid", "hardswish", "hardtanh", "layer_norm", "leaky_relu", "mul", "permute", "prelu",
    "relu", "relu6", "reshape", "sigmoid", "silu", "softmax", "squeeze", "sub", "tanh", "to", "transpose",
    "unsqueeze", "view",
})  # fmt: skip
"""Operations that ``fuse`` folds into what they read: element-wise, views and normalisation, no MACs."""

_SAME = {"_native_batch_norm_legit_no_training": "batch_norm", "native_layer_norm": "layer_norm",
         "cudnn_batch_norm": "batch_norm", "native_batch_norm": "batch_norm"}


@dataclass(frozen=True)
class TracedNetwork:
    """A network ready to be cut, timed and described.

    Attributes:
        graph: its description.
        module: the captured operations; called with the inputs it returns a flat tuple of tensors.
        members: for each node of ``graph`` the names of its nodes in ``module.graph``, in order; none for
            an output node.
        layouts: for each node where the tensors lie in its value: ``((),)`` for one that yields a tensor,
            ``((0,), (1,))`` for a pair.
        captured: ``export`` or ``fx``.
        inputs: the example it was traced with.
    """

    graph: SplitGraph
    module: fx.GraphModule
    members: tuple[tuple[str, ...], ...]
    layouts: tuple[tuple[tuple[int, ...], ...], ...]
    captured: Capture
    inputs: tuple[Tensor, ...]


def trace(name: str, network: nn.Module, inputs: tuple[Tensor, ...], *, fuse: bool = False) -> TracedNetwork:
    """Describe a network in evaluation mode at example ``inputs``; the first's first axis is the batch.

    The same network, inputs' shapes and torch version give the same digest in every process.

    Raises:
        CaptureError: neither way of capturing takes the network.
    """
    module, how = capture(network, inputs)
    run = _CostRun(module)
    with torch.no_grad():
        run.run(*inputs)
    groups = _groups(module.graph, run, fuse)
    place = {node: index for index, group in enumerate(groups) for node in group}
    nodes = _nodes(groups, run)
    edges: set[tuple[int, int]] = set()
    for index, group in enumerate(groups):
        for node in group:
            edges.update((place[read], index) for read in run.reads(node) if place[read] != index)
    results = next(node for node in module.graph.nodes if node.op == "output").args[0]
    for number, result in enumerate(results):
        edges.add((place[result], len(nodes)))
        read = _bytes(run.values[result])
        nodes.append(SplitNode(
            name=_numbered(OUTPUT_OP, number), op=OUTPUT_OP, output_bytes=0, input_bytes=read,
            working_bytes=read, dtype=_dtype(run.values[result]),
        ))
    graph = make_graph(name, nodes, edges, batch=inputs[0].shape[0])
    named = {node.name: group for node, group in zip(nodes, groups, strict=False)}
    ordered = [named.get(node.name, []) for node in graph.nodes]
    return TracedNetwork(
        graph=graph, module=module, captured=how, inputs=inputs,
        members=tuple(tuple(member.name for member in group) for group in ordered),
        layouts=tuple(tuple(_layout(run.values[group[-1]])) if group else () for group in ordered),
    )


class _CostRun(fx.Interpreter):
    """One run that keeps every node's value and counts its MACs."""

    def __init__(self, module: fx.GraphModule) -> None:
        super().__init__(module, garbage_collect_values=False)
        self.constants = constants(module.graph)
        self.values: dict[fx.Node, Any] = {}
        self.macs: dict[fx.Node, int] = {}

    def run_node(self, n: fx.Node) -> Any:
        if not n.op.startswith("call"):
            value = super().run_node(n)
        else:
            with FlopCounterMode(display=False, custom_mapping=_CPU_ATTENTION) as counter:
                value = super().run_node(n)
            self.macs[n] = counter.get_total_flops() // 2
        self.values[n] = value
        return value

    def reads(self, node: fx.Node) -> list[fx.Node]:
        """Activations that a node reads; weights and what is made of them are none."""
        return [read for read in node.all_input_nodes if read not in self.constants]

    def weights(self, node: fx.Node) -> list[Tensor]:
        """Weights that a node reads, those that it reads by way of other constants included."""
        found: list[Tensor] = []
        if node.op == "get_attr":
            found.append(self.values[node])
        if node.op == "call_module":
            found.extend(self.module.get_submodule(str(node.target)).state_dict().values())
        for read in node.all_input_nodes:
            if read in self.constants:
                found.extend(self.weights(read))
        return found


def _cpu_attention_flops(query: Any, key: Any, value: Any, *_: Any, **__: Any) -> int:
    """FLOPs of scaled dot-product attention by the shapes (B, H, L, E), (B, H, S, E), (B, H, S, Ev)."""
    return int(sdpa_flop_count(query, key, value))  # type: ignore[no-untyped-call]


_CPU_ATTENTION = {torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: _cpu_attention_flops}
"""The CPU's fused attention, which torch's counter does not know."""


def _groups(graph: fx.Graph, run: _CostRun, fuse: bool) -> list[list[fx.Node]]:
    """Operations that make one node each, in the order of the graph; weights belong to none."""
    group_of: dict[fx.Node, list[fx.Node]] = {}
    groups: list[list[fx.Node]] = []
    for node in graph.nodes:
        if node in run.constants or node.op == "output":
            continue
        reads = run.reads(node)
        joined = len(reads) == 1 and reads[0].op != "placeholder" and (
            only_output(reads[0]) is node or (fuse and _folds(node, reads[0], run.values))
        )
        if joined:
            group = group_of[reads[0]]
        else:
            group = []
            groups.append(group)
        group.append(node)
        group_of[node] = group
    return groups


def _folds(node: fx.Node, read: fx.Node, values: dict[fx.Node, Any]) -> bool:
    alone = len(read.users) == 1 and isinstance(values[read], Tensor)
    return alone and operation(node) in CHEAP and _bytes(values[node]) == _bytes(values[read])


def _nodes(groups: Sequence[Sequence[fx.Node]], run: _CostRun) -> list[SplitNode]:
    taken: dict[str, int] = {}
    nodes = []
    for group in groups:
        first, last = group[0], group[-1]
        path = _module_path(first)
        operations = [operation(node, run.values) for node in group if operation(node) != "getitem"]
        stem = ".".join(part for part in (path, "+".join(operations or ["getitem"])) if part)
        if first.op == "placeholder":
            stem = INPUT_OP
        taken[stem] = taken.get(stem, -1) + 1
        outside = [read for node in group for read in run.reads(node) if read not in group]
        weights = {id(weight): weight for node in group for weight in run.weights(node)}.values()
        working = [sum(_bytes(run.values[value]) for value in {node, *run.reads(node)}) for node in group]
        nodes.append(SplitNode(
            name=_numbered(stem, taken[stem]),
            op=INPUT_OP if first.op == "placeholder" else "+".join(operations or ["getitem"]),
            output_bytes=_bytes(run.values[last]),
            macs=sum(run.macs.get(node, 0) for node in group),
            parameters=sum(weight.numel() for weight in weights),
            parameter_bytes=sum(_bytes(weight) for weight in weights),
            input_bytes=sum(_bytes(run.values[read]) for read in dict.fromkeys(outside)),
            working_bytes=max(working),
            output_shapes=tuple(tuple(tensor.shape) for tensor in tensors_of(run.values[last])),
            dtype=_dtype(run.values[last]),
            module=path,
        ))
    return nodes


def operation(node: fx.Node, values: dict[fx.Node, Any] | None = None) -> str:
    """Short name of what a node does; with values, convolutions are told apart by how they are computed:
    ``conv2d``, ``conv2d_1x1`` (a matrix product) and ``conv2d_grouped`` (depthwise among them).
    """
    if node.op == "call_module":
        assert node.graph.owning_module is not None
        short = type(node.graph.owning_module.get_submodule(str(node.target))).__name__.lower()
        short = {"batchnorm2d": "batch_norm", "layernorm": "layer_norm"}.get(short, short)
    else:
        target = node.target
        short = target if isinstance(target, str) else getattr(target, "__name__", str(target))
        short = short.partition(".")[0].rstrip("_")
    short = _SAME.get(short, short)
    if short != "conv2d" or values is None:
        return short
    kernel, channels = _convolution(node, values)
    if kernel.shape[1] != channels:
        return "conv2d_grouped"
    return "conv2d_1x1" if math.prod(kernel.shape[2:]) == 1 else short


def _convolution(node: fx.Node, values: dict[fx.Node, Any]) -> tuple[Tensor, int]:
    """Kernel (out, in / groups, h, w) and input channels of a 2-d convolution."""
    source = node.all_input_nodes[0]
    if node.op == "call_module":
        assert node.graph.owning_module is not None
        kernel = node.graph.owning_module.get_parameter(f"{node.target}.weight")
    else:
        kernel = values[node.all_input_nodes[1]]
    assert isinstance(kernel, Tensor)
    return kernel, int(values[source].shape[-3])


def _module_path(node: fx.Node) -> str:
    if node.op == "call_module":
        return str(node.target)
    stack = node.meta.get("nn_module_stack") or {}
    path = next(reversed(stack.values()))[0] if stack else ""
    return str(path).removeprefix("L['self'].").removeprefix("L['self']")


def tensors_of(value: Any) -> list[Tensor]:
    """The tensors of a node's value, in order: one but for operations such as ``split``."""
    if isinstance(value, (tuple, list)):
        return [tensor for part in value for tensor in tensors_of(part)]
    return [value] if isinstance(value, Tensor) else []


def _layout(value: Any) -> list[tuple[int, ...]]:
    """Indices that lead to each tensor of a node's value, in the order of :func:`tensors_of`."""
    if isinstance(value, (tuple, list)):
        return [(place, *rest) for place, part in enumerate(value) for rest in _layout(part)]
    return [()] if isinstance(value, Tensor) else []


def _bytes(value: Any) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors_of(value))


def _dtype(value: Any) -> str:
    return str(tensors_of(value)[0].dtype).removeprefix("torch.")


def _numbered(stem: str, number: int) -> str:
    return f"{stem}_{number}" if number else stem
