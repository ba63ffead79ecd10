"""The seed's four decoder architectures (its section IV-B2 and Fig. 4), against one frozen encoder.

    received (c, H/4, W/4) | stages at a quarter | last stage: to a half | tconv w->3 k9 s2 - sigmoid

    attention   tconv - GDN - PReLU - AF; the tail has a GDN too (the encoder's mirror)       eqs. 9 to 14
    conv        tconv - GDN - PReLU - SNR gate; the tail likewise                             eqs. 15 to 17
    resnet      tconv - BN - PReLU - conv - BN, + projected skip, PReLU, SNR gate; one more   eqs. 18 to 20
    vgg         two tconv - average pool 3 s1 - PReLU - SNR gate                              eqs. 21 to 23

The seed leaves open which blocks of the last two upsample; here the last one and the tail do, as in the
attention decoder.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from codec_runtime.channel.symbols import prefix_mask
from codec_runtime.codecs.anchor_encoder import ANCHOR_BOUNDS, AnchorConfig
from codec_runtime.codecs.conditioning import SnrAttention, SnrGate, condition
from codec_runtime.codecs.gdn import GDN
from codec_runtime.codecs.initialisation import PRELU_GAIN, keep_variance
from codec_runtime.codecs.registration import decoder
from codec_runtime.codecs.stages import ResidualStage, Stage, VggStage, transposed

TAIL_GAIN = 0.5
"""The sigmoid starts in its linear part, the picture near mid-grey."""


class AnchorDecoder(nn.Module):
    """What the decoders share: truncation, the stages' plan, the tail.

    Shape: received (B, c, H/4, W/4), channels from the prefix on are not looked at; snr_db (B,) what the
    receiver believes; prefix (B,) integers in 1..c. Returns (B, 3, H, W) in (0, 1).
    """

    architecture = ""
    extra_blocks = 0

    def __init__(self, config: AnchorConfig | None = None) -> None:
        super().__init__()
        self.config = config = config or AnchorConfig()
        blocks = config.blocks + self.extra_blocks
        inputs = (config.latent_channels, *(config.width for _ in range(blocks - 1)))
        strides = (*(1 for _ in range(blocks - 1)), 2)
        self.stages = nn.ModuleList(map(self._stage, inputs, strides))
        self.tail = self._tail(keep_variance(transposed(config.width, 3, config.outer_kernel, 2), TAIL_GAIN))

    def _stage(self, inputs: int, stride: int) -> nn.Module:
        """A stage ``(x, cond) -> x`` from ``inputs`` channels to ``width``, sides times ``stride``."""
        raise NotImplementedError

    def _tail(self, conv: nn.ConvTranspose2d) -> nn.Module:
        return conv

    def forward(self, received: Tensor, snr_db: Tensor, prefix: Tensor) -> Tensor:
        channels = self.config.latent_channels
        cond = condition(snr_db, prefix, channels)
        x = received * prefix_mask(prefix, channels)
        for stage in self.stages:
            x = stage(x, cond)
        return torch.sigmoid(self.tail(x))


class _GdnDecoder(AnchorDecoder):
    """Stages and tail with GDN in the configured direction."""

    def _gate(self) -> nn.Module:
        raise NotImplementedError

    def _stage(self, inputs: int, stride: int) -> nn.Module:
        width, inverse = self.config.width, self.config.decoder_gdn == "igdn"
        conv = keep_variance(transposed(inputs, width, self.config.kernel, stride), PRELU_GAIN)
        return Stage(conv, width, inverse=inverse, gate=self._gate())

    def _tail(self, conv: nn.ConvTranspose2d) -> nn.Module:
        return nn.Sequential(conv, GDN(3, inverse=self.config.decoder_gdn == "igdn"))


@decoder(AnchorConfig, ANCHOR_BOUNDS)
class AnchorAttentionDecoder(_GdnDecoder):
    """Mirror of the encoder; also the symmetric decoder of the anchor stage."""

    architecture = "jscc-anchor-attention"

    def _gate(self) -> nn.Module:
        return SnrAttention(self.config.width, self.config.attention_hidden, ceiling=1.0)


@decoder(AnchorConfig, ANCHOR_BOUNDS)
class AnchorConvDecoder(_GdnDecoder):
    """Plain transposed convolutions; the SNR gate does not pool."""

    architecture = "jscc-anchor-conv"

    def _gate(self) -> nn.Module:
        return SnrGate(self.config.width, ceiling=1.0)


@decoder(AnchorConfig, ANCHOR_BOUNDS)
class AnchorResidualDecoder(AnchorDecoder):
    """Residual blocks with batch normalisation, ``config.blocks`` + 1 of them: five at the reference."""

    architecture = "jscc-anchor-resnet"
    extra_blocks = 1

    def _stage(self, inputs: int, stride: int) -> nn.Module:
        width = self.config.width
        return ResidualStage(inputs, width, self.config.kernel, stride, gate=SnrGate(width, ceiling=1.0))


@decoder(AnchorConfig, ANCHOR_BOUNDS)
class AnchorVggDecoder(AnchorDecoder):
    """Pairs of transposed convolutions with pooling."""

    architecture = "jscc-anchor-vgg"

    def _stage(self, inputs: int, stride: int) -> nn.Module:
        width = self.config.width
        return VggStage(inputs, width, self.config.kernel, stride, gate=SnrGate(width, ceiling=1.0))
