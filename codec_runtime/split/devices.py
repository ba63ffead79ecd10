"""Devices never measured: a measured profile scaled by compute and memory bandwidth.

The time of a node on a machine with F FLOP/s and B bytes/s is at least max(2 MACs / F, bytes / B), its
roofline (Williams, Waterman and Patterson, CACM 52(4), 2009). What a kernel misses that bound by is taken to
be alike on both machines, so a node's measured time is multiplied by the ratio of the two rooflines. That is
right to first order for CPUs with the same software, and a guess for anything else: a profile measured on the
device replaces it.
"""

from __future__ import annotations

import msgspec

from codec_runtime.contract.split import CostProfile, SplitGraph, SplitNode


class DeviceLimits(msgspec.Struct, frozen=True, kw_only=True):
    """What a device can do at most.

    Attributes:
        gflops: fp32 GFLOP/s, a multiply-accumulate being two.
        memory_gb_per_s: memory bandwidth, 1e9 bytes/s, reads and writes together.
        active_watts: of the device while it computes; ``active_watts_range`` is how sure that is. 0: unknown.
        source: where the figures come from.
    """

    name: str
    gflops: float
    memory_gb_per_s: float
    active_watts: float = 0.0
    active_watts_range: tuple[float, float] = (0.0, 0.0)
    source: str = ""


DEVICES: dict[str, DeviceLimits] = {
    limits.name: limits
    for limits in (
        DeviceLimits(
            name="raspberry-pi-3b+", gflops=44.8, memory_gb_per_s=3.6, active_watts=2.5,
            active_watts_range=(2.5, 12.5),
            source="4 Cortex-A53 x 1.4 GHz x 8 fp32 FLOP a cycle (one 128-bit multiply-add); 32-bit LPDDR2"
            "-900; power: bare board 500 mA, supply 2.5 A at 5 V, in Raspberry Pi's power documentation",
        ),
        DeviceLimits(
            name="raspberry-pi-4b", gflops=48.0, memory_gb_per_s=12.8, active_watts=3.0,
            active_watts_range=(3.0, 15.0),
            source="4 Cortex-A72 x 1.5 GHz x 8 fp32 FLOP a cycle (one 128-bit multiply-add); 32-bit "
            "LPDDR4-3200; power: bare board 600 mA, supply 3 A at 5 V, in Raspberry Pi's power documentation",
        ),
        DeviceLimits(
            name="jetson-nano", gflops=235.9, memory_gb_per_s=25.6, active_watts=10.0,
            active_watts_range=(5.0, 10.0),
            source="128 Maxwell cores x 921.6 MHz x 2; 64-bit LPDDR4-3200; 5 W and 10 W power modes: "
            "NVIDIA's Jetson Nano data sheet",
        ),
    )
}
"""Peaks by arithmetic from clock, width and memory interface; figures of boards, not of their use."""


def scaled_profile(
    profile: CostProfile, graph: SplitGraph, measured_on: DeviceLimits, device: DeviceLimits
) -> CostProfile:
    """The profile of ``graph`` as it would be on ``device``.

    ``error`` is that of the given profile: what the scaling itself is wrong by is not known.

    Raises:
        ValueError: the profile is of another graph, or a limit is not above 0.
    """
    if profile.graph != graph.digest:
        raise ValueError(f"profile of graph {profile.graph[:12]}, not of {graph.name} ({graph.digest[:12]})")
    for limits in (measured_on, device):
        if limits.gflops <= 0 or limits.memory_gb_per_s <= 0:
            raise ValueError(f"{limits.name}: GFLOP/s and GB/s must be above 0")
    seconds = tuple(
        value * _slowdown(node, measured_on, device)
        for value, node in zip(profile.seconds, graph.nodes, strict=True)
    )
    whole = profile.whole_seconds * sum(seconds) / sum(profile.seconds) if sum(profile.seconds) else 0.0
    return msgspec.structs.replace(
        profile, device_class=device.name, seconds=seconds, whole_seconds=whole, source="scaled"
    )


def roofline_seconds(node: SplitNode, device: DeviceLimits) -> float:
    """Least time of a node: max(2 MACs / F, bytes read and written / B)."""
    moved = node.input_bytes + node.output_bytes + node.parameter_bytes
    return max(2 * node.macs / device.gflops, moved / device.memory_gb_per_s) / 1e9


def _slowdown(node: SplitNode, measured_on: DeviceLimits, device: DeviceLimits) -> float:
    least = roofline_seconds(node, measured_on)
    return roofline_seconds(node, device) / least if least else 1.0
