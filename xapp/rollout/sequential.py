"""Intervals for the gates that may be looked at again and again.

Difference of two groups of users (quality)
-------------------------------------------
Pictures of one video resemble each other, for seconds or minutes, so that a user's reports are not
independent of each other, and no short record tells for how long they are not. Hence *users*, not reports,
are the unit:

    D_u = mean of u's residuals after the change - mean before = tau + treated * theta + e_u

tau is what changed for everybody at that time, theta what the new version does (difference in differences),
e_u ~ N(0, s^2 v_u) independent between users, with v_u = 1/n_before + 1/n_after + KAPPA, and s is estimated
from the spread of D between the users of a group alone. Whatever correlation the reports of a user have is
then in s, and (theta_hat - theta) / standard error has Student's t distribution with users - 2 degrees of
freedom (clusters as units: Liang and Zeger, Biometrika 1986; few of them: Donald and Lang, Review of
Economics and Statistics 2007). With three or four users that is a wide interval. It has to be: whether two
users met hard pictures by chance cannot be told from two users.

Looks
-----
A t interval holds at one time. It is computed when the reports have doubled since the last look, the k-th
time at level alpha / (k (k + 1)), which sums to alpha (Bonferroni), and stands until the next look. Each of
its two bounds holds with probability 1 - alpha over all looks; the two are used for opposite mistakes. Exact
for changes e_u that are normal, independent and of variances in the stated proportion; how it holds for
others is measured (docs/rollout.md).

Share of events (failures, late pictures)
-----------------------------------------
The beta-binomial mixture (Robbins 1970): with S events in n trials the ratio B(1/2 + S, 1/2 + n - S) / B(1/2,
1/2) / (p^S (1-p)^(n-S)) is a martingale at the true p; the set of p where it stays below 1/alpha is the
confidence sequence, which holds at all times at once for independent trials. Two groups at alpha/2 each bound
the difference.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final

import msgspec
from scipy.special import stdtrit

KAPPA: Final = 0.1
"""Part of a user's change that more reports do not average away, in units of one report's variance."""
FIRST_LOOK: Final = 8
"""Reports at the first look; the next one comes at twice as many."""
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


def look_due(reports: int, first: int = FIRST_LOOK) -> int:
    """Number of the look that so many reports are enough for: 1 from ``first`` on, 2 from twice that on."""
    return (reports // first).bit_length()


def level_of_look(alpha: float, look: int) -> float:
    """Share of ``alpha`` of the ``look``-th look, 1, 2, ...; all shares sum to ``alpha``."""
    return alpha / (look * (look + 1))


def t_interval(estimate: float, error: float, degrees: float, alpha: float) -> Interval:
    """Student's t interval, each bound of which misses the truth with probability ``alpha``.

    Args:
        error: standard error of the estimate, of ``degrees`` > 0 degrees of freedom.
    """
    reach = -float(stdtrit(degrees, alpha)) * error
    return Interval(estimate, estimate - reach, estimate + reach)


def difference_in_differences(users: Iterable[tuple[bool, Moments, Moments]], alpha: float) -> Interval:
    """What the new version does, theta of the module's docstring, at one look.

    Args:
        users: (treated, before, after) of each user; those without reports on both sides do not count.
        alpha: probability that a bound misses theta.

    Returns:
        Infinite bounds with fewer than three users, of which there must be one in each group.
    """
    weight, weighted = [0.0, 0.0], [0.0, 0.0]
    changes: list[tuple[bool, float, float]] = []
    for treated, before, after in users:
        if before.count and after.count:
            w = 1.0 / (1.0 / before.count + 1.0 / after.count + KAPPA)
            change = after.mean - before.mean
            changes.append((treated, w, change))
            weight[treated] += w
            weighted[treated] += w * change
    if not (weight[0] and weight[1]):
        return UNKNOWN
    means = weighted[0] / weight[0], weighted[1] / weight[1]
    estimate = means[1] - means[0]
    squares = sum(w * (change - means[treated]) ** 2 for treated, w, change in changes)
    degrees = len(changes) - 2
    if degrees < 1:
        return Interval(estimate, -math.inf, math.inf)
    error = math.sqrt(squares / degrees * (1.0 / weight[0] + 1.0 / weight[1]))
    return t_interval(estimate, error, degrees, alpha)


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
