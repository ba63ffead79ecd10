"""Time of a layer from its features, for networks and devices that were not measured as a whole.

For each kind of operation t = a + b MACs + c (bytes in and out) + d (bytes of weights), all coefficients >= 0
(Lawson and Hanson's NNLS): a is the call, b arithmetic, c and d memory. Rows are weighted by 1 / t, so the
fit minimises relative error and small layers count. Kinds seen fewer than :data:`LEAST_ROWS` times use one
fit over all kinds. The error told is that on networks left out of the fit; that within it would flatter.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

import msgspec
import numpy as np
from numpy.typing import NDArray
from scipy.optimize import nnls

from codec_runtime.contract.split import INPUT_OP, OUTPUT_OP, CostProfile, SplitGraph, SplitNode

LEAST_ROWS = 6
"""Nodes of a kind below which its own coefficients are not fitted; four are estimated."""

ANY_KIND = "*"
_SHORTEST = 1e-7
"""Seconds; times below are a clock's noise and weigh no more than this."""

_KINDS = {
    "conv2d": "convolution", "conv2d_1x1": "pointwise convolution", "conv2d_grouped": "grouped convolution",
    "conv1d": "convolution", "conv_transpose2d": "transposed convolution", "linear": "matrix product",
    "matmul": "matrix product", "bmm": "matrix product", "addmm": "matrix product",
    "scaled_dot_product_attention": "attention", "batch_norm": "normalisation",
    "layer_norm": "normalisation", "group_norm": "normalisation", "max_pool2d": "pooling",
    "avg_pool2d": "pooling", "adaptive_avg_pool2d": "pooling", "mean": "pooling", "cat": "copy",
    "pad": "copy", "clone": "copy", "constant_pad_nd": "copy",
    "view": "view", "reshape": "view", "flatten": "view",
    "permute": "view", "transpose": "view", "unbind": "view", "split": "view", "chunk": "view",
    "getitem": "view", "select": "view", "squeeze": "view", "unsqueeze": "view", "expand": "view",
    "slice": "view", "gelu": "transcendental", "sigmoid": "transcendental", "tanh": "transcendental",
    "silu": "transcendental", "softmax": "transcendental",
}  # fmt: skip


@dataclass(frozen=True)
class LayerTimes:
    """A fitted model.

    Attributes:
        coefficients: kind -> seconds for (call, MAC, byte in or out, byte of weights); ``*``: all kinds.
        error: median over networks left out of |predicted - measured| / measured of the whole network; NaN
            where the fit saw fewer than two networks.
    """

    coefficients: dict[str, tuple[float, float, float, float]]
    error: float = float("nan")


@dataclass(frozen=True)
class LeftOut:
    """How well a network is predicted from the others.

    Attributes:
        predicted, measured: seconds of the sum of nodes.
        node_error: sum of |predicted - measured| over nodes, over the measured sum.
        prefix_error: largest |predicted - measured| of a topological prefix, over the measured sum: what a
            decision about the cut can be misled by.
    """

    network: str
    predicted: float
    measured: float
    node_error: float
    prefix_error: float

    @property
    def error(self) -> float:
        """Relative error of the whole, signed."""
        return self.predicted / self.measured - 1


Sample = tuple[SplitGraph, CostProfile]


def kind_of(node: SplitNode) -> str:
    """Kind of a node's operation; a fused node is of the kind of its first member."""
    first = node.op.partition("+")[0]
    return _KINDS.get(first, "element-wise")


def fit(samples: Sequence[Sample]) -> LayerTimes:
    """Fit to measured profiles of one device; :attr:`LayerTimes.error` by leaving out each network in turn.

    Raises:
        ValueError: no samples, or a profile of another graph than the one beside it.
    """
    errors = [abs(left.error) for left in leave_one_out(samples)]
    return LayerTimes(_coefficients(samples), statistics.median(errors) if errors else float("nan"))


def leave_one_out(samples: Sequence[Sample]) -> list[LeftOut]:
    """Each network predicted from the others; empty with fewer than two."""
    _check(samples)
    results = []
    for place, (graph, profile) in enumerate(samples):
        others = [sample for other, sample in enumerate(samples) if other != place]
        if not others:
            return []
        predicted = np.array(_predict(_coefficients(others), graph))
        difference = predicted - np.array(profile.seconds)
        measured = sum(profile.seconds)
        results.append(LeftOut(
            graph.name, float(predicted.sum()), measured, float(np.abs(difference).sum() / measured),
            float(np.abs(np.cumsum(difference)).max() / measured),
        ))
    return results


def predicted_profile(model: LayerTimes, graph: SplitGraph, like: CostProfile) -> CostProfile:
    """A profile of ``graph`` by the model; host, threads and the like are those of ``like``, which it was
    fitted to.
    """
    return msgspec.structs.replace(
        like, graph=graph.digest, network=graph.name, seconds=tuple(_predict(model.coefficients, graph)),
        whole_seconds=0.0, rounds=0, batch=graph.batch, source="regression", error=model.error,
    )


def _check(samples: Sequence[Sample]) -> None:
    if not samples:
        raise ValueError("no measured profiles to fit to")
    for graph, profile in samples:
        if profile.graph != graph.digest or len(profile.seconds) != len(graph.nodes):
            raise ValueError(f"the profile of {profile.network} is of another graph than {graph.name}")


def _coefficients(samples: Sequence[Sample]) -> dict[str, tuple[float, float, float, float]]:
    rows: dict[str, list[tuple[SplitNode, float]]] = {ANY_KIND: []}
    for graph, profile in samples:
        for node, seconds in zip(graph.nodes, profile.seconds, strict=True):
            if node.op not in (INPUT_OP, OUTPUT_OP):
                rows[ANY_KIND].append((node, seconds))
                rows.setdefault(kind_of(node), []).append((node, seconds))
    enough = {kind: found for kind, found in rows.items() if kind == ANY_KIND or len(found) >= LEAST_ROWS}
    return {kind: _solve(found) for kind, found in enough.items()}


def _solve(rows: Sequence[tuple[SplitNode, float]]) -> tuple[float, float, float, float]:
    features = np.array([_features(node) for node, _ in rows])
    seconds = np.array([time for _, time in rows])
    weighted = features / np.maximum(seconds, _SHORTEST)[:, None]
    scale = np.maximum(np.abs(weighted).max(axis=0), 1e-300)
    solved, _ = nnls(weighted / scale, seconds / np.maximum(seconds, _SHORTEST))
    call, arithmetic, moved, weights = (float(value) for value in solved / scale)
    return call, arithmetic, moved, weights


def _features(node: SplitNode) -> NDArray[np.float64]:
    return np.array([1.0, node.macs, node.input_bytes + node.output_bytes, node.parameter_bytes])


def _predict(coefficients: dict[str, tuple[float, float, float, float]], graph: SplitGraph) -> list[float]:
    return [
        0.0 if node.op in (INPUT_OP, OUTPUT_OP)
        else float(_features(node) @ np.array(coefficients.get(kind_of(node), coefficients[ANY_KIND])))
        for node in graph.nodes
    ]
