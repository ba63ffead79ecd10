"""Muon for convolutions, and the optimiser of a network."""

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from codec_runtime.training.ema import Ema
from codec_runtime.training.optimisers import ConvMuon, ModuleOptimiser, orthogonalised, takes_muon


@settings(deadline=None, max_examples=10)
@given(rows=st.integers(32, 80), columns=st.integers(32, 80), scale=st.sampled_from([1e-4, 1.0, 1e4]))
def test_updates_are_nearly_orthogonal(rows, columns, scale):
    generator = torch.Generator().manual_seed(rows * 100 + columns)
    if abs(rows - columns) < 6:
        columns = rows + 6  # nearly square random matrices have singular values too near zero for five steps
    values = torch.linalg.svdvals(orthogonalised(scale * torch.randn(rows, columns, generator=generator)))
    assert values.min() > 0.65
    assert values.max() < 1.25


def test_orthogonalising_keeps_the_singular_vectors():
    generator = torch.Generator().manual_seed(1)
    matrix = torch.randn(32, 48, generator=generator)
    u, _, vt = torch.linalg.svd(matrix, full_matrices=False)
    core = u.T @ orthogonalised(matrix) @ vt.T
    torch.testing.assert_close(core - core.diag().diag(), torch.zeros(32, 32), atol=1e-4, rtol=0)


def test_one_step_moves_a_weight_by_the_orthogonalised_nesterov_momentum():
    weight = nn.Parameter(torch.randn(64, 4, 3, 3, generator=torch.Generator().manual_seed(1)))
    before = weight.detach().clone()
    gradient = torch.randn(64, 4, 3, 3, generator=torch.Generator().manual_seed(2))
    weight.grad = gradient.clone()
    ConvMuon([weight], lr=0.1).step()
    # The first step's Nesterov momentum is a multiple of the gradient; 64 rows, 36 columns.
    shrunk = before * (1.0 - 0.1 * 0.1)  # learning rate times weight decay
    expected = shrunk - 0.1 * (64 / 36) ** 0.5 * orthogonalised(gradient.flatten(1)).view_as(gradient)
    torch.testing.assert_close(weight.detach(), expected, atol=1e-5, rtol=0)


def test_muon_state_survives_a_round_trip():
    weights = [nn.Parameter(torch.ones(32, 32, 1, 1)) for _ in range(2)]
    optimisers = [ConvMuon([weight], lr=0.1) for weight in weights]
    gradient = torch.randn(32, 32, 1, 1, generator=torch.Generator().manual_seed(1))
    weights[0].grad = gradient.clone()
    optimisers[0].step()
    optimisers[1].load_state_dict(copy.deepcopy(optimisers[0].state_dict()))
    weights[1].data.copy_(weights[0].data)
    for weight, optimiser in zip(weights, optimisers, strict=True):
        weight.grad = gradient.flip(0)
        optimiser.step()
    assert torch.equal(weights[0], weights[1])


def test_muon_takes_wide_convolutions_alone():
    assert takes_muon(torch.empty(32, 4, 3, 3))
    assert not takes_muon(torch.empty(31, 64, 3, 3))
    assert not takes_muon(torch.empty(64, 3, 3, 3))
    assert not takes_muon(torch.empty(64, 64))


@pytest.mark.parametrize("kind", ["adam", "muon"])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_state_of_a_networks_optimisers_survives_a_round_trip(kind, layout):
    def network():
        torch.manual_seed(1)
        made = nn.Sequential(nn.Conv2d(4, 32, 3), nn.PReLU(), nn.Conv2d(32, 40, 3, bias=False))
        return made.to(memory_format=layout)

    def step(module, optimiser):
        for index, parameter in enumerate(module.parameters()):
            values = torch.linspace(-1, 1 + index, parameter.numel()).view_as(parameter)
            parameter.grad = torch.empty_like(parameter).copy_(values)
        optimiser.step(1e-2)

    first = network()
    own = ModuleOptimiser(first, kind, 15.0)
    step(first, own)
    second = network()
    second.load_state_dict(first.state_dict())
    other = ModuleOptimiser(second, kind, 15.0)
    other.load_tensors({key: value.clone().contiguous() for key, value in own.tensors().items()})
    step(first, own)
    step(second, other)
    for a, b in zip(first.parameters(), second.parameters(), strict=True):
        assert torch.equal(a, b)
    # Layout must not matter either: fused Adam walks memory.
    plain = nn.Sequential(nn.Conv2d(4, 32, 3), nn.PReLU(), nn.Conv2d(32, 40, 3, bias=False))
    plain.load_state_dict(network().state_dict())
    reference = ModuleOptimiser(plain, kind, 15.0)
    step(plain, reference)
    step(plain, reference)
    for a, b in zip(first.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-5)


def test_unknown_optimisers_are_refused():
    with pytest.raises(ValueError, match="known are adam, muon"):
        ModuleOptimiser(nn.PReLU(), "sgd", 1.0)


def test_averages_copy_counters_and_follow_weights():
    module = nn.BatchNorm1d(1)
    average = Ema(module, 0.9)
    with torch.no_grad():
        module.weight.fill_(3.0)
        module.num_batches_tracked.fill_(7)
    average.update(module, 1)  # decay (1 + 1) / (10 + 1) in the first update
    assert average.state["num_batches_tracked"].item() == 7
    assert average.state["weight"].item() == pytest.approx(1.0 + (1 - 2 / 11) * 2.0)
    for updates in range(2, 400):
        average.update(module, updates)
    assert average.state["weight"].item() == pytest.approx(3.0, abs=1e-3)


def test_no_averaging_keeps_the_last_weights():
    module = nn.PReLU()
    average = Ema(module, 0.0)
    with torch.no_grad():
        module.weight.fill_(-2.0)
    average.update(module, 1)
    assert average.state["weight"].item() == -2.0
