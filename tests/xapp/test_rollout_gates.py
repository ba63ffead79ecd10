"""Gates: what they compare, what they decide, and how often they are wrong when one looks all the time."""

from __future__ import annotations

import math
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rollout_trials import Trial, alarm_rate, heavy

from xapp.rollout.gates import PATIENCE, GateSettings, Reading, UserRecord, judge, read_gates
from xapp.rollout.paired import FIRST_PAIRS, Series
from xapp.rollout.sequential import (
    Moments,
    difference_in_differences,
    level_of_look,
    look_due,
    share_of_events,
)

GATES = GateSettings()


def moments(values: list[float]) -> Moments:
    folded = Moments()
    for value in values:
        folded.add(value)
    return folded


def users(effect_db: float, common_db: float = 0.0, reports: int = 60) -> list[tuple[bool, UserRecord]]:
    """Six users with offsets of their own, the first three treated."""
    rng = random.Random(1)
    rows = []
    for rank in range(6):
        change = common_db + (effect_db if rank < 3 else 0.0)
        before = [5.0 * rank + rng.gauss(0, 1) for _ in range(reports)]
        after = [5.0 * rank + change + rng.gauss(0, 1) for _ in range(reports)]
        rows.append((rank < 3, UserRecord(rank, moments(before), moments(after))))
    return rows


def gate(rows: list[tuple[bool, UserRecord]], name: str) -> Reading:
    return next(reading for reading in read_gates(rows, GATES, 1) if reading.gate == name)


@given(st.lists(st.floats(-50, 50), min_size=1, max_size=30))
def test_moments_are_those_of_all_numbers(values: list[float]) -> None:
    folded = moments(values)
    mean = sum(values) / len(values)
    assert folded.mean == pytest.approx(mean, abs=1e-9)
    assert folded.squares == pytest.approx(sum((v - mean) ** 2 for v in values), abs=1e-6)


@pytest.mark.parametrize("common_db", [0.0, -6.0])
def test_neither_hard_pictures_nor_a_change_for_everybody_is_taken_for_an_effect(common_db: float) -> None:
    quality = read_gates(users(-1.5, common_db), GATES, 1)[0]
    assert quality.estimate == pytest.approx(-1.5, abs=0.4)
    assert quality.low < -1.5 < quality.high
    assert quality.finding == "harmful"
    assert (quality.treated, quality.control) == (180, 180)


def test_a_user_with_a_baseline_of_few_reports_weighs_less() -> None:
    few, many = users(0.0), users(0.0)
    for rows, reports in ((few, 1), (many, 60)):
        record = rows[0][1]
        record.before = moments([record.before.mean - 8.0] * reports)
    estimates = [read_gates(rows, GATES, 1)[0].estimate for rows in (few, many)]
    assert 0.0 < estimates[0] < 0.5 * estimates[1]


def test_users_that_change_by_themselves_make_the_interval_wider_however_many_reports_they_send() -> None:
    rows = users(0.0, reports=2000)
    calm = read_gates(rows, GATES, 1)[0]
    for rank, (_, record) in enumerate(rows):
        record.after.mean += 3.0 * (-1) ** rank
    moved = read_gates(rows, GATES, 1)[0]
    assert moved.high - moved.low > 10 * (calm.high - calm.low)


def test_an_interval_stands_until_the_reports_have_doubled() -> None:
    rows = users(0.0, reports=16)  # 96 reports: the fourth look
    first = read_gates(rows, GATES, 1)
    rows[0][1].after.add(-500.0)
    again = read_gates(rows, GATES, 1, first)
    assert (again[0].estimate, again[0].high) == (first[0].estimate, first[0].high)
    assert (again[0].treated, first[0].treated) == (49, 48)
    for _, record in rows:
        record.after = moments([0.0] * 22)
    assert read_gates(rows, GATES, 1, again)[0].look == first[0].look + 1


@given(st.integers(0, 10_000), st.integers(1, 64))
def test_looks_are_at_doublings_and_their_levels_sum_to_the_whole(reports: int, first: int) -> None:
    look = look_due(reports, first)
    assert (reports >= first) == (look > 0)
    assert look == 0 or first * 2 ** (look - 1) <= reports
    assert reports < first * 2**look
    assert sum(level_of_look(0.05, k) for k in range(1, 1 + look)) < 0.05


def test_without_a_control_group_nothing_is_known() -> None:
    interval = difference_in_differences([(True, moments([1.0, 2.0]), moments([0.0, 1.0]))], 0.05)
    assert (interval.low, interval.high) == (-math.inf, math.inf)


@given(st.integers(0, 200), st.integers(0, 200), st.floats(0.001, 0.2))
def test_the_interval_of_a_share_holds_the_estimate_and_shrinks_with_alpha(
    events: int, others: int, alpha: float
) -> None:
    trials = events + others
    interval = share_of_events(events, trials, alpha)
    assert 0.0 <= interval.low <= interval.high <= 1.0
    if trials:
        assert interval.low <= events / trials <= interval.high
        wider = share_of_events(events, trials, alpha / 10)
        assert wider.low <= interval.low
        assert interval.high <= wider.high


def test_failures_of_the_treated_alone_are_harmful_and_habitual_ones_do_not_count() -> None:
    rows = users(0.0)
    for treated, record in rows:
        record.failures = 20 * treated
    assert gate(rows, "errors").finding == "harmful"
    for _, record in rows:
        record.before_failures = 1
    assert gate(rows, "errors").finding == "open"


def test_late_pictures_of_the_treated_alone_are_harmful() -> None:
    rows = users(0.0)
    for treated, record in rows:
        record.timed, record.late = 60, 30 if treated else 3
    assert gate(rows, "latency").finding == "harmful"


def test_more_stages_share_the_false_alarm_rate() -> None:
    rows = users(0.0)
    one, three = read_gates(rows, GATES, 1)[0], read_gates(rows, GATES, 3)[0]
    assert three.low < one.low < one.high < three.high


def reading(name: str, estimate: float, finding: str, reports: int, look: int = 1) -> Reading:
    return Reading(gate=name, estimate=estimate, low=-9.0, high=9.0, limit=-0.3, finding=finding,
                   treated=reports, control=reports, look=look)  # type: ignore[arg-type]  # fmt: skip


def quality(estimate: float, finding: str, reports: int = 10) -> list[Reading]:
    return [reading("quality", estimate, finding, reports), reading("pairs", math.nan, "open", 0, look=0)]


def pairs(estimate: float, finding: str, pictures: int = FIRST_PAIRS) -> list[Reading]:
    """Beside a comparison of the groups that looks bad and says nothing for sure."""
    look = 1 if pictures >= FIRST_PAIRS else 0
    return [reading("quality", -5.0, "open", 4), reading("pairs", estimate, finding, pictures, look)]


@pytest.mark.parametrize(
    ("readings", "elapsed_s", "decision"),
    [
        (quality(-2.0, "harmful"), 1.0, "roll_back"),
        (quality(0.5, "cleared"), 1.0, "promote"),
        (quality(0.5, "cleared", reports=1), 1.0, "go_on"),
        (quality(0.5, "open"), 9.9, "go_on"),
        (quality(0.5, "open"), 10.0, "promote"),
        (quality(-0.5, "open"), 10.0, "go_on"),
        (quality(-0.5, "open"), 10.0 * PATIENCE, "promote"),
        (quality(0.5, "open", reports=2), 10.0, "go_on"),
        (quality(0.5, "open", reports=2), 10.0 * PATIENCE, "roll_back"),
        (quality(math.nan, "open", reports=0), 10.0 * PATIENCE, "roll_back"),
        (pairs(-2.0, "harmful"), 1.0, "roll_back"),
        (pairs(0.5, "cleared"), 1.0, "promote"),
        (pairs(0.5, "open"), 10.0, "promote"),
        (pairs(-0.5, "open"), 10.0, "go_on"),
        (pairs(math.nan, "open", pictures=5), 10.0, "go_on"),
        (pairs(math.nan, "open", pictures=5), 10.0 * PATIENCE, "promote"),
    ],
)
def test_the_rules_of_a_stage(readings: list[Reading], elapsed_s: float, decision: str) -> None:
    assert judge(readings, elapsed_s, 10.0, GATES).decision == decision


def test_pictures_restored_by_both_versions_find_a_loss_that_two_groups_of_users_cannot() -> None:
    rng = random.Random(3)
    rows = users(-1.0, reports=10)[:3] + users(-1.0, reports=10)[3:4]
    for treated, record in rows:
        record.after.mean += rng.gauss(0.0, 2.0)
        if treated:
            record.pairs = Series()
            for _ in range(20):
                record.pairs.add(-1.0 + rng.gauss(0.0, 0.2))
    assert gate(rows, "quality").finding == "open"
    assert gate(rows, "pairs").finding == "harmful"


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**31))
def test_a_loss_far_beyond_the_limit_is_found(seed: int) -> None:
    rate, reports = alarm_rate(Trial(effect_db=-5.0, paired_db=0.3, look_every=10), GATES, 1, seed)
    assert rate == 1.0
    assert reports is not None


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    "trial",
    [
        Trial(failures=0.01, treated_failures=0.01),
        Trial(effect_db=-0.3, failures=0.01, treated_failures=0.03),
        Trial(effect_db=-0.3, noise=heavy),
        Trial(effect_db=-0.3, users=4, baseline=4, own_db=0.2),
        Trial(effect_db=-0.3, users=5, baseline=32, reports=300, rho=0.9, treated_share=0.4, paired_db=0.3),
        Trial(effect_db=-0.3, users=20, baseline=32, reports=600, rho=0.97, treated_share=0.25),
    ],
    ids=[
        "no effect", "at the limits", "heavy tails", "few users that change by themselves",
        "two of five with slow content", "five of twenty with slower content",
    ],
)
def test_false_alarms_stay_below_the_stated_rate_however_often_one_looks(trial: Trial) -> None:
    rate, _ = alarm_rate(trial, GATES, 1000, 7)
    assert rate <= GATES.false_alarm_rate


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_loss_of_one_decibel_is_found() -> None:
    trial = Trial(users=20, baseline=64, reports=3000, effect_db=-1.0, look_every=10)
    rate, reports = alarm_rate(trial, GATES, 200, 7)
    assert rate >= 0.6
    assert reports is not None
    assert reports <= 1500
