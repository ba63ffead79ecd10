"""How the channel state enters the networks: SNR attention (AF) and the lighter SNR gate.

AF follows Xu et al., "Wireless Image Transmission Using Deep Source Channel Coding With Attention
Modules" (TCSVT 2022) as used by the seed paper's encoder: global average pool, concatenated with the
SNR, FC - ReLU - FC - sigmoid, channel-wise scale. Here the rate (prefix length / latent channels) is a
second conditioning input, since one encoder serves every rate.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

SNR_SCALE_DB = 10.0
"""SNR in dB is divided by this before it meets pooled features of order one."""

CONDITION_FEATURES = 2


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


class SnrAttention(nn.Module):
    """AF module: (B, C, H, W), (B, 2) -> (B, C, H, W) scaled channel-wise by values in (0, 2)."""

    def __init__(self, channels: int, hidden: int = 16) -> None:
        super().__init__()
        self.fc1 = nn.Linear(channels + CONDITION_FEATURES, hidden)
        self.fc2 = nn.Linear(hidden, channels)

    def forward(self, x: Tensor, cond: Tensor) -> Tensor:
        pooled = x.mean(dim=(2, 3))
        scale = torch.sigmoid(self.fc2(torch.relu(self.fc1(torch.cat((pooled, cond), dim=1)))))
        return x * (2.0 * scale)[:, :, None, None]


class SnrGate(nn.Module):
    """Light gate: one FC on the condition alone, sigmoid, channel-wise scale; no pooling."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.fc = nn.Linear(CONDITION_FEATURES, channels)

    def forward(self, x: Tensor, cond: Tensor) -> Tensor:
        return x * (2.0 * torch.sigmoid(self.fc(cond)))[:, :, None, None]
