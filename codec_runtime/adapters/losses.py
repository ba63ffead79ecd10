"""What the adapter is trained on: a triplet loss of pairs, and their agreement in the knowledge base.

All losses come per pair, (B,), before any mean: label confidence is estimated from them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

Negatives = Literal["hardest", "mean"]
Agreement = Literal["text", "pair", "own", "none"]


@dataclass(frozen=True)
class LossConfig:
    """The seed gives margin, regularisation weight and the loss's kind; the rest it leaves open.

    Attributes:
        margin: of the triplet loss, in cosine.
        negatives: the hardest of the batch, or the mean over all of it.
        regularisation: factor on the agreement.
        agreement: ``text``: the first of a pair assigns itself to the prototypes as the second does, whose
            space the prototypes are of and which is not moved; ``pair``: each as the other; ``own``: each as
            its own hard assignment; ``none``. Pulling both halves of all pairs to one prototype satisfies
            ``pair`` and ``own``, and training can end there (docs/adapter.md).
        temperature: of the assignments' softmax, in cosine.
    """

    margin: float = 0.2
    negatives: Negatives = "hardest"
    regularisation: float = 1.0
    agreement: Agreement = "text"
    temperature: float = 0.1


@dataclass(frozen=True)
class PairLoss:
    """Losses of a batch of B pairs, each (B,)."""

    triplet: Tensor
    agreement: Tensor
    total: Tensor

    def mean(self, kept: Tensor | None = None) -> Tensor:
        """The batch's loss: the mean over the pairs weighted by ``kept`` (B,); 0 if all weights are."""
        if kept is None:
            return self.total.mean()
        return (self.total * kept).sum() / kept.sum().clamp_min(1e-12)


def same_owner(owners: Tensor) -> Tensor:
    """(B, B) True where two pairs belong to the same picture: no negatives of one another."""
    return owners[:, None] == owners[None]


def triplet_losses(
    similarity: Tensor, same: Tensor, margin: float, negatives: Negatives = "hardest"
) -> Tensor:
    """Hinge losses of both directions, summed (Faghri et al., "VSE++", BMVC 2018).

    l_i = max_j [m + s_ij - s_ii]+ + max_j [m + s_ji - s_ii]+ over j that are no pair of i.

    Args:
        similarity: (B, B), row: first modality, column: second; pairs on the diagonal.
        same: (B, B) True where j is no negative of i, the diagonal among them.

    Returns:
        (B,) in 0..2 (2 + margin); 0 where the batch holds no negative.
    """
    own = similarity.diagonal()
    across = (margin + similarity - own[:, None]).clamp_min(0.0).masked_fill(same, 0.0)
    down = (margin + similarity - own[None]).clamp_min(0.0).masked_fill(same, 0.0)
    if negatives == "hardest":
        return across.amax(1) + down.amax(0)
    count = (~same).sum(1).clamp_min(1)
    return across.sum(1) / count + down.sum(0) / count


def assignments(pooled: Tensor, prototypes: Tensor, temperature: float) -> Tensor:
    """Log probabilities (B, K) of the prototypes: log softmax of cosine / temperature."""
    return torch.log_softmax(pooled @ prototypes.t() / temperature, dim=1)


def agreement_losses(
    first: Tensor, second: Tensor, prototypes: Tensor, kind: Agreement, temperature: float
) -> Tensor:
    """How far a pair disagrees about the prototypes, (B,) in nats.

    ``text``: the Kullback-Leibler divergence of the first's assignment from the second's, which is given as a
    provisional label, without gradient. ``pair``: its symmetric form, halved. ``own``: the cross entropy of
    each with its own nearest prototype, averaged over the two.
    """
    if kind == "none":
        return first.new_zeros(len(first))
    p, q = assignments(first, prototypes, temperature), assignments(second, prototypes, temperature)
    if kind == "text":
        return (q.detach().exp() * (q.detach() - p)).sum(1)
    if kind == "own":
        return -0.5 * (p.amax(1) + q.amax(1))
    return 0.5 * ((p.exp() - q.exp()) * (p - q)).sum(1)


def pair_losses(
    first: Tensor, second: Tensor, owners: Tensor, prototypes: Tensor, config: LossConfig
) -> PairLoss:
    """Losses of B pairs.

    Args:
        first, second: pooled embeddings (B, d) of unit norm; row i of both is the pair i.
        owners: (B,) the picture that a pair belongs to.
        prototypes: (K, d) of unit norm.
    """
    similarity = F.normalize(first, dim=1) @ F.normalize(second, dim=1).t()
    triplet = triplet_losses(similarity, same_owner(owners), config.margin, config.negatives)
    agreement = agreement_losses(first, second, prototypes, config.agreement, config.temperature)
    return PairLoss(triplet, agreement, triplet + config.regularisation * agreement)
