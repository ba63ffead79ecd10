"""Exact rewrites of a trained network into one that computes the same faster. Training never sees them.

- A transposed convolution becomes a convolution and a pixel shuffle (Shi et al., "Is the deconvolution layer
  the same as a convolutional layer?", 2016). With kernel k, stride s, padding p, input x of length n (one
  dimension shown), output o satisfies o + p = s i + t for input i and tap t. Write o + p = s m + r with phase
  r < s: then t = r + s j and

      y[s m + r - p] = sum_j w[r + s j] x[m - j],      j < ceil(k / s),

  an ordinary convolution for each of the s^2 phases. Its left padding is ceil(k / s) - 1 - floor(p / s), its
  right one floor((k + output_padding - 1 - p) / s); the phases interleave by a pixel shuffle, of which the
  first p mod s rows fall away. For s = 1 it is the convolution with the flipped kernel. CPU inference
  libraries have fast kernels, and bf16 ones, for convolutions but not for transposed ones.
- GDN's beta and gamma are computed from their square roots once instead of at each call.
- A batch norm directly behind a (transposed) convolution goes into that convolution's weights, also where a
  pixel shuffle would come between the two.
"""

from __future__ import annotations

import itertools

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.fusion import fuse_conv_bn_eval

from codec_runtime.codecs.copies import frozen_copy
from codec_runtime.codecs.gdn import GDN
from codec_runtime.codecs.stages import ResidualStage


class FoldedGdn(nn.Module):
    """GDN of a trained network: beta (C,) and gamma (C, C, 1, 1) are constants.

    Shape: (B, C, H, W) -> (B, C, H, W). Bit for bit the values of :class:`GDN`.
    """

    def __init__(self, beta: Tensor, gamma: Tensor, *, inverse: bool) -> None:
        super().__init__()
        self.inverse = inverse
        self.beta = nn.Buffer(beta)
        self.gamma = nn.Buffer(gamma)

    def forward(self, x: Tensor) -> Tensor:
        norm = F.conv2d(x.abs(), self.gamma, self.beta)
        return x * norm if self.inverse else x / norm


class PhaseConvolution(nn.Module):
    """A transposed convolution as convolution, pixel shuffle and crop; see the module's docstring.

    Args:
        layer: dilation 1, one group, zero padding and the same stride in both directions
            (:func:`is_rewritable`).

    Shape: (B, C_in, H, W) -> (B, C_out, H', W') of ``layer``.
    """

    def __init__(self, layer: nn.ConvTranspose2d) -> None:
        super().__init__()
        stride = layer.stride[0]
        kernels, paddings = layer.kernel_size, [int(p) for p in layer.padding]
        taps = [-(-k // stride) for k in kernels]
        margins = [
            (tap - 1 - p // stride, (k + extra - 1 - p) // stride)
            for tap, k, p, extra in zip(taps, kernels, paddings, layer.output_padding, strict=True)
        ]
        (top, bottom), (left, right) = margins
        symmetric = top == bottom >= 0 and left == right >= 0
        self.padding = (top, left) if symmetric else (0, 0)
        self.margins = None if symmetric else (left, right, top, bottom)
        self.stride = stride
        self.first = [p % stride for p in paddings]
        # Rows of the shuffled result beyond the output of the transposed convolution.
        self.last = [
            (k + extra - 1 - p) % stride - (stride - 1)
            for k, p, extra in zip(kernels, paddings, layer.output_padding, strict=True)
        ]
        self.weight = nn.Buffer(_phase_kernels(layer.weight.detach(), stride, taps))
        bias = None if layer.bias is None else layer.bias.detach().repeat_interleave(stride**2)
        self.bias: Tensor | None
        self.register_buffer("bias", bias)

    def forward(self, x: Tensor) -> Tensor:
        if self.margins is not None:
            x = F.pad(x, self.margins)
        y = F.conv2d(x, self.weight, self.bias, padding=self.padding)
        if self.stride == 1:
            return y
        y = F.pixel_shuffle(y, self.stride)
        if any(self.first) or any(self.last):
            y = y[:, :, self.first[0] : self.last[0] or None, self.first[1] : self.last[1] or None]
        return y


def _phase_kernels(weight: Tensor, stride: int, taps: list[int]) -> Tensor:
    """(C_in, C_out, k_h, k_w) -> (C_out s^2, C_in, taps_h, taps_w), phases in pixel-shuffle order."""
    inputs, outputs, height, width = weight.shape
    rows, columns = (tap * stride for tap in taps)
    padded = F.pad(weight, (0, columns - width, 0, rows - height))
    # tap t = r + s j: j is the slow index, r the fast one.
    split = padded.view(inputs, outputs, taps[0], stride, taps[1], stride)
    phases = split.flip(2, 4).permute(1, 3, 5, 0, 2, 4)
    return phases.reshape(outputs * stride**2, inputs, *taps).contiguous()


def is_rewritable(layer: nn.ConvTranspose2d) -> bool:
    """Whether :class:`PhaseConvolution` can stand for ``layer``."""
    return layer.groups == 1 and layer.dilation == (1, 1) and layer.stride[0] == layer.stride[1]


def fold(module: nn.Module, *, transposed: bool = False) -> nn.Module:
    """A frozen copy of ``module`` for inference: constants folded, same results.

    Args:
        module: a trained network; left as it is.
        transposed: also rewrite transposed convolutions (relative error below 1e-6).

    Returns:
        A module in evaluation mode without gradients; tensors that stay as they are it shares with
        ``module``. Without batch norms and ``transposed`` its results are those of ``module`` bit for bit.
    """
    copied = frozen_copy(module)
    with torch.no_grad():
        for parent in list(copied.modules()):
            for layer, norm in _normalised(parent):
                _fold_batch_norm(parent, layer, norm)
        for parent in list(copied.modules()):
            for name, child in list(parent.named_children()):
                if isinstance(child, GDN):
                    beta, gamma = constants(child)
                    setattr(parent, name, FoldedGdn(beta, gamma, inverse=child.inverse))
                elif transposed and isinstance(child, nn.ConvTranspose2d) and is_rewritable(child):
                    setattr(parent, name, PhaseConvolution(child))
    return copied


def constants(gdn: GDN) -> tuple[Tensor, Tensor]:
    """beta (C,) and gamma (C, C, 1, 1) that ``gdn`` computes with (its ``forward``)."""
    beta, gamma = gdn.coefficients()
    return beta.detach(), gamma.detach()[:, :, None, None].contiguous()


def _normalised(parent: nn.Module) -> list[tuple[str, str]]:
    """Names of the children of ``parent`` that are a convolution and the batch norm behind it."""
    if isinstance(parent, ResidualStage):
        return [("tconv", "norm1"), ("conv", "norm2")]
    if isinstance(parent, nn.Sequential):
        names = list(dict(parent.named_children()))
        return list(itertools.pairwise(names))
    return []


def _fold_batch_norm(parent: nn.Module, layer_name: str, norm_name: str) -> None:
    """Replace the pair by the convolution and an identity, if it is such a pair."""
    layer, norm = getattr(parent, layer_name), getattr(parent, norm_name)
    if not (isinstance(norm, nn.BatchNorm2d) and norm.running_var is not None):
        return
    if isinstance(layer, nn.Conv2d):
        fused: nn.Module = fuse_conv_bn_eval(layer, norm)
    elif isinstance(layer, nn.ConvTranspose2d) and layer.groups == 1:
        fused = fuse_conv_bn_eval(layer, norm, transpose=True)
    else:
        return
    setattr(parent, layer_name, fused)
    setattr(parent, norm_name, nn.Identity())
