"""Downlink SINR from what a base station reports instead of it: CQI, RSRP, throughput per resource block.

All functions work on arrays of any shape; NaN in gives NaN out. Each estimate has a standard deviation in
:data:`ERROR_SD_DB`; these say how the sources compare, not what any one base station achieves.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from xapp.telemetry.columns import FloatArray

SHANNON_SHARE: Final = 0.75
"""Share of the Shannon capacity that link adaptation reaches (attenuated Shannon bound, TR 36.942 annex A.2).
The annex has 0.6 for the LTE downlink, overhead included; 0.75 is the link alone, overhead is taken out first
(:data:`OVERHEAD`)."""

OVERHEAD: Final = 0.14
"""Share of the resource elements without user data, downlink FR1 (TS 38.306 clause 4.1.2)."""

CQI_EFFICIENCY: Final[dict[int, tuple[float, ...]]] = {
    1: (
        *(0.1523, 0.2344, 0.3770, 0.6016, 0.8770),
        *(1.1758, 1.4766, 1.9141, 2.4063, 2.7305),
        *(3.3223, 3.9023, 4.5234, 5.1152, 5.5547),
    ),
    2: (
        *(0.1523, 0.3770, 0.8770, 1.4766, 1.9141),
        *(2.4063, 2.7305, 3.3223, 3.9023, 4.5234),
        *(5.1152, 5.5547, 6.2266, 6.9141, 7.4063),
    ),
}
"""Bits per symbol of CQI 1..15: TS 38.214 tables 5.2.2.1-2 (up to 64QAM) and 5.2.2.1-3 (up to 256QAM)."""

NOISE_PER_ELEMENT_DBM: Final = -174.0 + 10.0 * float(np.log10(30e3)) + 9.0
"""Thermal noise in one resource element of 30 kHz with the noise figure 9 dB of a handset (TR 38.802 table
A.2.1-1, below 6 GHz): -120.2 dBm. At 15 kHz it is 3 dB less."""

SINR_RANGE_DB: Final = (-30.0, 60.0)
"""Plausible SINR, whatever its source."""

ERROR_SD_DB: Final[dict[str, float]] = {"SINR": 1.8, "CQI": 3.0, "RSRP": 8.0, "PROXY": 5.0}
"""Standard deviation of each source's estimate, dB.

SINR: +-3 dB as the 90 % bound of TS 38.133's SS-SINR accuracy (normal conditions): 3 / 1.645.
CQI: which of the two tables a base station uses is not reported, and they differ by up to 6 dB in the middle:
half of that. RSRP: knows nothing of interference; PROXY: of layers and of how full the blocks are. The last
two are set by judgement, not measured: they only have to be clearly worse than the first two."""

MOST_EFFICIENCY: Final = CQI_EFFICIENCY[2][-1]
"""Bits per symbol that 256QAM carries on one layer; the truncation of the attenuated bound."""

_LEAST_EFFICIENCY: Final = 0.01
_MOST_LAYERS: Final = 4.0


def sinr_from_efficiency(bits_per_symbol: FloatArray) -> FloatArray:
    """SINR in dB at which link adaptation reaches a spectral efficiency: 10 log10(2^(eff / 0.75) - 1).

    Efficiencies below 0.01 give NaN: that is idleness, not a bad channel.
    """
    efficiency = np.where(bits_per_symbol >= _LEAST_EFFICIENCY, bits_per_symbol, np.nan)
    result: FloatArray = 10.0 * np.log10(np.expm1(efficiency * (np.log(2.0) / SHANNON_SHARE)))
    return result


def _table(number: int) -> FloatArray:
    """SINR of CQI 0..15: the middle between its own threshold and the next one's; NaN for 0."""
    thresholds = sinr_from_efficiency(np.array(CQI_EFFICIENCY[number]))
    half_steps = np.append(np.diff(thresholds), np.diff(thresholds)[-1]) / 2.0
    return np.concatenate(([np.nan], thresholds + half_steps))


_CQI_SINR_DB: Final = {number: _table(number) for number in CQI_EFFICIENCY}


def sinr_from_cqi(cqi: FloatArray, table: int = 1) -> FloatArray:
    """SINR in dB of a CQI, -6.9 .. 23.4 dB with table 1.

    Args:
        cqi: index 0..15, fractions (means) allowed. 0 gives NaN: "out of range", and what srsRAN writes when
            it has no CQI at all.
        table: 1 or 2, see :data:`CQI_EFFICIENCY`.
    """
    result: FloatArray = np.interp(cqi, np.arange(1.0, 16.0), _CQI_SINR_DB[table][1:])
    return np.where(np.asarray(cqi) >= 0.5, result, np.nan)


def snr_from_rsrp(rsrp_dbm: FloatArray, noise_dbm: float = NOISE_PER_ELEMENT_DBM) -> FloatArray:
    """SNR in dB of an RSRP in dBm (power of one resource element, TS 38.215 clause 5.1.1).

    Without interference: an upper bound of the SINR. At most 30 dB, which hardware imperfections allow.
    """
    result: FloatArray = np.minimum(np.asarray(rsrp_dbm, np.float64) - noise_dbm, 30.0)
    return result


def sinr_from_throughput(
    throughput_kbps: FloatArray, prb_percent: FloatArray, carrier_hz: float, least_percent: float = 2.0
) -> FloatArray:
    """SINR in dB from throughput per resource block, as if on one layer and with full blocks.

    Efficiency = throughput / (share of the carrier * ``carrier_hz`` * (1 - :data:`OVERHEAD`)), then as
    :func:`sinr_from_efficiency`. More layers make it too high, padding too low; it ends at 29.8 dB, what
    256QAM needs. More than four layers of 256QAM could carry is impossible: inf, for a range check to count.

    Args:
        throughput_kbps: of the user, kbit/s.
        prb_percent: the user's share of the carrier's downlink resource blocks, 0..100.
        carrier_hz: 12 * subcarrier spacing * blocks * downlink share of the time.
        least_percent: below it the share, often a rounded integer, is too coarse: NaN.
    """
    share = np.where(prb_percent >= least_percent, prb_percent, np.nan) / 100.0
    efficiency = throughput_kbps * 1e3 / (share * carrier_hz * (1.0 - OVERHEAD))
    estimate = sinr_from_efficiency(np.minimum(efficiency, MOST_EFFICIENCY))
    return np.where(efficiency > _MOST_LAYERS * MOST_EFFICIENCY, np.inf, estimate)
