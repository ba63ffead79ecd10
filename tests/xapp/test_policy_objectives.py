"""A1 instances: who is governed, and which field of which instance counts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from policy_instances import CONFIGURED, DRONES, USERS, VIEW, arm, in_force, observation, policy, target

from xapp.policy.objectives import UsersView, arm_position, resolve, view_users
from xapp.policy.pools import PolicyPools
from xapp.telemetry.user_table import UserTable


@pytest.mark.parametrize(
    ("scope", "users"),
    [
        ({"kind": "all"}, range(20)),
        ({"kind": "group", "ids": ["drone"]}, range(0, 20, 2)),
        ({"kind": "cell", "ids": ["gnb-2", "gnb-9"]}, range(10, 20)),
        ({"kind": "slice", "ids": ["1-000001"]}, range(5)),
        ({"kind": "user", "ids": ["ue-3", "ue-17", "ue-3", "ue-99"]}, (3, 17)),
        ({"kind": "group", "ids": ["tractor"]}, ()),
    ],
)
def test_scopes_choose_their_users(scope: Any, users: Sequence[int]) -> None:
    resolved = resolve(in_force(target(30.0, scope)), VIEW)
    assert np.flatnonzero(np.isfinite(resolved.quality_target_db)).tolist() == list(users)
    assert resolved.governed == {"i-1": len(users)}


@given(st.permutations(["all", "group", "cell", "slice", "user"]))
def test_the_more_specific_scope_counts_whatever_came_first(kinds: list[str]) -> None:
    ids = {"group": ["drone"], "cell": ["gnb-1"], "slice": ["1-000001"], "user": ["ue-0"], "all": []}
    values = {"all": 20.0, "group": 21.0, "cell": 22.0, "slice": 23.0, "user": 24.0}
    resolved = resolve(in_force(*(target(values[k], {"kind": k, "ids": ids[k]}) for k in kinds)), VIEW)
    assert resolved.quality_target_db[[0, 1, 2, 6, 10, 11]].tolist() == [24.0, 23.0, 23.0, 22.0, 21.0, 20.0]


def test_among_equal_scopes_the_later_one_counts_for_the_fields_that_it_sets() -> None:
    first = policy(DRONES, constraints={"quality_target_db": 20, "max_prefix": 8})
    resolved = resolve(in_force(first, target(30.0, DRONES)), VIEW)
    assert resolved.quality_target_db[0] == 30.0
    assert resolved.max_prefix[0] == 8.0
    assert np.isinf(resolved.max_prefix[1])
    resolved = resolve([replace(i, order=-i.order) for i in in_force(first, target(30.0, DRONES))], VIEW)
    assert resolved.quality_target_db[0] == 20.0


def test_the_tighter_of_prefix_and_bandwidth_ratio_counts() -> None:
    limits = {"max_prefix": 8, "max_bandwidth_ratio": 0.0625}
    assert resolve(in_force(policy(constraints=limits)), VIEW).max_prefix[0] == 6.0
    limits["max_bandwidth_ratio"] = 0.5
    assert resolve(in_force(policy(constraints=limits)), VIEW).max_prefix[0] == 8.0


def test_weights_are_shares_and_those_without_effect_leave_quality_alone() -> None:
    weights = [
        {"quality": 3, "bits": 1},
        {"quality": 1, "latency": 1, "energy": 2},
        {"energy": 5},
        {"bits": 2},
    ]
    scopes = [{"kind": "user", "ids": [f"ue-{i}"]} for i in range(4)]
    resolved = resolve(in_force(*(policy(s, weights=w) for s, w in zip(scopes, weights, strict=True))), VIEW)
    assert resolved.quality_share[:5].tolist() == [0.75, 0.5, 1.0, 0.0, 1.0]
    assert resolved.weights.sum(axis=1) == pytest.approx(np.ones(20))
    assert resolved.weights[1, 3] == 0.5


def test_positions_are_the_same_in_every_process_and_change_with_the_seed() -> None:
    assert [arm_position("ue-1", 7), arm_position("ue-2", 7), arm_position("ue-1", 8)] == [
        3087257195,
        2559278116,
        4237092545,
    ]


def test_arms_split_users_by_their_shares_and_nobody_is_in_two() -> None:
    users = [f"ue-{i}" for i in range(4000)]
    resolved = resolve(in_force(arm("a", 0.5), arm("b", 0.3, 0.5)), UsersView(users))
    assert resolved.arms == ("a", "b")
    assert np.mean(resolved.arm == 0) == pytest.approx(0.5, abs=0.03)
    assert np.mean(resolved.arm == 1) == pytest.approx(0.3, abs=0.03)
    assert resolved.governed == {"i-1": (resolved.arm == 0).sum(), "i-2": (resolved.arm == 1).sum()}


def test_a_user_stays_in_his_arm_when_others_come_and_go_and_other_arms_end() -> None:
    arms = in_force(arm("a", 0.5), arm("b", 0.5, 0.5))
    both = resolve(arms, VIEW)
    alone = resolve(arms[1:], UsersView(USERS[:7]))
    assert [both.arms[index] for index in both.arm[:7] if index == 1] == [
        alone.arms[index] for index in alone.arm if index == 0
    ]


def test_a_share_of_one_is_everybody_at_any_offset() -> None:
    for offset in (0.0, 0.25, 0.999999):
        assert (resolve(in_force(arm("a", 1.0, offset)), VIEW).arm == 0).all()


@settings(max_examples=60)
@given(st.floats(0, 0.999), st.floats(0.001, 1), st.floats(0, 0.999), st.floats(0.001, 1))
def test_arms_that_pass_the_check_have_no_user_in_common(o1: float, s1: float, o2: float, s2: float) -> None:
    first, second = arm("a", s1, o1), arm("b", s2, o2)
    view = UsersView([f"u{i}" for i in range(200)])
    common = (resolve(in_force(first), view).arm == 0) & (resolve(in_force(second), view).arm == 0)
    try:
        PolicyPools(CONFIGURED).check(second, {"i-1": first})
    except ValueError:
        refused = True
    else:
        refused = False
    assert not (common.any() and not refused)
    assert refused or s1 + s2 <= 1 + 1e-6


def test_neighbouring_arms_other_seeds_and_other_users_do_not_overlap() -> None:
    check = PolicyPools(CONFIGURED).check
    check(arm("b", 0.3, 0.7), {"i": arm("a", 0.7)})
    check(arm("b", 0.7, seed=8), {"i": arm("a", 0.7)})
    check(arm("b", 0.7, scope={"kind": "cell", "ids": ["gnb-1"]}), {"i": arm("a", 0.7, scope=DRONES)})
    check(arm("b", 1.0, scope={"kind": "group", "ids": ["car"]}), {"i": arm("a", 1.0, scope=DRONES)})
    with pytest.raises(ValueError, match="'b' overlaps arm 'a' of instance 'i'"):
        check(arm("b", 0.4, 0.7), {"i": arm("a", 0.7)})


@pytest.mark.parametrize(
    ("parts", "reason"),
    [
        ({"policy": {"name": "best"}}, "adaptive, fixed"),
        ({"policy": {"name": "fixed", "parameters": {"speed": 1}}}, "speed"),
        (
            {
                "policy": {"name": "fixed", "parameters": {"budget_prefix": 4}},
                "constraints": {"budget_prefix": 5},
            },
            "one of them",
        ),
    ],
)
def test_an_instance_that_cannot_be_followed_is_refused_with_the_reason(parts: Any, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        PolicyPools(CONFIGURED).check(policy(**parts), {})


def test_what_is_checked_can_be_made() -> None:
    made = PolicyPools(CONFIGURED)
    good = policy(policy={"name": "fixed", "parameters": {"budget_prefix": 4}})
    made.check(good, {})
    made.replace(in_force(good))
    assert set(made.decide(observation(), VIEW).prefix) == {4}


def test_a_view_names_users_groups_and_nodes() -> None:
    table = UserTable()
    table.fold_indication("gnb-1", ["a", "b"], {"SINR": np.array([1.0, 2.0])}, 0.0)
    view = view_users(table, np.array([1]))
    assert list(view.users) == ["b"]
    assert resolve(in_force(target(30.0, {"kind": "cell", "ids": ["gnb-1"]})), view).governed == {"i-1": 1}
    assert resolve(in_force(target(30.0, {"kind": "group", "ids": ["drone"]})), view).governed == {"i-1": 0}
