"""The rate-quality surface, the allocation, and what adapting gains over a fixed rate at equal bandwidth."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from xapp_simulated_site import make_manifest, quality_points, synthetic_psnr

from codec_runtime.contract.bundle import QualityPoint
from xapp.policy.decision import LADDER, Observation, UnknownPolicyError, make_policy
from xapp.policy.quadrature import NODE_WEIGHTS, NODES
from xapp.policy.rate import AdaptiveRate, FixedRate, lagrangian, spend_rest
from xapp.policy.surface import QualitySurface, SurfaceError

SURFACE = QualitySurface(quality_points())
TARGET_DB = 25.0


def observation(rng: np.random.Generator, users: int, prefix: np.ndarray | None = None) -> Observation:
    return Observation(
        snr_db=rng.uniform(-4, 20, users),
        snr_sd_db=np.full(users, 2.3),
        offset_db=rng.normal(0, 1.5, users),
        offset_sd_db=np.full(users, 2.0),
        reference_db=np.full(users, 25.0),
        slope=np.ones(users),
        surface=np.zeros(users, np.int64),
        weight=np.ones(users),
        prefix=np.zeros(users, np.int64) if prefix is None else prefix,
        surfaces=(SURFACE,),
    )


def test_surface_reproduces_its_points_and_interpolates_between() -> None:
    assert SURFACE.at(7.0, 6) == pytest.approx(synthetic_psnr(7.0, 6))
    assert SURFACE.at(7.5, 7) == pytest.approx(
        np.mean([synthetic_psnr(s, k) for s in (7.0, 8.0) for k in (6, 8)])
    )
    assert SURFACE.expected_psnr(np.zeros((4, 3)), np.array(LADDER, float)).shape == (4, 3, 10)


def test_surface_is_flat_outside_its_grid() -> None:
    assert SURFACE.at(40.0, 16) == SURFACE.at(20.0, 16)
    assert SURFACE.at(-40.0, 1) == SURFACE.at(-5.0, 2)
    assert SURFACE.covers(30.0, 6)
    assert not SURFACE.covers(-7.0, 6)


def test_a_surface_with_a_hole_names_it() -> None:
    points = [p for p in quality_points() if (p.prefix, p.snr_db) != (8, 3.0)]
    with pytest.raises(SurfaceError, match=r"prefix 8 at 3\.0 dB"):
        QualitySurface(points)
    with pytest.raises(SurfaceError, match="no quality points"):
        QualitySurface([])


def test_another_channel_mode_is_used_when_the_wanted_one_is_missing() -> None:
    points = [
        QualityPoint(
            channel="rayleigh", prefix=4, snr_db=s, psnr_db=20.0 + s, psnr_spread_db=1.0, ms_ssim=0.9
        )
        for s in (0.0, 10.0)
    ]
    surface = QualitySurface.from_manifest(make_manifest("decoder", "conv", 1, b"w", quality=points))
    assert surface.at(5.0, 6) == 25.0


def test_quadrature_gives_the_moments_of_the_standard_normal() -> None:
    moments = [float(NODE_WEIGHTS @ NODES**power) for power in range(5)]
    assert moments == pytest.approx([1.0, 0.0, 1.0, 0.0, 3.0], abs=1e-9)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 40), st.floats(2.0, 16.0))
def test_budget_is_never_exceeded(seed: int, users: int, budget: float) -> None:
    decision = AdaptiveRate(budget_prefix=budget).decide(observation(np.random.default_rng(seed), users))
    assert decision.prefix.mean() <= budget + 1e-6
    assert set(decision.prefix.tolist()) <= set(LADDER)


def test_what_is_spent_is_near_the_budget() -> None:
    for seed in range(20):
        decision = AdaptiveRate().decide(observation(np.random.default_rng(seed), 20))
        assert decision.mean_prefix > 5.85


def test_allocation_is_near_the_exact_optimum_of_small_problems() -> None:
    import itertools

    rng = np.random.default_rng(4)
    cost = np.array([2.0, 4.0, 8.0, 16.0])
    for _ in range(30):
        gains = np.sort(rng.uniform(0, 1, (5, 3)), axis=1)[:, ::-1] * np.array([1.0, 1.0, 1.0])
        utility = np.concatenate([np.zeros((5, 1)), np.cumsum(gains, axis=1)], axis=1)
        share = np.full(5, 0.2)
        choice = lagrangian(utility[None], cost, share, 6.0)[0]
        spend_rest(utility, cost, share, 6.0, choice)
        found = utility[np.arange(5), choice].sum()
        best = max(
            utility[np.arange(5), list(picks)].sum()
            for picks in itertools.product(range(4), repeat=5)
            if cost[list(picks)].mean() <= 6.0
        )
        assert cost[choice].mean() <= 6.0 + 1e-9
        assert found >= 0.93 * best


def test_no_users_no_decision() -> None:
    for policy in (AdaptiveRate(), FixedRate()):
        assert len(policy.decide(observation(np.random.default_rng(0), 0)).prefix) == 0


def test_rates_do_not_flap_under_small_noise() -> None:
    rng = np.random.default_rng(7)
    base = observation(rng, 20)
    policy = AdaptiveRate()
    prefix = policy.decide(base).prefix
    changes = 0
    for _ in range(100):
        noisy = replace(base, snr_db=base.snr_db + rng.normal(0, 0.05, 20), prefix=prefix)
        new = policy.decide(noisy).prefix
        changes += int((new != prefix).sum())
        prefix = new
    assert changes <= 60  # of 2000


def monte_carlo(seed: int, users: int = 20, pictures: int = 150) -> tuple[float, float, float, float, float]:
    """Misses and mean PSNR (adaptive, static at the same mean prefix) over fading and content draws."""
    rng = np.random.default_rng(seed)
    seen = observation(rng, users)
    prefix = AdaptiveRate(quality_target_db=TARGET_DB).decide(seen).prefix
    spent = float(prefix.mean())
    ladder = np.array(LADDER)
    upper = int(np.searchsorted(ladder, spent, side="left"))
    lower = max(upper - 1, 0)
    fraction = (spent - ladder[lower]) / max(ladder[upper] - ladder[lower], 1) if upper else 0.0
    misses, psnr = [[], []], [[], []]
    for _ in range(pictures):
        snr = seen.snr_db + 10 * np.log10(rng.gamma(4, 0.25, users))  # Rayleigh with four-fold diversity
        content = seen.offset_db + rng.normal(0, 2.0, users)
        static = np.where(rng.random(users) < fraction, ladder[upper], ladder[lower])
        for index, chosen in enumerate((prefix, static)):
            grid = SURFACE.expected_psnr(snr, ladder.astype(float))
            value = grid[np.arange(users), np.searchsorted(ladder, chosen)] + content
            misses[index].append((value < TARGET_DB).mean())
            psnr[index].append(value.mean())
    return (
        float(np.mean(misses[0])),
        float(np.mean(misses[1])),
        float(np.mean(psnr[0])),
        float(np.mean(psnr[1])),
        spent,
    )


def test_adapting_gives_fewer_misses_at_the_same_bandwidth_and_no_lower_mean_quality() -> None:
    results = [monte_carlo(seed) for seed in range(8)]
    adaptive, static, psnr, static_psnr, spent = np.array(results).T
    gain_db = psnr.mean() - static_psnr.mean()
    print(f"misses {adaptive.mean():.4f} against {static.mean():.4f}; PSNR {gain_db:+.3f} dB")
    assert (adaptive < static).all()
    assert adaptive.mean() < static.mean() - 0.01
    assert (psnr >= static_psnr - 0.1).all()
    assert (spent > 5.8).all()


def test_users_who_send_more_count_more() -> None:
    seen = observation(np.random.default_rng(3), 10)
    weight = np.ones(10)
    weight[0] = 20.0
    decision = AdaptiveRate().decide(replace(seen, weight=weight))
    assert float(decision.prefix @ weight / weight.sum()) <= 6.0 + 1e-6


def test_users_whose_content_gains_little_from_bandwidth_get_less_of_it() -> None:
    seen = observation(np.random.default_rng(3), 20)
    alike = replace(seen, snr_db=np.full(20, 8.0), offset_db=np.zeros(20))
    flat = replace(alike, slope=np.where(np.arange(20) < 10, 0.3, 1.0))
    # Without a target in reach only the mean PSNR counts.
    prefix = AdaptiveRate(quality_target_db=60.0).decide(flat).prefix
    assert prefix[:10].mean() < prefix[10:].mean()


def test_unknown_policies_and_parameters_are_named() -> None:
    with pytest.raises(UnknownPolicyError, match="adaptive, fixed"):
        make_policy("best", {})
    with pytest.raises(UnknownPolicyError, match="speed"):
        make_policy("fixed", {"speed": 1.0})
