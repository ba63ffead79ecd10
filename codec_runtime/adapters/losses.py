"""What the adapter is trained on: a triplet loss of pairs, and their agreement in the knowledge base.

All losses come per pair, (B,), before any mean: label confidence is estimated from them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

Negatives = Literal["hardest", "mean", "soft"]
Agreement = Literal["text", "pair", "own", "none"]


@dataclass(frozen=True)
class LossConfig:
    """The seed gives margin, regularisation weight and the loss's kind; the rest it leaves open.

    Attributes:
        margin: of the triplet loss, in cosine.
        negatives: the hardest of the batch, the mean over all of it, or all of it by a soft maximum.
        softness: of the soft maximum, in cosine.
        regularisation: factor on the agreement.
        agreement: ``text``: the first of a pair assigns itself to the prototypes as the second does, whose
            space the prototypes are of and which is not moved; ``pair``: each as the other; ``own``: each as
            its own hard assignment; ``none``. Pulling both halves of all pairs to one prototype satisfies
            ``pair`` and ``own``, and training can end there (docs/adapter.md).
        temperature: of the assignments' softmax, in cosine.
    """

    margin: float = 0.2
    negatives: Negatives = "hardest"
    softness: float = 0.1
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
    similarity: Tensor, same: Tensor, margin: float, negatives: Negatives = "hardest", softness: float = 0.1
) -> Tensor:
    """Hinge losses of both directions, summed (Faghri et al., "VSE++", BMVC 2018).

    l_i = max_j [m + s_ij - s_ii]+ + max_j [m + s_ji - s_ii]+ over j that are no pair of i.
    ``soft``: instead of each maximum log(1 + sum_j exp((m + s_ij - s_ii) / T)), T = ``softness``, in nats:
    the same hinge rounded off, which is the cross entropy of a softmax with margin (Wang et al., "Additive
    margin softmax", 2018). A near duplicate, or one wrongly called a negative, then weighs as one among all.

    Args:
        similarity: (B, B), row: first modality, column: second; pairs on the diagonal.
        same: (B, B) True where j is no negative of i, the diagonal among them.

    Returns:
        (B,) in 0..2 (2 + margin), of ``soft`` without an upper bound; 0 where the batch holds no negative.
    """
    own = similarity.diagonal()
    if negatives == "soft":
        return _soft_hinge(similarity - own[:, None], same, margin, softness) + _soft_hinge(
            similarity.t() - own[:, None], same, margin, softness
        )
    across = (margin + similarity - own[:, None]).clamp_min(0.0).masked_fill(same, 0.0)
    down = (margin + similarity - own[None]).clamp_min(0.0).masked_fill(same, 0.0)
    if negatives == "hardest":
        return across.amax(1) + down.amax(0)
    count = (~same).sum(1).clamp_min(1)
    return across.sum(1) / count + down.sum(0) / count


def _soft_hinge(excess: Tensor, same: Tensor, margin: float, softness: float) -> Tensor:
    scaled = ((margin + excess) / softness).masked_fill(same, float("-inf"))
    return torch.logsumexp(torch.cat((scaled, scaled.new_zeros(len(scaled), 1)), dim=1), dim=1)


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
    triplet = triplet_losses(similarity, same_owner(owners), config.margin, config.negatives, config.softness)
    agreement = agreement_losses(first, second, prototypes, config.agreement, config.temperature)
    return PairLoss(triplet, agreement, triplet + config.regularisation * agreement)
