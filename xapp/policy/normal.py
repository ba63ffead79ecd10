"""Normal distribution and Gauss-Hermite nodes for arrays, without scipy."""

from __future__ import annotations

from typing import Final

import numpy as np

from xapp.telemetry.columns import FloatArray

_A: Final = (0.254829592, -0.284496736, 1.421413741, -1.453152027, 1.061405429)

_NODES, _WEIGHTS = np.polynomial.hermite_e.hermegauss(5)
NODES: Final[FloatArray] = _NODES
"""float64 [5]: standard normal quadrature nodes; E[f(Z)] ~ sum(NODE_WEIGHTS * f(NODES))."""
NODE_WEIGHTS: Final[FloatArray] = _WEIGHTS / _WEIGHTS.sum()


def normal_cdf(x: FloatArray) -> FloatArray:
    """Phi(x) for any shape; absolute error below 1e-7 (Abramowitz and Stegun 7.1.26)."""
    z = np.abs(x) * 0.7071067811865476
    t = 1.0 / (1.0 + 0.3275911 * z)
    tail = t * (_A[0] + t * (_A[1] + t * (_A[2] + t * (_A[3] + t * _A[4])))) * np.exp(-z * z)
    result: FloatArray = 0.5 + 0.5 * np.sign(x) * (1.0 - tail)
    return result
