"""Client-level differential privacy: what a round reveals of any one user as a whole is bounded.

Every user's step is clipped to the L2 norm C, Gaussian noise of standard deviation sigma C is added to the
sum of the steps, and the sum is divided by the *expected* number of participants (McMahan et al. 2018): a
divisor, weight or threshold that depended on the users' data would have to be paid for too. Each round,
every user takes part independently with probability q (Poisson sampling), as the accountant assumes.

The accountant follows Renyi divergences of integer orders a through the subsampled Gaussian (Mironov, Talwar
and Zhang 2019, section 3.3)

    eps_a = log( sum_k binom(a, k) (1-q)^(a-k) q^k exp((k^2 - k) / (2 sigma^2)) ) / (a - 1),

adds them up over rounds, and converts by eps = min_a eps_a + log((a-1)/a) - (log delta + log a) / (a - 1)
(Canonne, Kamath and Steinke 2020, proposition 12). Neighbouring means with and without one user.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import msgspec
import torch
from torch import Tensor

from codec_runtime.adapters.aggregation import Weights, flattened, unflattened

ORDERS = (*range(2, 65), 72, 80, 96, 112, 128, 160, 192, 256, 384, 512)


class Privacy(msgspec.Struct, frozen=True, kw_only=True):
    """Parameters of the mechanism.

    Attributes:
        clip: C, largest L2 norm of a user's step; > 0.
        noise: sigma, standard deviation of the noise on the sum over C; > 0.
        delta: of (epsilon, delta), in (0, 1); well below 1 / number of users.
        secret: seed of the noise. Whoever knows it can take the noise off: draw it at random for every
            federation, keep it at the server.
    """

    clip: float
    noise: float
    delta: float = 1e-5
    secret: int

    def __post_init__(self) -> None:
        if not (0.0 < self.clip < math.inf and 0.0 < self.noise < math.inf):
            raise ValueError(f"clip and noise must be positive, got {self.clip} and {self.noise}")
        if not 0.0 < self.delta < 1.0:
            raise ValueError(f"delta must be in (0, 1), got {self.delta}")


def private_mean(
    reference: Weights, updates: Sequence[Weights], privacy: Privacy, expected: float, seed: int
) -> Weights:
    """reference + (sum of clipped steps + N(0, (sigma C)^2)) / expected.

    Args:
        reference: the weights that the users started from.
        updates: of those that took part; may be none.
        expected: expected number of participants, q times the users; > 0.
        seed: of the noise, a function of the secret and the round.
    """
    start = flattened(reference)
    noise = torch.randn(len(start), dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    total = privacy.noise * privacy.clip * noise
    for update in updates:
        total = total + clipped(flattened(update) - start, privacy.clip)
    return unflattened(start + total / expected, reference)


def clipped(step: Tensor, limit: float) -> Tensor:
    """The step, scaled down to the norm ``limit`` where it is longer."""
    return step * min(1.0, limit / max(float(step.norm()), 1e-300))


def renyi_epsilon(order: int, share: float, noise: float) -> float:
    """Renyi divergence of one round.

    Args:
        order: a, integer >= 2.
        share: q, probability that a user takes part, in [0, 1].
        noise: sigma, > 0.
    """
    if share == 0.0:
        return 0.0
    if share == 1.0:
        return order / (2.0 * noise**2)
    terms = [
        math.lgamma(order + 1) - math.lgamma(k + 1) - math.lgamma(order - k + 1)
        + (order - k) * math.log1p(-share) + k * math.log(share) + (k * k - k) / (2.0 * noise**2)
        for k in range(order + 1)
    ]  # fmt: skip
    highest = max(terms)
    total = math.fsum(math.exp(term - highest) for term in terms)
    return (highest + math.log(total)) / (order - 1)


def epsilon(rounds: int, share: float, noise: float, delta: float) -> float:
    """Epsilon at ``delta`` after so many rounds; 0 before the first.

    Raises:
        ValueError: a share outside [0, 1], or rounds, noise or delta out of range.
    """
    if rounds < 0 or not 0.0 <= share <= 1.0 or not noise > 0.0 or not 0.0 < delta < 1.0:
        raise ValueError(f"no epsilon of {rounds} rounds, share {share}, noise {noise}, delta {delta}")
    if rounds == 0 or share == 0.0:
        return 0.0
    candidates = [
        rounds * renyi_epsilon(order, share, noise)
        + math.log1p(-1.0 / order)
        - (math.log(delta) + math.log(order)) / (order - 1)
        for order in ORDERS
    ]
    return float(max(0.0, min(candidates)))
