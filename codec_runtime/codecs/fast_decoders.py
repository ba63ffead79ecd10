"""The fast family's conv, resnet and vgg decoders.

The reference kinds' ingredients (:mod:`codec_runtime.codecs.anchor_decoders`) with 3x3 kernels, all at an
eighth of the resolution beside the linear bypass: each starts at the linear codec, its tail silent.
"""

from __future__ import annotations

from torch import nn

from codec_runtime.codecs.conditioning import SnrGate
from codec_runtime.codecs.fast import FAST_BOUNDS, FastConfig, FastDecoder
from codec_runtime.codecs.initialisation import PRELU_GAIN, keep_variance
from codec_runtime.codecs.linear import PATCH_DIMS
from codec_runtime.codecs.registration import decoder
from codec_runtime.codecs.stages import ResidualStage, Stage, VggStage, transposed

KERNEL = 3


@decoder(FastConfig, FAST_BOUNDS)
class FastConvDecoder(FastDecoder):
    """Transposed convolutions with GDN, PReLU and the SNR gate: ``config.blocks`` + 1 stages.

    GDN divides here, as in the seed's decoders: a stack of this depth without skip connections, each stage
    multiplying (IGDN), diverges within the first steps.
    """

    architecture = "jscc-fast-conv"

    def _network(self, folded: int) -> tuple[nn.ModuleList, nn.ConvTranspose2d]:
        width = self.config.width
        inputs = (folded, *(width for _ in range(self.config.blocks)))
        stages = (
            Stage(
                keep_variance(transposed(channels, width, KERNEL), PRELU_GAIN), width, inverse=False,
                gate=SnrGate(width),
            )
            for channels in inputs
        )
        return nn.ModuleList(stages), nn.ConvTranspose2d(width, PATCH_DIMS, 1)


@decoder(FastConfig, FAST_BOUNDS)
class FastResidualDecoder(FastDecoder):
    """Residual blocks with batch normalisation: ``config.blocks`` of them, at least one."""

    architecture = "jscc-fast-resnet"

    def _network(self, folded: int) -> tuple[nn.ModuleList, nn.Conv2d]:
        width = self.config.width
        inputs = (folded, *(width for _ in range(self.config.blocks - 1)))
        stages = (ResidualStage(channels, width, KERNEL, gate=SnrGate(width)) for channels in inputs)
        return nn.ModuleList(stages), nn.Conv2d(width, PATCH_DIMS, 1)


@decoder(FastConfig, FAST_BOUNDS)
class FastVggDecoder(FastDecoder):
    """Pairs of transposed convolutions with pooling: ``config.blocks`` of them, at least one."""

    architecture = "jscc-fast-vgg"

    def _network(self, folded: int) -> tuple[nn.ModuleList, nn.ConvTranspose2d]:
        width = self.config.width
        inputs = (folded, *(width for _ in range(self.config.blocks - 1)))
        stages = (VggStage(channels, width, KERNEL, gate=SnrGate(width)) for channels in inputs)
        return nn.ModuleList(stages), nn.ConvTranspose2d(width, PATCH_DIMS, 1)
