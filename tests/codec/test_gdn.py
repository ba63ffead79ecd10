"""GDN: its formula, its gradient, and coefficients that no optimiser makes inadmissible."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from codec_runtime.codecs.gdn import GDN


def _set(gdn: GDN, beta: torch.Tensor, gamma: torch.Tensor) -> GDN:
    """Give ``gdn`` these coefficients, in its own parametrisation."""
    with torch.no_grad():
        gdn.beta.copy_((beta + gdn._PEDESTAL).sqrt())
        gdn.gamma.copy_((gamma + gdn._PEDESTAL).sqrt())
    return gdn


def _descend(gdn: GDN, loss: torch.Tensor, rate: float) -> None:
    """One step of plain gradient descent."""
    gdn.zero_grad()
    loss.backward()
    with torch.no_grad():
        for parameter in gdn.parameters():
            parameter.sub_(rate * parameter.grad)


BETA = torch.tensor([1.0, 2.0])
GAMMA = torch.tensor([[0.5, 0.25], [0.0, 1.0]])
PIXEL = torch.tensor([-2.0, 4.0]).view(1, 2, 1, 1)
NORM = torch.tensor([1.0 + 0.5 * 2 + 0.25 * 4, 2.0 + 1.0 * 4]).view(1, 2, 1, 1)


def test_gdn_divides_by_the_weighted_magnitudes_of_all_channels():
    assert torch.allclose(_set(GDN(2), BETA, GAMMA)(PIXEL), PIXEL / NORM, atol=1e-6)


def test_inverse_gdn_multiplies_by_them():
    assert torch.allclose(_set(GDN(2, inverse=True), BETA, GAMMA)(PIXEL), PIXEL * NORM, atol=1e-5)


@pytest.mark.parametrize("inverse", [False, True])
def test_gradient_of_input_and_coefficients_is_that_of_the_formula(inverse):
    torch.manual_seed(3)
    gdn = GDN(3, inverse=inverse).double()
    _set(gdn, torch.rand(3).double() + 0.5, torch.rand(3, 3).double() + 0.1)
    x = torch.randn(2, 3, 2, 2, dtype=torch.float64).requires_grad_()

    def normalise(x, beta, gamma):
        return torch.func.functional_call(gdn, {"beta": beta, "gamma": gamma}, (x,))

    assert torch.autograd.gradcheck(normalise, (x, gdn.beta, gdn.gamma))


@pytest.mark.parametrize("inverse", [False, True])
def test_coefficients_stay_admissible_however_long_an_optimiser_pushes_them_down(inverse):
    torch.manual_seed(4)
    gdn = GDN(4, inverse=inverse)
    for _ in range(100):
        y = gdn(torch.randn(2, 4, 3, 3))
        # A larger GDN output and a smaller IGDN output both want small coefficients.
        _descend(gdn, y.abs().mean() if inverse else -y.abs().clamp_max(50.0).mean(), rate=1.0)
    beta, gamma = gdn.coefficients()
    assert beta.min() >= gdn._BETA_MIN * 0.99
    assert gamma.min() >= 0.0
    assert beta.max() < 1.0
    assert torch.isfinite(gdn(torch.randn(2, 4, 3, 3))).all()


def test_coefficient_at_its_bound_can_grow_back():
    gdn = GDN(1, inverse=True)
    with torch.no_grad():
        gdn.beta.fill_(-5.0)
        gdn.gamma.fill_(-5.0)
    before = [c.item() for c in gdn.coefficients()]
    for _ in range(60):
        _descend(gdn, -gdn(torch.ones(1, 1, 1, 1)).sum(), rate=100.0)
    after = [c.item() for c in gdn.coefficients()]
    assert all(new > old for new, old in zip(after, before, strict=True))


@settings(deadline=None, max_examples=30)
@given(st.lists(st.floats(-1e3, 1e3), min_size=3, max_size=3), st.booleans())
def test_no_channel_changes_its_sign(values, inverse):
    x = torch.tensor(values).view(1, 3, 1, 1)
    assert torch.equal(torch.sign(GDN(3, inverse=inverse)(x)), torch.sign(x))
