"""PRB quotas from the needs of slices: sums, hysteresis, rate limit, refusals, switching off."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xapp.policy.radio_resources import (
    DEFAULT_QUOTA,
    LONGEST_BACKOFF_S,
    QuotaRules,
    RadioResources,
    SliceDemand,
    cell_symbols_per_s,
    fair_shares,
    slice_needs,
)
from xapp.ric.rc import PrbQuota, SliceId

PLMN = bytes.fromhex("00f110")
CAMERAS, CARS, DRONES = (SliceId(PLMN, 1, sd) for sd in (1, 2, 3))
ON = QuotaRules(
    enabled=True, headroom=1.0, reserve_percent=10, hysteresis_percent=5, max_step_percent=20, interval_s=5.0
)


def demand(
    needed: float, slice_id: SliceId = CAMERAS, weight: float = 1.0, ceiling: int = 100
) -> SliceDemand:
    return SliceDemand(slice_id, needed, weight, ceiling)


def settle(
    resources: RadioResources, demands: list[SliceDemand], start_s: float = 0.0
) -> list[dict[SliceId, int]]:
    """Proposals, each confirmed, until there are no more; guarantees by slice."""
    steps = []
    for number in range(50):
        now_s = start_s + 5.0 * number
        quotas = resources.propose(demands, now_s)
        if quotas is None:
            return steps
        steps.append({one: quota.minimum for one, quota in quotas.items()})
        resources.confirmed(now_s)
    raise AssertionError("no end")


def test_nothing_is_asked_unless_enabled() -> None:
    assert not QuotaRules().enabled
    assert RadioResources(QuotaRules()).propose([demand(50.0)], 0.0) is None


def test_a_need_is_approached_in_limited_steps() -> None:
    resources = RadioResources(ON)
    assert settle(resources, [demand(50.0)]) == [{CAMERAS: 20}, {CAMERAS: 40}, {CAMERAS: 50}]
    assert resources.in_force == {CAMERAS: PrbQuota(50, 100, 0)}


def test_small_changes_are_not_worth_a_message() -> None:
    resources = RadioResources(ON)
    settle(resources, [demand(20.0)])
    assert resources.propose([demand(24.9)], 100.0) is None
    assert resources.propose([demand(25.0)], 100.0) == {CAMERAS: PrbQuota(25)}


def test_proposals_keep_their_distance() -> None:
    resources = RadioResources(ON)
    assert resources.propose([demand(20.0)], 0.0) is not None
    assert resources.propose([demand(90.0)], 100.0) is None  # the first has not been answered
    resources.confirmed(100.0)
    assert resources.propose([demand(90.0)], 104.9) is None
    assert resources.propose([demand(90.0)], 105.0) is not None


def test_what_is_short_is_shared_by_weight_and_the_reserve_stays_free() -> None:
    resources = RadioResources(ON)
    demands = [demand(90.0), demand(80.0, CARS, weight=2.0), demand(6.0, DRONES)]
    last = settle(resources, demands)[-1]
    assert last == {CAMERAS: 28, CARS: 56, DRONES: 6}
    assert sum(last.values()) == 90


def test_a_ceiling_limits_guarantee_and_maximum() -> None:
    resources = RadioResources(ON)
    settle(resources, [demand(60.0, ceiling=30)])
    assert resources.in_force == {CAMERAS: PrbQuota(30, 30, 0)}


def test_part_of_the_guarantee_is_dedicated() -> None:
    resources = RadioResources(QuotaRules(enabled=True, headroom=1.0, dedicated_share=0.25))
    settle(resources, [demand(18.0)])
    assert resources.in_force == {CAMERAS: PrbQuota(18, 100, 4)}


def test_headroom_is_added_to_the_need() -> None:
    resources = RadioResources(QuotaRules(enabled=True, headroom=1.5))
    settle(resources, [demand(12.0)])
    assert resources.in_force[CAMERAS].minimum == 18


def test_an_unknown_need_keeps_what_is_in_force() -> None:
    resources = RadioResources(ON)
    settle(resources, [demand(40.0), demand(30.0, CARS)])
    settle(resources, [demand(math.nan), demand(10.0, CARS)], start_s=1000.0)
    assert resources.in_force[CAMERAS].minimum == 40
    assert resources.in_force[CARS].minimum == 10


def test_a_slice_that_has_gone_gets_the_default_and_is_forgotten() -> None:
    resources = RadioResources(ON)
    settle(resources, [demand(30.0), demand(3.0, CARS)])
    assert settle(resources, [demand(3.0, CARS)], start_s=1000.0) == [
        {CAMERAS: 10, CARS: 3},
        {CAMERAS: 0, CARS: 3},
    ]
    assert CAMERAS not in resources.in_force


def test_switched_off_the_slices_get_their_defaults_back_once() -> None:
    resources = RadioResources(ON)
    settle(resources, [demand(70.0), demand(10.0, CARS)])
    resources.rules = QuotaRules(enabled=False)
    demands = [demand(70.0), demand(10.0, CARS)]
    assert resources.propose(demands, 1000.0) == {CAMERAS: DEFAULT_QUOTA, CARS: DEFAULT_QUOTA}
    resources.confirmed(1000.0)
    assert resources.in_force == {}
    assert resources.propose(demands, 2000.0) is None


def test_refusals_back_off_and_change_nothing() -> None:
    resources = RadioResources(ON)
    now_s = 0.0
    for wait in [5.0, 10.0, 20.0, 40.0, 80.0, 160.0, *[LONGEST_BACKOFF_S] * 3]:
        assert resources.propose([demand(20.0)], now_s) == {CAMERAS: PrbQuota(20)}
        resources.refused(now_s)
        assert resources.in_force == {}
        assert resources.propose([demand(20.0)], now_s + wait - 0.1) is None
        now_s += wait


def test_after_silence_the_same_quotas_are_asked_for_again() -> None:
    resources = RadioResources(ON)
    settle(resources, [demand(20.0)])
    assert resources.propose([demand(30.0)], 100.0) == {CAMERAS: PrbQuota(30)}
    resources.refused(100.0, unknown=True)
    assert resources.propose([demand(20.0)], 105.0) == {CAMERAS: PrbQuota(20)}
    resources.confirmed(105.0)
    assert resources.propose([demand(20.0)], 1000.0) is None


def test_after_silence_switching_off_still_releases_what_may_be_in_force() -> None:
    resources = RadioResources(ON)
    assert resources.propose([demand(20.0)], 0.0) is not None
    resources.refused(0.0, unknown=True)
    resources.rules = QuotaRules(enabled=False)
    assert resources.propose([demand(20.0)], 100.0) == {CAMERAS: DEFAULT_QUOTA}


def test_a_node_that_started_anew_is_asked_from_its_defaults() -> None:
    resources = RadioResources(ON)
    settle(resources, [demand(40.0)])
    resources.forget()
    assert resources.propose([demand(40.0)], 1000.0) == {CAMERAS: PrbQuota(20)}


needs = st.floats(0.0, 300.0) | st.just(math.nan)
situations = st.lists(
    st.lists(
        st.tuples(st.sampled_from([CAMERAS, CARS, DRONES]), needs, st.floats(0.1, 10.0), st.integers(0, 100)),
        max_size=3,
        unique_by=lambda one: one[0],
    ),
    min_size=1,
    max_size=8,
)


@settings(deadline=None, max_examples=25)
@given(
    situations,
    st.integers(0, 60),
    st.integers(1, 40),
    st.floats(0.0, 1.0),
    st.lists(st.sampled_from(["confirmed", "refused", "silent"]), min_size=8, max_size=8),
)
def test_no_set_of_quotas_ever_sums_above_the_cell(
    situations: list[list[tuple[SliceId, float, float, int]]],
    reserve: int,
    step: int,
    dedicated: float,
    answers: list[str],
) -> None:
    rules = QuotaRules(
        enabled=True,
        reserve_percent=reserve,
        max_step_percent=step,
        dedicated_share=dedicated,
        interval_s=1.0,
    )
    resources = RadioResources(rules)
    now_s = 0.0
    for situation, answer in zip(situations, answers, strict=False):
        now_s += 1000.0
        quotas = resources.propose([SliceDemand(*one) for one in situation], now_s)
        if quotas is None:
            continue
        assert sum(quota.minimum for quota in quotas.values()) <= 100 - reserve
        for one, quota in quotas.items():
            assert quota.dedicated <= quota.minimum <= quota.maximum
            before = resources.in_force.get(one, DEFAULT_QUOTA)
            assert abs(quota.minimum - before.minimum) <= step
        if answer == "confirmed":
            resources.confirmed(now_s)
        else:
            resources.refused(now_s, unknown=answer == "silent")


@settings(deadline=None, max_examples=40)
@given(
    st.lists(st.tuples(st.floats(0.0, 200.0), st.floats(0.1, 10.0)), min_size=1, max_size=6),
    st.floats(0.0, 100.0),
)
def test_fair_shares_use_the_budget_and_nobody_gets_more_than_wanted(
    parties: list[tuple[float, float]], budget: float
) -> None:
    wants, weights = (np.array(column) for column in zip(*parties, strict=True))
    shares = fair_shares(wants, weights, budget)
    assert (shares >= 0).all()
    assert (shares <= wants + 1e-9).all()
    assert shares.sum() == pytest.approx(min(budget, wants.sum()), abs=1e-6)
    # Max-min: whoever does not get what it wants has the largest share per weight.
    short = shares < wants - 1e-6
    if short.any():
        assert (shares / weights)[short] == pytest.approx((shares / weights).max(), abs=1e-6)


def test_needs_add_up_the_symbols_of_a_slices_users() -> None:
    cell = cell_symbols_per_s(51, 30, overhead=0.0)
    assert cell == 51 * 12 * 14 * 2000
    slice_of_user = np.array([0, 1, 0, -1, 1])
    symbols = np.array([0.1, 0.3, 0.05, 0.9, math.nan]) * cell
    one, other = slice_needs([CAMERAS, CARS], slice_of_user, symbols, cell)
    assert (one.slice_id, one.needed_percent) == (CAMERAS, pytest.approx(15.0))
    assert (other.slice_id, other.needed_percent) == (CARS, pytest.approx(30.0))


@pytest.mark.parametrize(
    "rules", [{"headroom": 0.9}, {"reserve_percent": 101}, {"hysteresis_percent": 0}, {"interval_s": 0.0}]
)
def test_rules_out_of_range_are_named(rules: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(rules))):
        QuotaRules(**rules)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("values", "name"),
    [
        ((-1.0,), "needed_percent"),
        ((math.inf,), "needed_percent"),
        ((1.0, 0.0), "weight"),
        ((1.0, 1.0, 101), "ceil"),
    ],
)
def test_demands_out_of_range_are_named(values: tuple[float, ...], name: str) -> None:
    with pytest.raises(ValueError, match=name):
        SliceDemand(CAMERAS, *values)  # type: ignore[arg-type]
