"""Two networks as graphs, and device classes by a roofline.

For the benchmark and the comparison, and wherever no traced graph and no measured profile is given:

- ResNet-50 from its definition (He et al., 2015, table 1), every operation a node;
- EfficientNet-Lite0 as :mod:`codec_runtime.split.graph` traced and fused it
  (``efficientnet_lite0.json``).

Sizes, multiply-accumulates and weights are those of the networks at 224 x 224, batch 1, float32. Times of the
classes are *not* measured:

    seconds of a node = max(macs / (macs a second), bytes moved / (bytes a second)) + overhead

Rates and powers are round numbers that span a microcontroller to a drone's computer; the edge server stands
for an accelerator at batch 1. A measured profile of a real device takes their place.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources

import msgspec

from codec_runtime.contract.split import (
    INPUT_OP,
    OUTPUT_OP,
    CostProfile,
    SplitGraph,
    SplitNode,
    make_graph,
)
from xapp.split.objective import DevicePower

_FLOAT_BYTES = 4


@dataclass(frozen=True)
class DeviceClass:
    """A kind of device: what limits a node's time, and its power.

    Attributes:
        name: of the class.
        macs_per_s: multiply-accumulates a second in convolutions and matrix products.
        bytes_per_s: memory traffic.
        overhead_s: start of a node.
        power: its power model.
        memory_bytes: for weights and activations.
        keeps_weights: has the whole network's weights at hand; else those of its head alone.
    """

    name: str
    macs_per_s: float
    bytes_per_s: float
    overhead_s: float
    power: DevicePower
    memory_bytes: float
    keeps_weights: bool = True

    def profile(self, graph: SplitGraph) -> CostProfile:
        """Roofline times of a graph's nodes."""
        seconds = tuple(self._seconds(node) for node in graph.nodes)
        return CostProfile(
            graph=graph.digest,
            network=graph.name,
            device_class=self.name,
            seconds=seconds,
            batch=graph.batch,
            source="scaled",
        )

    def _seconds(self, node: SplitNode) -> float:
        if node.op in (INPUT_OP, OUTPUT_OP):
            return 0.0
        moved = node.working_bytes + node.parameter_bytes
        return max(node.macs / self.macs_per_s, moved / self.bytes_per_s) + self.overhead_s


DEVICE_CLASSES: tuple[DeviceClass, ...] = (
    DeviceClass("sensor-small", 0.2e9, 0.3e9, 50e-6, DevicePower(0.4, 0.03), 32e6, keeps_weights=False),
    DeviceClass("sensor", 0.5e9, 0.6e9, 50e-6, DevicePower(0.6, 0.05), 64e6, keeps_weights=False),
    DeviceClass("wearable", 1e9, 1e9, 40e-6, DevicePower(0.9, 0.08), 128e6, keeps_weights=False),
    DeviceClass("camera", 2e9, 2e9, 40e-6, DevicePower(1.5, 0.3), 256e6),
    DeviceClass("phone-low", 4e9, 3e9, 30e-6, DevicePower(2.0, 0.3), 512e6),
    DeviceClass("glasses", 6e9, 4e9, 30e-6, DevicePower(1.5, 0.2), 512e6),
    DeviceClass("phone-mid", 15e9, 8e9, 20e-6, DevicePower(3.0, 0.3), 2e9),
    DeviceClass("drone", 50e9, 15e9, 20e-6, DevicePower(8.0, 1.0), 4e9),
)
EDGE_SERVER = DeviceClass("edge-server", 4e12, 500e9, 5e-6, DevicePower(250.0, 50.0), 40e9)


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
