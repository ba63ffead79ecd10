"""How strongly content responds to rate and SNR is learned from successive transmissions."""

from __future__ import annotations

import numpy as np
import pytest

from codec_runtime.contract.telemetry import QualityReport
from xapp.policy.content import SLOPE_RANGE, content_slope
from xapp.telemetry.user_table import UserTable


def _table(slope: float, reports: int, *, jump_db: float = 0.0, seed: int = 1) -> UserTable:
    """One user whose PSNR follows the surface with ``slope``, with a level shift of ``jump_db`` half-way."""
    rng = np.random.default_rng(seed)
    table = UserTable()
    for index in range(reports):
        expected = 25.0 + rng.normal(0, 2.0)
        level = jump_db if index >= reports // 2 else 0.0
        psnr = 22.0 + slope * (expected - 25.0) + level + rng.normal(0, 0.5)
        report = QualityReport(
            user="ue-1", time_ns=0, prefix=6, decoder="attention", decoder_version=1, snr_db=5.0,
            psnr_db=psnr, ms_ssim=0.9, latency_ms=1.0,
        )
        table.fold_quality(report, expected, float(index))
    return table


def _slope(table: UserTable) -> float:
    reports = table.qualities.astype(float)
    return float(content_slope(table.group, reports, table.step_power, table.step_product)[0])


def test_slope_of_an_unmeasured_user_is_one() -> None:
    assert content_slope(np.array([0]), np.zeros(1), np.zeros(1), np.zeros(1)).tolist() == [1.0]


@pytest.mark.parametrize("slope", [0.4, 1.0])
def test_slope_is_learned_from_enough_reports(slope: float) -> None:
    assert _slope(_table(slope, 80)) == pytest.approx(slope, abs=0.2)


def test_few_reports_hardly_move_the_prior() -> None:
    assert _slope(_table(0.3, 2)) > 0.6


def test_a_new_picture_is_not_taken_for_an_effect_of_the_rate() -> None:
    assert _slope(_table(1.0, 40, jump_db=-12.0)) == pytest.approx(1.0, abs=0.25)


def test_users_of_a_group_lend_each_other_strength() -> None:
    group = np.array([0, 0, 0, 0, 1])
    reports = np.array([12.0, 12.0, 12.0, 1.0, 1.0])
    power = np.full(5, 4.0)
    product = 0.4 * power
    slope = content_slope(group, reports, power, product)
    assert slope[3] < slope[4] - 0.1


def test_slope_stays_in_its_range() -> None:
    wild = content_slope(np.zeros(2, int), np.full(2, 12.0), np.full(2, 9.0), np.array([-90.0, 90.0]))
    assert wild.min() >= SLOPE_RANGE[0]
    assert wild.max() <= SLOPE_RANGE[1]
