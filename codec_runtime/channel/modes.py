"""Every channel by its name.

A name is a model, or a model and an impairment: ``awgn``, ``tdl-c``, ``awgn+clip``, ``rayleigh_mmse+snr-3``.
``CHANNELS`` lists the models and the impairments of AWGN; :func:`channel` takes every combination.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

from codec_runtime.channel.awgn import awgn_channel
from codec_runtime.channel.impairments import BurstErasure, ClippedAmplifier, SnrOffset
from codec_runtime.channel.mmse import RayleighMmse
from codec_runtime.channel.rayleigh import (
    rayleigh_fast_magnitude_channel,
    rayleigh_slow_channel,
    rayleigh_slow_eq_channel,
)
from codec_runtime.channel.received import Channel, Received, require_finite
from codec_runtime.channel.tdl import PROFILES, Tdl

__all__ = ["CHANNELS", "IMPAIRMENTS", "Channel", "Received", "channel", "require_finite"]


def _the(model: Channel) -> Callable[[], Channel]:
    return lambda: model


_MODELS: Mapping[str, Callable[[], Channel]] = {
    "awgn": _the(awgn_channel),
    "rayleigh_slow": _the(rayleigh_slow_channel),
    "rayleigh_slow_eq": _the(rayleigh_slow_eq_channel),
    "rayleigh_fast_magnitude": _the(rayleigh_fast_magnitude_channel),
    "rayleigh_mmse": RayleighMmse,
    **{f"tdl-{profile.lower()}": partial(Tdl, profile) for profile in PROFILES},
}

IMPAIRMENTS: Mapping[str, Callable[[Channel], Channel]] = {
    "snr+3": partial(SnrOffset, offset_db=3.0),
    "snr-3": partial(SnrOffset, offset_db=-3.0),
    "burst": BurstErasure,
    "clip": ClippedAmplifier,
}

CHANNELS: tuple[str, ...] = (*_MODELS, *(f"awgn+{impairment}" for impairment in IMPAIRMENTS))


def channel(name: str) -> Channel:
    """The channel of that name, with its default configuration.

    Raises:
        ValueError: unknown name; the message lists the known ones.
        ModuleNotFoundError: a ``tdl-`` model without Sionna; the message names the extra that has it.
    """
    model, plus, impairment = name.partition("+")
    if model not in _MODELS or (plus and impairment not in IMPAIRMENTS):
        raise ValueError(
            f"unknown channel {name!r}; known are {', '.join(_MODELS)}, each also followed by one of "
            + ", ".join(f"+{known}" for known in IMPAIRMENTS)
        )
    made = _MODELS[model]()
    return IMPAIRMENTS[impairment](made) if plus else made
