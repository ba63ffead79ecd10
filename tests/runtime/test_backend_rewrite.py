"""Rewrites of a trained network compute what it computes."""

from __future__ import annotations

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import nn

from codec_runtime.benchmarks.inputs import fill_weights
from codec_runtime.codecs.conditioning import SnrGate
from codec_runtime.codecs.gdn import GDN
from codec_runtime.codecs.stages import ResidualStage
from codec_runtime.serving.backends.rewrite import FoldedGdn, PhaseConvolution, fold, is_rewritable

KERNEL = st.integers(1, 9)
SIZE = st.integers(1, 9)


def relative_error(got: torch.Tensor, expected: torch.Tensor) -> float:
    return float((got - expected).norm() / expected.norm().clamp_min(1e-12))


@settings(max_examples=150, deadline=None)
@given(
    kernel=st.tuples(KERNEL, KERNEL), stride=st.integers(1, 3), padding=st.tuples(st.integers(0, 5), SIZE),
    extra=st.tuples(st.integers(0, 2), st.integers(0, 2)), size=st.tuples(SIZE, SIZE),
    batch=st.integers(1, 2), bias=st.booleans(), seed=st.integers(0, 1000),
)
def test_transposed_convolution_equals_convolution_and_pixel_shuffle(
    kernel, stride, padding, extra, size, batch, bias, seed
) -> None:
    assume(all(e < stride for e in extra))
    sides = [
        (n - 1) * stride - 2 * p + k + e for n, p, k, e in zip(size, padding, kernel, extra, strict=True)
    ]
    assume(all(side > 0 for side in sides))
    torch.manual_seed(seed)
    layer = nn.ConvTranspose2d(
        3, 5, kernel, stride=stride, padding=padding, output_padding=extra, bias=bias
    )
    x = torch.randn(batch, 3, *size)
    with torch.no_grad():
        expected, got = layer(x), PhaseConvolution(layer)(x)
    assert got.shape == expected.shape
    assert relative_error(got, expected) < 1e-6


@pytest.mark.parametrize("layer", [
    nn.ConvTranspose2d(4, 4, 3, groups=2), nn.ConvTranspose2d(4, 4, 3, dilation=2),
    nn.ConvTranspose2d(4, 4, 3, stride=(1, 2)),
])
def test_what_cannot_be_rewritten_stays_and_still_computes(layer: nn.ConvTranspose2d) -> None:
    assert not is_rewritable(layer)
    x = torch.randn(1, 4, 5, 5)
    with torch.no_grad():
        assert torch.equal(fold(nn.Sequential(layer), transposed=True)(x), layer(x))


@pytest.mark.parametrize("inverse", [False, True])
def test_folded_gdn_is_bit_identical_also_below_its_bounds(inverse: bool) -> None:
    module = nn.Sequential(GDN(6, inverse=inverse))
    torch.manual_seed(3)
    with torch.no_grad():
        module[0].beta.copy_(torch.linspace(-0.5, 1.5, 6))
        module[0].gamma.copy_(torch.randn(6, 6))
    folded = fold(module)
    x = torch.randn(2, 6, 5, 7)
    assert isinstance(folded[0], FoldedGdn)
    assert torch.equal(folded(x), module(x))


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("transposed", [False, True])
def test_batch_norms_disappear_into_their_convolutions(stride: int, transposed: bool) -> None:
    stage = ResidualStage(3, 8, 5, stride, gate=SnrGate(8)).eval()
    fill_weights(stage, 4)
    folded = fold(stage, transposed=transposed)
    assert not any(isinstance(layer, nn.BatchNorm2d) for layer in folded.modules())
    assert transposed != any(isinstance(layer, nn.ConvTranspose2d) for layer in folded.modules())
    x, cond = torch.randn(2, 3, 6, 8), torch.rand(2, 2)
    with torch.no_grad():
        assert relative_error(folded(x, cond), stage(x, cond)) < 2e-6


def test_folding_leaves_the_trained_module_alone() -> None:
    module = nn.Sequential(nn.ConvTranspose2d(2, 2, 3), nn.BatchNorm2d(2), GDN(2))
    before = {name: value.clone() for name, value in module.state_dict().items()}
    fold(module, transposed=True)
    assert module.training
    assert [type(layer) for layer in module] == [nn.ConvTranspose2d, nn.BatchNorm2d, GDN]
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())
