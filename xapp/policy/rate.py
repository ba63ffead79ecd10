"""Rate allocation: how many latent channels each user gets.

Adaptive policy. For user u and prefix k of the ladder, with content offset o_u measured where the surface
said r_u, content slope b_u, and the measured spreads of SNR (fading between pictures, unknown in advance) and
of content,

    p(z)      = o_u + r_u + b_u (surface(snr_u + s_u z, k) - r_u)        z ~ N(0,1), 5-point quadrature
    q[u,k]    = E_z[ p(z) ]
    miss[u,k] = E_z[ Phi((target - p(z)) / c_u) ]
    U[u,k]    = w (1 - miss[u,k]) + q[u,k] / 10

and sum_u a_u U[u, k_u] is maximised under sum_u a_u k_u <= budget sum_u a_u (a_u: pictures sent). For one
multiplier l each user picks argmax_k U - l k by itself; l is found by bisection for all w at once, and what
the budget leaves is spent greedily. The w taken is the largest for which the predicted mean PSNR does not
fall below that of the uniform allocation at the same mean prefix (a mix of the two neighbouring rates) minus
a guard: fewer misses must not be bought with mean quality. The multiplier method: Everett, Operations
Research 1963.

Users may have a target, a largest prefix k_max and a quality share s of their own (A1). Then, for them,

    U[u,k] = s (w (1 - miss[u,k]) + q[u,k] / 10) - (1 - s) (1 + w) BITS_UTILITY k        k <= k_max

and the guard compares means weighted by a_u s_u, at the uniform allocation under the same k_max: who prefers
few bits is not held against the others, and a limit is no loss of the policy.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from scipy.special import ndtr

from xapp.policy.decision import LADDER, Decision, Observation, register
from xapp.policy.quadrature import NODE_WEIGHTS, NODES
from xapp.telemetry.columns import FloatArray, IntArray

MISS_WEIGHTS: Final = (16.0, 8.0, 4.0, 2.8, 2.0, 1.4, 1.0, 0.7, 0.5, 0.35, 0.25, 0.12, 0.06, 0.0)
BITS_UTILITY: Final = 0.05
"""Price of a channel at full weight, in utility over 1 + w: with s = 1/2 a channel must bring 0.5 dB of mean
PSNR where only the mean counts (w = 0), or 5 % fewer misses where only they do. A choice, not a
measurement."""
_FORBIDDEN: Final = 1e4
_BISECTIONS: Final = 16


@register("fixed")
class FixedRate:
    """Every user the same prefix: the ladder's largest not above the budget."""

    def __init__(self, quality_target_db: float = 25.0, budget_prefix: float = 6.0) -> None:
        self._target = quality_target_db
        self._prefix = max((k for k in LADDER if k <= budget_prefix), default=LADDER[0])

    def decide(self, observation: Observation) -> Decision:
        """See :class:`xapp.policy.decision.Policy`. Per-user limits are kept to; quality shares have no
        effect."""
        n = len(observation)
        prefix = np.full(n, self._prefix, np.int64)
        if n == 0:
            return Decision(prefix=prefix, expected_psnr_db=np.empty(0))
        if observation.max_prefix is not None:
            ladder = np.array(LADDER, np.int64)
            prefix = np.minimum(prefix, ladder[_largest_column(ladder, observation.max_prefix)])
        distinct, column = np.unique(prefix, return_inverse=True)
        quality, miss = predict(observation, distinct.astype(np.float64), observation.targets(self._target))
        users = np.arange(n)
        share = observation.weight / observation.weight.sum()
        mean = float(share @ quality[users, column])
        return Decision(
            prefix=prefix,
            expected_psnr_db=quality[users, column],
            mean_prefix=float(distinct[0]) if len(distinct) == 1 else float(share @ prefix),
            predicted_miss=float(share @ miss[users, column]),
            predicted_psnr_db=mean,
            uniform_psnr_db=mean,
        )


@register("adaptive")
class AdaptiveRate:
    """Fewest misses at the budget without losing mean PSNR (module docstring).

    Args:
        quality_target_db: PSNR below which a picture is a miss.
        budget_prefix: weighted mean prefix allowed.
        mean_psnr_guard_db: predicted mean PSNR may be this much below the uniform allocation's.
        hysteresis: utility that a change of rate must gain (0.01 = 0.1 dB of mean PSNR for that user).
    """

    def __init__(
        self,
        quality_target_db: float = 25.0,
        budget_prefix: float = 6.0,
        mean_psnr_guard_db: float = 0.0,
        hysteresis: float = 0.01,
    ) -> None:
        self._target = quality_target_db
        self._budget = max(float(budget_prefix), float(LADDER[0]))
        self._guard = mean_psnr_guard_db
        self._hysteresis = hysteresis
        self._chosen: int | None = None

    def decide(self, observation: Observation) -> Decision:
        """See :class:`xapp.policy.decision.Policy`."""
        n = len(observation)
        if n == 0:
            return Decision(prefix=np.empty(0, np.int64), expected_psnr_db=np.empty(0))
        ladder = np.array(LADDER, np.float64)
        quality, miss = predict(observation, ladder, observation.targets(self._target))
        share = observation.weight / observation.weight.sum()
        users = np.arange(n)
        weights = np.array(MISS_WEIGHTS)
        utility = weights[:, None, None] * (1.0 - miss) + quality / 10.0  # [W, N, M]
        utility = preferred(utility, observation, ladder, weights)
        utility += self._hysteresis * (observation.prefix[:, None] == ladder)
        choices = lagrangian(utility, ladder, share, self._budget)  # [W, N]
        counted = guarded_share(observation, share)
        uniform_prefix, mean_by_prefix = uniform_curve(observation, ladder, quality, counted)
        uniform = np.interp(ladder[choices] @ counted, uniform_prefix, mean_by_prefix)
        taken = self._take(quality[users, choices] @ counted - uniform + self._guard)
        # Spending the rest changes the mean a little: a smaller weight where that breaks the guard.
        while True:
            choice = choices[taken]
            spend_rest(utility[taken], ladder, share, self._budget, choice)
            mean_db = float(quality[users, choice] @ counted)
            uniform_db = float(np.interp(ladder[choice] @ counted, uniform_prefix, mean_by_prefix))
            if mean_db >= uniform_db - self._guard or taken == len(weights) - 1:
                break
            taken += 1
        return Decision(
            prefix=ladder[choice].astype(np.int64),
            expected_psnr_db=quality[users, choice],
            mean_prefix=float(ladder[choice] @ share),
            predicted_miss=float(miss[users, choice] @ share),
            predicted_psnr_db=mean_db,
            uniform_psnr_db=uniform_db,
            miss_weight=MISS_WEIGHTS[taken],
        )

    def _take(self, surplus: FloatArray) -> int:
        """Index of the weight: the largest whose surplus (dB) is not negative; sticky by 0.02 dB upwards."""
        good = np.flatnonzero(surplus >= 0.0)
        best = int(good[0]) if len(good) else len(surplus) - 1
        if self._chosen is not None and best < self._chosen and surplus[self._chosen] >= 0.0:
            eager = np.flatnonzero(surplus[: self._chosen] >= 0.02)
            best = int(eager[0]) if len(eager) else self._chosen
        self._chosen = best
        return best


def predict(
    observation: Observation, ladder: FloatArray, target_db: float | FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Mean PSNR (dB) and probability of a miss of each user at each prefix, float64 [N, M] both.

    ``target_db``: one for all users, or float64 [N].
    """
    target = np.asarray(target_db, np.float64)[..., None, None]
    snr = observation.snr_db[:, None] + observation.snr_sd_db[:, None] * NODES  # [N, 5]
    surface = observation.expected_psnr(snr, ladder)  # [N, 5, M]
    reference = observation.reference_db[:, None, None]
    psnr = observation.offset_db[:, None, None] + reference
    psnr = psnr + observation.slope[:, None, None] * (surface - reference)
    spread = np.maximum(observation.offset_sd_db, 0.25)[:, None, None]
    below = ndtr((target - psnr) / spread)
    quality: FloatArray = np.einsum("nzm,z->nm", psnr, NODE_WEIGHTS)
    miss: FloatArray = np.einsum("nzm,z->nm", below, NODE_WEIGHTS)
    return quality, miss


def preferred(
    utility: FloatArray, observation: Observation, ladder: FloatArray, miss_weights: FloatArray
) -> FloatArray:
    """Utility float64 [W, N, M] under the users' quality shares and limits (module docstring)."""
    if observation.quality_share is not None:
        share = observation.quality_share[:, None]
        price = (1.0 + miss_weights)[:, None, None] * ((1.0 - share) * BITS_UTILITY * ladder)
        utility = share * utility - price
    if observation.max_prefix is not None:
        largest = _largest_column(ladder, observation.max_prefix)
        utility = utility - _FORBIDDEN * (np.arange(len(ladder)) > largest[:, None])
    return utility


def guarded_share(observation: Observation, share: FloatArray) -> FloatArray:
    """Weight of each user in the guard: pictures sent times quality share, sum 1, float64 [N]."""
    if observation.quality_share is None:
        return share
    counted: FloatArray = share * observation.quality_share
    total = float(counted.sum())
    return counted / total if total > 0 else share


def uniform_curve(
    observation: Observation, ladder: FloatArray, quality: FloatArray, share: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Mean prefix and mean PSNR (dB), float64 [M] both, if all had the same prefix, or less where it is
    limited."""
    if observation.max_prefix is None:
        return ladder, share @ quality
    columns = np.minimum(np.arange(len(ladder)), _largest_column(ladder, observation.max_prefix)[:, None])
    return share @ ladder[columns], share @ np.take_along_axis(quality, columns, axis=1)


def _largest_column(ladder: FloatArray | IntArray, limit: FloatArray) -> IntArray:
    """Column of the largest prefix within each limit, int64 [N]; the first one when none is."""
    column: IntArray = np.maximum(np.searchsorted(ladder, limit, side="right") - 1, 0)
    return column


def lagrangian(utility: FloatArray, cost: FloatArray, share: FloatArray, budget: float) -> IntArray:
    """Choose one column a user by the multiplier method, W problems at once.

    Args:
        utility: float [W, N, M]; cost: float [M], ascending; share: float [N], sums to 1.
        budget: limit of sum(share * cost[choice]); at least cost[0].

    Returns:
        int64 [W, N], column indices, each problem within the budget.
    """
    w = len(utility)
    low = np.zeros(w)
    slope = np.diff(utility, axis=-1) / np.diff(cost)
    high = np.maximum(slope.max(axis=(1, 2)), 0.0) + 1e-9  # there every user takes the cheapest column
    for _ in range(_BISECTIONS):
        middle = 0.5 * (low + high)
        choice = np.argmax(utility - middle[:, None, None] * cost, axis=-1)
        over = cost[choice] @ share > budget
        low, high = np.where(over, middle, low), np.where(over, high, middle)
    choices: IntArray = np.argmax(utility - high[:, None, None] * cost, axis=-1)
    return choices


def spend_rest(
    utility: FloatArray, cost: FloatArray, share: FloatArray, budget: float, choice: IntArray
) -> None:
    """Raise the choices of one problem in place, best gain per cost first, while something fits.

    Args:
        utility: float [N, M]; cost, share, budget: as of :func:`lagrangian`; choice: int64 [N].
    """
    users = np.arange(len(choice))
    for _ in range(4 * len(choice)):
        left = budget - float(cost[choice] @ share)
        if left <= 1e-9:
            return
        extra = share[:, None] * (cost - cost[choice][:, None])  # [N, M]
        gain = share[:, None] * (utility - utility[users, choice][:, None])
        fits = (extra > 0) & (extra <= left + 1e-9) & (gain > 0)
        if not fits.any():
            return
        ratio = np.where(fits, gain / np.where(fits, extra, 1.0), -1.0)
        user, column = divmod(int(np.argmax(ratio)), len(cost))
        choice[user] = column
