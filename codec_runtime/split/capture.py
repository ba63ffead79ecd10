"""Any torch module as one flat, functional graph of operations: the ground for cutting it.

``torch.export`` is tried first: it follows the Python of the module at the given input, so control flow on
shapes and settings is resolved; it yields ATen operations, the same set for every author's style; and it
knows which operations write in place, so that they can be made functional, without which an edge of the graph
would not be all that a node depends on. Where it fails, ``torch.fx.symbolic_trace`` takes over: it keeps
leaf modules whole and cannot follow control flow, but asks less of the operations inside.

Shapes are those of the example input. Networks must be in evaluation mode.
"""

from __future__ import annotations

import copy
import operator
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal

import torch
from torch import Tensor, fx, nn

Capture = Literal["export", "fx"]


_IN_PLACE = frozenset({
    operator.iadd, operator.isub, operator.imul, operator.itruediv, operator.ifloordiv, operator.imod,
    operator.ipow, operator.iand, operator.ior, operator.ixor, operator.setitem,
})  # fmt: skip


class CaptureError(ValueError):
    """The module cannot be captured; the message has what export and fx said."""


def capture(network: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[fx.GraphModule, Capture]:
    """Capture a network at its example input.

    Returns:
        A graph module that takes ``inputs`` and returns a flat tuple of tensors, and how it was captured.
        Its weights are the network's own, not copies, under the network's own names.

    Raises:
        CaptureError: in training mode; where neither way works; where an output is no tensor.
    """
    if network.training:
        raise CaptureError(f"{type(network).__name__} is in training mode: call eval() first")
    how: Capture = "export"
    try:
        module = _export(network, inputs)
    except Exception as refusal:  # export raises whatever the module's Python raises under tracing
        how = "fx"
        try:
            module = _symbolic(network)
        except Exception as error:
            raise CaptureError(
                f"{type(network).__name__}: export says {_first_line(refusal)}; fx says {_first_line(error)}"
            ) from error
    return _flattened(module, inputs), how


def _export(network: nn.Module, inputs: tuple[Tensor, ...]) -> fx.GraphModule:
    """The exported graph; made functional only where something writes in place: that takes time."""
    with _not_in_place(network):
        program = torch.export.export(network, inputs)
    if any(_writes(node) for node in program.graph.nodes):
        program = program.run_decompositions({})
    module = program.module(check_guards=False)
    if any(_writes(node) for node in module.graph.nodes):
        raise CaptureError("the network changes its own state when run")
    assert isinstance(module, fx.GraphModule)
    return module


def _symbolic(network: nn.Module) -> fx.GraphModule:
    """The graph by symbolic tracing, leaf modules whole; what writes in place is refused."""
    module = fx.GraphModule(network, fx.Tracer().trace(network))
    for node in module.graph.nodes:
        name = node.target if isinstance(node.target, str) else getattr(node.target, "__name__", "")
        method = node.op == "call_method" and name.endswith("_") and not name.endswith("__")
        augmented = node.target in _IN_PLACE
        if method or augmented or node.kwargs.get("inplace"):
            raise CaptureError(f"{name} writes in place")
        if node.op == "call_module" and getattr(leaf := module.get_submodule(name), "inplace", None) is True:
            leaf = copy.copy(leaf)
            leaf.inplace = False  # type: ignore[assignment]
            module.set_submodule(name, leaf)
    return module


@contextmanager
def _not_in_place(network: nn.Module) -> Iterator[None]:
    """Activation modules of the network yield new tensors inside the block; the values are the same."""
    switched = [module for module in network.modules() if getattr(module, "inplace", None) is True]
    for module in switched:
        module.inplace = False  # type: ignore[assignment]
    try:
        yield
    finally:
        for module in switched:
            module.inplace = True  # type: ignore[assignment]


def _writes(node: fx.Node) -> bool:
    schema = getattr(node.target, "_schema", None)
    return schema is not None and bool(schema.is_mutable)


class _Recorder(fx.Interpreter):
    """Runs a graph and keeps which nodes yield tensors, and other values as they are."""

    def __init__(self, module: fx.GraphModule) -> None:
        super().__init__(module)
        self.literals: dict[fx.Node, Any] = {}

    def run_node(self, n: fx.Node) -> Any:
        value = super().run_node(n)
        if n.op.startswith("call") and not _holds_tensor(value):
            self.literals[n] = value
        return value


def _flattened(module: fx.GraphModule, inputs: tuple[Tensor, ...]) -> fx.GraphModule:
    """Copy of the graph without what is known beforehand, with one flat tuple of outputs.

    Sizes read from a tensor become literals (shapes are fixed), so that only tensors are left on edges. An
    operation of which only one of several outputs is used yields that one.
    """
    recorder = _Recorder(module)
    with torch.no_grad():
        recorder.run(*inputs)
    graph = fx.Graph()
    copies: dict[fx.Node, Any] = dict(recorder.literals)
    for node in module.graph.nodes:
        if node in copies:
            continue
        if node.op == "output":
            outputs = [copies[used] for used in node.all_input_nodes]
            if not outputs or not all(isinstance(value, fx.Node) for value in outputs):
                raise CaptureError("an output of the network is no tensor")
            graph.output(tuple(outputs))
        else:
            copies[node] = graph.node_copy(node, copies.__getitem__)
    return pruned(module, graph)


def pruned(weights: fx.GraphModule, graph: fx.Graph) -> fx.GraphModule:
    """A module that runs ``graph`` with the weights it reads, without what leads to no output."""
    graph.owning_module = weights  # a call of a module is dead or not by what the module is
    graph.eliminate_dead_code()
    return fx.GraphModule(weights, graph).eval()


def constants(graph: fx.Graph) -> frozenset[fx.Node]:
    """Nodes that depend on no input: weights, and what is made of weights or of nothing."""
    found: set[fx.Node] = set()
    for node in graph.nodes:
        if node.op not in ("placeholder", "output") and found.issuperset(node.all_input_nodes):
            found.add(node)
    return frozenset(found)


def only_output(node: fx.Node) -> fx.Node | None:
    """The ``getitem`` that is the one use of a node, or None: then the two are one operation."""
    users = list(node.users)
    if len(users) == 1 and users[0].target is operator.getitem and users[0].args[0] is node:
        return users[0]
    return None


def _holds_tensor(value: Any) -> bool:
    if isinstance(value, (tuple, list)):
        return any(_holds_tensor(part) for part in value)
    return isinstance(value, Tensor)


def _first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}"
