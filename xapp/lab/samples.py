"""Which transmissions keep their pictures for the report, and writing those to disk."""

from __future__ import annotations

from pathlib import Path

from PIL import Image

from xapp.lab.pictures import Picture
from xapp.lab.records import Transmission

BEFORE_S = 8.0
"""Pictures of the drift group from this long before the drift count as "before"."""

_SNR_BIN_DB = 5.0
_TIME_BIN_S = 20.0
_PHASES = 3


class SampleChoice:
    """Picks a bounded number of transmissions: three phases of the drift group, the rest over SNR and time.

    Phases of the drift group: ``before`` the drift; ``drifted``, with the decoder version of before;
    ``updated``, after the drift and with a newer version. One picture a user and phase. Others are
    ``spread``: one per 5 dB and 20 s.

    Args:
        limit: most samples in all; half of them are reserved for the phases.
        drift_group: its device class.
        drift_at_s: when it drifts, 0 for never.
    """

    def __init__(self, limit: int, drift_group: str, drift_at_s: float) -> None:
        self._group = drift_group
        self._drift_at_s = drift_at_s
        phases = _PHASES if drift_at_s > 0.0 else 0
        self._per_phase = limit // 2 // _PHASES if phases else 0
        self._spread_left = limit - phases * self._per_phase
        self._taken: dict[str, set[str]] = {"before": set(), "drifted": set(), "updated": set()}
        self._bins: set[tuple[int, int]] = set()
        self._version_before: dict[str, int] = {}

    def choose(self, transmission: Transmission) -> str:
        """The reason to keep its pictures, empty for none. Failed ones are never kept."""
        if transmission.failed:
            return ""
        phase = self._phase(transmission)
        if phase:
            users = self._taken[phase]
            if len(users) < self._per_phase and transmission.user not in users:
                users.add(transmission.user)
                return phase
            return ""
        place = (
            int(transmission.effective_snr_db // _SNR_BIN_DB),
            int(transmission.elapsed_s // _TIME_BIN_S),
        )
        if self._spread_left > 0 and place not in self._bins:
            self._bins.add(place)
            self._spread_left -= 1
            return "spread"
        return ""

    def _phase(self, transmission: Transmission) -> str:
        if transmission.group != self._group or self._drift_at_s <= 0.0:
            return ""
        if not transmission.drifted:
            known = self._version_before.get(transmission.decoder, 0)
            self._version_before[transmission.decoder] = max(known, transmission.decoder_version)
            return "before" if transmission.elapsed_s >= self._drift_at_s - BEFORE_S else ""
        # A family not seen before the drift: take what it shows first as its version of before.
        before = self._version_before.setdefault(transmission.decoder, transmission.decoder_version)
        return "updated" if transmission.decoder_version > before else "drifted"


def save_sample(folder: Path, number: int, original: Picture, restored: Picture) -> None:
    """Write ``{number}_original.png`` and ``{number}_restored.png``."""
    folder.mkdir(parents=True, exist_ok=True)
    Image.fromarray(original).save(folder / f"{number}_original.png")
    Image.fromarray(restored).save(folder / f"{number}_restored.png")
