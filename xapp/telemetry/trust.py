"""How far a reported metric is to be believed: one value for all users, and the fusion of several sources.

**One value for all users.** Some base stations report one user's value whoever is asked for (srsRAN: ``CQI``,
``RSRP`` and ``RSRQ`` are those of the first user in its list). Then all reports of that metric sample one
common sequence. Reports of one node and metric are grouped in *rounds*; a round ends when a user is heard
again. A round of at least :data:`LEAST_USERS` users *contradicts* a common sequence if values differ inside
one indication (one instant), or if the value changes before all users of a round have shown it. Other rounds
are *consistent*. Smaller rounds count for nothing.

The symptom is declared after :data:`ROUNDS` consistent rounds in a row (:data:`SPREAD_ROUNDS` if any of them
spans several indications, as with one subscription a user) in which the value changed at least
:data:`CHANGES` times; it is withdrawn after :data:`CLEAR_ROUNDS` contradicting rounds in a row.

*False alarms.* Equal and constant values are never declared, however long: all users at CQI 15 is an ordinary
cell. It takes repeated *joint* changes. Worst case of independent users: each holds one of two values by a
fair coin in every round, three users. One indication a round: all equal with probability 1/4, ten rounds in a
row 4^-10 = 1e-6. One indication a user: every value must last three samples, of 60 samples 1.47^60 in 2^60
sequences do, 1e-8. More users, more values or rarer changes make it less. Real numbers of independent users
never coincide. What would be a false alarm: three or more users at one spot, or driven by one trace, equal to
within the metric's resolution. For them the value is also right, and the lower trust costs little.
*Missed:* a common value that never changes; nodes with fewer than three users.

Trust of a declared metric is 1 / n for all n users: the value belongs to one of them, unknown to whom.

**Fusion.** Sources are ordered from best to worst. A value believed with t is right with probability t, to
its source's error variance; else it is any user's, with the variance of the SINR between users:
var_i = t_i * sd_i^2 + (1 - t_i) * WRONG_SD_DB^2. CQI, RSRP and throughput follow from the same channel that
SINR measures, so beside a believed SINR they add noise, not information: a worse source only gets the belief
that the better ones leave. Weight of source i = t_i * prod_{j better}(1 - t_j) / var_i. A fully trusted SINR
alone decides.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from xapp.telemetry.columns import BoolArray, FloatArray, IntArray

LEAST_USERS: Final = 3
ROUNDS: Final = 10
SPREAD_ROUNDS: Final = 20
CHANGES: Final = 3
CLEAR_ROUNDS: Final = 3

WRONG_SD_DB: Final = 8.0
"""Spread of the SINR between users of a macro cell, roughly (-5 to 20 dB hold nine in ten); a judgement."""

LEAST_TRUST: Final = 0.02
"""A source never counts for less while it is heard: with nothing better, a doubtful value is all there is."""


@dataclass(slots=True)
class _Watch:
    """One metric of one node."""

    round: int  # number of the open round
    users: int = 0
    indications: int = 0
    changes: int = 0
    contradicted: bool = False
    last: float = float("nan")
    hold: int = 0  # values since the last change
    needed: int = LEAST_USERS  # users of the round before: a value that holds for fewer is not common
    run: int = 0  # consistent rounds in a row
    run_changes: int = 0
    spread: bool = False  # the run has rounds of several indications
    against: int = 0  # contradicting rounds in a row
    declared: int = 0  # users of the latest consistent round while declared, else 0


@dataclass(slots=True)
class TrustCounters:
    """Since the start.

    Attributes:
        same_value_declared: metrics of nodes found to carry one value for all users.
        same_value_withdrawn: such findings that later rounds contradicted.
        rounds: rounds of enough users examined.
    """

    same_value_declared: int = 0
    same_value_withdrawn: int = 0
    rounds: int = 0


class SameValueDetector:
    """See the module docstring. Keeps a few numbers for each metric of each node, nothing for users but an
    open-round stamp that the caller stores as an integer column."""

    def __init__(self) -> None:
        self.counters = TrustCounters()
        self._watches: dict[tuple[int, str], _Watch] = {}
        self._rounds = 0

    def fold(self, node: int, metric: str, values: FloatArray, stamps: IntArray) -> tuple[int, str]:
        """Take one indication's valid values of one metric.

        Args:
            node: index of the E2 node.
            values: float64 [N] without NaN, in the order of the report.
            stamps: int64 [N]: what an earlier call returned for these users, 0 for new ones.

        Returns:
            The stamp to store for these users, and ``declared``, ``withdrawn`` or nothing for a finding that
            this report completed.
        """
        watch = self._watches.get((node, metric))
        if watch is None:
            watch = self._watches[node, metric] = _Watch(self._next_round())
        event = ""
        if watch.users and (stamps[0] == watch.round or stamps[-1] == watch.round):
            event = self._close(watch)
        first = float(values[0])
        if first == watch.last:
            watch.hold += len(values)
        else:
            if not math.isnan(watch.last):
                watch.changes += 1
                watch.contradicted = watch.contradicted or watch.hold < watch.needed
            watch.hold = len(values)
        if bool((values != first).any()):
            watch.contradicted = True
            watch.hold = 1
        watch.last = float(values[-1])
        watch.users += len(values)
        watch.indications += 1
        return watch.round, event

    def factor(self, node: int, metric: str) -> float:
        """Trust that the finding leaves, 0..1: 1 / users, or 1 without a finding."""
        watch = self._watches.get((node, metric))
        return 1.0 / watch.declared if watch is not None and watch.declared else 1.0

    def found(self) -> dict[tuple[int, str], int]:
        """(node, metric) -> users, for every finding in force."""
        return {key: watch.declared for key, watch in self._watches.items() if watch.declared}

    def _next_round(self) -> int:
        self._rounds += 1
        return self._rounds

    def _close(self, watch: _Watch) -> str:
        event = ""
        if watch.users >= LEAST_USERS:
            self.counters.rounds += 1
            event = self._judge(watch)
            watch.needed = watch.users
        watch.round = self._next_round()
        watch.users = watch.changes = watch.indications = 0
        watch.contradicted = False
        return event

    def _judge(self, watch: _Watch) -> str:
        if watch.contradicted:
            watch.run = watch.run_changes = 0
            watch.spread = False
            watch.against += 1
            if watch.declared and watch.against >= CLEAR_ROUNDS:
                watch.declared = 0
                self.counters.same_value_withdrawn += 1
                return "withdrawn"
            return ""
        watch.against = 0
        watch.run += 1
        watch.run_changes += watch.changes
        watch.spread = watch.spread or watch.indications > 1
        if watch.declared:
            watch.declared = watch.users
        elif watch.run >= (SPREAD_ROUNDS if watch.spread else ROUNDS) and watch.run_changes >= CHANGES:
            watch.declared = watch.users
            self.counters.same_value_declared += 1
            return "declared"
        return ""


@dataclass(frozen=True, slots=True)
class Fused:
    """SNR estimates of N users; NaN where no source was heard.

    Attributes:
        snr_db: float64 [N].
        error_var: float64 [N], dB^2: variances of the sources and their disagreement.
        trust: float64 [N], 0..1: 1 - prod(1 - t_i).
        source: int64 [N], index of the heaviest source.
    """

    snr_db: FloatArray
    error_var: FloatArray
    trust: FloatArray
    source: IntArray


def fuse(
    estimates: Sequence[FloatArray], trusts: Sequence[FloatArray], error_sd_db: Sequence[float]
) -> Fused:
    """Fuse S sources, best first (module docstring).

    Args:
        estimates: S arrays float64 [N], dB; NaN where a source has nothing.
        trusts: S arrays float64 [N], 0..1; NaN to leave a value out.
        error_sd_db: S standard deviations, dB.
    """
    value = np.array(estimates)  # [S, N]
    believed = np.array(trusts)
    heard: BoolArray = ~np.isnan(value) & ~np.isnan(believed)
    trust = np.where(heard, np.clip(believed, LEAST_TRUST, 1.0), 0.0)
    left = np.cumprod(1.0 - trust, axis=0)
    right = np.square(np.array(error_sd_db))[:, None]
    variance = trust * right + (1.0 - trust) * WRONG_SD_DB**2
    share = trust / variance
    share[1:] *= left[:-1]
    total = share.sum(axis=0)
    share = share / np.where(total > 0.0, total, 1.0)
    clean = np.where(heard, value, 0.0)
    mean = (share * clean).sum(axis=0)
    spread = (share * (variance + np.square(clean - mean))).sum(axis=0)
    nothing = total <= 0.0
    return Fused(
        snr_db=np.where(nothing, np.nan, mean),
        error_var=np.where(nothing, np.nan, spread),
        trust=1.0 - left[-1],
        source=share.argmax(axis=0),
    )
