"""What a device says of its classifier, folded into the user table. Reports come from outside."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from typing import Any, Final

from codec_runtime.contract.telemetry import CapabilityReport
from xapp.telemetry.columns import COMPUTE_CLASSES

MOST_NAME: Final = 64
"""Characters of a classifier's name."""
RATE_RANGE: Final = (1e-3, 1e3)
"""Pictures a second that a device may claim."""


def fold_classifier(
    report: CapabilityReport,
    columns: dict[str, Any],
    row: int,
    index: Callable[[str], int],
    bad: Counter[str],
) -> bool:
    """Columns of one user from its report; returns whether its classifier or class changed.

    Args:
        index: of a classifier's name; -1 where there are too many.
        bad: counts what is out of range (``classifier``); the device then counts as one that does not
            classify.
    """
    classifier, compute = -1, -1
    said = report.classifier
    if said is not None:
        known = said.compute_class in COMPUTE_CLASSES and 0 < len(said.network) <= MOST_NAME
        if known and RATE_RANGE[0] <= said.requests_per_s <= RATE_RANGE[1]:
            classifier, compute = index(said.network), COMPUTE_CLASSES.index(said.compute_class)
            columns["classify_rate"][row] = said.requests_per_s
        else:
            bad["classifier"] += 1
    battery = report.battery
    columns["battery"][row] = battery if battery is not None and 0.0 <= battery <= 1.0 else math.nan
    changed = bool(columns["classifier"][row] != classifier or columns["compute_class"][row] != compute)
    if changed:
        columns["cut"][row], columns["cut_arrears"][row] = -1, 0.0
    columns["classifier"][row], columns["compute_class"][row] = classifier, compute
    return changed
