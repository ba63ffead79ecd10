"""The seed's reference encoder, which is the anchor that every decoder is trained against.

    | conv 3->w k9 s2   | conv w->w k5 s2   | conv w->w k5 s1, twice | conv w->c k5 s1 | truncate,
    | GDN, PReLU, AF    | same              | same                   | GDN             | unit power

"Anchor-Aided Multi-User Semantic Communication with Adaptive Decoders", Fig. 4 and eqs. 9 to 14; w = 256.
Beyond the seed, one encoder serves every rate: AF sees the prefix length beside the SNR, the latent channels
are ordered by importance and any prefix of them is the code at bandwidth ratio k/96.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

from torch import Tensor, nn

from codec_runtime.channel.symbols import normalise_power
from codec_runtime.codecs.conditioning import SnrAttention, condition
from codec_runtime.codecs.gdn import GDN
from codec_runtime.codecs.initialisation import PRELU_GAIN, keep_variance
from codec_runtime.codecs.registration import TIERS, encoder
from codec_runtime.codecs.stages import Stage

GDN_DIRECTIONS = ("gdn", "igdn")


@dataclass(frozen=True)
class AnchorConfig:
    """Hyper-parameters of one network of the family; the defaults are the reference configuration.

    Attributes:
        latent_channels: c; the longest prefix. c = 16 is bandwidth ratio 1/6. The same for an encoder and all
            its decoders.
        width: channels of the network.
        kernel: side of the inner kernels, odd.
        outer_kernel: side of the kernel next to the image, odd.
        attention_hidden: features between the two fully connected layers of AF.
        blocks: stages between the image's or the latent's end of the network and its last convolution. Two of
            an encoder's halve the resolution, the last of a decoder's doubles it (its tail does so again).
            The residual decoder has one block more: the seed's five.
        encoder_gdn, decoder_gdn: ``gdn`` divides, ``igdn`` multiplies. The seed divides on both sides; image
            coders since Balle et al. (2016) multiply in the decoder.
        tier: name of the compute tier that ``width`` and ``blocks`` of a decoder belong to; a label.
    """

    latent_channels: int = 16
    width: int = 256
    kernel: int = 5
    outer_kernel: int = 9
    attention_hidden: int = 16
    blocks: int = 4
    encoder_gdn: str = "gdn"
    decoder_gdn: str = "gdn"
    tier: str = "medium"

    def as_dict(self) -> dict[str, int | str]:
        return asdict(self)


ANCHOR_BOUNDS: dict[str, range | tuple[str, ...]] = {
    "latent_channels": range(1, 97),
    "width": range(1, 513),
    "kernel": range(1, 8, 2),
    "outer_kernel": range(1, 16, 2),
    "attention_hidden": range(1, 257),
    "blocks": range(2, 9),
    "encoder_gdn": GDN_DIRECTIONS,
    "decoder_gdn": GDN_DIRECTIONS,
    "tier": TIERS,
}


def convolution(inputs: int, outputs: int, kernel: int, stride: int = 1) -> nn.Conv2d:
    """Sides are divided by ``stride`` exactly (``kernel`` odd, sides multiples of ``stride``)."""
    return nn.Conv2d(inputs, outputs, kernel, stride=stride, padding=kernel // 2)


@encoder(AnchorConfig, ANCHOR_BOUNDS)
class AnchorEncoder(nn.Module):
    """g_a: image -> latent, first k channels, unit complex power.

    Shape: images (B, 3, H, W) in [0, 1] with H, W multiples of 8 (of 4 for this network alone); snr_db (B,);
    prefix (B,) integers in 1..c. Returns (B, c, H/4, W/4); channels from k on are zero.
    """

    architecture = "jscc-anchor-encoder"

    def __init__(self, config: AnchorConfig | None = None) -> None:
        super().__init__()
        self.config = config = config or AnchorConfig()
        width, kernel, inverse = config.width, config.kernel, config.encoder_gdn == "igdn"
        convolutions = (
            convolution(3, width, config.outer_kernel, stride=2),
            convolution(width, width, kernel, stride=2),
            *(convolution(width, width, kernel) for _ in range(config.blocks - 2)),
        )
        self.stages = nn.ModuleList(
            Stage(
                keep_variance(layer, PRELU_GAIN), width, inverse=inverse,
                gate=SnrAttention(width, config.attention_hidden, ceiling=1.0),
            )
            for layer in convolutions
        )
        self.head = keep_variance(convolution(width, config.latent_channels, kernel))
        self.head_gdn = GDN(config.latent_channels, inverse=inverse)

    def forward(self, images: Tensor, snr_db: Tensor, prefix: Tensor) -> Tensor:
        return normalise_power(self.analyse(images, snr_db, prefix), prefix)

    def analyse(self, images: Tensor, snr_db: Tensor, prefix: Tensor) -> Tensor:
        """The latent before truncation and power normalisation, (B, c, H/4, W/4)."""
        cond = condition(snr_db, prefix, self.config.latent_channels)
        x = images - 0.5
        for stage in self.stages:
            x = stage(x, cond)
        latent: Tensor = self.head_gdn(self.head(x))
        return latent
