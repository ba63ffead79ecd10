"""How the channel state enters the networks: SNR attention (AF) and the lighter SNR gate.

AF follows Xu et al., "Wireless Image Transmission Using Deep Source Channel Coding With Attention
Modules" (TCSVT 2022) as used by the seed paper's encoder: global average pool, concatenated with the
SNR, FC - ReLU - FC - sigmoid, channel-wise scale. Here the rate (prefix length / latent channels) is a
second conditioning input, since one encoder serves every rate.

The scale is ``ceiling`` times the sigmoid. A ceiling of 1 is the papers' form, which can only attenuate: it
starts nearly open, so that a deep stack lets the signal through. A ceiling of 2 starts at about 1 and can
amplify as well.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

SNR_SCALE_DB = 10.0
"""SNR in dB is divided by this before it meets pooled features of order one."""

CONDITION_FEATURES = 2

OPEN = 2.0
"""Initial bias of a sigmoid that is to start nearly open: sigmoid(2) = 0.88."""


def condition(snr_db: Tensor, prefix: Tensor, latent_channels: int) -> Tensor:
    """Conditioning vector of each image.

    Args:
        snr_db: (B,) SNR per complex symbol in dB.
        prefix: (B,) number of latent channels sent, 1..latent_channels.
        latent_channels: c, the length of the whole latent.

    Returns:
        (B, 2) float tensor: SNR / 10 dB, prefix / c.
    """
    return torch.stack((snr_db / SNR_SCALE_DB, prefix.to(snr_db.dtype) / latent_channels), dim=1)


def _start_open(layer: nn.Linear, ceiling: float) -> None:
    if ceiling == 1.0:
        nn.init.constant_(layer.bias, OPEN)


class SnrAttention(nn.Module):
    """AF module: (B, C, H, W), (B, 2) -> (B, C, H, W) scaled channel-wise by values in (0, ceiling)."""

    def __init__(self, channels: int, hidden: int = 16, *, ceiling: float = 2.0) -> None:
        super().__init__()
        self.ceiling = ceiling
        self.fc1 = nn.Linear(channels + CONDITION_FEATURES, hidden)
        self.fc2 = nn.Linear(hidden, channels)
        _start_open(self.fc2, ceiling)

    def forward(self, x: Tensor, cond: Tensor) -> Tensor:
        pooled = x.mean(dim=(2, 3))
        scale = torch.sigmoid(self.fc2(torch.relu(self.fc1(torch.cat((pooled, cond), dim=1)))))
        return x * (self.ceiling * scale)[:, :, None, None]


class SnrGate(nn.Module):
    """Light gate: one FC on the condition alone, sigmoid, channel-wise scale in (0, ceiling); no pooling."""

    def __init__(self, channels: int, *, ceiling: float = 2.0) -> None:
        super().__init__()
        self.ceiling = ceiling
        self.fc = nn.Linear(CONDITION_FEATURES, channels)
        _start_open(self.fc, ceiling)

    def forward(self, x: Tensor, cond: Tensor) -> Tensor:
        return x * (self.ceiling * torch.sigmoid(self.fc(cond)))[:, :, None, None]


class Film(nn.Module):
    """Channel-wise scale and shift computed from the condition alone (Perez et al., "FiLM", AAAI 2018).

    (B, C, H, W), (B, 2) -> (B, C, H, W). Starts as the identity.
    """

    starts_as_identity = True

    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(CONDITION_FEATURES, hidden)
        self.fc2 = nn.Linear(hidden, 2 * channels)
        nn.init.zeros_(self.fc2.weight)
        nn.init.zeros_(self.fc2.bias)

    def forward(self, x: Tensor, cond: Tensor) -> Tensor:
        scale, shift = self.fc2(torch.tanh(self.fc1(cond)))[:, :, None, None].chunk(2, dim=1)
        out: Tensor = x * (1.0 + scale) + shift
        return out
