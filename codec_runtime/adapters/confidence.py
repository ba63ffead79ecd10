"""How likely each label of a user is right, judged from the similarities within mini-batches.

A *pair* is a sample of one modality and the label given to it: a sample of another modality, or the user's
own SKB-aligned output. Before an epoch, the adapter computes for every mini-batch the matrix of cosine
similarities between samples and labels. A pair whose diagonal entry does not stand out has a high loss, and
the losses of an epoch are a mixture of two populations, right labels low and wrong ones high: networks fit
right labels first (Arpit et al. 2017; as a two-component mixture Arazo et al. 2019 and, for image-text
pairs, Huang et al. 2021).

Two populations are assumed only where they show, and where the worse one is bad: a label drawn at random
loses log B or more on average (Jensen), so a hump below half of that is of right labels that are hard,
however well it stands apart, unless the adapter has learned wrong labels by heart, which the consensus of
other users is there to find (:mod:`.rescoring`). Otherwise (few pairs, all losses alike, one hump) the
diagonal softmax probability against chance decides, pair by pair.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

TEMPERATURE = 0.07
"""Of the softmax over cosine similarities (Radford et al. 2021 start there)."""
MIXTURE_MINIMUM = 32
"""Pairs below which no mixture is fitted: five parameters need some evidence."""
SEPARATION = 2.0
"""Ashman's D from which two Gaussians count as separate (Ashman, Bird and Zepf 1994)."""

_ITERATIONS = 100
_TOLERANCE = 1e-6
_VARIANCE_FLOOR = 1e-3
"""Of the losses' own variance: a component must not collapse onto one pair."""


@dataclass(frozen=True)
class Mixture:
    """Two Gaussians over losses; ``clean`` has the lower mean.

    Attributes:
        clean_mean, clean_variance, noisy_mean, noisy_variance: of the components; variances > 0.
        clean_share: weight of the clean one, within (0, 1).
    """

    clean_mean: float
    clean_variance: float
    noisy_mean: float
    noisy_variance: float
    clean_share: float

    @property
    def separation(self) -> float:
        """Ashman's D: distance of the means in units of the root mean square width."""
        width = math.sqrt((self.clean_variance + self.noisy_variance) / 2.0)
        return (self.noisy_mean - self.clean_mean) / width


def pair_losses(similarity: Tensor, temperature: float = TEMPERATURE) -> Tensor:
    """Cross entropy of each pair against the others of its mini-batch, mean of both directions.

    Args:
        similarity: (B, B) cosine similarities, sample i in row i, label j in column j.
        temperature: of the softmax, > 0.

    Returns:
        (B,) float64 in nats, >= 0; log(B) is what chance gives.

    Raises:
        ValueError: not a square matrix, empty, not finite, or a temperature that is not positive.
    """
    if similarity.ndim != 2 or similarity.shape[0] != similarity.shape[1] or not similarity.numel():
        raise ValueError(
            f"similarities must be a square matrix of a mini-batch, got {tuple(similarity.shape)}"
        )
    _refuse_non_finite(similarity, "similarities")
    if not temperature > 0:
        raise ValueError(f"the temperature must be positive, got {temperature}")
    logits = similarity.detach().double() / temperature
    target = torch.arange(len(logits), device=logits.device)
    forth = functional.cross_entropy(logits, target, reduction="none")
    back = functional.cross_entropy(logits.T, target, reduction="none")
    return (forth + back) / 2.0


def fit_mixture(losses: Tensor) -> Mixture | None:
    """Two Gaussians by expectation-maximisation, started at the halves of the sorted losses.

    Args:
        losses: (N,) finite.

    Returns:
        None where the losses do not show two populations: fewer than :data:`MIXTURE_MINIMUM`, all alike,
        means nearer than :data:`SEPARATION`, or a component of less than one pair.

    Raises:
        ValueError: not a vector, or not finite.
    """
    values = _vector(losses)
    if len(values) < MIXTURE_MINIMUM:
        return None
    total = float(values.var(unbiased=False))
    if total <= (1e-6 * max(1.0, float(values.abs().max()))) ** 2:
        return None
    fitted = _expectation_maximisation(values, _VARIANCE_FLOOR * total)
    share = min(fitted.clean_share, 1.0 - fitted.clean_share)
    return fitted if fitted.separation >= SEPARATION and share * len(values) >= 1.0 else None


def probability_clean(losses: Tensor, mixture: Mixture) -> Tensor:
    """P(clean | loss), non-increasing in the loss.

    Beyond the two means the probability stays at that of the mean: the tails of two Gaussians of unequal
    width cross a second time, where a *lower* loss would count as noisier.

    Args:
        losses: (N,) finite.

    Returns:
        (N,) float32 in [0, 1].

    Raises:
        ValueError: not a vector, or not finite.
    """
    values = _vector(losses).clamp(mixture.clean_mean, mixture.noisy_mean)
    clean = _log_density(values, mixture.clean_mean, mixture.clean_variance, mixture.clean_share)
    noisy = _log_density(values, mixture.noisy_mean, mixture.noisy_variance, 1.0 - mixture.clean_share)
    return torch.sigmoid(clean - noisy).float()


def chance_confidence(losses: Tensor, batch: int) -> Tensor:
    """Diagonal softmax probability p against chance 1/B, as p / (p + 1/B).

    A pair that its mini-batch singles out no better than a draw would has confidence 0.5.

    Args:
        losses: (B,) from :func:`pair_losses`: p = exp(-loss).
        batch: B, size of the mini-batch; one of a single pair says nothing, and gives 0.5.

    Returns:
        (B,) float32 in [0, 1].
    """
    return torch.sigmoid(math.log(batch) - _vector(losses)).float()


def label_confidence(similarities: Sequence[Tensor], temperature: float = TEMPERATURE) -> Tensor:
    """Confidence in every pair of an epoch; one mixture over all its mini-batches.

    Args:
        similarities: one (B, B) matrix a mini-batch, in the order of the pairs; sizes may differ. The
            losses of each are measured against its own chance level, log(B).
        temperature: see :func:`pair_losses`.

    Returns:
        (N,) float32 in [0, 1], N the sum of the mini-batches' sizes.

    Raises:
        ValueError: no mini-batch, or one that :func:`pair_losses` refuses.
    """
    if not similarities:
        raise ValueError("no mini-batch to judge labels from")
    losses = [pair_losses(matrix, temperature) for matrix in similarities]
    chance = math.log(max(len(batch) for batch in losses))
    levelled = torch.cat([_levelled(batch, chance) for batch in losses])
    mixture = fit_mixture(levelled)
    if mixture is None or mixture.noisy_mean < chance / 2.0:
        return torch.cat([chance_confidence(batch, len(batch)) for batch in losses])
    return probability_clean(levelled, mixture)


def _levelled(losses: Tensor, chance: float) -> Tensor:
    """Losses of a mini-batch as if its chance level were ``chance``; a lone pair is at chance."""
    own = math.log(len(losses))
    return losses * (chance / own) if own > 0.0 else torch.full_like(losses, chance)


def _expectation_maximisation(values: Tensor, floor: float) -> Mixture:
    ordered = values.sort().values
    half = len(ordered) // 2
    halves = (ordered[:half], ordered[half:])
    means = torch.stack([part.mean() for part in halves])
    variances = torch.stack([part.var(unbiased=False) for part in halves]).clamp_min(floor)
    shares = torch.full((2,), 0.5, dtype=torch.float64)
    previous = -math.inf
    for _ in range(_ITERATIONS):
        joint = torch.stack(
            [_log_density(values, *(float(p[k]) for p in (means, variances, shares))) for k in (0, 1)]
        )
        evidence = torch.logsumexp(joint, dim=0)
        likelihood = float(evidence.mean())
        if likelihood - previous < _TOLERANCE:
            break
        previous = likelihood
        duty = torch.exp(joint - evidence)
        mass = duty.sum(dim=1).clamp_min(1e-9)
        means = (duty @ values) / mass
        variances = ((duty * (values - means[:, None]) ** 2).sum(dim=1) / mass).clamp_min(floor)
        shares = (mass / len(values)).clamp(1e-9, 1.0 - 1e-9)
    low, high = (0, 1) if means[0] <= means[1] else (1, 0)
    return Mixture(
        float(means[low]),
        float(variances[low]),
        float(means[high]),
        float(variances[high]),
        float(shares[low]),
    )


def _log_density(values: Tensor, mean: float, variance: float, share: float) -> Tensor:
    return math.log(share) - 0.5 * (math.log(2.0 * math.pi * variance) + (values - mean) ** 2 / variance)


def _vector(losses: Tensor) -> Tensor:
    if losses.ndim != 1:
        raise ValueError(f"losses must be a vector, got shape {tuple(losses.shape)}")
    _refuse_non_finite(losses, "losses")
    return losses.detach().double()


def _refuse_non_finite(values: Tensor, name: str) -> None:
    bad = int((~torch.isfinite(values)).sum())
    if bad:
        raise ValueError(f"{name} hold NaN or infinity ({bad} of {values.numel()} values)")
