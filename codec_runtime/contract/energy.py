"""Constants of the energy model of a split inference, each with its source and range.

The model is in :mod:`xapp.split.objective`: active power x time for computing, and for the radio a base power
while it is active plus energy a bit. The active power of a device is in its
:class:`~codec_runtime.contract.devices.DeviceClass`; where it is not known, :func:`arithmetic_joules` is a
floor.
"""

from __future__ import annotations

import msgspec


class Constant(msgspec.Struct, frozen=True):
    """A figure with its unit, where it comes from, and the range it is known to lie in."""

    value: float
    low: float
    high: float
    unit: str
    source: str


class RadioEnergy(msgspec.Struct, frozen=True):
    """Power of a phone's radio: ``base`` (W) while active, plus ``up`` and ``down`` (J a bit)."""

    name: str
    up: Constant
    down: Constant
    base: Constant


_HUANG = (
    "Huang et al., A Close Examination of Performance and Power Characteristics of 4G LTE Networks, MobiSys "
    "2012, table 4: a linear fit to phones of 2011, within 6 % of measurement"
)
_HUANG_ERROR = 0.06


def _huang(value: float, unit: str) -> Constant:
    return Constant(value, value * (1 - _HUANG_ERROR), value * (1 + _HUANG_ERROR), unit, _HUANG)


LTE = RadioEnergy("lte", _huang(438.39e-9, "J/bit"), _huang(51.97e-9, "J/bit"), _huang(1.28804, "W"))
"""438.39 and 51.97 mW per Mbit/s up and down, 1288.04 mW base. The tail, seconds of 1060 mW after a transfer,
is not in it: a user who asks steadily pays it whatever the cut."""

WIFI = RadioEnergy("wifi", _huang(283.17e-9, "J/bit"), _huang(137.01e-9, "J/bit"), _huang(0.13286, "W"))
"""Wi-Fi of the same phones: 283.17 and 137.01 mW per Mbit/s, 132.86 mW base."""

RADIOS = {radio.name: radio for radio in (LTE, WIFI)}

FP32_MAC = Constant(
    4.6e-12, 1.5e-12, 4.6e-12, "J",
    "Horowitz, Computing's Energy Problem, ISSCC 2014, figure 1.1.9: 45 nm, 0.9 V, fp32 multiply 3.7 pJ and "
    "add 0.9 pJ; the low end is fp16, 1.1 and 0.4 pJ. Arithmetic alone",
)
"""A multiply-accumulate."""

DRAM_BYTE = Constant(
    162.5e-12, 162.5e-12, 325e-12, "J",
    "Horowitz, ISSCC 2014, figure 1.1.9: 1.3 to 2.6 nJ for 64 bits from DRAM",
)
"""A byte from memory."""


def arithmetic_joules(macs: int, moved_bytes: int) -> float:
    """J of so many MACs and bytes from memory. A floor: control, caches and leakage are not in it."""
    return macs * FP32_MAC.value + moved_bytes * DRAM_BYTE.value
