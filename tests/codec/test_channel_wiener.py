"""The two-dimensional Wiener filter against the textbook matrix formula and against simulation."""

import pytest
import torch
from channel_draws import seeded

from codec_runtime.channel.gaussian import circular_normal
from codec_runtime.channel.wiener import WienerEstimator

CPU = torch.device("cpu")
SYMBOLS, SUBCARRIERS = (1, 4), range(0, 8, 2)


def exponential_covariance(size, correlation, phase=0.3):
    """Hermitian, positive definite, unit diagonal, complex."""
    lag = torch.arange(size)[:, None] - torch.arange(size)[None, :]
    return torch.polar(correlation ** lag.abs().double(), phase * lag.double())


@pytest.fixture
def covariances():
    return exponential_covariance(6, 0.9), exponential_covariance(8, 0.8, -0.5)


def draw(covariances, count, generator):
    """(count, 6, 8) with the separable covariance."""
    time, frequency = (torch.linalg.cholesky(matrix) for matrix in covariances)
    white = circular_normal((count, 6, 8), CPU, generator).to(torch.complex128)
    return time @ white @ frequency.mT


@pytest.mark.parametrize("variance", [0.01, 1.0])
def test_the_separable_filter_is_the_joint_one(covariances, variance):
    time, frequency = covariances
    pilots = circular_normal((3, 2, 4), CPU, seeded(1))
    estimate, error = WienerEstimator(time, frequency, SYMBOLS, SUBCARRIERS)(
        pilots, torch.full((3,), variance)
    )
    everything = torch.kron(time, frequency)
    index = torch.tensor([8 * s + f for s in SYMBOLS for f in SUBCARRIERS])
    noisy = everything[index][:, index] + variance * torch.eye(8)
    weights = torch.linalg.solve(noisy, everything[index]).mH
    expected = (weights @ pilots.flatten(1).to(torch.complex128).mT).mT.view(3, 6, 8)
    assert torch.allclose(estimate.to(torch.complex128), expected, atol=1e-5)
    residual = torch.diagonal(everything - weights @ everything[index]).real.view(6, 8)
    assert torch.allclose(error[0].double(), residual, atol=1e-5)


def test_the_error_variance_is_the_one_measured(covariances):
    channel = draw(covariances, 20_000, seeded(2))
    variance = torch.tensor([0.1])
    noise = variance.sqrt() * circular_normal((20_000, 2, 4), CPU, seeded(3))
    pilots = channel[:, SYMBOLS][:, :, list(SUBCARRIERS)].to(torch.complex64) + noise
    estimate, error = WienerEstimator(*covariances, SYMBOLS, SUBCARRIERS)(pilots, variance)
    measured = (estimate - channel).abs().square().mean(dim=0)
    assert torch.allclose(measured.float(), error[0], rtol=0.06)


def test_each_link_uses_its_own_noise_variance(covariances):
    estimator = WienerEstimator(*covariances, SYMBOLS, SUBCARRIERS)
    pilots = circular_normal((2, 2, 4), CPU, seeded(1))
    both, errors = estimator(pilots, torch.tensor([0.01, 1.0]))
    alone, error = estimator(pilots[1:], torch.tensor([1.0]))
    assert torch.allclose(both[1:], alone, atol=1e-6)
    assert torch.allclose(errors[1:], error, atol=1e-6)
    assert (errors[0] < errors[1]).all()
