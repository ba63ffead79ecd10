"""Content drift of a user group: has its quality fallen below what channel and rate explain?

The residual r = measured PSNR - surface(effective SNR, prefix, decoder) does not move with the channel. Every
user has pictures of its own, so r is first normalised by the user's running baseline b and the group's
within-user standard deviation s (both learned on-line; what is suspect is learned when the suspicion ends):

    z = (r - b) / s

Two detectors look at z, either may fire:
- Page's cumulative sum (Biometrika 1954) for a drop, S = max(0, S - z - k) > h, with k = half of the drop
  looked for, at least 0.5, plus the baseline's own error (a drop of d standard deviations takes about
  h / (d - k) reports; without drift there are of the order of exp(2 k h) reports between false alarms);
- ADWIN (Bifet and Gavalda, SDM 2007; river), for smaller lasting drops, where the window's mean fell.

A drop must also have lasted for ``min_samples`` reports and be seen at two users where there are as many.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass
from typing import Final

from river.drift import ADWIN

_PRIOR_SD_DB: Final = 2.0
_PRIOR_COUNT: Final = 10.0
_BASELINE_MEMORY: Final = 60
_GROUP_WEIGHT: Final = 3.0
_SMALLEST_SD_DB: Final = 0.5


@dataclass(frozen=True, slots=True)
class DriftSignal:
    """Drift of a group.

    Attributes:
        drop_db: mean residual below the baseline since the suspicion began, dB, > 0.
        samples: reports since then.
        detector: ``cusum`` or ``adwin``.
    """

    drop_db: float
    samples: int
    detector: str


class _Baseline:
    """Running mean of one user's residual, over the last ``_BASELINE_MEMORY`` reports or so."""

    __slots__ = ("count", "mean")

    def __init__(self) -> None:
        self.count = 0
        self.mean = 0.0

    def learn(self, value: float) -> None:
        self.count = min(self.count + 1, _BASELINE_MEMORY)
        self.mean += (value - self.mean) / self.count


class GroupDriftDetector:
    """Detector of one group (module docstring). Pure; 2 us a report.

    Args:
        min_samples: reports that a drop must have lasted.
        threshold: h, in standard deviations. Higher: fewer false alarms, later detection.
        drop_db: the drop that the cumulative sum is tuned for, dB.
        warm_up: reports of the group before anything is judged; 4 of each user as well.
        adwin_delta: ADWIN's confidence.
    """

    def __init__(
        self,
        *,
        min_samples: int = 8,
        threshold: float = 6.0,
        drop_db: float = 1.5,
        warm_up: int = 20,
        adwin_delta: float = 0.001,
    ) -> None:
        self._min_samples = min_samples
        self._threshold = threshold
        self._drop_db = drop_db
        self._warm_up = warm_up
        self._adwin_delta = adwin_delta
        self._waiting: deque[tuple[_Baseline, float]] = deque(maxlen=256)
        self._seen_at: set[str] = set()
        self._sum = 0.0
        self._run = 0
        self._deviation = 0.0
        self.reset()

    def reset(self) -> None:
        """Forget everything: the group has a new decoder version, hence new baselines."""
        self._users: dict[str, _Baseline] = {}
        self._group = _Baseline()
        self._learned = 1
        self._square = _PRIOR_SD_DB**2 * _PRIOR_COUNT
        self._square_count = _PRIOR_COUNT
        self.samples = 0
        self._clear_suspicion()
        self._new_adwin()

    @property
    def drift_db(self) -> float:
        """Mean deviation from the baseline since the suspicion began, dB; 0 when there is none."""
        return self._deviation / self._run if self._run else 0.0

    @property
    def baseline_db(self) -> float:
        """Mean of the group while nothing was suspect, dB."""
        return self._group.mean

    @property
    def statistic(self) -> float:
        """The cumulative sum, in standard deviations; drift at ``threshold``."""
        return self._sum

    def sd_db(self) -> float:
        """Within-user standard deviation of the residual, dB."""
        return max(math.sqrt(self._square / self._square_count), _SMALLEST_SD_DB)

    def update(self, user: str, residual_db: float) -> DriftSignal | None:
        """Fold one residual; returns a signal when drift is detected (then the suspicion starts anew).

        Args:
            user: whose transmission.
            residual_db: measured PSNR minus the surface, dB; a value that is not finite is ignored.
        """
        if not math.isfinite(residual_db):
            return None
        self.samples += 1
        baseline = self._users.setdefault(user, _Baseline())
        if self.samples <= self._warm_up or baseline.count < 4:
            self._learn(baseline, residual_db)
            return None
        sd = self.sd_db()
        deviation = residual_db - self._expected(baseline)
        z = min(max(deviation / sd, -3.5), 2.5)
        self._accumulate(user, deviation, z, sd)
        signal = self._judge()
        if signal is not None:
            self._clear_suspicion()
            self._new_adwin()
            return signal
        # Learning only what does not look like drift would bias the baseline upwards and its spread
        # downwards. So suspect reports wait, and are all learned once the suspicion is over.
        self._waiting.append((baseline, residual_db))
        if self._run == 0:
            self._learn_waiting()
        return None

    def _accumulate(self, user: str, deviation: float, z: float, sd: float) -> None:
        # A baseline learned from n reports is itself off by sd / sqrt(n); that must not look like drift.
        reference = min(max(0.5 * self._drop_db / sd, 0.5), 0.75) + 1.0 / math.sqrt(self._learned)
        self._sum = max(0.0, self._sum - z - reference)
        if self._sum == 0.0:
            self._run, self._deviation = 0, 0.0
            self._seen_at.clear()
        else:
            self._run += 1
            self._deviation += deviation
            self._seen_at.add(user)
        before = self._adwin.estimation
        self._adwin.update(z)  # type: ignore[no-untyped-call]
        self._adwin_fell = bool(self._adwin.drift_detected and self._adwin.estimation < before - 0.1)

    def _judge(self) -> DriftSignal | None:
        enough = self._run >= self._min_samples and len(self._seen_at) >= min(2, len(self._users))
        if enough and self._sum > self._threshold:
            return DriftSignal(max(-self.drift_db, 0.0), self._run, "cusum")
        if self._adwin_fell and self._adwin.width >= self._min_samples:
            drop = -self._adwin.estimation * self.sd_db()
            if drop >= 0.3 * self._drop_db:
                return DriftSignal(drop, int(self._adwin.width), "adwin")
        return None

    def _expected(self, baseline: _Baseline) -> float:
        weight = baseline.count + _GROUP_WEIGHT
        return (baseline.count * baseline.mean + _GROUP_WEIGHT * self._group.mean) / weight

    def _learn(self, baseline: _Baseline, residual_db: float) -> None:
        if baseline.count >= 2:
            # The deviation from a mean of n samples has variance (1 + 1/n) s^2.
            limit = 3.0 * self.sd_db()
            deviation = min(max(residual_db - baseline.mean, -limit), limit)
            self._square += deviation**2 / (1.0 + 1.0 / baseline.count)
            self._square_count += 1.0
        self._learned = min(self._learned + 1, _BASELINE_MEMORY * len(self._users))
        baseline.learn(residual_db)
        self._group.learn(residual_db)

    def _learn_waiting(self) -> None:
        for baseline, residual_db in self._waiting:
            self._learn(baseline, residual_db)
        self._waiting.clear()

    def _clear_suspicion(self) -> None:
        self._waiting.clear()
        self._seen_at.clear()
        self._sum = 0.0
        self._run = 0
        self._deviation = 0.0

    def _new_adwin(self) -> None:
        self._adwin = ADWIN(  # type: ignore[no-untyped-call]
            delta=self._adwin_delta, clock=4, min_window_length=8, grace_period=16
        )
        self._adwin_fell = False
