"""Confidence sequences: intervals that hold at all times at once, so that looking at every report is allowed.

Difference of two groups of users (quality)
-------------------------------------------
A user u has a content offset a_u of its own, and everything may change at the moment of the roll-out for
reasons that meet all users alike (tau). So the model of a report's residual y is

    y = a_u + after * (tau + b_u) + after * treated * theta + noise,
    noise ~ N(0, s^2),  b_u ~ N(0, kappa s^2)

and theta, what the new version does, is estimated by *difference in differences*: D_u = mean after - mean
before of user u, of variance s^2 (1/n_after + 1/n_before + kappa); theta is the weighted mean of D over the
treated users minus that over the control group. A user with hard pictures counts in no group's favour, and
the error of the baselines is part of the variance (a baseline of few reports taken for exact would raise
false alarms at any rate). kappa allows for a user whose pictures change at that moment by chance: users, not
reports, are the unit; with one treated user it bounds how sure one can become.

The estimates over time have the joint distribution of a Brownian motion seen at times of growing information
(Jennison and Turnbull, JASA 1997), and with theta mixed over N(theta_0, s^2 / LAMBDA) and s^2 over its Haar
prior, the likelihood ratio of the invariant t statistic is a test martingale at theta = theta_0. The set of
theta_0 whose ratio stays below 1/alpha is a confidence sequence in closed form (Lindon, Ham, Tingley and
Bojinov, "Anytime-valid linear models", 2022; the normal case is Robbins 1970, the test Johari et al. 2017).
Exact for normal noise; how it holds for others is measured in the tests.

Share of events (failures, late pictures)
-----------------------------------------
The beta-binomial mixture (Robbins 1970): with S events in n trials the ratio
B(1/2 + S, 1/2 + n - S) / B(1/2, 1/2) / (p^S (1-p)^(n-S)) is a martingale at the true p; the set of p where
it stays below 1/alpha is the confidence sequence. Two groups at alpha/2 each bound the difference.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final

import msgspec

LAMBDA: Final = 4.0
"""Of the mixture: effects around s / sqrt(LAMBDA) = half a standard deviation are found soonest."""
KAPPA: Final = 0.01
"""Variance of a user's own change at the roll-out, in units of the noise's; 0.1 of its standard deviation."""
_BISECTIONS: Final = 26


class Moments(msgspec.Struct):
    """Count, mean and sum of squared deviations of numbers, folded one by one (Welford 1962)."""

    count: int = 0
    mean: float = 0.0
    squares: float = 0.0

    def add(self, value: float) -> None:
        """Fold one number."""
        self.count += 1
        step = value - self.mean
        self.mean += step / self.count
        self.squares += step * (value - self.mean)


@dataclass(frozen=True, slots=True)
class Interval:
    """Estimate with the bounds of its confidence sequence; infinite where nothing is known."""

    estimate: float
    low: float
    high: float


UNKNOWN: Final = Interval(math.nan, -math.inf, math.inf)


def difference_in_differences(
    users: Iterable[tuple[bool, Moments, Moments]], alpha: float, *, kappa: float = KAPPA
) -> Interval:
    """What the new version does, theta of the module's docstring.

    Args:
        users: (treated, before, after) of each user; those without reports on both sides only help to
            estimate the noise.
        alpha: probability that theta is ever outside.
        kappa: see :data:`KAPPA`.
    """
    weight, weighted, squares = [0.0, 0.0], [0.0, 0.0], 0.0
    changes: list[tuple[bool, float, float]] = []
    degrees = 0
    for treated, before, after in users:
        squares += before.squares + after.squares
        degrees += max(before.count - 1, 0) + max(after.count - 1, 0)
        if before.count and after.count:
            w = 1.0 / (1.0 / before.count + 1.0 / after.count + kappa)
            change = after.mean - before.mean
            changes.append((treated, w, change))
            weight[treated] += w
            weighted[treated] += w * change
    if not (weight[0] and weight[1]):
        return UNKNOWN
    means = weighted[0] / weight[0], weighted[1] / weight[1]
    squares += sum(w * (change - means[treated]) ** 2 for treated, w, change in changes)
    degrees += len(changes) - 2
    estimate = means[1] - means[0]
    if degrees < 1 or squares <= 0:
        return Interval(estimate, -math.inf, math.inf)
    leverage = 1.0 / weight[0] + 1.0 / weight[1]
    reach = _t_mixture_reach(1.0 / leverage, degrees, alpha) * math.sqrt(squares / degrees * leverage)
    return Interval(estimate, estimate - reach, estimate + reach)


def _t_mixture_reach(information: float, degrees: int, alpha: float) -> float:
    """Half width in standard errors: the |t| at which the mixture's likelihood ratio is 1/alpha."""
    share = LAMBDA / (LAMBDA + information)
    ratio = math.exp(-(2.0 * math.log(alpha) + math.log(share)) / (degrees + 1))
    if share * ratio >= 1.0:
        return math.inf
    return math.sqrt(degrees * (ratio - 1.0) / (1.0 - share * ratio))


def share_of_events(events: int, trials: int, alpha: float) -> Interval:
    """Probability of an event.

    Args:
        events, trials: seen so far, 0 <= events <= trials.
        alpha: probability that the truth is ever outside.
    """
    if trials == 0:
        return Interval(math.nan, 0.0, 1.0)
    estimate = events / trials
    log_marginal = (
        math.lgamma(0.5 + events) + math.lgamma(0.5 + trials - events) - math.lgamma(1.0 + trials)
    ) - math.log(math.pi)
    least = log_marginal + math.log(alpha)

    def inside(p: float) -> bool:
        return _log_likelihood(p, events, trials) > least

    low, high = 0.0, 1.0
    if events:
        low = _edge(0.0, estimate, inside)
    if events < trials:
        high = _edge(1.0, estimate, inside)
    return Interval(estimate, low, high)


def difference_of_shares(treated: tuple[int, int], control: tuple[int, int], alpha: float) -> Interval:
    """Probability of an event among the treated minus that in the control group; (events, trials) of each."""
    one, other = share_of_events(*treated, alpha / 2), share_of_events(*control, alpha / 2)
    return Interval(one.estimate - other.estimate, one.low - other.high, one.high - other.low)


def _log_likelihood(p: float, events: int, trials: int) -> float:
    hits = events * math.log(p) if events else 0.0
    return hits + ((trials - events) * math.log1p(-p) if trials > events else 0.0)


def _edge(outside: float, within: float, inside: Callable[[float], bool]) -> float:
    """Border between a point outside and one within, by bisection; the result is outside (conservative)."""
    for _ in range(_BISECTIONS):
        middle = 0.5 * (outside + within)
        if inside(middle):
            within = middle
        else:
            outside = middle
    return outside
