"""Label consistency is a share of 32 pairs: a few doubtful ones are no drift, many are."""

from __future__ import annotations

import pytest

from codec_runtime.contract.alignment import AlignmentReport
from codec_runtime.contract.telemetry import CapabilityReport
from xapp.status import Status
from xapp.telemetry.user_table import UserTable
from xapp.updates.alignment import AlignmentUpdates
from xapp.updates.drift import GroupDriftDetector
from xapp.updates.federation import RoundSettings
from xapp.updates.planner import PlannerSettings, UpdatePlanner

USERS = ("ue-1", "ue-2")


def updates() -> AlignmentUpdates:
    table = UserTable()
    for user in USERS:
        table.fold_capability(CapabilityReport(
            user=user, time_ns=1, device_class="drone", group="drone", decoders=[], compute_gflops=1.0,
        ))  # fmt: skip
    return AlignmentUpdates(
        {}, UpdatePlanner(PlannerSettings(), "x"), table, Status(), make_detector=GroupDriftDetector,
        rounds=RoundSettings(), min_gain_rsum=2.0, clock=lambda: 100.0,
    )  # fmt: skip


def began(alignment: AlignmentUpdates, consistency: float, reports: int) -> bool:
    found = False
    for place in range(reports):
        report = AlignmentReport(
            user=USERS[place % 2], time_ns=place, encoder="lab-text", adapter_version=1, skb_version=1,
            samples=8, confidence=0.4, label_consistency=consistency,
        )  # fmt: skip
        found |= alignment.on_report(report, deaf=False)
    return found


@pytest.mark.parametrize(("pairs", "drifts"), [(29, False), (26, True)])
def test_three_doubtful_pairs_of_32_are_no_drift_and_six_are(pairs: int, drifts: bool) -> None:
    alignment = updates()
    assert not began(alignment, 1.0, 40)
    assert began(alignment, pairs / 32, 30) == drifts
