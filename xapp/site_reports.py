"""What sites report, handed to who learns from it, who needs the sites to be made."""

from __future__ import annotations

from collections.abc import Sequence

from codec_runtime.contract.alignment import AlignmentReport
from codec_runtime.contract.bundle import BundleManifest
from codec_runtime.contract.telemetry import FailureReport, QualityReport, TrainingReport
from xapp.rollout.driver import RolloutDriver
from xapp.updates.coordinator import UpdateCoordinator
from xapp.updates.planner import UpdatePlanner, adapter_key


class SiteReports:
    """A :class:`xapp.site_watch.SiteListener`.

    Args:
        planner: told of the versions that exist anywhere.

    Attributes:
        coordinator: told of training and quality. rollouts: told of quality and failures. Both are set once.
    """

    def __init__(self, planner: UpdatePlanner) -> None:
        self.coordinator: UpdateCoordinator | None = None
        self.rollouts: RolloutDriver | None = None
        self._planner = planner

    def on_served(self, site: str, models: Sequence[BundleManifest]) -> None:
        """New versions get higher numbers than any that a site serves."""
        for manifest in models:
            if manifest.kind == "decoder":
                self._planner.note_version(manifest.name, manifest.version)
            elif manifest.kind == "adapter":
                self._planner.note_version(adapter_key(manifest.name), manifest.version)

    def on_quality(self, site: str, report: QualityReport, expected_psnr_db: float, row: int) -> None:
        """A transmission was measured."""
        if self.rollouts is not None:
            self.rollouts.on_quality(site, report, expected_psnr_db)
        if self.coordinator is not None:
            self.coordinator.on_quality(report, expected_psnr_db, row)

    def on_failure(self, site: str, report: FailureReport) -> None:
        """A transmission gave no picture."""
        if self.rollouts is not None:
            self.rollouts.on_failure(site, report)

    def on_training(self, site: str, report: TrainingReport) -> None:
        """State of a training job; jobs have names of their own, whichever site they run at."""
        if self.coordinator is not None:
            self.coordinator.on_training(report)

    def on_alignment(self, site: str, index: int, report: AlignmentReport) -> None:
        """Samples of a user were aligned."""
        if self.rollouts is not None:
            self.rollouts.evidence.on_alignment(self.rollouts.rollouts, site, report)
        if self.coordinator is not None:
            self.coordinator.on_alignment(report, index)
