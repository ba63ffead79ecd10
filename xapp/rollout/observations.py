"""What users report before and during a roll-out, folded to the few numbers that the gates need. Pure.

Before a roll-out is known of, the latest reports of each user are kept (:class:`History`), so that a baseline
exists when one begins. A report counts for a roll-out only with the version that its user should have at that
time: the parent before the change and in the control group, the new one among the treated. What is on its way
during a switch, comes of another family or of a conventional codec, counts nowhere.
"""

from __future__ import annotations

import math
from collections import OrderedDict, deque
from collections.abc import Iterator
from typing import Final

import msgspec
import numpy as np

from codec_runtime.contract.alignment import AlignmentReport
from codec_runtime.contract.telemetry import FailureReport, QualityReport
from xapp.rollout.gates import LATE_QUANTILE, UserRecord
from xapp.rollout.plan import Member
from xapp.rollout.state import Phase, Rollout

MAX_MEMBERS: Final = 2048
"""Members whose history is kept, those heard of latest; the others can be served but not compared."""
MAX_REPORTS: Final = 64
MIN_LATENCIES: Final = 20
"""Latencies from before, of all users together, below which no percentile is taken of them."""


class Past(msgspec.Struct, frozen=True):
    """One report of the past: wall clock s, residual dB (NaN: a failure), latency ms; of which decoder."""

    time_s: float
    residual_db: float
    latency_ms: float
    decoder: str
    version: int


class History:
    """Latest reports of each member, bounded."""

    def __init__(self) -> None:
        self._reports: OrderedDict[Member, deque[Past]] = OrderedDict()

    def add(self, member: Member, past: Past) -> None:
        """Keep one report."""
        reports = self._reports.get(member)
        if reports is None:
            reports = self._reports[member] = deque(maxlen=MAX_REPORTS)
        reports.append(past)
        self._reports.move_to_end(member)
        if len(self._reports) > MAX_MEMBERS:
            self._reports.popitem(last=False)

    def of(self, member: Member, decoder: str, version: int, after_s: float) -> Iterator[Past]:
        """A member's reports with a version since a time."""
        for past in self._reports.get(member, ()):
            if (past.decoder, past.version) == (decoder, version) and past.time_s >= after_s:
                yield past


class Observations(msgspec.Struct):
    """Of one roll-out.

    Attributes:
        users: record by site and user.
        late_factor: relative latency above which a picture is late; infinite while there is no saying.
    """

    users: dict[str, dict[str, UserRecord]]
    late_factor: float = math.inf

    def record(self, member: Member) -> UserRecord | None:
        """Record of a member, None for somebody else."""
        return self.users.get(member.site, {}).get(member.user)

    def split(self, rollout: Rollout) -> list[tuple[bool, UserRecord]]:
        """(treated, record) of everybody who can be compared: control, or at a site that serves it."""
        rows = []
        for site, records in self.users.items():
            serves = site in rollout.sites and rollout.sites[site].bundle == "delivered"
            for record in records.values():
                switched = record.rank < rollout.treated
                if serves or not switched:
                    rows.append((switched, record))
        return rows

    def begin_stage(self) -> None:
        """Forget the stage before."""
        for records in self.users.values():
            for record in records.values():
                record.begin_stage()

    def on_quality(
        self, rollout: Rollout, member: Member, report: QualityReport, residual_db: float
    ) -> None:
        """Fold a restored picture; ``residual_db`` against the parent's surface."""
        record = self._counting(rollout, member, report.decoder, report.decoder_version)
        if record is None or not math.isfinite(residual_db):
            return
        if _before(rollout):
            record.before.add(residual_db)
            record.latency_before.add(report.latency_ms)
            return
        record.after.add(residual_db)
        parent_db = report.parent_psnr_db
        paired = report.decoder_version == rollout.version and report.parent_version == rollout.parent
        if paired and parent_db is not None and math.isfinite(report.psnr_db - parent_db):
            record.pairs.add(report.psnr_db - parent_db)
        if record.latency_before.count and math.isfinite(self.late_factor):
            record.timed += 1
            record.late += report.latency_ms > self.late_factor * record.latency_before.mean

    def on_alignment(
        self, rollout: Rollout, member: Member, report: AlignmentReport, confidence: float
    ) -> None:
        """Fold aligned samples; ``confidence`` in per cent."""
        record = self._counting(rollout, member, report.adapter, report.adapter_version)
        if record is not None:
            (record.before if _before(rollout) else record.after).add(confidence)

    def on_failure(self, rollout: Rollout, member: Member, report: FailureReport) -> None:
        """Fold a transmission that gave no picture."""
        record = self._counting(rollout, member, report.decoder, report.decoder_version)
        if record is None:
            return
        if _before(rollout):
            record.before_failures += 1
        else:
            record.failures += 1

    def _counting(self, rollout: Rollout, member: Member, decoder: str, version: int) -> UserRecord | None:
        if decoder != rollout.family or not (_before(rollout) or _watched(rollout)):
            return None
        record = self.record(member)
        if record is None:
            return None
        treated = _watched(rollout) and record.rank < rollout.treated
        return record if version == (rollout.version if treated else rollout.parent) else None


def baseline(rollout: Rollout, history: History, after_s: float) -> Observations:
    """Observations that begin with what is known from before.

    Args:
        after_s: of the wall clock; older reports are of other content.
    """
    observations = Observations({})
    relative: list[float] = []
    for rank, member in enumerate(rollout.members[:MAX_MEMBERS]):
        record = UserRecord(rank)
        latencies = []
        for past in history.of(member, rollout.family, rollout.parent, after_s):
            if math.isnan(past.residual_db):
                record.before_failures += 1
                continue
            record.before.add(past.residual_db)
            record.latency_before.add(past.latency_ms)
            latencies.append(past.latency_ms)
        if latencies and record.latency_before.mean > 0:
            relative += [latency / record.latency_before.mean for latency in latencies]
        observations.users.setdefault(member.site, {})[member.user] = record
    if len(relative) >= MIN_LATENCIES:
        observations.late_factor = float(np.quantile(relative, LATE_QUANTILE))
    return observations


def _before(rollout: Rollout) -> bool:
    phase = rollout.standing_phase
    first = phase is Phase.DELIVERING and rollout.stage == 0
    return first or phase in (Phase.PENDING, Phase.PUBLISHING)


def _watched(rollout: Rollout) -> bool:
    return rollout.standing_phase is Phase.OBSERVING
