"""Two networks as graphs.

For the benchmark and the comparison, and wherever no traced graph is given:

- ResNet-50 from its definition (He et al., 2015, table 1), every operation a node;
- EfficientNet-Lite0 as :mod:`codec_runtime.split.graph` traced and fused it
  (``efficientnet_lite0.json``).

Sizes, multiply-accumulates and weights are those of the networks at 224 x 224, batch 1, float32.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib import resources

import msgspec

from codec_runtime.contract.split import (
    INPUT_OP,
    OUTPUT_OP,
    SplitGraph,
    SplitNode,
    make_graph,
)

_FLOAT_BYTES = 4


def efficientnet_lite0() -> SplitGraph:
    """79 fused nodes, 385 million multiply-accumulates; the digest is checked on reading."""
    text = resources.files("xapp.split").joinpath("efficientnet_lite0.json").read_bytes()
    return msgspec.json.decode(text, type=SplitGraph)


class _Builder:
    """Appends nodes; a tensor is (node, channels, side)."""

    def __init__(self) -> None:
        self.nodes: list[SplitNode] = []
        self.edges: list[tuple[int, int]] = []

    def add(
        self, op: str, reads: Sequence[int], channels: int, side: int, macs: int = 0, parameters: int = 0
    ) -> int:
        size = 0 if op == OUTPUT_OP else channels * side * side * _FLOAT_BYTES
        read = sum(self.nodes[index].output_bytes for index in reads)
        index = len(self.nodes)
        self.nodes.append(
            SplitNode(
                name=f"{op}_{index}",
                op=op,
                output_bytes=size,
                macs=macs,
                parameters=parameters,
                parameter_bytes=parameters * _FLOAT_BYTES,
                input_bytes=read,
                working_bytes=0 if op in (INPUT_OP, OUTPUT_OP) else read + size,
                output_shapes=() if op == OUTPUT_OP else ((1, channels, side, side),),
            )
        )
        self.edges.extend((source, index) for source in reads)
        return index

    def convolution(self, source: int, channels: tuple[int, int], side: int, kernel: int) -> int:
        """Convolution and batch norm; ``side`` is that of the output."""
        weights = channels[0] * channels[1] * kernel * kernel
        node = self.add("conv2d", [source], channels[1], side, weights * side * side, weights)
        return self.add("batch_norm", [node], channels[1], side, 0, 4 * channels[1])


def resnet50() -> SplitGraph:
    """177 nodes: 53 convolutions and batch norms, 49 ReLUs, 16 additions, and the rest."""
    builder = _Builder()
    node = builder.add(INPUT_OP, [], 3, 224)
    node = builder.convolution(node, (3, 64), 112, 7)
    node = builder.add("relu", [node], 64, 112)
    node = builder.add("max_pool2d", [node], 64, 56)
    channels, side = 64, 56
    for stage, blocks in enumerate((3, 4, 6, 3)):
        width = 64 * 2**stage
        for block in range(blocks):
            stride = 2 if stage and not block else 1
            node = _bottleneck(builder, node, (channels, width), side, stride)
            channels, side = 4 * width, side // stride
    node = builder.add("adaptive_avg_pool2d", [node], channels, 1)
    node = builder.add("flatten", [node], channels, 1)
    node = builder.add("linear", [node], 1000, 1, channels * 1000, channels * 1000 + 1000)
    builder.add(OUTPUT_OP, [node], 1000, 1)
    return make_graph("resnet50", builder.nodes, builder.edges)


def _bottleneck(builder: _Builder, source: int, channels: tuple[int, int], side: int, stride: int) -> int:
    """1x1, 3x3 (strided), 1x1, beside the identity or a strided 1x1."""
    arriving, width = channels
    leaving, small = 4 * width, side // stride
    node = builder.convolution(source, (arriving, width), side, 1)
    node = builder.add("relu", [node], width, side)
    node = builder.convolution(node, (width, width), small, 3)
    node = builder.add("relu", [node], width, small)
    node = builder.convolution(node, (width, leaving), small, 1)
    skip = source
    if arriving != leaving or stride > 1:
        skip = builder.convolution(source, (arriving, leaving), small, 1)
    node = builder.add("add", [node, skip], leaving, small)
    return builder.add("relu", [node], leaving, small)
