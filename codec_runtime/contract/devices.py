"""Kinds of devices and edge servers: what limits the time of a network's operation, and their power.

The time of an operation on a machine with F FLOP/s and B bytes/s is at least max(2 MACs / F, bytes / B), its
roofline (Williams, Waterman and Patterson, CACM 52(4), 2009). Two uses:

- :func:`scaled_profile`: what a kernel misses that bound by is taken to be alike on two machines, so a
  measured time is multiplied by the ratio of their rooflines. Right to first order for CPUs with the same
  software, a guess for anything else.
- :func:`class_profile`: nothing was measured; the roofline itself, with a fixed time to start each operation.

Boards and cards carry peaks, by arithmetic from clock, width and memory interface: they come out too quick.
The other classes carry round numbers of what is sustained, spanning a microcontroller to a drone's computer:
an assumption of this project. A profile measured on the device replaces either.
"""

from __future__ import annotations

from typing import Final

import msgspec

from codec_runtime.contract.split import INPUT_OP, OUTPUT_OP, CostProfile, SplitGraph, SplitNode


class DeviceClass(msgspec.Struct, frozen=True, kw_only=True):
    """A kind of machine.

    Attributes:
        gflops: fp32 GFLOP/s, a multiply-accumulate being two.
        memory_gb_per_s: memory bandwidth, 1e9 bytes/s, reads and writes together.
        start_s: to start an operation, s.
        active_watts: while it computes; ``active_watts_range`` is how sure that is. 0: unknown.
        idle_watts: while it waits for an answer.
        memory_bytes: for weights and activations; 0: no limit known.
        keeps_weights: has room for the whole network's weights beside those in use, so that a cut moves
            without a download.
        source: where the figures come from.
    """

    name: str
    gflops: float
    memory_gb_per_s: float
    start_s: float = 0.0
    active_watts: float = 0.0
    active_watts_range: tuple[float, float] = (0.0, 0.0)
    idle_watts: float = 0.3
    memory_bytes: float = 0.0
    keeps_weights: bool = True
    source: str = ""


_ROUND: Final = "round numbers, an assumption"


def _assumed(
    name: str, gflops: float, memory_gb_per_s: float, start_us: float, watts: tuple[float, float],
    memory_mb: float, *, keeps_weights: bool = True,
) -> DeviceClass:
    return DeviceClass(
        name=name, gflops=gflops, memory_gb_per_s=memory_gb_per_s, start_s=start_us / 1e6,
        active_watts=watts[0], active_watts_range=(watts[0] / 2, watts[0] * 2), idle_watts=watts[1],
        memory_bytes=1e6 * memory_mb, keeps_weights=keeps_weights, source=_ROUND,
    )


ASSUMED_CLASSES: Final[tuple[DeviceClass, ...]] = (
    _assumed("sensor-small", 0.4, 0.3, 50, (0.4, 0.03), 32, keeps_weights=False),
    _assumed("sensor", 1.0, 0.6, 50, (0.6, 0.05), 64, keeps_weights=False),
    _assumed("wearable", 2.0, 1.0, 40, (0.9, 0.08), 128, keeps_weights=False),
    _assumed("camera", 4.0, 2.0, 40, (1.5, 0.3), 256),
    _assumed("phone-low", 8.0, 3.0, 30, (2.0, 0.3), 512),
    _assumed("glasses", 12.0, 4.0, 30, (1.5, 0.2), 512),
    _assumed("phone-mid", 30.0, 8.0, 20, (3.0, 0.3), 2000),
    _assumed("drone", 100.0, 15.0, 20, (8.0, 1.0), 4000),
)
"""Sustained figures; the power range is a factor of two either way."""

_BOARDS: Final = (
    DeviceClass(
        name="raspberry-pi-3b+", gflops=44.8, memory_gb_per_s=3.6, active_watts=2.5,
        active_watts_range=(2.5, 12.5), memory_bytes=1e9,
        source="4 Cortex-A53 x 1.4 GHz x 8 fp32 FLOP a cycle (one 128-bit multiply-add); 32-bit LPDDR2-900; "
        "power: bare board 500 mA, supply 2.5 A at 5 V, Raspberry Pi's power documentation",
    ),
    DeviceClass(
        name="raspberry-pi-4b", gflops=48.0, memory_gb_per_s=12.8, active_watts=3.0,
        active_watts_range=(3.0, 15.0), memory_bytes=2e9,
        source="4 Cortex-A72 x 1.5 GHz x 8 fp32 FLOP a cycle (one 128-bit multiply-add); 32-bit LPDDR4-3200; "
        "power: bare board 600 mA, supply 3 A at 5 V, Raspberry Pi's power documentation",
    ),
    DeviceClass(
        name="jetson-nano", gflops=235.9, memory_gb_per_s=25.6, active_watts=10.0,
        active_watts_range=(5.0, 10.0), memory_bytes=4e9,
        source="128 Maxwell cores x 921.6 MHz x 2; 64-bit LPDDR4-3200; 5 W and 10 W power modes: "
        "Jetson Linux developer guide",
    ),
)

DEVICES: Final[dict[str, DeviceClass]] = {one.name: one for one in (*_BOARDS, *ASSUMED_CLASSES)}
"""Devices by name."""

EDGE_SERVER: Final = DeviceClass(
    name="edge-server", gflops=8000.0, memory_gb_per_s=500.0, start_s=5e-6, active_watts=250.0,
    active_watts_range=(125.0, 500.0), idle_watts=50.0, memory_bytes=40e9,
    source=f"{_ROUND}: an accelerator at batch 1",
)

EDGES: Final[dict[str, DeviceClass]] = {
    one.name: one
    for one in (
        EDGE_SERVER,
        DeviceClass(
            name="edge-t4", gflops=8141.0, memory_gb_per_s=320.0, start_s=10e-6, active_watts=70.0,
            active_watts_range=(35.0, 70.0), idle_watts=10.0, memory_bytes=16e9,
            source="NVIDIA T4: 2560 cores x 1.59 GHz x 2; 256-bit GDDR6 at 10 Gbit/s a pin; board power "
            "limit 70 W. Start and idle power are assumptions",
        ),
        DeviceClass(
            name="edge-cpu-32", gflops=2560.0, memory_gb_per_s=204.8, start_s=5e-6, active_watts=180.0,
            active_watts_range=(120.0, 225.0), idle_watts=60.0, memory_bytes=256e9,
            source="32 Zen 2 cores x 2.5 GHz x 32 fp32 FLOP a cycle (two 256-bit multiply-adds); 8 channels "
            "of DDR4-3200; power: range of the EPYC 7002 series. Start and idle power are assumptions",
        ),
    )
}
"""Edge servers by name."""


def roofline_seconds(node: SplitNode, device: DeviceClass) -> float:
    """Least time of a node: max(2 MACs / F, bytes of activations and weights / B)."""
    moved = node.working_bytes + node.parameter_bytes
    return max(2 * node.macs / device.gflops, moved / device.memory_gb_per_s) / 1e9


def class_profile(graph: SplitGraph, device: DeviceClass) -> CostProfile:
    """Rooflines of a graph's nodes on a class, and the time to start each.

    Raises:
        ValueError: a limit of the class is not above 0.
    """
    _check(device)
    seconds = tuple(
        0.0 if node.op in (INPUT_OP, OUTPUT_OP) else roofline_seconds(node, device) + device.start_s
        for node in graph.nodes
    )
    return CostProfile(
        graph=graph.digest, network=graph.name, device_class=device.name, seconds=seconds, batch=graph.batch,
        source="scaled",
    )


def scaled_profile(
    profile: CostProfile, graph: SplitGraph, measured_on: DeviceClass, device: DeviceClass
) -> CostProfile:
    """The profile of ``graph`` as it would be on ``device``.

    ``error`` is that of the given profile: what the scaling itself is wrong by is not known.

    Raises:
        ValueError: the profile is of another graph, or a limit is not above 0.
    """
    if profile.graph != graph.digest:
        raise ValueError(f"profile of graph {profile.graph[:12]}, not of {graph.name} ({graph.digest[:12]})")
    for limits in (measured_on, device):
        _check(limits)
    seconds = tuple(
        value * _slowdown(node, measured_on, device)
        for value, node in zip(profile.seconds, graph.nodes, strict=True)
    )
    whole = profile.whole_seconds * sum(seconds) / sum(profile.seconds) if sum(profile.seconds) else 0.0
    return msgspec.structs.replace(
        profile, device_class=device.name, seconds=seconds, whole_seconds=whole, source="scaled"
    )


def _check(device: DeviceClass) -> None:
    if device.gflops <= 0 or device.memory_gb_per_s <= 0:
        raise ValueError(f"{device.name}: GFLOP/s and GB/s must be above 0")


def _slowdown(node: SplitNode, measured_on: DeviceClass, device: DeviceClass) -> float:
    least = roofline_seconds(node, measured_on)
    return roofline_seconds(node, device) / least if least else 1.0
