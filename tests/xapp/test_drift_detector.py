"""Detection delay and false alarms of the drift detector on synthetic streams with fixed seeds."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import pytest

from xapp.updates.drift import GroupDriftDetector

USERS = 5


def stream(
    seed: int, count: int, sd_db: float, drift_at: int | None = None, drop_db: float = 0.0
) -> Iterator[tuple[str, float]]:
    rng = np.random.default_rng(seed)
    own = rng.normal(0, 1.5, USERS)  # each user's pictures have their own difficulty
    for i in range(count):
        drop = drop_db if drift_at is not None and i >= drift_at else 0.0
        yield f"ue-{i % USERS}", float(own[i % USERS] + rng.normal(0, sd_db) - drop)


def delays(sd_db: float, drop_db: float, seeds: int = 40, before: int = 75) -> list[int]:
    found = []
    for seed in range(seeds):
        detector = GroupDriftDetector()
        delay = 200
        for i, (user, residual) in enumerate(stream(seed, before + 200, sd_db, before, drop_db)):
            if detector.update(user, residual) is not None and i >= before:
                delay = i - before + 1
                break
        found.append(delay)
    return found


@pytest.mark.parametrize(
    ("sd_db", "drop_db", "median_at_most", "p90_at_most"),
    [(1.5, 1.5, 20, 60), (1.5, 2.0, 11, 22), (2.0, 2.0, 18, 50), (2.0, 3.0, 10, 16), (3.0, 4.0, 10, 22)],
)
def test_drops_are_found_within_a_few_reports(
    sd_db: float, drop_db: float, median_at_most: int, p90_at_most: int
) -> None:
    found = delays(sd_db, drop_db)
    median, p90 = np.percentile(found, (50, 90))
    print(f"noise {sd_db} dB, drop {drop_db} dB: median {median:.0f}, p90 {p90:.0f} reports")
    assert median <= median_at_most
    assert p90 <= p90_at_most


@pytest.mark.parametrize(("sd_db", "at_least"), [(1.5, 3000), (2.0, 2000), (3.0, 1200)])
def test_false_alarms_are_rare(sd_db: float, at_least: int) -> None:
    alarms, reports = 0, 0
    for seed in range(25):
        detector = GroupDriftDetector()
        for user, residual in stream(1000 + seed, 600, sd_db):
            reports += 1
            alarms += detector.update(user, residual) is not None
    print(f"noise {sd_db} dB: {alarms} false alarms in {reports} reports")
    assert reports / max(alarms, 1) >= at_least


def test_a_rise_of_quality_is_no_drift() -> None:
    detector = GroupDriftDetector()
    assert all(detector.update(u, r) is None for u, r in stream(3, 300, 1.0, 100, -4.0))


def test_one_user_alone_does_not_speak_for_its_group() -> None:
    detector = GroupDriftDetector(adwin_delta=1e-9)
    rng = np.random.default_rng(5)
    for i in range(100):
        detector.update(f"ue-{i % USERS}", float(rng.normal(0, 0.5)))
    assert all(detector.update("ue-0", -6.0) is None for _ in range(30))


def test_the_signal_tells_the_size_of_the_drop() -> None:
    detector = GroupDriftDetector()
    signals = [s for u, r in stream(2, 120, 1.0, 75, 4.0) if (s := detector.update(u, r)) is not None]
    assert signals[0].drop_db == pytest.approx(4.0, abs=1.2)
    assert signals[0].samples >= 8


def test_drift_that_goes_on_is_signalled_again() -> None:
    detector = GroupDriftDetector()
    signals = [s for u, r in stream(2, 160, 1.0, 75, 4.0) if (s := detector.update(u, r)) is not None]
    assert len(signals) >= 3


def test_after_a_reset_the_new_level_is_normal() -> None:
    detector = GroupDriftDetector()
    for user, residual in stream(2, 120, 1.0, 75, 4.0):
        detector.update(user, residual)
    detector.reset()
    assert all(detector.update(u, r - 4.0) is None for u, r in stream(2, 200, 1.0))


def test_values_that_are_not_finite_are_ignored() -> None:
    detector = GroupDriftDetector()
    assert detector.update("a", math.nan) is None
    assert detector.samples == 0
