"""What the CPU can do that decides how a network is computed."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from codec_runtime.serving.backends.interface import Precision

_CPUINFO = Path("/proc/cpuinfo")
BF16_FLAGS = frozenset({"amx_bf16", "avx512_bf16"})
"""Either multiplies bf16 natively: AMX (Sapphire Rapids on) or AVX-512 (Cooper Lake, Zen 4 on)."""
REPORTED_FLAGS = ("avx2", "fma", "avx512f", "avx512_vnni", "avx_vnni", "avx512_bf16", "amx_tile", "amx_bf16")
"""Flags that matter for convolutions, in the order of their age."""


def cpu_flags(cpuinfo: Path = _CPUINFO) -> frozenset[str]:
    """Feature flags of the first core as Linux names them; empty where there is no such file."""
    try:
        lines = cpuinfo.read_text().splitlines()
    except OSError:
        return frozenset()
    for line in lines:
        key, _, value = line.partition(":")
        if key.strip() == "flags":
            return frozenset(value.split())
    return frozenset()


def fastest_precision(flags: Collection[str]) -> Precision:
    """bf16 where the CPU multiplies it natively, else fp32 (emulated bf16 is slower than fp32)."""
    return "bf16" if BF16_FLAGS.intersection(flags) else "fp32"
