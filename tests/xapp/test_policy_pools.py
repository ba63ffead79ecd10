"""What A1 instances do to the rates: targets, limits, weights, budgets, policies, arms."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from policy_instances import (
    CONFIGURED,
    DRONES,
    GROUPS,
    USERS,
    VIEW,
    arm,
    in_force,
    observation,
    policy,
    pools,
    target,
)
from xapp_simulated_site import ENCODER_WEIGHTS, make_manifest, quality_points

from codec_runtime.contract.telemetry import CapabilityReport
from xapp.policy.catalog import DecoderCatalog
from xapp.policy.controller import DirectiveController
from xapp.policy.decision import LADDER
from xapp.policy.objectives import Objectives, UsersView
from xapp.policy.pools import ConfiguredPolicy, PolicyPools
from xapp.policy.rate import AdaptiveRate, FixedRate
from xapp.ric.a1.instances import Instance
from xapp.telemetry.user_table import UserTable


def test_without_instances_nothing_changes() -> None:
    made = pools()
    plain = AdaptiveRate()
    for seed in range(5):
        mine, theirs = made.decide(observation(seed), VIEW), plain.decide(observation(seed))
        assert mine.prefix.tolist() == theirs.prefix.tolist()
        assert mine.predicted_psnr_db == theirs.predicted_psnr_db
    assert made.last is None


def test_instances_that_set_nothing_for_anybody_change_nothing() -> None:
    made = pools(target(30.0, {"kind": "user", "ids": ["somebody else"]}), policy(), arm("control", 0.5))
    assert (
        made.decide(observation(), VIEW).prefix.tolist()
        == AdaptiveRate().decide(observation()).prefix.tolist()
    )
    assert made.last is not None


def test_a_target_of_ones_own_moves_rates_towards_whom_it_helps() -> None:
    # 60 dB is out of reach for the drones, 25 dB is not for the cars: rate saves misses only there.
    cars, plain_cars = [], []
    for seed in range(6):
        cars.append(pools(target(60.0, DRONES)).decide(observation(seed), VIEW).prefix[GROUPS == 1].mean())
        plain_cars.append(AdaptiveRate().decide(observation(seed)).prefix[GROUPS == 1].mean())
    assert np.mean(cars) > np.mean(plain_cars) + 0.2


def test_misses_are_counted_against_the_target_of_each_user() -> None:
    hopeless = pools(target(100.0, DRONES), target(0.0, {"kind": "group", "ids": ["car"]}))
    assert hopeless.decide(observation(), VIEW).predicted_miss == pytest.approx(0.5)
    for scopes in (DRONES, None):
        fixed = pools(policy(policy={"name": "fixed"}), target(100.0, scopes))
        assert fixed.decide(observation(), VIEW).predicted_miss > 0.5 - 1e-6


def test_the_same_target_for_all_is_that_of_the_policy() -> None:
    for seed in range(3):
        mine = pools(target(28.0)).decide(observation(seed), VIEW)
        assert (
            mine.prefix.tolist()
            == AdaptiveRate(quality_target_db=28.0).decide(observation(seed)).prefix.tolist()
        )


@pytest.mark.parametrize("name", ["adaptive", "fixed"])
@pytest.mark.parametrize("limit", [2, 3, 7, 16, 96])
def test_a_limit_is_never_exceeded(name: str, limit: int) -> None:
    made = pools(policy(policy={"name": name}), policy(DRONES, constraints={"max_prefix": limit}))
    for seed in range(5):
        prefix = made.decide(observation(seed), VIEW).prefix
        assert prefix[GROUPS == 0].max() <= limit
        assert set(prefix.tolist()) <= set(LADDER)
        assert prefix.mean() <= 6.0 + 1e-9


def test_what_limited_users_leave_goes_to_the_others() -> None:
    made = pools(policy(DRONES, constraints={"max_prefix": 2}))
    decision = made.decide(observation(), VIEW)
    assert decision.mean_prefix > 5.5
    assert decision.prefix[GROUPS == 1].mean() > 8.0


def test_a_limit_is_not_held_against_the_guard() -> None:
    """All at one channel less than the budget: the comparison is with as much as the limit allows."""
    decision = pools(policy(constraints={"max_prefix": 5})).decide(observation(), VIEW)
    assert decision.miss_weight > 0.0
    assert decision.predicted_psnr_db >= decision.uniform_psnr_db - 1e-9


def test_users_who_prefer_few_bits_get_fewer_the_more_so_the_more_they_prefer_it() -> None:
    means = []
    for bits in (0, 1, 4, 30):
        weights = policy(DRONES, weights={"quality": 1, "bits": bits})
        prefixes = [
            pools(weights).decide(observation(seed), VIEW).prefix[GROUPS == 0].mean() for seed in range(6)
        ]
        means.append(float(np.mean(prefixes)))
    assert means == sorted(means, reverse=True)
    assert means[0] > means[1] > means[3] == LADDER[0]


def test_bits_alone_take_the_least_and_latency_counts_as_bits() -> None:
    for weights in ({"bits": 1}, {"latency": 1}, {"bits": 1, "latency": 2, "energy": 1}):
        prefix = pools(policy(DRONES, weights=weights)).decide(observation(), VIEW).prefix
        assert set(prefix[GROUPS == 0]) == {LADDER[0]}
        assert prefix[GROUPS == 1].mean() > 6.0


def test_who_prefers_few_bits_is_not_held_against_the_misses_of_the_others() -> None:
    decision = pools(policy(DRONES, weights={"bits": 1})).decide(observation(), VIEW)
    cars = observation().take(np.flatnonzero(GROUPS == 1))
    alone = AdaptiveRate(budget_prefix=10.0).decide(cars)
    assert decision.miss_weight == alone.miss_weight
    assert decision.prefix[GROUPS == 1].tolist() == alone.prefix.tolist()


def test_energy_alone_leaves_the_rates_as_they_are() -> None:
    prefix = pools(policy(weights={"energy": 1})).decide(observation(), VIEW).prefix
    assert prefix.tolist() == AdaptiveRate().decide(observation()).prefix.tolist()


def test_a_budget_is_the_mean_over_the_users_of_its_instance() -> None:
    made = pools(policy(DRONES, constraints={"budget_prefix": 3}))
    decision = made.decide(observation(), VIEW)
    assert 2.5 < decision.prefix[GROUPS == 0].mean() <= 3.0 + 1e-9
    assert 5.5 < decision.prefix[GROUPS == 1].mean() <= 6.0 + 1e-9
    assert decision.mean_prefix == pytest.approx(decision.prefix.mean())
    assert decision.details == {"pools": 2.0}


def test_users_under_different_policies_are_decided_apart() -> None:
    made = pools(policy(DRONES, policy={"name": "fixed", "parameters": {"budget_prefix": 4}}))
    decision = made.decide(observation(), VIEW)
    cars = np.flatnonzero(GROUPS == 1)
    assert set(decision.prefix[GROUPS == 0]) == {4}
    assert decision.prefix[cars].tolist() == AdaptiveRate().decide(observation().take(cars)).prefix.tolist()
    assert np.isfinite(decision.expected_psnr_db).all()


def test_arms_of_an_experiment_do_not_share_a_budget() -> None:
    everybody = {"kind": "all"}
    halves = [
        policy(
            everybody,
            policy={"name": name, "parameters": {"budget_prefix": budget}},
            experiment={"arm": name, "share": 0.5, "offset": offset, "seed": 3},
        )
        for name, budget, offset in (("fixed", 8.0, 0.0), ("adaptive", 4.0, 0.5))
    ]
    made = pools(*halves)
    decision = made.decide(observation(), VIEW)
    assert isinstance(made.last, Objectives)
    arms = np.array(made.last.arms)[made.last.arm]
    assert set(decision.prefix[arms == "fixed"]) == {8}
    assert decision.prefix[arms == "adaptive"].mean() <= 4.0 + 1e-9
    assert (made.last.arm >= 0).all()


def test_another_configured_policy_takes_over_and_an_impossible_one_changes_nothing() -> None:
    made = pools(policy(DRONES, constraints={"max_prefix": 3}))
    made.configure(ConfiguredPolicy("fixed", {"quality_target_db": 25.0, "budget_prefix": 8.0}))
    with pytest.raises(ValueError, match="best"):
        made.configure(ConfiguredPolicy("best", CONFIGURED.parameters))
    prefix = made.decide(observation(), VIEW).prefix
    assert set(prefix[GROUPS == 0]) == {3}
    assert set(prefix[GROUPS == 1]) == {8}


def test_a_user_who_moves_comes_under_the_instances_of_his_new_place() -> None:
    made = pools(policy({"kind": "cell", "ids": ["gnb-2"]}, constraints={"max_prefix": 2}))
    names = ["gnb-1", "gnb-2"]
    for cells in ([0] * 20, [0] * 20, [1] + [0] * 19, [0] * 19 + [1]):
        view = UsersView(USERS, {"cell": [(np.array(cells), names)]})
        made.decide(observation(), view)
        assert made.last is not None
        assert np.isfinite(made.last.max_prefix).tolist() == [bool(cell) for cell in cells]
    made.decide(observation(users=5), UsersView(USERS[:5], {"cell": [(np.ones(5, int), names)]}))
    assert made.last is not None
    assert list(made.last_users) == USERS[:5]
    assert made.last.governed == {"i-1": 5}


def test_a_policy_of_another_name_takes_over_target_and_budget_only() -> None:
    configured = ConfiguredPolicy("adaptive", {**CONFIGURED.parameters, "hysteresis": 0.5})
    assert isinstance(configured.under(policy(policy={"name": "fixed"}), None), FixedRate)
    made = PolicyPools(configured)
    made.check(policy(policy={"name": "fixed"}), {})
    made.check(policy(policy={"name": "adaptive", "parameters": {"mean_psnr_guard_db": 1}}), {})


def test_policies_of_unchanged_instances_keep_their_state() -> None:
    made = pools(policy(DRONES, constraints={"budget_prefix": 3}))
    made.decide(observation(), VIEW)
    before = dict(made._policies)
    made.replace([*made.instances, Instance("new", 9, target(30.0))])
    made.decide(observation(), VIEW)
    assert made._policies == before
    assert len(before) == 1


def test_instances_are_described_with_the_users_they_govern() -> None:
    made = pools(arm("a", 1.0, scope=DRONES))
    made.decide(observation(), VIEW)
    assert made.describe() == [
        {
            "instance": "i-1",
            "scope": "group",
            "ids": ["drone"],
            "arm": "a",
            "sets": ["experiment"],
            "users": 10,
        }
    ]


@settings(max_examples=60)
@given(st.data())
def test_no_instance_stops_a_decision(data: st.DataObject) -> None:
    number = st.sampled_from([2, 3.5, 6, 50, 96])
    parts = st.fixed_dictionaries(
        {},
        optional={
            "weights": st.fixed_dictionaries(
                {"bits": st.floats(0.1, 100)}, optional={"quality": st.floats(0, 100)}
            ),
            "constraints": st.dictionaries(st.sampled_from(["budget_prefix", "quality_target_db"]), number),
            "policy": st.sampled_from(
                [{"name": "fixed"}, {"name": "adaptive", "parameters": {"hysteresis": -1e6}}]
            ),
            "experiment": st.just({"arm": "x", "share": 0.4}),
        },
    )
    scopes = st.sampled_from([None, DRONES, {"kind": "user", "ids": ["ue-1", "ue-2"]}])
    made = pools(
        *(policy(data.draw(scopes), **data.draw(parts)) for _ in range(data.draw(st.integers(1, 5))))
    )
    users = data.draw(st.integers(0, 20))
    view = UsersView(USERS[:users], {"group": [(GROUPS[:users], ["drone", "car"])]})
    decision = made.decide(observation(users=users), view)
    assert set(decision.prefix.tolist()) <= set(LADDER)
    assert np.isfinite(decision.expected_psnr_db).all()


def test_instances_reach_the_directives_of_the_users_of_the_table() -> None:
    table, catalog = UserTable(), DecoderCatalog()
    catalog.update(
        [
            make_manifest("encoder", "anchor", 1, ENCODER_WEIGHTS),
            make_manifest("decoder", "conv", 1, b"c", quality=quality_points()),
        ]
    )
    for i in range(6):
        table.fold_capability(
            CapabilityReport(
                user=f"ue-{i}", time_ns=0, device_class="d", group="drone" if i % 2 else "fixed",
                decoders=["conv"], compute_gflops=1,
            )
        )  # fmt: skip
        table.fold_indication(f"gnb-{i // 3}", [f"ue-{i}"], {"SINR": np.array([10.0])}, 0.0)
    made = PolicyPools(CONFIGURED)
    controller = DirectiveController(table, catalog, made, 3.0)
    first = {d.user: d.prefix for d in controller.decide(0.1)}
    assert set(first.values()) == {6}
    made.replace(in_force(policy({"kind": "cell", "ids": ["gnb-1"]}, constraints={"max_prefix": 3})))
    changed = {d.user: d.prefix for d in controller.decide(0.2)}
    assert {user: changed[user] for user in ("ue-3", "ue-4", "ue-5")} == {"ue-3": 3, "ue-4": 3, "ue-5": 3}
    made.replace(in_force(policy({"kind": "group", "ids": ["drone"]}, weights={"bits": 1})))
    controller.decide(0.3)
    assert [int(table.prefix[table.row(f"ue-{i}")]) for i in (1, 3, 5)] == [2, 2, 2]
    made.replace([])
    controller.decide(0.4)
    assert set(table.prefix.tolist()) == {6}
