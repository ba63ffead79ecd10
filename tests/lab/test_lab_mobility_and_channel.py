"""Movement stays in the cell; links follow 3GPP; noise and fading have the statistics they claim."""

from __future__ import annotations

import math

import numpy as np
import pytest
from lab_doubles import FlatModel

from xapp.lab.channel import (
    CQI_SINR_DB,
    SINR_RANGE_DB,
    GudmundsonProcess,
    LinkBudget,
    ModelChannel,
    cqi_from_sinr,
    effective_snr_db,
    fading_gain,
    transmit,
)
from xapp.lab.mobility import MINIMUM_DISTANCE_M, Mobility, assign_classes
from xapp.lab.scenario import UNDISTURBED, Condition, Scenario


def test_users_stay_within_the_cell_and_off_the_mast_for_an_hour() -> None:
    mobility = Mobility(assign_classes(40), 150.0, seed=3)
    for _ in range(3600):
        mobility.step(1.0)
        distance = np.hypot(*mobility.positions[:, :2].T)
        assert (distance <= 150.0).all()
        assert (distance >= MINIMUM_DISTANCE_M).all()


def test_fixed_users_do_not_move_and_cars_move_at_their_speed() -> None:
    classes = assign_classes(8)
    mobility = Mobility(classes, 200.0, seed=1)
    before = mobility.positions
    moved = mobility.step(0.1)
    fixed = [i for i, c in enumerate(classes) if c == "fixed"]
    assert (mobility.positions[fixed] == before[fixed]).all()
    assert (moved[fixed] == 0.0).all()
    np.testing.assert_allclose(np.linalg.norm(mobility.positions - before, axis=1), moved, atol=1e-9)


def test_the_same_seed_gives_the_same_paths() -> None:
    a, b = (Mobility(assign_classes(6), 100.0, seed=9) for _ in range(2))
    for _ in range(50):
        a.step(0.5)
        b.step(0.5)
    assert (a.positions == b.positions).all()


def test_shadowing_correlation_falls_exponentially_with_distance() -> None:
    process = GudmundsonProcess(200_000, np.random.default_rng(1))
    first = process.value
    second = process.advance(np.full(200_000, 10.0), 10.0)
    assert np.corrcoef(first, second)[0, 1] == pytest.approx(math.exp(-1.0), abs=0.01)
    assert second.std() == pytest.approx(1.0, abs=0.01)


def test_shadowing_of_a_user_that_stands_still_does_not_change() -> None:
    process = GudmundsonProcess(5, np.random.default_rng(1))
    before = process.value
    assert (process.advance(np.zeros(5), 10.0) == before).all()


def test_cqi_grows_with_sinr_from_out_of_range_to_15() -> None:
    assert len(CQI_SINR_DB) == 15
    assert (np.diff(CQI_SINR_DB) > 0).all()
    assert cqi_from_sinr(np.array([-20.0, CQI_SINR_DB[6], 40.0])).tolist() == [0, 7, 15]


def test_attenuation_lowers_sinr_and_rsrp_by_as_much() -> None:
    users = 4
    budget = LinkBudget(transmit_dbm=33.0)

    def state(attenuation: float) -> tuple[float, float]:
        channel = ModelChannel(Mobility(assign_classes(users), 100.0, 1), FlatModel(), budget, 1)
        link = channel.step(0.1, np.full(users, attenuation))
        return float(link.sinr_db[0]), float(link.rsrp_dbm[0])

    (sinr, rsrp), (weaker_sinr, weaker_rsrp) = state(0.0), state(6.0)
    # 33 dBm + 8 dB - 100 dB over a floor of -174 + 73 + 9 + 12 = -80 dBm.
    assert sinr == pytest.approx(20.99, abs=0.01)
    assert sinr - weaker_sinr == pytest.approx(6.0)
    assert rsrp - weaker_rsrp == pytest.approx(6.0)
    assert state(90.0)[0] == SINR_RANGE_DB[0]


def test_fading_gain_has_mean_one_and_less_spread_with_more_branches() -> None:
    one = np.array([fading_gain(seed, 1) for seed in range(4000)])
    four = np.array([fading_gain(seed, 4) for seed in range(4000)])
    assert one.mean() == pytest.approx(1.0, abs=0.05)
    assert four.mean() == pytest.approx(1.0, abs=0.03)
    assert one.var() == pytest.approx(1.0, abs=0.15)
    assert four.var() == pytest.approx(0.25, abs=0.05)


def test_noise_power_is_that_of_the_effective_snr_and_stays_off_channels_not_sent() -> None:
    symbols = np.zeros((8, 60, 60), np.float32)
    received = transmit(symbols, prefix=5, snr_db=3.0, gain=0.5, seed=7)
    assert received.effective_snr_db == pytest.approx(3.0 + 10.0 * math.log10(0.5))
    per_real = 10.0 ** (-received.effective_snr_db / 10.0) / 2.0
    assert received.symbols[:5].var() == pytest.approx(per_real, rel=0.03)
    assert (received.symbols[5:] == 0.0).all()


def test_another_rate_meets_the_same_noise_on_the_channels_that_both_send() -> None:
    few = transmit(np.zeros((4, 10, 12), np.float32), 4, 5.0, 1.0, seed=11).symbols
    many = transmit(np.zeros((9, 10, 12), np.float32), 9, 5.0, 1.0, seed=11).symbols
    assert (few == many[:4]).all()


def test_a_prefix_that_does_not_fit_the_symbols_is_refused() -> None:
    with pytest.raises(ValueError, match="prefix 5"):
        transmit(np.zeros((4, 2, 2), np.float32), 5, 0.0, 1.0, seed=1)


def test_a_faded_out_channel_keeps_a_finite_snr() -> None:
    assert effective_snr_db(10.0, 0.0) == pytest.approx(-50.0)


def test_scenario_disturbs_only_its_group_and_only_from_its_time_on() -> None:
    scenario = Scenario(20.0, "drone", 6.0, "thermal")
    assert scenario.condition(19.99, "drone") == UNDISTURBED
    assert scenario.condition(20.0, "drone") == Condition(6.0, "thermal")
    assert scenario.condition(500.0, "car") == UNDISTURBED
    assert not Scenario(0.0, "drone", 6.0, "thermal").active(1e9)


def test_umi_path_loss_is_that_of_tr_38_901() -> None:
    from xapp.lab.umi import SionnaUmi

    model = SionnaUmi(2, 3.5)
    height = 1.5
    positions = np.array([[100.0, 0.0, height], [0.0, 200.0, height]])
    large = model.evaluate(positions, np.array([True, False]))
    los_3d, nlos_3d = math.hypot(100.0, 8.5), math.hypot(200.0, 8.5)
    los = 32.4 + 21.0 * math.log10(los_3d) + 20.0 * math.log10(3.5)
    nlos = 35.3 * math.log10(nlos_3d) + 22.4 + 21.3 * math.log10(3.5)
    assert large.path_loss_db == pytest.approx([los, nlos], abs=0.01)
    assert large.shadowing_db == pytest.approx([4.0, 7.82])
    assert large.correlation_m == pytest.approx([10.0, 13.0])
    probability = 0.18 + math.exp(-100.0 / 36.0) * (1 - 0.18)
    assert large.los_probability[0] == pytest.approx(probability, abs=1e-4)
