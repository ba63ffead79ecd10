"""Reports of the sites to readings of the gates, for all roll-outs in progress."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

from codec_runtime.contract.alignment import AlignmentReport
from codec_runtime.contract.telemetry import FailureReport, QualityReport
from xapp.rollout.actions import RolloutSite
from xapp.rollout.gates import Reading, read_gates
from xapp.rollout.observations import History, Observations, Past, baseline
from xapp.rollout.plan import Member
from xapp.rollout.state import Rollout

_BASELINE_REPORTS = 2
"""Reports from before that make a user comparable."""


class Evidence:
    """See the module docstring.

    Args:
        sites: whose catalogs know the parent's surface.

    Attributes:
        observations: of the roll-outs that have not ended, by id.
        readings: last ones, by id.
    """

    def __init__(self, sites: Mapping[str, RolloutSite]) -> None:
        self.observations: dict[str, Observations] = {}
        self.readings: dict[str, list[Reading]] = {}
        self._sites = sites
        self._history = History()

    def begin(self, rollout: Rollout, after_s: float) -> None:
        """Collect for a roll-out; reports of the parent since ``after_s`` (wall clock) are its baseline."""
        self.observations[rollout.id] = baseline(rollout, self._history, after_s)

    def begin_stage(self, rollout_id: str) -> None:
        """The stage's users are switched from now on."""
        self.observations.setdefault(rollout_id, Observations({})).begin_stage()
        self.readings.pop(rollout_id, None)

    def end(self, rollout_id: str) -> None:
        """The roll-out has come to an end."""
        self.observations.pop(rollout_id, None)
        self.readings.pop(rollout_id, None)

    def known(self, member: Member, family: str, version: int, after_s: float) -> bool:
        """Whether a member has a baseline already."""
        return sum(1 for _ in self._history.of(member, family, version, after_s)) >= _BASELINE_REPORTS

    def comparable(self, rollout: Rollout) -> bool:
        """Whether a user on each side of the first stage has a baseline."""
        observations = self.observations.get(rollout.id)
        if observations is None:
            return False
        based = [
            (record := observations.record(member)) is not None and record.before.count >= _BASELINE_REPORTS
            for member in rollout.members
        ]
        first = rollout.stages[0].count
        return any(based[:first]) and any(based[first:])

    def on_quality(
        self, rollouts: Iterable[Rollout], site: str, report: QualityReport, expected_psnr_db: float
    ) -> None:
        """Fold a restored picture; see :meth:`xapp.rollout.driver.RolloutDriver.on_quality`."""
        if report.codec != "semantic":
            return
        member, residual = Member(site, report.user), report.psnr_db - expected_psnr_db
        if not math.isnan(residual):  # NaN marks a failure
            at_s = report.time_ns / 1e9
            past = Past(at_s, residual, report.latency_ms, report.decoder, report.decoder_version)
            self._history.add(member, past)
        for rollout in self._collecting(rollouts, site):
            # The version on trial may come with a surface of its own; the yardstick is the parent's.
            if report.decoder_version == rollout.version:
                residual = self._against_parent(rollout, site, report)
            else:
                residual = report.psnr_db - expected_psnr_db
            self.observations[rollout.id].on_quality(rollout, member, report, residual)

    def on_failure(self, rollouts: Iterable[Rollout], site: str, report: FailureReport) -> None:
        """Fold a transmission that gave no picture."""
        member = Member(site, report.user)
        past = Past(report.time_ns / 1e9, math.nan, 0.0, report.decoder, report.decoder_version)
        self._history.add(member, past)
        for rollout in self._collecting(rollouts, site):
            self.observations[rollout.id].on_failure(rollout, member, report)

    def on_alignment(self, rollouts: Iterable[Rollout], site: str, report: AlignmentReport) -> None:
        """Fold aligned samples: confidence, in per cent, is for an adapter what a residual is otherwise."""
        member, confidence = Member(site, report.user), 100.0 * report.confidence
        past = Past(report.time_ns / 1e9, confidence, 0.0, report.adapter, report.adapter_version)
        self._history.add(member, past)
        for rollout in self._collecting(rollouts, site):
            if rollout.kind == "adapter":
                self.observations[rollout.id].on_alignment(rollout, member, report, confidence)

    def read(self, rollout: Rollout) -> list[Reading]:
        """The gates now."""
        observations = self.observations.setdefault(rollout.id, Observations({}))
        earlier = self.readings.get(rollout.id, ())
        readings = read_gates(observations.split(rollout), rollout.gates, len(rollout.stages), earlier)
        self.readings[rollout.id] = readings
        return readings

    def _collecting(self, rollouts: Iterable[Rollout], site: str) -> list[Rollout]:
        return [r for r in rollouts if r.active and site in r.sites and r.id in self.observations]

    def _against_parent(self, rollout: Rollout, site: str, report: QualityReport) -> float:
        surface = self._sites[site].catalog.surface(rollout.family, rollout.parent)
        if surface is None or not surface.covers(report.snr_db, report.prefix):
            return math.nan
        return report.psnr_db - surface.at(report.snr_db, report.prefix)
