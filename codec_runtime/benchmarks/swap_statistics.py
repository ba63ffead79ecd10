"""How sure the ratio of two percentiles is, when latencies come in phases of two kinds."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

_RESAMPLES = 1000


def p99_ratio_interval(on: Sequence[Sequence[float]], off: Sequence[Sequence[float]]) -> tuple[float, float]:
    """95 % confidence interval of the ratio of the 99th percentiles of ``on`` and ``off``.

    Percentile bootstrap (Efron and Tibshirani, "An Introduction to the Bootstrap", chapter 13) over whole
    phases, since exchanges within a phase are not independent.

    Args:
        on, off: latencies of each phase of either kind, of at least one phase that is not empty.
    """
    kinds = [[np.asarray(phase) for phase in kind if len(phase)] for kind in (on, off)]
    generator = np.random.default_rng(0)
    ratios = []
    for _ in range(_RESAMPLES):
        upper, lower = (
            float(np.percentile(
                np.concatenate([kind[index] for index in generator.integers(len(kind), size=len(kind))]), 99
            ))
            for kind in kinds
        )
        ratios.append(upper / lower)
    low, high = np.percentile(ratios, [2.5, 97.5])
    return float(low), float(high)
