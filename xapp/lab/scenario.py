"""What is done to the radio and the content at which time of a run: a pure function of time."""

from __future__ import annotations

from dataclasses import dataclass

from codec_runtime.contract.telemetry import DeviceClass
from xapp.lab.pictures import DriftKind


@dataclass(frozen=True)
class Condition:
    """Condition of a user: extra attenuation in dB and content drift (empty: none)."""

    attenuation_db: float = 0.0
    drift: DriftKind | None = None


UNDISTURBED = Condition()


@dataclass(frozen=True)
class Scenario:
    """From ``drift_at_s`` on, one group's channel is ``degrade_db`` worse and its content is drifted.

    Attributes:
        drift_at_s: seconds after the start; 0 or less for never.
        group: the device class concerned.
        degrade_db: extra attenuation, dB.
        kind: content drift.
    """

    drift_at_s: float
    group: DeviceClass
    degrade_db: float
    kind: DriftKind

    def active(self, elapsed_s: float) -> bool:
        """Whether the disturbance is on at ``elapsed_s`` seconds after the start."""
        return 0.0 < self.drift_at_s <= elapsed_s

    def condition(self, elapsed_s: float, group: str) -> Condition:
        """Condition of a user of ``group`` at ``elapsed_s`` seconds after the start."""
        if group == self.group and self.active(elapsed_s):
            return Condition(self.degrade_db, self.kind)
        return UNDISTURBED
