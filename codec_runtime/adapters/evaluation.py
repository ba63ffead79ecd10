"""Retrieval between two modalities: recall at 1, 5 and 10 both ways, and their sum RSUM (0..600)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass

import torch
from torch import Tensor

RANKS = (1, 5, 10)


@dataclass(frozen=True)
class Retrieval:
    """Recalls in per cent, 0..100: queries whose first k answers hold a true one."""

    image_to_text_1: float
    image_to_text_5: float
    image_to_text_10: float
    text_to_image_1: float
    text_to_image_5: float
    text_to_image_10: float

    @property
    def rsum(self) -> float:
        """Sum of the six recalls, 0..600."""
        return float(sum(asdict(self).values()))

    def as_dict(self) -> dict[str, float]:
        """The recalls and ``rsum``."""
        return {**asdict(self), "rsum": self.rsum}


def recalls(similarity: Tensor, true: Tensor) -> list[float]:
    """Recall at :data:`RANKS` of the rows, per cent.

    Args:
        similarity: (Q, A) of queries and answers; true: (Q, A) bool, one True or more in each row.

    An answer as similar as the best true one counts before it: constant embeddings score as chance or worse.
    """
    best = similarity.masked_fill(~true, float("-inf")).amax(1, keepdim=True)
    before = ((similarity >= best) & ~true).sum(1)
    return [100.0 * float((before < rank).float().mean()) for rank in RANKS]


def retrieval(images: Tensor, texts: Tensor, owner: Tensor) -> Retrieval:
    """Recalls of embeddings of unit norm.

    Args:
        images: (N, d); texts: (M, d); owner: (M,) the image that a text describes.

    Raises:
        ValueError: an image without a text, or a text of an image that is not there.
    """
    true = torch.arange(len(images))[:, None] == owner[None]
    if not bool(true.any(1).all()) or not bool(true.any(0).all()):
        raise ValueError("each image needs a text, and each text an image, among those compared")
    similarity = images @ texts.t()
    return Retrieval(*recalls(similarity, true), *recalls(similarity.t(), true.t()))


@dataclass(frozen=True)
class Fairness:
    """RSUM over users: mean, the worst user's, and who that is."""

    mean: float
    worst: float
    worst_user: str


def fairness(users: Mapping[str, Retrieval]) -> Fairness:
    """Summary over users; of equals the first by name is the worst.

    Raises:
        ValueError: no user.
    """
    if not users:
        raise ValueError("no user was measured")
    worst = min(sorted(users), key=lambda name: users[name].rsum)
    return Fairness(sum(user.rsum for user in users.values()) / len(users), users[worst].rsum, worst)
