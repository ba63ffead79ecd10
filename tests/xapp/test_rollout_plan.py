"""Who goes first, how many, and that somebody always stays behind to be compared with."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xapp.rollout.plan import Member, PlanSettings, order_members, plan_stages

POPULATIONS = st.dictionaries(
    st.sampled_from(["a", "b", "c"]), st.lists(st.integers(0, 99).map(str), unique=True, max_size=30)
)


@settings(max_examples=40)
@given(POPULATIONS, st.text(max_size=8), st.integers(1, 3))
def test_the_order_holds_everybody_once_canary_sites_first(
    population: dict[str, list[str]], seed: str, canary_sites: int
) -> None:
    members, first = order_members(population, seed, canary_sites, set())
    assert sorted(members) == sorted(Member(s, u) for s, users in population.items() for u in users)
    assert len({m.site for m in members[:first]}) == min(canary_sites, sum(map(bool, population.values())))
    assert not {m.site for m in members[:first]} & {m.site for m in members[first:]}


@given(st.integers(0, 300), st.integers(0, 300))
def test_stages_grow_and_leave_a_control_group(population: int, at_canary: int) -> None:
    stages = plan_stages(PlanSettings(shares=(0.25, 0.5, 0.9)), population, min(at_canary, population))
    counts = [stage.count for stage in stages]
    assert counts == sorted(set(counts))
    assert all(1 <= count <= population - 1 for count in counts)
    assert bool(stages) == (population >= 2)


def test_users_without_a_baseline_come_last_within_their_site() -> None:
    users = [f"ue-{i}" for i in range(20)]
    known = {Member("a", user) for user in users[:5]}
    members, _ = order_members({"a": users}, "seed", 1, known)
    assert set(members[:5]) == known


def test_another_roll_out_has_another_canary() -> None:
    population = {"a": [f"ue-{i}" for i in range(20)]}
    firsts = {order_members(population, str(seed), 1, set())[0][0] for seed in range(10)}
    assert len(firsts) > 3


def test_a_small_population_is_halved_and_a_large_one_staged() -> None:
    plan = PlanSettings(observe_s=300.0, small_observe_s=6.0)
    assert [(s.name, s.count, s.observe_s) for s in plan_stages(plan, 5, 5)] == [("canary", 2, 6.0)]
    large = [(s.name, s.count, s.observe_s) for s in plan_stages(plan, 100, 40)]
    assert large == [("canary", 4, 300.0), ("50%", 50, 300.0)]


@pytest.mark.parametrize(
    ("wrong", "named"),
    [({"canary_share": 1.0}, "canary_share"), ({"shares": (0.5, 0.2)}, "shares"),
     ({"canary_sites": 0}, "canary_sites"), ({"observe_s": 0.0}, "observation")],
)  # fmt: skip
def test_settings_out_of_range_are_named(wrong: dict[str, object], named: str) -> None:
    with pytest.raises(ValueError, match=named):
        PlanSettings(**wrong)  # type: ignore[arg-type]


def test_a_site_of_which_nothing_was_heard_is_no_canary_while_there_is_another() -> None:
    population = {"silent": ["a", "b"], "heard": ["c", "d"]}
    for seed in range(20):
        members, at_first = order_members(population, str(seed), 1, {Member("heard", "c")})
        assert (members[0], at_first) == (Member("heard", "c"), 2)
