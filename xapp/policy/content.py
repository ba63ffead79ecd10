"""How strongly a user's content responds to rate and SNR, compared with the pictures of the surface.

The surface is measured on ordinary photographs. Measured PSNR y and surface value x of successive
transmissions give steps dx, dy; regressing dy on dx through the origin gives the slope b. It shrinks to the
group's slope, and that to 1, as Bayesian linear regression with a Gaussian prior does: with n steps of mean
power D = E[dx^2] and mean product P = E[dx dy],

    b_group = (sum n P + c) / (sum n D + c)        b_user = (n P + c b_group) / (n D + c)

where c = (noise of dy / prior spread of b)^2. Thermal pictures, for example, gain about half of what
photographs gain from more bandwidth.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from xapp.telemetry.columns import FloatArray, IntArray

PRIOR_DB2: Final = 40.0
"""c: steps with 2 dB noise and a prior spread of 0.3, dB^2."""

MEMORY: Final = 12.0
"""More reports than this do not count, dB statistics being moving averages over about as many."""

SLOPE_RANGE: Final = (0.25, 1.5)


def content_slope(
    group: IntArray, reports: FloatArray, step_power: FloatArray, step_product: FloatArray
) -> FloatArray:
    """Slope of each user, 1 for one never measured.

    Args:
        group: int [N] group index, -1 for unknown.
        reports: float [N], quality reports so far.
        step_power, step_product: float [N], E[dx^2] and E[dx dy], dB^2.

    Returns:
        float64 [N] within :data:`SLOPE_RANGE`.
    """
    count = np.minimum(reports, MEMORY)
    power, product = count * step_power, count * step_product
    index = group + 1
    group_slope = (np.bincount(index, product) + PRIOR_DB2) / (np.bincount(index, power) + PRIOR_DB2)
    slope = (product + PRIOR_DB2 * group_slope[index]) / (power + PRIOR_DB2)
    clipped: FloatArray = np.where(reports > 0, np.clip(slope, *SLOPE_RANGE), 1.0)
    return clipped
