"""The gates of a stage: do the treated users get worse than the control group at the same time? Pure.

Gates
-----
- ``quality``: measured PSNR minus the *parent's* expected PSNR at that SNR and prefix, so that channel and
  rate cancel; treated against control users, each against its own baseline from before the change
  (:func:`xapp.rollout.sequential.difference_in_differences`). Limit: ``-margin_db``.
- ``pairs``: PSNR of treated users' pictures minus that of the same received symbols restored by the parent,
  where devices measure it (:func:`xapp.rollout.paired.mean_difference`). Content cancels: a few tens of
  pictures say what users by the hundred are needed for otherwise. Limit: ``-margin_db``.
- ``errors``: share of transmissions that gave no picture, treated minus control. Limit: ``error_margin``.
  Users that failed before the change already are left out, on both sides: they fail with any version.
- ``latency``: share of pictures later than the control group's usual 95th percentile; each user's latency is
  taken relative to its own mean before the change. Limit: ``late_margin``.

Of an adapter ``quality`` is the users' alignment confidence, in per cent (``points`` of it), in the same way:
each user against its own baseline. Sites report no failures and no latency of it; those gates stay open.

False alarms
------------
Every gate is an interval at ``false_alarm_rate / (gates x gated stages)`` that allows for looking again and
again: the probability that a version that is within all limits is *ever* called harmful, in any stage, is at
most ``false_alarm_rate``, as far as each gate's own assumptions hold (:mod:`xapp.rollout.sequential`,
:mod:`xapp.rollout.paired`). ``quality`` and ``pairs`` are looked at when their reports have doubled; between
two looks the earlier interval stands. A restarted xApp looks once more.

Decision
--------
1. A gate whose whole interval is beyond its limit is *harmful*: roll back, at once.
2. Quality or pairs whose whole interval is within the limit are *cleared*: promote (errors and latency are
   never proven good by tens of reports; that they are not harmful is enough).
3. At the end of the stage's time, with ``min_reports`` on both sides, or pairs at their first look: promote,
   as not shown to be worse. The candidate has gained on held-out pictures before, and what is left open is as
   small as the stage allows. If pairs have begun but not reached their first look, or the estimate (of the
   pairs, where there are any) is beyond the limit, the stage goes on first, up to ``PATIENCE`` times its
   length.
4. Still too few reports after ``PATIENCE`` times its length: roll back. Silence is no evidence, and users
   that fell silent with the new version least of all. (Not a false alarm of a gate: the reason says which.)
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Final, Literal

import msgspec

from xapp.rollout.paired import FIRST_PAIRS, Series, mean_difference
from xapp.rollout.sequential import (
    FIRST_LOOK,
    UNKNOWN,
    Interval,
    Moments,
    difference_in_differences,
    difference_of_shares,
    level_of_look,
    look_due,
)

PATIENCE: Final = 5.0
GATES: Final = ("quality", "pairs", "errors", "latency")
LATE_QUANTILE: Final = 0.95
_IN_DB: Final = ("quality", "pairs")

Finding = Literal["open", "cleared", "harmful"]
Decision = Literal["go_on", "promote", "roll_back"]


class GateSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Limits of the gates.

    Attributes:
        margin_db: mean PSNR loss that is tolerated, dB.
        error_margin, late_margin: rise of the share of failures, of late pictures, that is tolerated, 0..1.
        false_alarm_rate: of all gates and stages of a roll-out together.
        unit: of ``margin_db`` and quality, for people: dB, or points (per cent) of alignment confidence.
        min_reports: quality reports on each side before a stage can end well.
    """

    margin_db: float = 0.3
    error_margin: float = 0.02
    late_margin: float = 0.10
    false_alarm_rate: float = 0.05
    min_reports: int = 3
    unit: str = "dB"

    def __post_init__(self) -> None:
        """Raises ValueError naming the setting and what would be right."""
        if not 0 < self.false_alarm_rate < 1:
            raise ValueError(f"false_alarm_rate = {self.false_alarm_rate}: above 0 and below 1 is needed")
        for name in ("margin_db", "error_margin", "late_margin"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} = {getattr(self, name)}: 0 or more is needed")
        if self.min_reports < 2:
            raise ValueError(f"min_reports = {self.min_reports}: at least 2 is needed")


class UserRecord(msgspec.Struct):
    """What one user reported.

    Attributes:
        rank: place in the order of change.
        before, after: residuals, dB. before_failures, failures: transmissions without a picture.
        pairs: new version minus parent on the same pictures, dB.
        latency_before: ms.
        late, timed: pictures later than usual, of how many, in this stage.
    """

    rank: int = 0
    before: Moments = msgspec.field(default_factory=Moments)
    after: Moments = msgspec.field(default_factory=Moments)
    pairs: Series = msgspec.field(default_factory=Series)
    before_failures: int = 0
    failures: int = 0
    latency_before: Moments = msgspec.field(default_factory=Moments)
    late: int = 0
    timed: int = 0

    def begin_stage(self) -> None:
        """Forget the stage before; the baseline stays."""
        self.after, self.pairs = Moments(), Series()
        self.failures = self.late = self.timed = 0


class Reading(msgspec.Struct, frozen=True, kw_only=True):
    """One gate at one moment.

    Attributes:
        estimate, low, high: treated minus control, with its interval. limit: what is tolerated.
        treated, control: reports so far.
        look: number of the look that the interval is of, 0 before the first and for gates that have none.
        unit: of quality and pairs, for people.
    """

    gate: str
    estimate: float
    low: float
    high: float
    limit: float
    finding: Finding
    treated: int
    control: int
    look: int = 0
    unit: str = "dB"


class Verdict(msgspec.Struct, frozen=True):
    """What to do with the stage, and why in one line."""

    decision: Decision
    reason: str


def read_gates(
    users: Iterable[tuple[bool, UserRecord]],
    settings: GateSettings,
    gated_stages: int,
    earlier: Sequence[Reading] = (),
) -> list[Reading]:
    """The gates on everything reported in this stage.

    Args:
        users: (treated, record). gated_stages: of the roll-out, which share the false-alarm rate.
        earlier: what was read last in this stage.
    """
    known = list(users)
    alpha = settings.false_alarm_rate / (len(GATES) * max(gated_stages, 1))
    last = {reading.gate: reading for reading in earlier}

    def look(
        gate: str, counts: list[tuple[bool, int]], first: int, interval: Callable[[float], Interval]
    ) -> Reading:
        number, before = look_due(sum(count for _, count in counts), first), last.get(gate)
        if before is not None and before.look >= number:
            now = Interval(before.estimate, before.low, before.high)
            number = before.look
        else:
            now = interval(level_of_look(alpha, number)) if number else UNKNOWN
        reading = _reading(gate, now, -settings.margin_db, counts, number)
        return msgspec.structs.replace(reading, unit=settings.unit)

    compared = [(t, r) for t, r in known if r.before.count and r.after.count]
    readings = [
        look(
            "quality",
            [(t, r.after.count) for t, r in compared],
            FIRST_LOOK,
            lambda level: difference_in_differences(((t, r.before, r.after) for t, r in compared), level),
        ),
        look(
            "pairs",
            [(t, r.pairs.count) for t, r in known if t],
            FIRST_PAIRS,
            lambda level: mean_difference([r.pairs for t, r in known if t], level),
        ),
    ]
    healthy = [(t, r) for t, r in known if not r.before_failures]
    tried = [(t, r.after.count + r.failures) for t, r in healthy]
    errors = _difference([(t, r.failures) for t, r in healthy], tried, alpha)
    readings.append(_reading("errors", errors, settings.error_margin, tried))
    timed = [(t, r.timed) for t, r in known]
    late = _difference([(t, r.late) for t, r in known], timed, alpha)
    readings.append(_reading("latency", late, settings.late_margin, timed))
    return readings


def judge(readings: list[Reading], elapsed_s: float, observe_s: float, settings: GateSettings) -> Verdict:
    """Rules 1 to 4 of the module's docstring.

    Args:
        elapsed_s: since the stage's users were switched. observe_s: planned length of the stage.
    """
    for reading in readings:
        if reading.finding == "harmful":
            return Verdict("roll_back", _line(reading, "is beyond the limit"))
    by_gate = {reading.gate: reading for reading in readings}
    quality, pairs = by_gate["quality"], by_gate["pairs"]
    enough = pairs.look > 0 or min(quality.treated, quality.control) >= settings.min_reports
    for reading in (pairs, quality):
        if enough and reading.finding == "cleared":
            return Verdict("promote", _line(reading, "is within the limit"))
    if elapsed_s < observe_s:
        return Verdict("go_on", f"{elapsed_s:.0f} of {observe_s:.0f} s")
    if not enough:
        counts = f"{quality.treated} and {quality.control} reports"
        lacking = f"{counts}, {settings.min_reports} of each are needed"
        overdue = elapsed_s >= PATIENCE * observe_s
        return Verdict("roll_back" if overdue else "go_on", f"no evidence in {elapsed_s:.0f} s: {lacking}")
    return _undecided(quality, pairs, elapsed_s, observe_s)


def _undecided(quality: Reading, pairs: Reading, elapsed_s: float, observe_s: float) -> Verdict:
    """Rule 3: the stage's time is over."""
    known = pairs if pairs.look else quality
    if elapsed_s < PATIENCE * observe_s:
        if pairs.treated and not pairs.look:
            return Verdict("go_on", f"{pairs.treated} of {FIRST_PAIRS} pictures restored by both versions")
        if known.estimate < known.limit:
            return Verdict("go_on", _line(known, "looks worse and is watched longer"))
    return Verdict("promote", _line(known, f"is not shown to be worse in {elapsed_s:.0f} s"))


def _reading(
    gate: str, interval: Interval, limit: float, counts: list[tuple[bool, int]], look: int = 0
) -> Reading:
    # A loss of quality is a negative difference, a rise of failures a positive one.
    in_db = gate in _IN_DB
    harmful = interval.high < limit if in_db else interval.low > limit
    cleared = interval.low >= limit if in_db else interval.high <= limit
    return Reading(
        gate=gate,
        estimate=interval.estimate,
        low=interval.low,
        high=interval.high,
        limit=limit,
        finding="harmful" if harmful else "cleared" if cleared else "open",
        treated=_sum(counts, True),
        control=_sum(counts, False),
        look=look,
    )


def _difference(events: list[tuple[bool, int]], trials: list[tuple[bool, int]], alpha: float) -> Interval:
    treated, control = ((_sum(events, group), _sum(trials, group)) for group in (True, False))
    return difference_of_shares(treated, control, alpha)


def _sum(counts: Iterable[tuple[bool, int]], group: bool) -> int:
    return sum(count for treated, count in counts if treated is group)


def _line(reading: Reading, what: str) -> str:
    unit, scale, digits = (f" {reading.unit}", 1.0, 2) if reading.gate in _IN_DB else ("%", 100.0, 1)
    estimate, low, high, limit = (
        f"{scale * value:+.{digits}f}{unit}"
        for value in (reading.estimate, reading.low, reading.high, reading.limit)
    )
    against, reports = "the control group", f"{reading.treated} and {reading.control} reports"
    if reading.gate == "pairs":
        against, reports = "the parent on the same pictures", f"{reading.treated} pictures"
    return f"{reading.gate} {estimate} against {against} ({low} .. {high}; limit {limit}; {reports}) {what}"
