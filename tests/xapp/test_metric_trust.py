"""How far metrics are believed: one value for all users, fusion of sources, estimates of the SINR."""

from __future__ import annotations

import logging
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xapp.telemetry import radio_quality, trust
from xapp.telemetry.columns import SOURCES
from xapp.telemetry.radio_quality import ERROR_SD_DB, sinr_from_cqi, sinr_from_throughput, snr_from_rsrp
from xapp.telemetry.snr_sources import FORGET_S
from xapp.telemetry.trust import SameValueDetector, fuse
from xapp.telemetry.user_table import UserTable

settings.register_profile("busy-machine", deadline=None)
settings.load_profile("busy-machine")

USERS = ["a", "b", "c", "d"]
CARRIER_HZ = 106 * 12 * 30e3


class Node:
    """Feeds one metric of a node to a detector; users in one indication, or one indication a user."""

    def __init__(self, users: int, *, spread: bool = False) -> None:
        self.detector = SameValueDetector()
        self.stamps = np.zeros(users, np.int64)
        self.spread = spread
        self.events: list[str] = []

    def report(self, values: np.ndarray) -> None:
        parts = [[i] for i in range(len(values))] if self.spread else [list(range(len(values)))]
        for part in parts:
            stamp, event = self.detector.fold(0, "CQI", values[part], self.stamps[part])
            self.stamps[part] = stamp
            self.events += [event] if event else []


def walk(random: np.random.Generator, length: int, users: int = 1, *, stay: float = 0.5) -> np.ndarray:
    """CQIs that go up or down by one now and then, within 0..15: int [length, users]."""
    steps = random.choice([-1, 0, 1], p=[(1 - stay) / 2, stay, (1 - stay) / 2], size=(length, users))
    path = np.full(users, 8)
    rows = []
    for step in steps:
        path = np.clip(path + step, 0, 15)
        rows.append(path)
    return np.array(rows, np.float64)


@settings(max_examples=40)
@given(st.integers(0, 2**32), st.integers(3, 12))
def test_one_varying_value_for_all_users_is_declared(seed: int, users: int) -> None:
    node = Node(users)
    for value in walk(np.random.default_rng(seed), 60)[:, 0]:
        node.report(np.full(users, value))
    assert node.events == ["declared"]
    assert node.detector.factor(0, "CQI") == 1 / users


@settings(max_examples=30)
@given(st.integers(0, 2**32), st.integers(3, 8), st.booleans(), st.floats(0.0, 0.99))
def test_independent_users_are_never_declared(seed: int, users: int, spread: bool, stay: float) -> None:
    node = Node(users, spread=spread)
    for values in walk(np.random.default_rng(seed), 150, users, stay=stay):
        node.report(values)
    assert node.events == []


@settings(max_examples=30)
@given(st.integers(0, 2**32), st.booleans())
def test_coin_tosses_of_three_users_are_not_declared(seed: int, spread: bool) -> None:
    node = Node(3, spread=spread)
    for values in np.random.default_rng(seed).integers(14, 16, size=(200, 3)):
        node.report(values.astype(np.float64))
    assert node.events == []


@pytest.mark.parametrize("spread", [False, True])
def test_a_saturated_cell_is_never_declared(spread: bool) -> None:
    node = Node(5, spread=spread)
    for _ in range(1000):
        node.report(np.full(5, 15.0))
    assert node.events == []


@pytest.mark.parametrize("spread", [False, True])
@pytest.mark.parametrize("dipping", range(4))
def test_one_user_that_dips_out_of_a_saturated_cell_is_not_declared(spread: bool, dipping: int) -> None:
    node = Node(4, spread=spread)
    for i in range(300):
        values = np.full(4, 15.0)
        values[dipping] -= i % 7 == 0
        node.report(values)
    assert node.events == []


def test_one_subscription_a_user_is_seen_through_though_values_change_amid_a_round() -> None:
    detector, stamps, events = SameValueDetector(), np.zeros(4, np.int64), []
    # The common value lasts 9 reports, so it changes at every place of a round of 4.
    for i in range(400):
        user = [i % 4]
        stamp, event = detector.fold(0, "CQI", np.array([7.0 + i // 9 % 2]), stamps[user])
        stamps[user] = stamp
        events += [event] if event else []
    assert events == ["declared"]


def test_two_users_are_too_few_to_say() -> None:
    node = Node(2)
    for value in walk(np.random.default_rng(1), 200)[:, 0]:
        node.report(np.full(2, value))
    assert node.events == []


def test_a_finding_is_withdrawn_when_users_differ_for_a_while() -> None:
    node, random = Node(4), np.random.default_rng(1)
    for value in walk(random, 60)[:, 0]:
        node.report(np.full(4, value))
    for _ in range(trust.CLEAR_ROUNDS - 1):
        node.report(np.array([1.0, 2.0, 3.0, 4.0]))
    assert node.events == ["declared"]
    for _ in range(2):
        node.report(np.array([1.0, 2.0, 3.0, 4.0]))
    assert node.events == ["declared", "withdrawn"]
    assert node.detector.factor(0, "CQI") == 1.0


def feed_one_value(table: UserTable, metric: str, rounds: int = 60) -> None:
    for i, value in enumerate(walk(np.random.default_rng(3), rounds)[:, 0]):
        table.fold_indication("gnb-1", USERS, {metric: [value] * 4}, 0.1 * i)


def test_a_finding_names_the_node_and_lowers_trust_for_its_users_only(
    caplog: pytest.LogCaptureFixture,
) -> None:
    told: list[tuple[str, str]] = []
    table = UserTable(on_finding=lambda kind, text: told.append((kind, text)))
    with caplog.at_level(logging.WARNING):
        feed_one_value(table, "CQI")
    table.fold_indication("gnb-2", ["e"], {"CQI": [9]}, 6.0)
    assert table.same_value_nodes() == {("gnb-1", "CQI"): 4}
    assert list(table.cqi_trust) == [0.25] * 4 + [1.0]
    assert table.sources.counters.same_value_declared == 1
    assert [kind for kind, _ in told] == ["same_value"]
    assert "gnb-1" in told[0][1]
    assert caplog.records[-1].__dict__["e2_node"] == "gnb-1"


def test_a_distrusted_sinr_gives_way_to_what_differs_between_users() -> None:
    table = UserTable(snr_time_constant_s=0.01)
    feed_one_value(table, "SINR")
    cqi = np.array([3.0, 6.0, 10.0, 14.0])
    for i in range(60):
        values = {"SINR": [8.0 + i % 2] * 4, "CQI": cqi}
        table.fold_indication("gnb-1", USERS, values, 10.0 + 0.1 * i)
    truth, reported = sinr_from_cqi(cqi), 8.5
    assert (np.abs(table.snr_db - truth) < np.abs(table.snr_db - reported)).all()
    assert (np.diff(table.snr_db) > 1.0).all()


def test_a_believed_sinr_alone_decides() -> None:
    table = UserTable()
    table.fold_indication("n", ["a"], {"SINR": [3.25], "CQI": [15], "RSRP": [-60.0]}, 0.0)
    assert table.snr_db[0] == 3.25
    assert (SOURCES[table.snr_source[0]], table.snr_trust[0]) == ("SINR", 1.0)
    assert table.snr_error_var[0] == pytest.approx(ERROR_SD_DB["SINR"] ** 2)


@pytest.mark.parametrize(
    ("values", "source", "expected"),
    [
        ({"CQI": [7], "RSRP": [-80.0]}, "CQI", float(sinr_from_cqi(np.array([7.0]))[0])),
        ({"RSRP": [-110.0]}, "RSRP", float(snr_from_rsrp(np.array([-110.0]))[0])),
        (
            {"DRB.UEThpDl": [50_000], "RRU.PrbTotDl": [50]},
            "PROXY",
            float(sinr_from_throughput(np.array([5e4]), np.array([50.0]), CARRIER_HZ)[0]),
        ),
    ],
)
def test_the_best_source_there_is_makes_the_user_active(
    values: dict[str, list[float]], source: str, expected: float
) -> None:
    table = UserTable()
    table.use_proxy("n", CARRIER_HZ)
    table.fold_indication("n", ["a"], values, 5.0)
    assert SOURCES[table.snr_source[0]] == source
    assert table.snr_db[0] == pytest.approx(expected)
    assert table.active(6.0, 3.0)[0]
    assert getattr(table, f"{source.lower()}_heard_s")[0] == 5.0


def test_without_leave_throughput_is_no_source() -> None:
    table = UserTable()
    table.fold_indication("n", ["a"], {"DRB.UEThpDl": [50_000], "RRU.PrbTotDl": [50]}, 0.0)
    assert math.isnan(table.snr_db[0])
    assert not table.active(0.0, 3.0)[0]


def test_a_source_fades_and_is_then_forgotten() -> None:
    table = UserTable(snr_time_constant_s=1e-6)
    table.fold_indication("n", ["a"], {"SINR": [20.0]}, 0.0)
    seen = []
    for at in (0.5, 1.0, 2.0, 4.0, FORGET_S + 0.1):
        table.fold_indication("n", ["a"], {"CQI": [4]}, at)
        seen.append(float(table.snr_db[0]))
    assert seen == sorted(seen, reverse=True)
    assert seen[0] > 10.0
    assert seen[-1] == pytest.approx(float(sinr_from_cqi(np.array([4.0]))[0]))


def test_implausible_values_cost_a_source_trust_and_plausible_ones_restore_it() -> None:
    table = UserTable()
    for i in range(10):
        table.fold_indication("n", ["a", "b"], {"SINR": [99.0, 5.0], "CQI": [7, 7]}, 0.1 * i)
    assert table.sinr_plausible[0] < 0.4
    assert table.sinr_plausible[1] == 1.0
    assert SOURCES[table.snr_source[0]] == "CQI"
    for i in range(80):
        table.fold_indication("n", ["a", "b"], {"SINR": [5.0, 5.0], "CQI": [7, 7]}, 1.0 + 0.1 * i)
    assert list(table.sinr_trust) == [1.0, 1.0]
    assert SOURCES[table.snr_source[0]] == "SINR"


def test_an_impossible_efficiency_is_counted_not_used() -> None:
    table = UserTable()
    table.use_proxy("n", CARRIER_HZ)
    table.fold_indication("n", ["a"], {"DRB.UEThpDl": [1e7], "RRU.PrbTotDl": [2]}, 0.0)
    assert table.out_of_range["PROXY"] == 1
    assert math.isnan(table.snr_db[0])


def test_trust_of_removed_users_does_not_pass_to_others() -> None:
    table = UserTable()
    feed_one_value(table, "CQI")
    table.fold_indication("gnb-2", ["e"], {"CQI": [9]}, 50.0)
    table.remove_silent(50.0, 30.0)
    assert list(table.cqi_trust) == [1.0]
    table.fold_indication("gnb-2", ["f"], {}, 50.0)
    assert (table.cqi_trust[1], table.cqi_round[1]) == (1.0, 0)


def test_cqi_estimates_lie_within_their_steps() -> None:
    for number, efficiencies in radio_quality.CQI_EFFICIENCY.items():
        thresholds = radio_quality.sinr_from_efficiency(np.array(efficiencies))
        estimates = sinr_from_cqi(np.arange(16.0), number)
        assert np.isnan(estimates[0])
        assert (estimates[1:] > thresholds).all()
        assert (estimates[1:-1] < thresholds[1:]).all()
    # The attenuated Shannon bound at CQI 1 and 15: 10 log10(2^(0.1523 / 0.75) - 1) and of 5.5547.
    table_1 = radio_quality.sinr_from_efficiency(np.array([0.1523, 5.5547]))
    assert list(table_1) == pytest.approx([-8.20, 22.27], abs=0.02)


def test_proxy_inverts_the_rate_of_a_link() -> None:
    sinr = np.array([-5.0, 0.0, 10.0, 20.0])
    efficiency = 0.75 * np.log2(1 + 10 ** (sinr / 10))
    for percent in (5.0, 100.0):
        rate_kbps = efficiency * CARRIER_HZ * (percent / 100) * (1 - radio_quality.OVERHEAD) / 1e3
        found = sinr_from_throughput(rate_kbps, np.full(4, percent), CARRIER_HZ)
        assert list(found) == pytest.approx(list(sinr))


def test_idle_users_have_no_proxy() -> None:
    found = sinr_from_throughput(np.array([0.0, 10.0, np.nan]), np.array([50.0, 0.0, 50.0]), CARRIER_HZ)
    assert np.isnan(found).all()


VALUE = st.none() | st.floats(-30, 60)


@given(st.lists(st.tuples(VALUE, VALUE, st.floats(0, 1), st.floats(0, 1)), min_size=1, max_size=8))
def test_fusion_stays_between_its_sources(
    users: list[tuple[float | None, float | None, float, float]],
) -> None:
    values = [np.array([user[i] for user in users], np.float64) for i in (0, 1)]
    fused = fuse(values, [np.array([user[i] for user in users]) for i in (2, 3)], (1.8, 3.0))
    low, high = np.fmin(*values), np.fmax(*values)
    heard = ~np.isnan(low)
    assert (np.isnan(fused.snr_db) == ~heard).all()
    assert (fused.snr_db[heard] >= low[heard] - 1e-9).all()
    assert (fused.snr_db[heard] <= high[heard] + 1e-9).all()
    assert (fused.error_var[heard] >= 1.8**2 - 1e-9).all()
    assert ((fused.trust >= 0) & (fused.trust <= 1)).all()


@given(st.floats(-30, 60), st.floats(-30, 60), st.floats(0.02, 1), st.floats(0.02, 1))
def test_more_trust_draws_the_estimate_closer(x: float, y: float, less: float, more: float) -> None:
    less, more = sorted((less, more))
    near, far = (
        abs(fuse([np.array([x]), np.array([y])], [np.array([t]), np.array([0.7])], (1.8, 3.0)).snr_db[0] - x)
        for t in (more, less)
    )
    assert near <= far + 1e-9
