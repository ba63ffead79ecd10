"""Differences of two versions on the same pictures: what they are folded to, and how sure one may be."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xapp.rollout.paired import HALF, Series, mean_difference


def series(values: list[float]) -> Series:
    folded = Series()
    for value in values:
        folded.add(value)
    return folded


def slow_content(rng: np.random.Generator, rho: float, count: int) -> list[float]:
    values = [rng.normal()]
    while len(values) < count:
        values.append(rho * values[-1] + math.sqrt(1.0 - rho**2) * rng.normal())
    return [float(0.3 * value) for value in values]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(-5, 5), max_size=200))
def test_a_series_keeps_count_and_mean_in_a_few_numbers(values: list[float]) -> None:
    folded = series(values)
    assert folded.count == len(values)
    assert len(folded.means) < 2 * HALF
    assert len(values) < HALF or len(folded.means) >= HALF
    total = sum(folded.means) * folded.length + folded.total
    assert total == pytest.approx(sum(values), abs=1e-6)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.lists(st.floats(-5, 5), min_size=3, max_size=40), min_size=1, max_size=4))
def test_the_interval_is_around_the_mean_and_grows_with_certainty(users: list[list[float]]) -> None:
    folded = [series(values) for values in users]
    interval, surer = mean_difference(folded, 0.05), mean_difference(folded, 0.001)
    assert surer.low <= interval.low <= interval.estimate <= interval.high <= surer.high
    assert math.isfinite(interval.low)


def test_the_same_picture_from_both_versions_is_no_difference() -> None:
    interval = mean_difference([series([0.0] * 20)], 0.05)
    assert (interval.low, interval.estimate, interval.high) == (0.0, 0.0, 0.0)


def test_two_pictures_tell_nothing() -> None:
    assert mean_difference([series([-9.0, -9.1])], 0.05).high == math.inf
    assert math.isnan(mean_difference([Series()], 0.05).estimate)


def test_slow_content_makes_the_interval_wider_than_the_same_numbers_in_disorder() -> None:
    rng = np.random.default_rng(4)
    slow = slow_content(rng, 0.95, 48)
    mixed = [float(value) for value in rng.permutation(slow)]
    wide, narrow = (mean_difference([series(values)], 0.05) for values in (slow, mixed))
    assert wide.high - wide.low > 2.0 * (narrow.high - narrow.low)


@pytest.mark.parametrize("rho", [0.0, 0.9])
def test_the_bound_misses_the_mean_no_more_often_than_stated(rho: float) -> None:
    rng = np.random.default_rng(9)
    runs = 400
    missed = sum(
        mean_difference([series(slow_content(rng, rho, 16)) for _ in range(2)], 0.05).high < 0.0
        for _ in range(runs)
    )
    # A rate of 5 % gives at most 30 of 400 with a probability of 0.99.
    assert missed <= 30
