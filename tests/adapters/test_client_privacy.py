"""Differential privacy of users: accountant against published numbers, mechanism against its formula."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from codec_runtime.adapters.privacy import (
    ORDERS,
    Privacy,
    clipped,
    epsilon,
    private_mean,
    renyi_epsilon,
)

MNIST = 256 / 60_000


def first_conversion(rounds: int, share: float, noise: float, delta: float) -> float:
    """Mironov 2017, proposition 3, which the published numbers were computed with."""
    return min(
        rounds * renyi_epsilon(order, share, noise) + math.log(1 / delta) / (order - 1) for order in ORDERS
    )


@pytest.mark.parametrize(
    ("rounds", "share", "noise", "published"),
    [
        # Abadi et al. 2016, section 3.3: q = 0.01, sigma = 4, T = 10000, by the moments accountant
        (10_000, 0.01, 4.0, 1.26),
        # TensorFlow Privacy's MNIST tutorial, by epochs and noise multiplier: 1.19, 3.01, 7.10
        (15 * 60_000 // 256, MNIST, 1.3, 1.19),
        (60 * 60_000 // 256, MNIST, 1.1, 3.01),
        (45 * 60_000 // 256, MNIST, 0.7, 7.10),
    ],
)
def test_renyi_accountant_gives_the_published_epsilons(rounds, share, noise, published):
    found = first_conversion(rounds, share, noise, 1e-5)
    assert found == pytest.approx(published, rel=0.005)
    # The conversion in use is the tighter one.
    assert 0.7 * published < epsilon(rounds, share, noise, 1e-5) < found


def test_without_sampling_it_is_the_gaussian_mechanism():
    assert renyi_epsilon(8, 1.0, 2.0) == pytest.approx(1.0)
    assert renyi_epsilon(8, 1.0 - 1e-12, 2.0) == pytest.approx(1.0, rel=1e-6)


def test_nobody_is_revealed_who_is_never_asked():
    assert epsilon(100, 0.0, 1.0, 1e-5) == 0.0
    assert epsilon(0, 0.5, 1.0, 1e-5) == 0.0


@settings(max_examples=5, deadline=None)
@given(st.integers(1, 500), st.floats(0.01, 0.9), st.floats(0.5, 8.0))
def test_epsilon_grows_with_rounds_and_share_and_falls_with_noise(rounds, share, noise):
    base = epsilon(rounds, share, noise, 1e-5)
    assert epsilon(rounds + 1, share, noise, 1e-5) >= base
    assert epsilon(rounds, min(1.0, share * 1.1), noise, 1e-5) >= base
    assert epsilon(rounds, share, noise * 1.1, 1e-5) <= base
    assert math.isfinite(base)


@pytest.mark.parametrize(
    "bad", [(-1, 0.5, 1.0, 1e-5), (1, 1.5, 1.0, 1e-5), (1, 0.5, 0.0, 1e-5), (1, 0.5, 1.0, 1.0)]
)
def test_epsilon_of_nonsense_is_refused(bad):
    with pytest.raises(ValueError, match=r"no epsilon of"):
        epsilon(*bad)


@pytest.mark.parametrize("bad", [{"clip": 0.0}, {"noise": math.inf}, {"delta": 0.0}])
def test_mechanisms_that_protect_nothing_are_refused(bad):
    with pytest.raises(ValueError, match=r"clip and noise|delta"):
        Privacy(**{"clip": 1.0, "noise": 1.0, "secret": 1, **bad})


def test_long_steps_are_clipped_and_short_ones_are_not():
    assert clipped(torch.tensor([3.0, 4.0]), 1.0).tolist() == pytest.approx([0.6, 0.8])
    assert clipped(torch.tensor([0.3, 0.4]), 1.0).tolist() == pytest.approx([0.3, 0.4])
    assert clipped(torch.zeros(2), 1.0).tolist() == [0.0, 0.0]


def test_one_user_moves_the_mean_by_no_more_than_its_bound():
    start = {"w": torch.zeros(6)}
    privacy = Privacy(clip=0.5, noise=1.0, secret=1)
    others = [{"w": torch.randn(6)} for _ in range(4)]
    without = private_mean(start, others, privacy, 5.0, seed=9)["w"]
    with_one = private_mean(start, [*others, {"w": torch.full((6,), 1e6)}], privacy, 5.0, seed=9)["w"]
    assert float((with_one - without).norm()) == pytest.approx(0.5 / 5.0, rel=1e-4)


def test_noise_has_the_stated_deviation_and_its_seed():
    start = {"w": torch.zeros(40_000)}
    privacy = Privacy(clip=2.0, noise=1.5, secret=1)
    drawn = private_mean(start, [], privacy, 10.0, seed=3)["w"]
    assert float(drawn.std()) == pytest.approx(1.5 * 2.0 / 10.0, rel=0.02)
    assert abs(float(drawn.mean())) < 0.01
    assert torch.equal(drawn, private_mean(start, [], privacy, 10.0, seed=3)["w"])
    assert not torch.equal(drawn, private_mean(start, [], privacy, 10.0, seed=4)["w"])
