"""Users of four device classes moving around one base station at the origin.

Gauss-Markov-like mobility: speed is constant per user, the heading performs a random walk, and the edge of
the cell (and a small disc around the mast) reflects. Metres, seconds, radians; all users at once.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from codec_runtime.contract.telemetry import DeviceClass

Floats = NDArray[np.float64]

DEVICE_CLASSES: tuple[DeviceClass, ...] = ("mobile", "drone", "car", "fixed")


@dataclass(frozen=True)
class ClassMotion:
    """How a device class moves.

    Attributes:
        speed_mps: lowest and highest speed, drawn once per user.
        turn_rate: standard deviation of the heading's random walk, rad per square root of a second.
        height_m: antenna height range; TR 38.901 UMi is valid for 1.5 m to 22.5 m (table 7.2-1).
    """

    speed_mps: tuple[float, float]
    turn_rate: float
    height_m: tuple[float, float]


CLASS_MOTION: dict[DeviceClass, ClassMotion] = {
    "mobile": ClassMotion((0.8, 1.6), 0.5, (1.5, 1.5)),
    "drone": ClassMotion((4.0, 10.0), 0.3, (15.0, 22.0)),
    "car": ClassMotion((8.0, 14.0), 0.15, (1.5, 1.5)),
    "fixed": ClassMotion((0.0, 0.0), 0.0, (3.0, 6.0)),
}

MINIMUM_DISTANCE_M = 10.0
"""TR 38.901 table 7.2-1: the smallest ground distance between user and base station in UMi."""


def assign_classes(users: int) -> tuple[DeviceClass, ...]:
    """Device class of each user: dealt out in turn, so that every class has a quarter of the users."""
    return tuple(DEVICE_CLASSES[i % len(DEVICE_CLASSES)] for i in range(users))


class Mobility:
    """Positions of N users within a disc.

    Args:
        classes: device class of each user.
        radius_m: cell radius, above :data:`MINIMUM_DISTANCE_M`.
        seed: the same seed and the same steps give the same paths.
    """

    def __init__(self, classes: tuple[DeviceClass, ...], radius_m: float, seed: int) -> None:
        if radius_m <= MINIMUM_DISTANCE_M:
            raise ValueError(f"cell radius {radius_m} m must be above {MINIMUM_DISTANCE_M} m")
        self._random = np.random.default_rng([seed, 101])
        self._radius = radius_m
        count = len(classes)
        motions = [CLASS_MOTION[c] for c in classes]
        # Uniform over the area of the ring.
        inner, outer = (1.5 * MINIMUM_DISTANCE_M / radius_m) ** 2, 0.95**2
        distance = radius_m * np.sqrt(self._random.uniform(min(inner, outer), outer, count))
        angle = self._random.uniform(0.0, 2.0 * np.pi, count)
        self._xy: Floats = np.stack((distance * np.cos(angle), distance * np.sin(angle)), axis=1)
        self._heading: Floats = self._random.uniform(0.0, 2.0 * np.pi, count)
        self._speed: Floats = self._random.uniform(*np.array([m.speed_mps for m in motions]).T)
        self._turn: Floats = np.array([m.turn_rate for m in motions])
        self._height: Floats = self._random.uniform(*np.array([m.height_m for m in motions]).T)

    @property
    def positions(self) -> Floats:
        """(N, 3) x, y and antenna height, metres; the base station's mast stands at x = y = 0."""
        return np.column_stack((self._xy, self._height))

    @property
    def speeds(self) -> Floats:
        """(N,) metres per second."""
        return self._speed

    def step(self, seconds: float) -> Floats:
        """Move every user on; returns the distance that each moved, (N,) metres.

        Raises:
            ValueError: time going backwards.
        """
        if seconds < 0.0:
            raise ValueError(f"a step of {seconds} s: time cannot go backwards")
        count = len(self._heading)
        self._heading += self._turn * np.sqrt(seconds) * self._random.standard_normal(count)
        moved = self._speed * seconds
        before = self._xy
        after = before + moved[:, None] * np.stack((np.cos(self._heading), np.sin(self._heading)), axis=1)
        distance = np.hypot(after[:, 0], after[:, 1])
        outside = (distance > self._radius) | (distance < MINIMUM_DISTANCE_M)
        # At a border stay where one was and head for the middle of the ring.
        goal = np.arctan2(after[:, 1], after[:, 0]) + np.where(distance > self._radius, np.pi, 0.0)
        self._heading = np.where(outside, goal + self._random.uniform(-0.8, 0.8, count), self._heading)
        self._xy = np.where(outside[:, None], before, after)
        return np.where(outside, 0.0, moved)
