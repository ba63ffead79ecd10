"""An update of an adapter is told as a recovery only if confidence came back."""

from __future__ import annotations

import pytest

from xapp.updates.alignment import RECOVERY_REPORTS, Recovery, Source


@pytest.mark.parametrize(("after", "kind"), [
    (0.45, "alignment_recovered"), (0.33, "alignment_recovered"), (0.31, "alignment_low"),
    (0.10, "alignment_low"),
])
def test_half_of_what_was_lost_must_come_back(after: float, kind: str) -> None:
    recovery = Recovery(Source("drone", "efficientnet", "confidence"), "shared", before=0.44, during=0.20)
    recovery.version, recovery.reports = 2, RECOVERY_REPORTS
    recovery.total = after * RECOVERY_REPORTS
    assert recovery.kind == kind


def test_too_few_reports_are_no_recovery() -> None:
    recovery = Recovery(Source("drone", "efficientnet", "confidence"), "shared", before=0.44, during=0.20)
    recovery.total, recovery.reports = 0.9, 1
    assert recovery.after is None
    assert recovery.kind == "alignment_low"
