"""What a lab run leaves of classified pictures: ``classifications.jsonl``, one JSON object a line."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import msgspec

from xapp.lab.records import read_lines

CLASSIFICATIONS_FILE: Final = "classifications.jsonl"


class Classification(msgspec.Struct, frozen=True, kw_only=True):
    """One classified picture.

    Attributes:
        cut: id. device_nodes: of it. snr_db: of the link; uplink_bps: emulated.
        device_ms, network_ms, edge_ms, feature_bytes: as reported to the site; the head's time is emulated.
        on_device_ms: what the whole network takes on the device. on_edge_ms: what sending the picture would
            have taken at this rate, with the whole network's time on the site's side as measured last.
        best: the class answered; agrees: the same as the whole network's.
        moved: first picture after a move of the cut.
    """

    time_ns: int
    elapsed_s: float
    user: str
    compute_class: str
    network: str
    version: int
    cut: str
    device_nodes: int
    snr_db: float
    uplink_bps: float
    device_ms: float
    network_ms: float
    edge_ms: float
    feature_bytes: int
    on_device_ms: float
    on_edge_ms: float
    best: int
    agrees: bool
    moved: bool

    @property
    def total_ms(self) -> float:
        """From the picture to the answer."""
        return self.device_ms + self.network_ms + self.edge_ms


def read_classifications(path: Path) -> list[Classification]:
    """All of a run; a last line cut off by a killed process is left out.

    Raises:
        ValueError: another line is not a classification; names file and line.
    """
    return read_lines(path, Classification)
