"""Network of the small text encoder: hashed word embeddings and one convolution.

    ids --> embedding --+--conv over 3 words, ReLU, linear--+--> linear --> tokens
                        +-----------------------------------+
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn

from codec_runtime.codecs.registration import text_encoder


@dataclass(frozen=True)
class TextBagConfig:
    """Attributes: buckets: word hashes; width: of embeddings and convolution; features: of a token."""

    buckets: int = 8192
    width: int = 128
    features: int = 384

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


@text_encoder(
    TextBagConfig, {"buckets": range(2, 65537), "width": range(1, 1025), "features": range(1, 2049)}
)
class TextBag(nn.Module):
    """Bucket ids (B, T), 0 where there is no word, to tokens (B, T, features)."""

    architecture = "text-bag-cnn"

    def __init__(self, config: TextBagConfig) -> None:
        super().__init__()
        self.config = config
        self.embedding = nn.Embedding(config.buckets, config.width, padding_idx=0)
        self.convolution = nn.Conv1d(config.width, config.width, 3, padding=1)
        self.mixing = nn.Linear(config.width, config.width)
        self.out = nn.Linear(config.width, config.features)

    def forward(self, ids: Tensor) -> Tensor:
        words = self.embedding(ids)
        around = torch.relu(self.convolution(words.transpose(1, 2))).transpose(1, 2)
        tokens: Tensor = self.out(words + self.mixing(around))
        return tokens * (ids > 0)[..., None]
