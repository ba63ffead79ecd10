"""A small vision transformer (Dosovitskiy et al., "An Image is Worth 16x16 Words", ICLR 2021), random.

The default is the published ViT-Ti/16: width 192, 12 layers, 3 heads.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional


class EncoderLayer(nn.Module):
    """Tokens (N, L, width) -> the same, with attention and a two-layer perceptron, each beside a skip."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm1 = nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width)
        self.projection = nn.Linear(width, width)
        self.norm2 = nn.LayerNorm(width)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, tokens: Tensor) -> Tensor:
        batch, length, width = tokens.shape
        parts = self.qkv(self.norm1(tokens)).view(batch, length, 3, self.heads, width // self.heads)
        query, key, value = parts.permute(2, 0, 3, 1, 4).unbind(0)
        mixed = functional.scaled_dot_product_attention(query, key, value)
        tokens = tokens + self.projection(mixed.transpose(1, 2).reshape(batch, length, width))
        joined: Tensor = tokens + self.mlp(self.norm2(tokens))
        return joined


class VisionTransformer(nn.Module):
    """Pictures (N, 3, size, size) -> logits (N, classes)."""

    def __init__(
        self, size: int = 224, patch: int = 16, width: int = 192, layers: int = 12, heads: int = 3,
        classes: int = 1000,
    ) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, width, patch, patch)
        self.class_token = nn.Parameter(0.02 * torch.randn(1, 1, width))
        self.positions = nn.Parameter(0.02 * torch.randn(1, 1 + (size // patch) ** 2, width))
        self.layers = nn.Sequential(*(EncoderLayer(width, heads) for _ in range(layers)))
        self.norm = nn.LayerNorm(width)
        self.classifier = nn.Linear(width, classes)

    def forward(self, pictures: Tensor) -> Tensor:
        patches = self.patches(pictures).flatten(2).transpose(1, 2)
        tokens = torch.cat([self.class_token.expand(len(patches), -1, -1), patches], 1) + self.positions
        logits: Tensor = self.classifier(self.norm(self.layers(tokens))[:, 0])
        return logits
