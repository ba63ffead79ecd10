"""The fast family: one encoder for every rate and SNR, all of it at an eighth of the resolution.

    image --g_a--> latent (c channels, H/4 x W/4) --first k channels, unit power--> channel
          --g_s--> image

A photograph is folded into its 8x8 patches (192 channels); a conv - GDN - PReLU - AF stage and residual 3x3
blocks with AF follow at that one scale, where two CPU cores train a wide network faster than one that works
at a quarter or half of the resolution (docs/codec.md has the comparison). On request the blocks are modulated
by SNR and rate (FiLM), so that one network can be a different codec at each, and a *coarse branch* of wider
blocks at a sixteenth sees further; both start as the identity and can be added to trained weights. Beside the
network runs a *linear bypass* initialised with the PCA codec of :mod:`codec_runtime.codecs.linear`: training
starts at the linear floor and only improves on it.

The latent channels are ordered by importance (training truncates them at random, "nested dropout",
Rippel et al., ICML 2014): the first k channels of the same encoder are the code at bandwidth ratio k/96.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from codec_runtime.channel.symbols import normalise_power, prefix_mask
from codec_runtime.codecs.conditioning import CONDITION_FEATURES, Film, SnrAttention, condition
from codec_runtime.codecs.linear import PATCH, PATCH_DIMS, PatchPca, power_gains, to_patches
from codec_runtime.codecs.registration import TIERS, decoder, encoder
from codec_runtime.codecs.stages import Stage

BRANCH_SCALE = 0.1
"""A residual branch starts this small, so that a deep stack starts near the identity."""


@dataclass(frozen=True)
class FastConfig:
    """Hyper-parameters of one network of the family.

    Attributes:
        latent_channels: c; the longest prefix. c = 16 is bandwidth ratio 1/6. The same for an encoder and all
            its decoders.
        width: channels of the network.
        blocks: residual blocks behind the first stage.
        film_hidden: hidden units of the modulation of each block; 0: none.
        coarse_width, coarse_blocks: of the branch at a sixteenth of the resolution, behind the middle block;
            no blocks: no branch.
        tier: name of the compute tier that ``width`` and ``blocks`` of a decoder belong to; a label.
    """

    latent_channels: int = 16
    width: int = 96
    blocks: int = 7
    film_hidden: int = 0
    coarse_width: int = 192
    coarse_blocks: int = 0
    tier: str = "medium"

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


FAST_BOUNDS: dict[str, range | tuple[str, ...]] = {
    "latent_channels": range(1, 97),
    "width": range(1, 513),
    "blocks": range(17),
    "film_hidden": range(513),
    "coarse_width": range(1, 1025),
    "coarse_blocks": range(17),
    "tier": TIERS,
}


def silence(layer: nn.Conv2d | nn.ConvTranspose2d | nn.Linear) -> None:
    """Start a layer at zero, so that what runs beside it decides first."""
    nn.init.zeros_(layer.weight)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)


class AttentionBlock(nn.Module):
    """x + AF(conv(PReLU(FiLM(conv(x))))), 3x3, same width; without FiLM where ``film_hidden`` is 0."""

    def __init__(self, channels: int, film_hidden: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.film = Film(channels, film_hidden) if film_hidden else None
        self.act = nn.PReLU(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)
        self.gate = SnrAttention(channels)
        with torch.no_grad():
            self.conv2.weight.mul_(BRANCH_SCALE)

    def forward(self, x: Tensor, cond: Tensor) -> Tensor:
        hidden = self.conv1(x)
        if self.film is not None:
            hidden = self.film(hidden, cond)
        out: Tensor = x + self.gate(self.conv2(self.act(hidden)), cond)
        return out


class CoarseBranch(nn.Module):
    """x + up(blocks(down(x))), the blocks at half the resolution of x; starts as the identity.

    Sides need not be even: down rounds up, up crops.
    """

    starts_as_identity = True

    def __init__(self, channels: int, config: FastConfig) -> None:
        super().__init__()
        width = config.coarse_width
        self.down = nn.Conv2d(channels, width, 3, stride=2, padding=1)
        self.blocks = nn.ModuleList(
            AttentionBlock(width, config.film_hidden) for _ in range(config.coarse_blocks)
        )
        self.up = nn.Conv2d(width, 4 * channels, 1)
        silence(self.up)

    def forward(self, x: Tensor, cond: Tensor) -> Tensor:
        coarse = self.down(x)
        for block in self.blocks:
            coarse = block(coarse, cond)
        out: Tensor = x + F.pixel_shuffle(self.up(coarse), 2)[:, :, : x.shape[2], : x.shape[3]]
        return out


class CoarseBlock(AttentionBlock):
    """An attention block with the coarse branch behind it: its other parameters keep their names."""

    def __init__(self, channels: int, config: FastConfig) -> None:
        super().__init__(channels, config.film_hidden)
        self.coarse = CoarseBranch(channels, config)

    def forward(self, x: Tensor, cond: Tensor) -> Tensor:
        out: Tensor = self.coarse(super().forward(x, cond), cond)
        return out


def attention_trunk(first: nn.Module, config: FastConfig) -> nn.ModuleList:
    """The first stage and the blocks, the coarse branch behind the middle one."""
    middle = config.blocks // 2 if config.coarse_blocks else -1
    return nn.ModuleList((first, *(
        CoarseBlock(config.width, config)
        if index == middle
        else AttentionBlock(config.width, config.film_hidden)
        for index in range(config.blocks)
    )))


class LinearBypass(nn.Module):
    """1x1 map between 8x8 patches and latent channels with condition-dependent gains in (0, 2)."""

    def __init__(self, inputs: int, outputs: int, gated: int) -> None:
        super().__init__()
        self.map = nn.Conv2d(inputs, outputs, 1)
        self.fc1 = nn.Linear(CONDITION_FEATURES, 32)
        self.fc2 = nn.Linear(32, gated)
        silence(self.fc2)

    @torch.no_grad()
    def set_map(self, weight: Tensor, bias: Tensor) -> None:
        """weight (outputs, inputs), bias (outputs,)."""
        self.map.weight.copy_(weight[:, :, None, None])
        assert self.map.bias is not None
        self.map.bias.copy_(bias)

    def gains(self, cond: Tensor) -> Tensor:
        return 2.0 * torch.sigmoid(self.fc2(torch.tanh(self.fc1(cond))))[:, :, None, None]


@encoder(FastConfig, FAST_BOUNDS)
class FastEncoder(nn.Module):
    """g_a: image -> latent, first k channels, unit complex power.

    Shape: images (B, 3, H, W) in [0, 1] with H, W multiples of 8; snr_db (B,); prefix (B,) integers in
    1..c. Returns (B, c, H/4, W/4); channels from k on are zero.
    """

    architecture = "jscc-fast-encoder"

    def __init__(self, config: FastConfig | None = None) -> None:
        super().__init__()
        self.config = config = config or FastConfig()
        width, folded = config.width, 4 * config.latent_channels
        first = Stage(nn.Conv2d(PATCH_DIMS, width, 1), width, inverse=False, gate=SnrAttention(width))
        self.stages = attention_trunk(first, config)
        self.head = nn.Conv2d(width, folded, 3, padding=1)
        self.bypass = LinearBypass(PATCH_DIMS, folded, folded)
        silence(self.head)

    def forward(self, images: Tensor, snr_db: Tensor, prefix: Tensor) -> Tensor:
        return normalise_power(self.analyse(images, snr_db, prefix), prefix)

    def analyse(self, images: Tensor, snr_db: Tensor, prefix: Tensor) -> Tensor:
        """The latent before truncation and power normalisation, (B, c, H/4, W/4)."""
        cond = condition(snr_db, prefix, self.config.latent_channels)
        patches = to_patches(images)
        x = patches - 0.5
        for stage in self.stages:
            x = stage(x, cond)
        linear = self.bypass.map(patches) * self.bypass.gains(cond)
        return F.pixel_shuffle(linear + self.head(x), 2)

    def start_from_pca(self, pca: PatchPca) -> None:
        """Set the bypass to the power-allocated PCA encoder (needs 4c components)."""
        gains = power_gains(pca.variances)
        weight = (pca.components * gains).T
        self.bypass.set_map(weight, -(weight @ pca.mean))


class FastDecoder(nn.Module):
    """What the decoders of the family share: the bypass, the fold, the clamp-free output in about [0, 1].

    Shape: received (B, c, H/4, W/4), ignored beyond the prefix; snr_db (B,); prefix (B,).
    Returns (B, 3, H, W).
    """

    architecture = ""

    def __init__(self, config: FastConfig | None = None) -> None:
        super().__init__()
        self.config = config = config or FastConfig()
        folded = 4 * config.latent_channels
        self.bypass = LinearBypass(folded, PATCH_DIMS, folded)
        self.stages, self.tail = self._network(folded)
        silence(self.tail)

    def _network(self, folded: int) -> tuple[nn.ModuleList, nn.Conv2d | nn.ConvTranspose2d]:
        """Stages ``(x, cond) -> x`` from ``folded`` channels on; the tail to the 192 of a patch."""
        raise NotImplementedError

    def forward(self, received: Tensor, snr_db: Tensor, prefix: Tensor) -> Tensor:
        cond = condition(snr_db, prefix, self.config.latent_channels)
        received = received * prefix_mask(prefix, self.config.latent_channels)
        x = folded = F.pixel_unshuffle(received, 2)
        for stage in self.stages:
            x = stage(x, cond)
        linear = self.bypass.map(folded * self.bypass.gains(cond))
        return F.pixel_shuffle(linear + self.tail(x), PATCH)

    def start_from_pca(self, pca: PatchPca) -> None:
        """Set the bypass to the inverse of the power-allocated PCA encoder."""
        gains = power_gains(pca.variances)
        scale = 2.0**0.5  # unit complex power is 1/2 per real value
        self.bypass.set_map(pca.components / gains * scale, pca.mean)


@decoder(FastConfig, FAST_BOUNDS)
class FastAttentionDecoder(FastDecoder):
    """Mirror of the encoder: one IGDN stage with AF, then residual blocks with AF."""

    architecture = "jscc-fast-attention"

    def _network(self, folded: int) -> tuple[nn.ModuleList, nn.Conv2d]:
        width = self.config.width
        conv = nn.Conv2d(folded, width, 3, padding=1)
        first = Stage(conv, width, inverse=True, gate=SnrAttention(width))
        return attention_trunk(first, self.config), nn.Conv2d(width, PATCH_DIMS, 1)
