"""Stages that networks of both families are made of, ``(x, cond) -> x``."""

from __future__ import annotations

from torch import Tensor, nn

from codec_runtime.codecs.conditioning import SnrGate
from codec_runtime.codecs.gdn import GDN
from codec_runtime.codecs.initialisation import PRELU_GAIN, keep_variance
from codec_runtime.codecs.normalisation import BatchNorm

POOL = 3
RESIDUAL_KERNEL = 3


def transposed(inputs: int, outputs: int, kernel: int, stride: int = 1) -> nn.ConvTranspose2d:
    """Sides are multiplied by ``stride`` exactly (``kernel`` odd; the output padding sees to it)."""
    return nn.ConvTranspose2d(
        inputs, outputs, kernel, stride=stride, padding=kernel // 2, output_padding=stride - 1
    )


class Stage(nn.Module):
    """conv - GDN - PReLU - SNR conditioning: the stage of the seed paper (its eqs. 9 and 10).

    Args:
        conv: convolution, transposed or not, of ``channels`` outputs.
        inverse: IGDN (decoder) in place of GDN (encoder).
        gate: :class:`SnrAttention` or :class:`SnrGate`.
    """

    def __init__(self, conv: nn.Module, channels: int, *, inverse: bool, gate: nn.Module) -> None:
        super().__init__()
        self.conv = conv
        self.gdn = GDN(channels, inverse=inverse)
        self.act = nn.PReLU(channels)
        self.gate = gate

    def forward(self, x: Tensor, cond: Tensor) -> Tensor:
        gated: Tensor = self.gate(self.act(self.gdn(self.conv(x))), cond)
        return gated


class ResidualStage(nn.Module):
    """gate(PReLU(BN(conv(PReLU(BN(tconv(x))))) + projection(x))): the seed's eqs. 18 to 20.

    The seed leaves the kernel of ``conv`` open; it is 3x3 here (He et al., CVPR 2016). The projection's
    kernel is as wide as its stride: a 1x1 kernel of stride 2 would leave holes.

    Args:
        inputs, outputs: channels.
        kernel: side of the transposed convolution's kernel, odd.
        stride: factor on the sides.
        gate: for ``outputs`` channels.
    """

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int = 1, *, gate: SnrGate) -> None:
        super().__init__()
        self.tconv = keep_variance(transposed(inputs, outputs, kernel, stride))
        self.norm1 = BatchNorm(outputs)
        self.act1 = nn.PReLU(outputs)
        conv = nn.Conv2d(outputs, outputs, RESIDUAL_KERNEL, padding=RESIDUAL_KERNEL // 2)
        self.conv = keep_variance(conv, PRELU_GAIN)
        self.norm2 = BatchNorm(outputs)
        self.projection = keep_variance(nn.ConvTranspose2d(inputs, outputs, stride, stride=stride))
        self.act2 = nn.PReLU(outputs)
        self.gate = gate

    def forward(self, x: Tensor, cond: Tensor) -> Tensor:
        branch = self.norm2(self.conv(self.act1(self.norm1(self.tconv(x)))))
        gated: Tensor = self.gate(self.act2(branch + self.projection(x)), cond)
        return gated


class VggStage(nn.Module):
    """gate(PReLU(pool(tconv(tconv(x))))): the seed's eqs. 21 to 23. No skip connection, no normalisation.

    Arguments as of :class:`ResidualStage`; the second transposed convolution has the stride.
    """

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int = 1, *, gate: SnrGate) -> None:
        super().__init__()
        self.tconv1 = keep_variance(transposed(inputs, outputs, kernel), PRELU_GAIN)
        self.tconv2 = keep_variance(transposed(outputs, outputs, kernel, stride))
        self.pool = nn.AvgPool2d(POOL, stride=1, padding=POOL // 2, count_include_pad=False)
        self.act = nn.PReLU(outputs)
        self.gate = gate

    def forward(self, x: Tensor, cond: Tensor) -> Tensor:
        gated: Tensor = self.gate(self.act(self.pool(self.tconv2(self.tconv1(x)))), cond)
        return gated
