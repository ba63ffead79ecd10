"""Settings of the split control: where users that classify pictures cut their networks."""

from __future__ import annotations

import msgspec

from codec_runtime.contract.devices import EDGES


class SplitOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """See :mod:`xapp.policy.split_control`. All apply at once when the settings file changes.

    Attributes:
        period_s: between two decisions of a site.
        edge_class: the sites' servers, of :data:`codec_runtime.contract.devices.EDGES`; corrected by what
            users report.
        uplink_mhz, downlink_mhz: of the carrier, what a user gets; with the SINR this predicts rates, which
            are corrected by what users report.
        delay_ms: one way, where nothing was measured.
        per_joule: a joule of a full battery in seconds of latency; it counts for more as the battery empties,
            and for nothing on mains.
        band: relative excess over the best cut's cost that is put up with; patience: costs of a move lost
            beyond it before the move is made.
        move_ms: what a move costs beside sending weights.
        memory_s: after which what users reported of link and server counts half; so one who left the server
            when it was slow tries it again.
        deadline_ms, energy_mj: of one request; 0 for none. Where no cut keeps them, the best one counts.
        per_disagreement: an answer other than the uncut network's, in seconds of latency: what a cut whose
            features are squeezed must save. min_agreement: cuts that agree less often are never chosen.
        min_depth: operations between the input and what crosses, at least (privacy); always kept.
    """

    period_s: float = 1.0
    edge_class: str = "edge-cpu-32"
    uplink_mhz: float = 2.5
    downlink_mhz: float = 7.5
    delay_ms: float = 8.0
    per_joule: float = 0.1
    band: float = 0.1
    patience: float = 1.0
    move_ms: float = 50.0
    memory_s: float = 30.0
    deadline_ms: float = 0.0
    energy_mj: float = 0.0
    per_disagreement: float = 0.5
    min_agreement: float = 0.0
    min_depth: int = 0

    def __post_init__(self) -> None:
        """Raises ValueError naming the setting and its range."""
        if self.edge_class not in EDGES:
            raise ValueError(f"edge_class = {self.edge_class!r}: one of {', '.join(EDGES)} is needed")
        for name, low, high in (
            ("period_s", 0.1, 3600.0),
            ("uplink_mhz", 0.001, 1000.0),
            ("downlink_mhz", 0.001, 1000.0),
            ("delay_ms", 0.0, 10_000.0),
            ("per_joule", 0.0, 1e6),
            ("band", 0.0, 10.0),
            ("patience", 0.0, 1000.0),
            ("move_ms", 0.0, 600_000.0),
            ("memory_s", 0.1, 1e6),
            ("deadline_ms", 0.0, 600_000.0),
            ("energy_mj", 0.0, 1e9),
            ("per_disagreement", 0.0, 1e6),
            ("min_agreement", 0.0, 1.0),
            ("min_depth", 0, 100_000),
        ):
            value = getattr(self, name)
            if not low <= value <= high:
                raise ValueError(f"{name} = {value}: {low}..{high} is needed")
