"""From what the policy needs per slice to PRB quotas of one cell: minimum, maximum and dedicated share. Pure.

The state machine of one cell (or of one E2 node, if its cells share quotas)::

    IDLE     -- propose(): targets differ enough, interval and back-off are over -->  PENDING
    PENDING  -- confirmed(): the RAN acknowledged; the proposal is in force      -->  IDLE
    PENDING  -- refused(): it did not; back-off doubles                           -->  IDLE

Rules:
- Off unless ``QuotaRules.enabled``. Switched off again, the slices get the RAN's defaults back, once.
- Guarantees (minimum) of all slices never sum above 100 % minus the reserve, dedicated shares never above the
  guarantees; so it is in every proposal, on the way to a target too: all slices move by the same fraction of
  their way, and a convex combination of two sets that fit, rounded down, fits.
- When needs exceed what there is, it is shared by weight (max-min fair); a slice never gets more than it
  needs.
- Hysteresis: while no slice's guarantee is off by ``hysteresis_percent``, nothing changes. Rate limit: at
  most ``max_step_percent`` for each slice and proposal, at most one proposal in ``interval_s``.
- A proposal names every slice known, so that one message carries a set that fits. A slice that has gone gets
  the default and is forgotten once it has it.
- After a refusal without a clear answer (timeout), what is in force is unknown: the next proposal is made
  although nothing may have changed.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from xapp.ric.rc.slice_quota import PrbQuota, SliceId
from xapp.telemetry.columns import FloatArray, IntArray

DEFAULT_QUOTA: Final = PrbQuota()
"""What a slice has that nobody has asked about: no guarantee, no limit."""

LONGEST_BACKOFF_S: Final = 300.0

SUBCARRIERS_PER_PRB: Final = 12
SYMBOLS_PER_SLOT: Final = 14
"""TS 38.211 clauses 4.4.4.1 and 4.3.2 (normal cyclic prefix); a slot is 1 ms at 15 kHz."""
DOWNLINK_OVERHEAD: Final = 0.14
"""Share of resource elements for control and reference signals, FR1 downlink (TS 38.306 clause 4.1.2)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class QuotaRules:
    """How quotas are decided.

    Attributes:
        enabled: ask the RAN at all.
        headroom: guarantee so many times the need, 1..4.
        reserve_percent: never guaranteed to anyone, 0..100.
        dedicated_share: part of the guarantee that is kept free even when idle, 0..1.
        hysteresis_percent: smaller changes are not worth a message, 1..100.
        max_step_percent: largest change of a guarantee in one proposal, 1..100.
        interval_s: between two proposals, also the first back-off; above 0.
    """

    enabled: bool = False
    headroom: float = 1.2
    reserve_percent: int = 10
    dedicated_share: float = 0.0
    hysteresis_percent: int = 5
    max_step_percent: int = 20
    interval_s: float = 5.0

    def __post_init__(self) -> None:
        """Raises ValueError naming the rule and its range."""
        for name, low, high in (
            ("headroom", 1.0, 4.0),
            ("reserve_percent", 0, 100),
            ("dedicated_share", 0.0, 1.0),
            ("hysteresis_percent", 1, 100),
            ("max_step_percent", 1, 100),
            ("interval_s", 0.01, 3600.0),
        ):
            value = getattr(self, name)
            if not low <= value <= high:
                raise ValueError(f"{name} = {value}: {low}..{high} is needed")


@dataclass(frozen=True, slots=True)
class SliceDemand:
    """What one slice needs of a cell.

    Attributes:
        needed_percent: share of the cell's resource blocks, 0 and more; NaN: not known, keep what there is.
        weight: relative share when there is not enough for all, above 0.
        ceiling_percent: limit of the slice, 0..100.
    """

    slice_id: SliceId
    needed_percent: float
    weight: float = 1.0
    ceiling_percent: int = 100

    def __post_init__(self) -> None:
        """Raises ValueError naming the value and its range."""
        if self.needed_percent < 0 or math.isinf(self.needed_percent):
            raise ValueError(f"{self.slice_id}: needed_percent = {self.needed_percent}: from 0 is needed")
        if not 0 < self.weight < math.inf:
            raise ValueError(f"{self.slice_id}: weight = {self.weight}: above 0 is needed")
        if not 0 <= self.ceiling_percent <= 100:
            raise ValueError(f"{self.slice_id}: ceiling_percent = {self.ceiling_percent}: 0..100 is needed")


def cell_symbols_per_s(prbs: int, subcarrier_spacing_khz: int, overhead: float = DOWNLINK_OVERHEAD) -> float:
    """Data symbols (resource elements) a second of an NR carrier, one layer.

    Args:
        prbs: transmission bandwidth of TS 38.101-1 table 5.3.2-1, e.g. 51 for 20 MHz at 30 kHz.
        subcarrier_spacing_khz: 15, 30, 60 or 120.
    """
    slots_per_s = 1000 * subcarrier_spacing_khz / 15
    return prbs * SUBCARRIERS_PER_PRB * SYMBOLS_PER_SLOT * slots_per_s * (1 - overhead)


def slice_needs(
    slices: Sequence[SliceId], slice_of_user: IntArray, symbols_per_s: FloatArray, cell_symbols: float
) -> list[SliceDemand]:
    """Demands of ``slices`` from what the policy has decided for each user.

    Args:
        slices: of the cell.
        slice_of_user: int [N], index in ``slices``, -1 for none of them.
        symbols_per_s: float [N], channel symbols that the user's directive and traffic come to; NaN counts
            as 0.
        cell_symbols: what the cell carries, see :func:`cell_symbols_per_s`.
    """
    mine = (slice_of_user >= 0) & np.isfinite(symbols_per_s)
    total = np.bincount(slice_of_user[mine], weights=symbols_per_s[mine], minlength=len(slices))
    percent = 100 * total / cell_symbols
    return [SliceDemand(one, float(percent[index])) for index, one in enumerate(slices)]


def fair_shares(wants: FloatArray, weights: FloatArray, budget: float) -> FloatArray:
    """Weighted max-min fair division: float [N] with 0 <= share <= want and sum <= ``budget``."""
    shares = np.zeros(len(wants))
    # In the order of want per weight, each takes what it wants or its part of what is left.
    weight_left = float(weights.sum())
    for index in np.argsort(wants / weights, kind="stable"):
        part = max(budget, 0.0) * float(weights[index]) / weight_left
        shares[index] = min(float(wants[index]), part)
        budget -= shares[index]
        weight_left -= float(weights[index])
    return shares


class RadioResources:
    """Quotas of one cell; see the module docstring. Times are seconds of one monotonic clock.

    Attributes:
        rules: may be replaced at any time.
        in_force: quotas that the RAN has acknowledged.
    """

    def __init__(self, rules: QuotaRules) -> None:
        self.rules = rules
        self.in_force: dict[SliceId, PrbQuota] = {}
        self._pending: dict[SliceId, PrbQuota] | None = None
        self._gone: set[SliceId] = set()
        self._unsure: frozenset[SliceId] = frozenset()
        self._not_before = -math.inf
        self._failures = 0

    @property
    def pending(self) -> bool:
        """A proposal waits for :meth:`confirmed` or :meth:`refused`; there is no other meanwhile."""
        return self._pending is not None

    def propose(self, demands: Sequence[SliceDemand], now_s: float) -> dict[SliceId, PrbQuota] | None:
        """Quotas to ask the RAN for now, of all slices; None if there is nothing to ask.

        Args:
            demands: of every slice of the cell, each once.
        """
        if self._pending is not None or now_s < self._not_before:
            return None
        if not self.rules.enabled:
            demands = []
        by_slice = {demand.slice_id: demand for demand in demands}
        self._gone = (self.in_force.keys() | self._unsure) - by_slice.keys()
        targets = self._targets(demands) | dict.fromkeys(self._gone, DEFAULT_QUOTA)
        current = {one: self.in_force.get(one, DEFAULT_QUOTA) for one in targets}
        if not targets or not (self._unsure or self._differs(current, targets)):
            return None
        self._pending = self._step(current, targets) if self.rules.enabled else targets
        return dict(self._pending)

    def confirmed(self, now_s: float) -> None:
        """The RAN acknowledged the pending proposal."""
        if self._pending is None:
            return
        self.in_force = {
            one: quota
            for one, quota in self._pending.items()
            if not (one in self._gone and quota == DEFAULT_QUOTA)
        }
        self._pending, self._unsure, self._failures = None, frozenset(), 0
        self._not_before = now_s + self.rules.interval_s

    def refused(self, now_s: float, *, unknown: bool = False) -> None:
        """The RAN did not take the pending proposal; ``unknown``: it may have (no answer)."""
        if self._pending is None:
            return
        if unknown:
            self._unsure |= self._pending.keys()
        self._pending = None
        backoff = min(self.rules.interval_s * 2.0 ** min(self._failures, 20), LONGEST_BACKOFF_S)
        self._failures += 1
        self._not_before = now_s + backoff

    def forget(self) -> None:
        """The node started anew with its own defaults: nothing of ours is in force."""
        self.in_force, self._pending, self._unsure = {}, None, frozenset()

    def _targets(self, demands: Sequence[SliceDemand]) -> dict[SliceId, PrbQuota]:
        if not demands:
            return {}
        wants = np.array([self._want(demand) for demand in demands])
        weights = np.array([demand.weight for demand in demands])
        shares = fair_shares(wants, weights, 100.0 - self.rules.reserve_percent)
        # A guarantee is a whole percent; the tolerance keeps 30.0 that came out as 29.999... at 30.
        floors = np.floor(shares + 1e-9).astype(int)
        return {
            demand.slice_id: self._quota(int(minimum), demand.ceiling_percent)
            for demand, minimum in zip(demands, floors, strict=True)
        }

    def _want(self, demand: SliceDemand) -> float:
        if math.isnan(demand.needed_percent):
            want = float(self.in_force.get(demand.slice_id, DEFAULT_QUOTA).minimum)
        else:
            want = demand.needed_percent * self.rules.headroom
        return min(want, float(demand.ceiling_percent))

    def _quota(self, minimum: int, maximum: int) -> PrbQuota:
        dedicated = math.floor(minimum * self.rules.dedicated_share)
        return PrbQuota(minimum, max(minimum, maximum), dedicated)

    def _differs(self, current: Mapping[SliceId, PrbQuota], targets: Mapping[SliceId, PrbQuota]) -> bool:
        return any(
            one in self._gone
            or current[one].maximum != target.maximum
            or abs(current[one].minimum - target.minimum) >= self.rules.hysteresis_percent
            for one, target in targets.items()
        )

    def _step(
        self, current: Mapping[SliceId, PrbQuota], targets: Mapping[SliceId, PrbQuota]
    ) -> dict[SliceId, PrbQuota]:
        """As far from ``current`` to ``targets`` as the rate limit allows, all by the same fraction."""
        farthest = max(abs(target.minimum - current[one].minimum) for one, target in targets.items())
        # In integers, so that rounding can neither overshoot a step nor a sum.
        step = min(self.rules.max_step_percent, farthest)
        quotas = {}
        for one, target in targets.items():
            minimum = current[one].minimum
            if farthest:
                minimum = (minimum * (farthest - step) + target.minimum * step) // farthest
            quotas[one] = self._quota(minimum, target.maximum)
        return quotas
