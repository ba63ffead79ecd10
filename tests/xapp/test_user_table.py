"""Folding of claims and measurements into the user table."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from codec_runtime.contract.telemetry import CapabilityReport, QualityReport
from xapp.telemetry.user_table import UserTable


def capability(
    user: str, group: str = "car", decoders: tuple[str, ...] = ("attention", "conv")
) -> CapabilityReport:
    return CapabilityReport(
        user=user, time_ns=0, device_class="car", group=group, decoders=list(decoders), compute_gflops=1.0
    )


def quality(user: str, psnr_db: float, snr_db: float = 5.0) -> QualityReport:
    return QualityReport(
        user=user,
        time_ns=0,
        prefix=6,
        decoder="conv",
        decoder_version=1,
        snr_db=snr_db,
        psnr_db=psnr_db,
        ms_ssim=0.9,
        latency_ms=1.0,
    )


def test_first_report_is_taken_as_it_is_and_later_ones_are_smoothed() -> None:
    table = UserTable(snr_time_constant_s=0.5)
    table.fold_indication("n", ["a"], {"SINR": [10.0]}, 0.0)
    assert table.snr_db[0] == 10.0
    table.fold_indication("n", ["a"], {"SINR": [20.0]}, 0.5)
    assert table.snr_db[0] == pytest.approx(10 + 10 * (1 - math.exp(-1)))
    assert table.snr_last_db[0] == 20.0
    assert table.snr_trend_db_s[0] > 0


def test_the_average_depends_on_time_not_on_the_number_of_reports() -> None:
    often, seldom = UserTable(), UserTable()
    for table, step in ((often, 0.1), (seldom, 1.0)):
        table.fold_indication("n", ["a"], {"SINR": [0.0]}, 0.0)
        for i in range(1, int(1 / step) + 1):
            table.fold_indication("n", ["a"], {"SINR": [10.0]}, i * step)
    assert often.snr_db[0] == pytest.approx(seldom.snr_db[0])


@pytest.mark.parametrize(
    ("name", "column", "bad"),
    [
        ("SINR", "snr_db", 61.0),
        ("CQI", "cqi", 16),
        ("RSRP", "rsrp_dbm", -10.0),
        ("RRU.PrbTotDl", "prb_percent", 101),
    ],
)
def test_impossible_values_are_counted_and_not_used(name: str, column: str, bad: float) -> None:
    table = UserTable()
    table.fold_indication("n", ["a", "b"], {name: [bad, None]}, 0.0)
    assert np.isnan(getattr(table, column)).all()
    assert table.out_of_range[name] == 1
    assert table.distrust[0] > 0
    assert table.distrust[1] == 0


def test_missing_values_leave_the_earlier_ones() -> None:
    table = UserTable()
    table.fold_indication("n", ["a"], {"SINR": [3.0], "CQI": [7]}, 0.0)
    table.fold_indication("n", ["a"], {"SINR": [None], "CQI": [None]}, 1.0)
    assert (table.snr_db[0], table.cqi[0]) == (3.0, 7.0)
    assert table.snr_heard_s[0] == 0.0
    assert table.heard_s[0] == 1.0


def test_table_grows_and_keeps_what_it_knows() -> None:
    table = UserTable(capacity=2)
    names = [f"ue-{i}" for i in range(37)]
    table.fold_indication("n", names, {"SINR": np.arange(37.0)}, 0.0)
    assert list(table.snr_db) == list(np.arange(37.0))
    assert table.row("ue-36") == 36


def test_full_table_refuses_new_users_only() -> None:
    table = UserTable(max_users=2)
    rows = table.fold_indication("n", ["a", "b", "c"], {"SINR": [1.0, 2.0, 3.0]}, 0.0)
    assert list(rows) == [0, 1]
    assert table.out_of_range["table-full"] == 1


def test_silent_users_become_stale_then_are_removed_and_others_keep_their_values() -> None:
    table = UserTable()
    table.fold_capability(capability("waiting"))
    table.fold_indication("n", ["old", "new"], {"SINR": [1.0, 2.0]}, 0.0)
    table.fold_indication("n", ["new"], {"SINR": [2.0]}, 40.0)
    assert list(table.active(40.0, 3.0)) == [False, False, True]
    assert table.remove_silent(40.0, 30.0) == ["old"]
    assert table.users == ["waiting", "new"]
    assert table.snr_db[table.row("new")] == 2.0
    table.fold_indication("n", ["again"], {}, 41.0)
    assert np.isnan(table.snr_db[table.row("again")])


def test_capability_gives_group_and_reports_changes_only() -> None:
    table = UserTable()
    assert table.fold_capability(capability("a"))
    assert not table.fold_capability(capability("a"))
    assert table.group_name(0) == "car"
    assert table.capability_sets[table.capability_set[0]] == ("attention", "conv")


def test_quality_gives_content_offset_and_fading_statistics() -> None:
    table = UserTable()
    rng = np.random.default_rng(1)
    table.fold_indication("n", ["a"], {"SINR": [8.0]}, 0.0)
    for i in range(60):
        fading, content = rng.normal(-0.5, 2.0), rng.normal(-3.0, 1.0)
        table.fold_quality(quality("a", 25.0 + content, 8.0 + fading), 25.0, float(i))
    assert table.offset_db[0] == pytest.approx(-3.0, abs=0.8)
    assert math.sqrt(table.offset_var[0]) == pytest.approx(1.0, abs=0.5)
    assert table.snr_bias_db[0] == pytest.approx(-0.5, abs=1.2)
    assert math.sqrt(table.snr_bias_var[0]) == pytest.approx(2.0, abs=0.9)
    assert table.sending_rate[0] == pytest.approx(1.0)


def test_unknown_expectation_leaves_the_offset_alone() -> None:
    table = UserTable()
    assert table.fold_quality(quality("a", 25.0), math.nan, 0.0) == 0
    assert table.offset_db[0] == 0.0
    assert table.psnr_db[0] == 25.0


@pytest.mark.parametrize(("psnr", "snr"), [(math.nan, 5.0), (101.0, 5.0), (25.0, math.inf), (-1.0, 5.0)])
def test_impossible_quality_is_refused(psnr: float, snr: float) -> None:
    table = UserTable()
    assert table.fold_quality(quality("a", psnr, snr), 25.0, 0.0) == -1
    assert table.out_of_range["quality"] == 1


@given(st.lists(st.floats(allow_nan=True, allow_infinity=True), min_size=1, max_size=30))
def test_no_claim_can_make_the_table_implausible(values: list[float]) -> None:
    table = UserTable()
    for i, value in enumerate(values):
        table.fold_indication("n", ["a"], {"SINR": [value], "CQI": [value]}, 0.1 * i)
    snr = table.snr_db[0]
    assert math.isnan(snr) or -30.0 <= snr <= 60.0
    assert table.snr_var[0] >= 0.0


def test_devices_that_name_ever_new_groups_and_capabilities_do_not_fill_the_memory(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("xapp.telemetry.user_table.MOST_GROUPS", 2)
    monkeypatch.setattr("xapp.telemetry.user_table.MOST_CAPABILITY_SETS", 3)
    table = UserTable()
    for number in range(9):
        report = CapabilityReport(
            user="ue-1", time_ns=0, device_class="car", group=f"g{number}", decoders=[f"d{number}"],
            compute_gflops=1.0,
        )  # fmt: skip
        table.fold_capability(report)
    assert table.groups.names == ["g0", "g1"]
    assert len(table.capability_sets) == 3
    assert table.out_of_range["capability-sets-full"] == 6
