"""What malicious or broken users do; for tests and experiments, never served.

``flipped_labels`` goes for the labels, the others for the update. Sources: label flip Biggio et al. 2012,
sign flip Li et al. 2019 (RSA), scaled update Bagdasaryan et al. 2020 (model replacement).
"""

from __future__ import annotations

import torch
from torch import Tensor

from codec_runtime.adapters.aggregation import Weights, flattened, unflattened


def flipped_labels(pairs: int, share: float, seed: int) -> Tensor:
    """Which label each sample gets: a share of them pass labels around, none of those keeps its own.

    Args:
        pairs: N.
        share: of the pairs with a wrong label, in [0, 1]; a single pair cannot be wrong, so it stays right.

    Returns:
        (N,) int64, a permutation: sample i is paired with label result[i].
    """
    if not 0.0 <= share <= 1.0:
        raise ValueError(f"share must be in [0, 1], got {share}")
    order = torch.randperm(pairs, generator=torch.Generator().manual_seed(seed))
    wrong = order[: round(share * pairs)]
    labels = torch.arange(pairs)
    if len(wrong) > 1:
        labels[wrong] = wrong.roll(1)
    return labels


def sign_flipped(reference: Weights, update: Weights, strength: float = 1.0) -> Weights:
    """A step of ``strength`` times the honest one, in the opposite direction."""
    return scaled(reference, update, -strength)


def scaled(reference: Weights, update: Weights, factor: float) -> Weights:
    """A step of ``factor`` times the honest one: one of n that replaces the mean takes a factor of n."""
    start = flattened(reference)
    return unflattened(start + factor * (flattened(update) - start), reference)
