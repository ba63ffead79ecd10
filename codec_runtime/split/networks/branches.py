"""Small networks for what a splitter must not get wrong: a chain, and branches with skips across cuts."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Chain(nn.Sequential):
    """Pictures (N, 3, H, W) -> logits (N, classes): eight operations in a row."""

    def __init__(self, width: int = 8, classes: int = 10) -> None:
        super().__init__(
            nn.Conv2d(3, width, 3, 2, padding=1), nn.ReLU(), nn.Conv2d(width, 2 * width, 3, 2, padding=1),
            nn.BatchNorm2d(2 * width), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
            nn.Linear(2 * width, classes),
        )


class Branches(nn.Module):
    """Pictures (N, 3, H, W) -> logits (N, classes), with all that makes a cut hard.

    A stem read four times; three parallel branches of unlike length, joined by concatenation; a long skip
    from the stem past the join; a split in two halves that go different ways; an in-place activation.
    """

    def __init__(self, width: int = 16, classes: int = 10) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, width, 3, 2, padding=1), nn.BatchNorm2d(width), nn.ReLU())
        self.short = nn.Conv2d(width, width, 1)
        self.middle = nn.Sequential(nn.Conv2d(width, width, 3, padding=1), nn.ReLU(inplace=True))
        self.long = nn.Sequential(
            nn.Conv2d(width, width, 3, padding=1, groups=width), nn.ReLU(), nn.Conv2d(width, width, 1),
            nn.Sigmoid(),
        )
        self.join = nn.Conv2d(3 * width, 2 * width, 1)
        self.gate = nn.Conv2d(width, width, 1)
        self.classifier = nn.Linear(width, classes)

    def forward(self, pictures: Tensor) -> Tensor:
        stem = self.stem(pictures)
        joined = self.join(torch.cat([self.short(stem), self.middle(stem), self.long(stem)], 1))
        left, right = joined.chunk(2, 1)
        features = stem + left * self.gate(right).sigmoid()
        logits: Tensor = self.classifier(features.mean((2, 3)))
        return logits
