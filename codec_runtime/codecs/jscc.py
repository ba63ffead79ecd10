"""The compact JSCC image codec: one encoder, decoders of different architecture, any rate.

    image --g_a--> latent (c channels, H/4 x W/4) --first k channels, unit power--> channel
          --g_s--> image

Five stages of conv - GDN - PReLU - AF on each side, as in the seed paper's anchor codec, most of them at
a quarter or an eighth of the resolution so that two CPU cores train them. Beside the network runs a
*linear bypass* initialised with the PCA codec of :mod:`codec_runtime.codecs.linear`: training starts at
the linear floor and only improves on it.

The latent channels are ordered by importance (training truncates them at random, "nested dropout",
Rippel et al., ICML 2014): the first k channels of the same encoder are the code at bandwidth ratio k/96.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from codec_runtime.channel.symbols import normalise_power
from codec_runtime.codecs.conditioning import CONDITION_FEATURES, SnrAttention, SnrGate, condition
from codec_runtime.codecs.gdn import GDN
from codec_runtime.codecs.linear import PATCH, PATCH_DIMS, PatchPca, power_gains, to_patches


@dataclass(frozen=True)
class JsccConfig:
    """Hyper-parameters shared by an encoder and its decoders.

    Attributes:
        latent_channels: c; the longest prefix. c = 16 is bandwidth ratio 1/6.
        width: channels at a quarter of the resolution.
        deep_width: channels at an eighth of the resolution.
        refinements: residual 3x3 blocks after each inner stage.
    """

    latent_channels: int = 16
    width: int = 64
    deep_width: int = 96
    refinements: int = 1

    def as_dict(self) -> dict[str, int]:
        return asdict(self)


class Residual(nn.Module):
    """x + conv(PReLU(conv(x))), 3x3, same width."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.act = nn.PReLU(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = x + self.conv2(self.act(self.conv1(x)))
        return out


class Stage(nn.Module):
    """conv - GDN - PReLU - SNR conditioning, then residual refinements.

    Args:
        conv: the (transposed) convolution, possibly with a pixel shuffle behind it.
        channels: its output channels.
        inverse: IGDN (decoder) in place of GDN (encoder).
        gate: :class:`SnrAttention` or :class:`SnrGate`.
        refinements: number of residual blocks.
    """

    def __init__(
        self, conv: nn.Module, channels: int, *, inverse: bool, gate: nn.Module, refinements: int = 0
    ) -> None:
        super().__init__()
        self.conv = conv
        self.gdn = GDN(channels, inverse=inverse)
        self.act = nn.PReLU(channels)
        self.gate = gate
        self.refine = nn.ModuleList(Residual(channels) for _ in range(refinements))

    def forward(self, x: Tensor, cond: Tensor) -> Tensor:
        x = self.gate(self.act(self.gdn(self.conv(x))), cond)
        for block in self.refine:
            x = block(x)
        return x


def _conv(inputs: int, outputs: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1)


def _upsample(inputs: int, outputs: int) -> nn.Module:
    """Stride-2 transposed convolution in its sub-pixel form (conv, then pixel shuffle)."""
    return nn.Sequential(nn.Conv2d(inputs, 4 * outputs, 3, padding=1), nn.PixelShuffle(2))


def _silence(layer: nn.Conv2d | nn.ConvTranspose2d | nn.Linear) -> None:
    """Start a layer at zero, so that what runs beside it decides first."""
    nn.init.zeros_(layer.weight)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)


class _LinearBypass(nn.Module):
    """1x1 map between 8x8 patches and latent channels with condition-dependent gains in (0, 2)."""

    def __init__(self, inputs: int, outputs: int, gated: int) -> None:
        super().__init__()
        self.map = nn.Conv2d(inputs, outputs, 1)
        self.fc1 = nn.Linear(CONDITION_FEATURES, 32)
        self.fc2 = nn.Linear(32, gated)
        _silence(self.fc2)

    @torch.no_grad()
    def set_map(self, weight: Tensor, bias: Tensor) -> None:
        """weight (outputs, inputs), bias (outputs,)."""
        self.map.weight.copy_(weight[:, :, None, None])
        assert self.map.bias is not None
        self.map.bias.copy_(bias)

    def gains(self, cond: Tensor) -> Tensor:
        return 2.0 * torch.sigmoid(self.fc2(torch.tanh(self.fc1(cond))))[:, :, None, None]


class JsccEncoder(nn.Module):
    """g_a: image -> latent, first k channels, unit complex power.

    Shape: images (B, 3, H, W) in [0, 1] with H, W multiples of 8; snr_db (B,); prefix (B,) integers in
    1..c. Returns (B, c, H/4, W/4); channels from k on are zero.
    """

    architecture = "jscc-compact-encoder"

    def __init__(self, config: JsccConfig | None = None) -> None:
        super().__init__()
        self.config = config = config or JsccConfig()
        width, deep, refine = config.width, config.deep_width, config.refinements
        folded = 4 * config.latent_channels
        self.stages = nn.ModuleList(
            (
                Stage(_conv(48, width), width, inverse=False, gate=SnrAttention(width)),
                Stage(_conv(width, width), width, inverse=False, gate=SnrAttention(width),
                      refinements=refine),
                Stage(_conv(width, deep, 2), deep, inverse=False, gate=SnrAttention(deep),
                      refinements=refine),
                Stage(_conv(deep, deep), deep, inverse=False, gate=SnrAttention(deep),
                      refinements=refine),
            )
        )
        self.head = _conv(deep, folded)
        self.bypass = _LinearBypass(PATCH_DIMS, folded, folded)
        _silence(self.head)

    def forward(self, images: Tensor, snr_db: Tensor, prefix: Tensor) -> Tensor:
        return normalise_power(self.analyse(images, snr_db, prefix), prefix)

    def analyse(self, images: Tensor, snr_db: Tensor, prefix: Tensor) -> Tensor:
        """The latent before truncation and power normalisation, (B, c, H/4, W/4)."""
        cond = condition(snr_db, prefix, self.config.latent_channels)
        x = F.pixel_unshuffle(images - 0.5, 4)
        for stage in self.stages:
            x = stage(x, cond)
        linear = self.bypass.map(to_patches(images)) * self.bypass.gains(cond)
        return F.pixel_shuffle(linear + self.head(x), 2)

    def start_from_pca(self, pca: PatchPca) -> None:
        """Set the bypass to the power-allocated PCA encoder (needs 4c components)."""
        gains = power_gains(pca.variances)
        weight = (pca.components * gains).T
        self.bypass.set_map(weight, -(weight @ pca.mean))


class _Decoder(nn.Module):
    """What all decoders share: the bypass, the input fold and the clamp-free output in about [0, 1].

    Shape: received (B, c, H/4, W/4), zero beyond the prefix; snr_db (B,); prefix (B,).
    Returns (B, 3, H, W).
    """

    architecture = ""

    def __init__(self, config: JsccConfig | None = None) -> None:
        super().__init__()
        self.config = config = config or JsccConfig()
        folded = 4 * config.latent_channels
        self.bypass = _LinearBypass(folded, PATCH_DIMS, folded)
        self.stages, self.tail = self._network(folded)
        _silence(self.tail)

    def _network(self, folded: int) -> tuple[nn.ModuleList, nn.Conv2d | nn.ConvTranspose2d]:
        """Stages from ``folded`` channels at an eighth to ``width`` at a quarter; the tail to 48."""
        raise NotImplementedError

    def forward(self, received: Tensor, snr_db: Tensor, prefix: Tensor) -> Tensor:
        cond = condition(snr_db, prefix, self.config.latent_channels)
        folded = F.pixel_unshuffle(received, 2)
        linear = self.bypass.map(folded * self.bypass.gains(cond))
        x = folded
        for stage in self.stages:
            x = stage(x, cond)
        return F.pixel_shuffle(linear, PATCH) + F.pixel_shuffle(self.tail(x), 4)

    def start_from_pca(self, pca: PatchPca) -> None:
        """Set the bypass to the inverse of the power-allocated PCA encoder."""
        gains = power_gains(pca.variances)
        scale = 2.0**0.5  # unit complex power is 1/2 per real value
        self.bypass.set_map(pca.components / gains * scale, pca.mean)


class AttentionDecoder(_Decoder):
    """Mirror of the encoder: AF after each stage, sub-pixel upsampling, residual refinements."""

    architecture = "jscc-compact-attention"

    def _network(self, folded: int) -> tuple[nn.ModuleList, nn.Conv2d]:
        width, deep, refine = self.config.width, self.config.deep_width, self.config.refinements
        stages = nn.ModuleList(
            (
                Stage(_conv(folded, deep), deep, inverse=True, gate=SnrAttention(deep),
                      refinements=refine),
                Stage(_conv(deep, deep), deep, inverse=True, gate=SnrAttention(deep),
                      refinements=refine),
                Stage(_upsample(deep, width), width, inverse=True, gate=SnrAttention(width),
                      refinements=refine),
                Stage(_conv(width, width), width, inverse=True, gate=SnrAttention(width)),
            )
        )
        return stages, _conv(width, 48)


class ConvDecoder(_Decoder):
    """Plain transposed convolutions with GDN, PReLU and the light SNR gate; no pooling, no residuals."""

    architecture = "jscc-compact-conv"

    def _network(self, folded: int) -> tuple[nn.ModuleList, nn.ConvTranspose2d]:
        width, deep = self.config.width, self.config.deep_width
        stages = nn.ModuleList(
            (
                Stage(nn.ConvTranspose2d(folded, deep, 3, padding=1), deep, inverse=True, gate=SnrGate(deep)),
                Stage(nn.ConvTranspose2d(deep, deep, 3, padding=1), deep, inverse=True, gate=SnrGate(deep)),
                Stage(nn.ConvTranspose2d(deep, width, 4, stride=2, padding=1), width, inverse=True,
                      gate=SnrGate(width)),
                Stage(nn.ConvTranspose2d(width, width, 3, padding=1), width, inverse=True,
                      gate=SnrGate(width)),
            )
        )
        return stages, nn.ConvTranspose2d(width, 48, 3, padding=1)


ENCODERS: dict[str, type[JsccEncoder]] = {JsccEncoder.architecture: JsccEncoder}
DECODERS: dict[str, type[_Decoder]] = {
    decoder.architecture: decoder for decoder in (AttentionDecoder, ConvDecoder)
}
