"""Provisional labels: which of a user's own samples each of its labels belongs to, by three witnesses.

A *pair* is a label (a sentence) said to belong to a sample (a picture). For a user with P samples and N
labels the posterior q of label n over the samples p is

    log q_n(p) = log y_n(p) + log softmax_p(s_np / T) + v log(sum_m k_nm q_m(p) + e) + b_p

- y, *what is said*: the share of right labels on the sample given, the rest spread evenly. A label is right,
  and then the sample given is drawn as the other witnesses have it, or it is wrong and drawn at random: a
  mixture of two components whose share is estimated by expectation-maximisation, from the mean confidence of
  :mod:`.confidence` on. Where nothing speaks against the samples given the share goes to one, and q with it.
- s, *what the adapter sees*: cosines of labels and samples (T = :data:`TEMPERATURE`).
- k, *what its kin is said to be*: labels that mean the same, by a kernel of frozen encoders' features
  (:func:`kinship`). Sentences of one picture resemble one another, whatever an adapter has learned, and wrong
  labels do not agree with each other (k-nearest-neighbour label noise filters; Iscen et al., CVPR 2022).
- b makes every sample keep the number of labels that it is given (Asano et al., "Self-labelling", ICLR 2020).

Two rounds of votes: more make kin agree among itself and grow too sure.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from codec_runtime.adapters.tokens import Tokens
from codec_runtime.adapters.views import SampleTokens, views_of

TEMPERATURE = 0.15
"""Of the softmax over cosines: higher than the loss's, as witnesses are not independent."""
KIN = 8
"""Labels that vote on one."""
KIN_LEAST = 0.3
"""Cosine, of features less their mean, from which two labels are kin."""
VOTE_WEIGHT = 1.5
VOTE_FLOOR = 0.02
ROUNDS = 2
ESTIMATES = 10
"""Times that the share of right labels is estimated."""
_BALANCINGS = 5
_SHARES = (0.05, 0.98)


@dataclass(frozen=True)
class Judgement:
    """What a model thinks of a user's N pairs.

    Attributes:
        confidence: (N,) in [0, 1], that the label belongs to the sample given.
        partner: (N,) the sample that it most likely belongs to.
        certainty: (N,) in [0, 1], that it belongs to ``partner``.
    """

    confidence: Tensor
    partner: Tensor
    certainty: Tensor


@torch.no_grad()
def kinship(labels: SampleTokens) -> Tensor:
    """How much labels vote on one another, from their frozen encoders' features alone.

    Returns:
        (N, N), zero on the diagonal; a row sums to 1, or to 0 for a label without kin.
    """
    features = [_centred(part) for part in views_of(labels)]
    cosines = torch.stack([own @ own.t() for own in features]).mean(0)
    weights = (cosines - KIN_LEAST).clamp_min(0.0).square().fill_diagonal_(0.0)
    heaviest, places = weights.topk(min(KIN, len(weights)), dim=1)
    kept = torch.zeros_like(weights).scatter_(1, places, heaviest)
    return kept / kept.sum(1, keepdim=True).clamp_min(1e-12)


def _centred(tokens: Tokens) -> Tensor:
    """(N, F) mean tokens, of unit norm and less their own mean, of unit norm again."""
    mask = tokens.mask[..., None].float()
    means = F.normalize((tokens.values.float() * mask).sum(1) / mask.sum(1), dim=1)
    return F.normalize(means - means.mean(0), dim=1)


def provisional_labels(similarity: Tensor, given: Tensor, kin: Tensor, share: float) -> Judgement:
    """The posterior's verdict on every label.

    Args:
        similarity: (N, P) cosines of labels and samples.
        given: (N,) sample that each label is said to belong to.
        kin: (N, N) of :func:`kinship`.
        share: of right labels, a first guess in [0, 1].
    """
    count = torch.bincount(given, minlength=similarity.shape[1]).double()
    seen = torch.log_softmax(similarity.detach().double() / TEMPERATURE, dim=1)
    said = F.one_hot(given, similarity.shape[1]).double()
    chance = 1.0 / similarity.shape[1]

    def witnessed(of_kin: Tensor) -> Tensor:
        return seen + VOTE_WEIGHT * (kin.double() @ of_kin + VOTE_FLOOR).log()

    share = min(max(share, _SHARES[0]), _SHARES[1])
    for _ in range(ESTIMATES):
        # Without what is said of a label itself: it cannot be its own witness.
        others = _balanced(witnessed(share * said + (1.0 - share) * chance), count)
        right = share * others.gather(1, given[:, None])
        share = float((right / (right + (1.0 - share) * chance)).mean())
        share = min(max(share, _SHARES[0]), _SHARES[1])
    prior = share * said + (1.0 - share) * chance
    posterior = prior
    for _ in range(ROUNDS):
        posterior = _balanced(prior.log() + witnessed(posterior), count)
    certainty, partner = posterior.max(1)
    confidence = posterior.gather(1, given[:, None])[:, 0]
    return Judgement(confidence.float().clamp(0.0, 1.0), partner, certainty.float().clamp(0.0, 1.0))


def _balanced(logits: Tensor, count: Tensor) -> Tensor:
    """Softmax over samples with a bias each, so that samples get about the ``count`` labels that they had."""
    bias = torch.zeros_like(count)
    for _ in range(_BALANCINGS):
        got = torch.softmax(logits + bias, dim=1).sum(0)
        bias = bias + count.clamp_min(1e-3).log() - got.clamp_min(1e-9).log()
    return torch.softmax(logits + bias, dim=1)
