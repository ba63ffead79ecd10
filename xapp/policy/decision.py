"""What a policy sees and what it answers, and the registry of policies."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Final, Protocol

import numpy as np

from xapp.policy.surface import QualitySurface
from xapp.telemetry.columns import FloatArray, IntArray

LADDER: Final = (2, 3, 4, 5, 6, 8, 10, 12, 14, 16)
"""Prefixes that policies choose from; bandwidth ratio R = prefix / 96."""


@dataclass(frozen=True, slots=True)
class Observation:
    """The users that a policy decides about, as arrays of the same length N.

    Attributes:
        snr_db: expected effective SNR, dB. snr_sd_db: its spread from picture to picture, dB.
        offset_db: measured PSNR minus surface (content), dB. offset_sd_db: its spread, dB.
        reference_db: surface value at which the offset was measured, dB. slope: change of measured PSNR per
            change of the surface around it, > 0; below 1 for content that rate and SNR help less.
        surface: index in ``surfaces`` of the decoder that will restore the user's pictures.
        weight: relative number of pictures sent, > 0.
        prefix: directive in force, 0 for none.
        surfaces: rate-quality surfaces by index.
        quality_target_db: PSNR below which a picture is a miss, dB, NaN for the policy's own target.
        max_prefix: largest prefix allowed, inf for none; at least the ladder's smallest.
        quality_share: importance of quality, 0..1; the rest is that of spending few channels, so 1 is quality
            alone. The last three are None where no user has any.
    """

    snr_db: FloatArray
    snr_sd_db: FloatArray
    offset_db: FloatArray
    offset_sd_db: FloatArray
    reference_db: FloatArray
    slope: FloatArray
    surface: IntArray
    weight: FloatArray
    prefix: IntArray
    surfaces: tuple[QualitySurface, ...]
    quality_target_db: FloatArray | None = None
    max_prefix: FloatArray | None = None
    quality_share: FloatArray | None = None

    def __len__(self) -> int:
        return len(self.snr_db)

    def take(self, rows: IntArray) -> Observation:
        """The same of some users only."""
        taken: dict[str, Any] = {}
        for name in (column.name for column in fields(self)):
            value = getattr(self, name)
            taken[name] = value if name == "surfaces" or value is None else value[rows]
        return Observation(**taken)

    def targets(self, own_db: float) -> float | FloatArray:
        """Target of each user, dB: float64 [N], or ``own_db`` where nobody has one of his own."""
        if self.quality_target_db is None:
            return own_db
        target: FloatArray = np.where(np.isnan(self.quality_target_db), own_db, self.quality_target_db)
        return target

    def expected_psnr(self, snr_db: FloatArray, prefixes: FloatArray) -> FloatArray:
        """Surface alone: snr_db float [N, ...], prefixes float [M] -> float64 [N, ..., M], dB."""
        if len(self.surfaces) == 1:
            return self.surfaces[0].expected_psnr(snr_db, prefixes)
        result = np.empty((*snr_db.shape, len(prefixes)))
        for index, surface in enumerate(self.surfaces):
            mine = self.surface == index
            if mine.any():
                result[mine] = surface.expected_psnr(snr_db[mine], prefixes)
        return result


@dataclass(frozen=True, slots=True)
class Decision:
    """One decision for all users of an observation.

    Attributes:
        prefix: int64 [N]. expected_psnr_db: float64 [N], at the decided prefix, with content offset.
        mean_prefix: weighted mean. predicted_miss: weighted share of pictures below the target, 0..1.
        predicted_psnr_db: weighted mean. uniform_psnr_db: the same for the uniform allocation at the same
            mean prefix. miss_weight: trade-off used. For people and metrics. Where users weigh quality
            differently, so does the mean of both PSNR.
    """

    prefix: IntArray
    expected_psnr_db: FloatArray
    mean_prefix: float = 0.0
    predicted_miss: float = 0.0
    predicted_psnr_db: float = float("nan")
    uniform_psnr_db: float = float("nan")
    miss_weight: float = 0.0
    details: Mapping[str, float] = field(default_factory=dict)


class Policy(Protocol):
    """A policy: state of the whole site in, rates out. May keep state between calls (hysteresis)."""

    def decide(self, observation: Observation) -> Decision:
        """One vectorised decision; never raises for finite input, also for N = 0."""
        ...


class UnknownPolicyError(ValueError):
    """The policy name or one of its parameters does not exist; the message lists what does."""


_REGISTRY: dict[str, Callable[..., Policy]] = {}


def register(name: str) -> Callable[[type[Policy]], type[Policy]]:
    """Class decorator: make a policy available as ``name``."""

    def add(cls: type[Policy]) -> type[Policy]:
        _REGISTRY[name] = cls
        return cls

    return add


def make_policy(name: str, parameters: Mapping[str, float]) -> Policy:
    """Policy by name with its keyword parameters.

    Raises:
        UnknownPolicyError: no such policy or parameter.
    """
    if name not in _REGISTRY:
        raise UnknownPolicyError(f"policy {name!r} is not known; known are {', '.join(sorted(_REGISTRY))}")
    try:
        return _REGISTRY[name](**parameters)
    except TypeError as error:
        raise UnknownPolicyError(f"policy {name!r}: {error}") from error
