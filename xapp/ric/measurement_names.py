"""Names of KPM measurements in use, and what their values mean.

Base stations differ in names and units. :data:`KNOWN` says which name carries which quantity in which unit,
and where that was read: in public code of srsRAN Project (``e2sm_kpm_du_meas_provider_impl.cpp``, releases
23.10 to 25.10), OpenAirInterface (``ran_func_kpm_subs.c``, March 2024 and 2026), ns-O-RAN
(``kpm-indication.cc``, ``mmwave-indication-message-helper.cc``), o-ran-sc kpimon-go (``types.go``: VIAVI's
names, without units).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, Literal

Metric = Literal["SINR", "CQI", "RSRP", "DRB.UEThpDl", "RRU.PrbTotDl"]
"""Canonical quantities, named as in :data:`xapp.telemetry.user_table.RANGES`: dB, index 0..15, dBm, kbit/s,
percent of the carrier's downlink resource blocks."""


@dataclass(frozen=True, slots=True)
class Carrier:
    """A downlink carrier; needed where a node counts resource blocks, and for the proxy.

    The defaults, 40 MHz at 30 kHz (106 blocks, TS 38.104 table 5.3.2-1) and full-time downlink, are what many
    testbeds use, not what a node said: configure yours. A wrong width shifts the proxy by 10 log10 of the
    error or more.

    Attributes:
        blocks: resource blocks.
        spacing_khz: subcarrier spacing: 15, 30, 60, 120.
        downlink_share: of the time, in (0, 1]; below 1 for TDD.
    """

    blocks: int = 106
    spacing_khz: int = 30
    downlink_share: float = 1.0

    def __post_init__(self) -> None:
        if self.blocks < 1 or self.spacing_khz not in (15, 30, 60, 120) or not 0 < self.downlink_share <= 1:
            raise ValueError(
                f"carrier {self}: blocks from 1, spacing 15/30/60/120 kHz, share in (0, 1] expected"
            )

    @property
    def usable_hz(self) -> float:
        """Bandwidth of all blocks times the downlink's share."""
        return 12e3 * self.blocks * self.spacing_khz * self.downlink_share

    @property
    def slots_per_ms(self) -> float:
        """Downlink slots."""
        return self.spacing_khz / 15 * self.downlink_share


_UNITS: Final[dict[str, Callable[[Carrier, int], tuple[float, float]]]] = {
    "dB": lambda carrier, period_ms: (1.0, 0.0),
    # TS 38.133 table 10.1.16.1-1: SINR_n covers 0.5 dB from -23.5 + n/2 on. Middle.
    "sinr-index": lambda carrier, period_ms: (0.5, -23.25),
    # ns-3 maps -23..40 dB to 0..127 by a straight line.
    "sinr-ns3": lambda carrier, period_ms: (63.0 / 127.0, -23.0),
    "index": lambda carrier, period_ms: (1.0, 0.0),
    "dBm": lambda carrier, period_ms: (1.0, 0.0),
    # TS 38.133 table 10.1.6.1-1: RSRP_n covers 1 dB from -157 + n on. Middle.
    "rsrp-index": lambda carrier, period_ms: (1.0, -156.5),
    "bit/s": lambda carrier, period_ms: (1e-3, 0.0),
    "kbit/s": lambda carrier, period_ms: (1.0, 0.0),
    "Mbit/s": lambda carrier, period_ms: (1e3, 0.0),
    "kbit": lambda carrier, period_ms: (1e3 / period_ms, 0.0),  # in the granularity period
    "Mbit": lambda carrier, period_ms: (1e6 / period_ms, 0.0),
    "percent": lambda carrier, period_ms: (1.0, 0.0),
    "blocks": lambda carrier, period_ms: (100.0 / carrier.blocks, 0.0),  # mean over downlink slots
    # summed over the slots of the granularity period
    "block-slots": lambda carrier, period_ms: (
        100.0 / (carrier.blocks * carrier.slots_per_ms * period_ms),
        0.0,
    ),
}

UNITS: Final = tuple(_UNITS)
"""Units that an override may name."""


@dataclass(frozen=True, slots=True)
class KnownName:
    """A measurement name of some base station.

    Attributes:
        name: as offered; with ``prefix`` the beginning of it.
        metric: what it is. unit: one of :data:`UNITS`. read_in: where that was read.
        verified: name and unit were read in code that writes them, or in the standard; otherwise the unit
            is an assumption.
    """

    name: str
    metric: Metric
    unit: str
    read_in: str
    verified: bool = True
    prefix: bool = False


KNOWN: Final = (
    # In the order of preference within a metric.
    KnownName("SINR", "SINR", "dB", "this project's lab"),
    KnownName("L3servingSINR3gpp_cell_", "SINR", "sinr-ns3", "ns-O-RAN kpm-indication.cc", prefix=True),
    KnownName("HO.SrcCellQual.RS-SINR-Converted.UEID", "SINR", "sinr-ns3", "a fork of ns-O-RAN", False),
    KnownName("HO.SrcCellQual.RS-SINR.UEID", "SINR", "sinr-ns3", "ns-O-RAN; a fork sends dB", False),
    KnownName("L3 serving SINR 3gpp", "SINR", "sinr-ns3", "ns-O-RAN's trace columns", False),
    KnownName("L3 serving SINR", "SINR", "dB", "ns-O-RAN's trace columns", False),
    KnownName("RF.serving.RSSINR", "SINR", "dB", "kpimon-go, VIAVI 1.4", False),
    KnownName("Viavi.UE.RsSinr", "SINR", "dB", "kpimon-go, VIAVI 1.3 and 1.4", False),
    KnownName("CQI", "CQI", "index", "srsRAN: the first user's mean, 0 without one"),
    KnownName("DRB.UECqiDl", "CQI", "index", "kpimon-go, VIAVI 1.3 and 1.4", False),
    KnownName("RSRP", "RSRP", "dBm", "this project's lab; not srsRAN's, see SRSRAN"),
    KnownName("RF.serving.RSRP", "RSRP", "dBm", "kpimon-go, VIAVI 1.4", False),
    KnownName("Viavi.UE.Rsrp", "RSRP", "dBm", "kpimon-go, VIAVI 1.3 and 1.4", False),
    KnownName("DRB.UEThpDl", "DRB.UEThpDl", "kbit/s", "TS 28.552 5.1.1.3.1, srsRAN, OAI"),
    KnownName("DRB.UEThpDl.UEID", "DRB.UEThpDl", "kbit/s", "ns-O-RAN", False),
    KnownName("DRB.RlcSduTransmittedVolumeDL", "DRB.UEThpDl", "kbit", "E2SM-KPM v3.00 7.10.1"),
    KnownName("DRB.PdcpSduVolumeDL", "DRB.UEThpDl", "Mbit", "TS 28.552 5.1.2.1.1.1, OAI 2026"),
    KnownName("RRU.PrbTotDl", "RRU.PrbTotDl", "percent", "TS 28.552 5.1.1.2.1, srsRAN, OAI 2026"),
    KnownName("RRU.PrbUsedDl", "RRU.PrbTotDl", "blocks", "TS 28.552 5.1.1.2.5, srsRAN"),
    KnownName("RRU.PrbUsedDl.UEID", "RRU.PrbTotDl", "blocks", "ns-O-RAN", False),
)
"""Names in use. Distributions (``L1M.SS-RSRP``, ``MR.NRScSSSINR``, ``CARR.WBCQIDist``, ``CARR.PDSCHMCSDist``)
are of a cell, not of a user, and left out: OAI of 2026 offers some in style 4 and repeats the cell's."""

SRSRAN: Final = frozenset({"CQI", "RSRP", "RSRQ", "RRU.PrbAvailDl", "DRB.RlcSduDelayDl"})
"""Offered together by srsRAN up to 24.10. Its ``RSRP`` and ``RSRQ`` are the first user's PUSCH SNR in dB, its
``CQI`` the first user's. Each getter returns one value even when several users are asked for, and report
styles 4 and 5 then read behind the end of that list (``meas_records_items[ue_idx]``): what the other users
get is left-over memory. From 25.04 on srsRAN does not offer the three any more, but still answers to the
names."""

OAI_2024: Final = frozenset({"DRB.UEThpDl", "RRU.PrbTotDl", "RRU.PrbTotUl", "DRB.RlcSduDelayDl"})
"""What OpenAirInterface offered in style 4, and only there, before it had distributions
(``CARR.PDSCHMCSDist``, 2026). Its ``RRU.PrbTotDl`` was blocks summed over the period, its PDCP volume kbit.
When the units changed is not known here; if before the distributions came, say so by ``units``."""

OAI_2024_UNITS: Final[Mapping[str, str]] = {"RRU.PrbTotDl": "block-slots", "DRB.PdcpSduVolumeDL": "kbit"}


@dataclass(frozen=True, slots=True)
class Reading:
    """What a reported value means: canonical = ``scale`` * value + ``offset``.

    Attributes:
        name: as reported. metric: what it is. unit: as reported, one of :data:`UNITS`.
        verified: see :class:`KnownName`; True for an override.
    """

    name: str
    metric: Metric
    unit: str
    scale: float
    offset: float
    verified: bool


def rank_of(name: str) -> int | None:
    """Place of a reported name, label or not, in :data:`KNOWN`; None if it is not there."""
    plain = name.partition("[")[0].strip()
    for rank, known in enumerate(KNOWN):
        if plain == known.name or (known.prefix and plain.startswith(known.name)):
            return rank
    return None


def read_name(name: str, carrier: Carrier, period_ms: int, units: Mapping[str, str]) -> Reading | None:
    """Reading of a reported name, label or not.

    Args:
        carrier: for blocks. period_ms: granularity period, for volumes and sums.
        units: name, or known beginning of it -> unit that overrides :data:`KNOWN`.
    """
    rank = rank_of(name)
    if rank is None:
        return None
    known = KNOWN[rank]
    unit = units.get(name.partition("[")[0].strip()) or units.get(known.name)
    scale, offset = _UNITS[unit or known.unit](carrier, period_ms)
    return Reading(name, known.metric, unit or known.unit, scale, offset, known.verified or unit is not None)
