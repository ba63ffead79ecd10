"""What measured times say about predicted ones: y = a + b x, many lines at once, from few and ageing samples.

Each line is a least-squares fit with a prior (ridge regression towards the line a0, b0):

    sum of w (y - a - b x)^2  +  strength * ((a - a0)^2 + s^2 (b - b0)^2)

with weights w that fall by a factor with every new sample, and s a typical x, so that ``strength`` is about
the number of samples that outweigh the prior. Kept are five sums a line; one solve gives all lines.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from xapp.split.latency import Floats

SUMS: Final = 5
"""Of w, x, y, x^2, x y, in this order."""


class Lines(NamedTuple):
    """Intercepts and slopes (N,)."""

    intercept: Floats
    slope: Floats


@dataclass(frozen=True)
class LinePrior:
    """What is believed without a sample.

    Attributes:
        intercept, slope: of the prior line, a0 and b0.
        strength: samples that outweigh it.
        memory: samples that count, about.
        slope_range: slopes are kept within; intercepts at 0 or above.
    """

    intercept: float = 0.0
    slope: float = 1.0
    strength: float = 2.0
    memory: float = 20.0
    slope_range: tuple[float, float] = (0.02, 50.0)


def add_sample(sums: Floats, x: float, y: float, prior: LinePrior) -> None:
    """Fold one sample into the sums (5,) of a line, in place."""
    sums *= 1.0 - 1.0 / prior.memory
    sums += (1.0, x, y, x * x, x * y)


def fitted_lines(sums: NDArray[np.float64], scale: Floats | float, prior: LinePrior) -> Lines:
    """Lines of N sums (N, 5).

    Args:
        scale: a typical x, above 0; one number or (N,).
    """
    weight, x, y, xx, xy = sums.T
    pull = prior.strength * np.square(np.asarray(scale, dtype=np.float64))
    a11, a22 = weight + prior.strength, xx + pull
    r1, r2 = y + prior.strength * prior.intercept, xy + pull * prior.slope
    determinant = a11 * a22 - x * x
    slope = np.clip((a11 * r2 - x * r1) / determinant, *prior.slope_range)
    # Given a slope that was clipped, the best intercept is another.
    intercept = np.maximum((r1 - x * slope) / a11, 0.0)
    return Lines(np.asarray(intercept, dtype=np.float64), np.asarray(slope, dtype=np.float64))
