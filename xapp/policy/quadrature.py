"""Gauss-Hermite quadrature: expectations over a standard normal variable as a short weighted sum."""

from __future__ import annotations

from typing import Final

import numpy as np

from xapp.telemetry.columns import FloatArray

_NODES, _WEIGHTS = np.polynomial.hermite_e.hermegauss(5)
NODES: Final[FloatArray] = _NODES
"""float64 [5]; E[f(Z)] ~ sum(NODE_WEIGHTS * f(NODES))."""
NODE_WEIGHTS: Final[FloatArray] = _WEIGHTS / _WEIGHTS.sum()
