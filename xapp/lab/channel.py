"""From positions to what a gNB reports: path loss, correlated shadowing, SINR, CQI, RSRP, throughput; and
fading.

Path loss, line-of-sight probability, shadowing spread and correlation distance come from the urban
microcell (UMi) scenario of 3GPP TR 38.901 as implemented by Sionna; their evolution over time (Gudmundson
1991) is done here, because a Sionna topology draws a fresh, uncorrelated shadowing each time.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

SINR_RANGE_DB = (-5.0, 25.0)
"""Mean SINR is kept within the range that the codec was trained for and a receiver can measure."""

_THERMAL_DBM_PER_HZ = -174.0
_LOS_CORRELATION_M = 50.0
"""TR 38.901 table 7.6.3.1-2: correlation distance of the line-of-sight state in UMi."""

CQI_EFFICIENCY: Floats = np.array(
    (
        (0.1523, 0.2344, 0.3770, 0.6016, 0.8770),
        (1.1758, 1.4766, 1.9141, 2.4063, 2.7305),
        (3.3223, 3.9023, 4.5234, 5.1152, 5.5547),
    )
).ravel()
"""Spectral efficiency of CQI 1..15, bit per symbol: TS 38.214 table 5.2.2.1-2."""

_SHANNON_SHARE = 0.75
"""Attenuated Shannon bound of TR 36.942 annex A.2; 0.75 is the factor for a link without overhead."""

CQI_SINR_DB: Floats = 10.0 * np.log10(np.exp2(CQI_EFFICIENCY / _SHANNON_SHARE) - 1.0)
"""Smallest SINR in dB at which the attenuated Shannon bound carries CQI 1..15."""


@dataclass(frozen=True)
class LinkBudget:
    """Constants of the downlink.

    Attributes:
        carrier_ghz: carrier frequency.
        transmit_dbm: power of the base station over the whole carrier.
        antenna_gain_db: base station and user antenna together.
        bandwidth_mhz, resource_blocks: 20 MHz at 30 kHz spacing has 51 (TS 38.104 table 5.3.2-1).
        noise_figure_db: of the user's receiver.
        interference_db: rise of the noise floor by other cells.
        mast_m: antenna height of the base station (UMi: 10 m).
    """

    carrier_ghz: float = 3.5
    transmit_dbm: float = 33.0
    antenna_gain_db: float = 8.0
    bandwidth_mhz: float = 20.0
    resource_blocks: int = 51
    noise_figure_db: float = 9.0
    interference_db: float = 12.0
    mast_m: float = 10.0

    @property
    def noise_dbm(self) -> float:
        """Noise plus interference over the carrier, dBm."""
        return (
            _THERMAL_DBM_PER_HZ
            + 10.0 * float(np.log10(self.bandwidth_mhz * 1e6))
            + self.noise_figure_db
            + self.interference_db
        )

    def sinr_db(self, loss_db: Floats) -> Floats:
        """Mean SINR for a total loss (path loss + shadowing + attenuation), not clipped."""
        return self.transmit_dbm + self.antenna_gain_db - loss_db - self.noise_dbm

    def rsrp_dbm(self, loss_db: Floats) -> Floats:
        """Power of one resource element at the receiver (TS 38.215 clause 5.1.1), dBm."""
        elements = 10.0 * float(np.log10(12.0 * self.resource_blocks))
        return self.transmit_dbm + self.antenna_gain_db - elements - loss_db


@dataclass(frozen=True)
class LinkState:
    """What the channel is for every user now; arrays of length N.

    Attributes:
        sinr_db: mean SINR, within :data:`SINR_RANGE_DB`.
        cqi: 0..15.
        rsrp_dbm: reference signal received power.
        throughput_kbps: downlink rate of an equal share of the cell.
        los: line of sight (all True where a trace drives the channel and it is unknown).
    """

    sinr_db: Floats
    cqi: NDArray[np.int64]
    rsrp_dbm: Floats
    throughput_kbps: NDArray[np.int64]
    los: Bools


class ChannelSource(Protocol):
    """Advances the channel of all users."""

    def step(self, seconds: float, attenuation_db: Floats) -> LinkState:
        """The state ``seconds`` later, each user's link weakened by ``attenuation_db`` (N,)."""
        ...


@dataclass(frozen=True)
class LargeScale:
    """Large-scale parameters, (N,) each: path loss dB, shadowing spread dB, correlation distance m,
    P(LOS)."""

    path_loss_db: Floats
    shadowing_db: Floats
    correlation_m: Floats
    los_probability: Floats


class LargeScaleModel(Protocol):
    """A 3GPP scenario."""

    def evaluate(self, positions: Floats, los: Bools) -> LargeScale:
        """For (N, 3) positions and (N,) line-of-sight states."""
        ...


def cqi_from_sinr(sinr_db: Floats) -> NDArray[np.int64]:
    """CQI 0..15 for a SINR in dB, any shape; 0 is out of range."""
    return np.searchsorted(CQI_SINR_DB, sinr_db, side="right").astype(np.int64)


def throughput_kbps(sinr_db: Floats, bandwidth_mhz: float, users: int) -> NDArray[np.int64]:
    """Downlink rate in kbit/s with an equal share of the carrier, at the efficiency of the reported CQI."""
    efficiency = np.concatenate(([0.0], CQI_EFFICIENCY))[cqi_from_sinr(sinr_db)]
    return np.rint(efficiency * bandwidth_mhz * 1e3 / max(users, 1)).astype(np.int64)


class GudmundsonProcess:
    """Unit-variance Gaussian per user whose correlation falls as exp(-distance / correlation distance).

    Gudmundson, "Correlation model for shadow fading in mobile radio systems", 1991; TR 38.901 clause 7.4.4.
    """

    def __init__(self, users: int, random: np.random.Generator) -> None:
        self._random = random
        self.value: Floats = random.standard_normal(users)

    def advance(self, moved_m: Floats, correlation_m: Floats | float) -> Floats:
        """Value after each user moved ``moved_m`` metres; unchanged for one that stands still."""
        keep = np.exp(-moved_m / correlation_m)
        fresh = self._random.standard_normal(len(self.value))
        self.value = keep * self.value + np.sqrt(1.0 - keep**2) * fresh
        return self.value


class Mover(Protocol):
    """Where the users are; :class:`xapp.lab.mobility.Mobility`."""

    @property
    def positions(self) -> Floats:
        """(N, 3)."""
        ...

    def step(self, seconds: float) -> Floats:
        """Distance moved, (N,)."""
        ...


class ModelChannel:
    """The 3GPP model driven by the users' movement.

    Args:
        mobility: moved on by :meth:`step`.
        model: large-scale parameters, normally :class:`xapp.lab.umi.SionnaUmi`.
        budget: link budget.
        seed: of shadowing and line-of-sight states.
    """

    def __init__(self, mobility: Mover, model: LargeScaleModel, budget: LinkBudget, seed: int) -> None:
        self._mobility = mobility
        self._model = model
        self._budget = budget
        users = len(mobility.positions)
        self._shadowing = GudmundsonProcess(users, np.random.default_rng([seed, 401]))
        self._los_field = GudmundsonProcess(users, np.random.default_rng([seed, 402]))
        # The probability depends on the positions alone, so any state gives the first states.
        first = model.evaluate(mobility.positions, np.zeros(users, dtype=np.bool_))
        self._los: Bools = ndtr(self._los_field.value) < first.los_probability
        self._correlation = first.correlation_m

    def step(self, seconds: float, attenuation_db: Floats) -> LinkState:
        """Move the users for ``seconds`` and evaluate their links."""
        moved = self._mobility.step(seconds)
        los = self._los
        large = self._model.evaluate(self._mobility.positions, los)
        # A correlated uniform field compared with the probability gives spatially consistent states
        # (TR 38.901 clause 7.6.3.3); the new state holds from the next step on, which saves an evaluation.
        field = ndtr(self._los_field.advance(moved, _LOS_CORRELATION_M))
        self._los = field < large.los_probability
        shadowing = large.shadowing_db * self._shadowing.advance(moved, self._correlation)
        self._correlation = large.correlation_m
        loss = large.path_loss_db + shadowing + attenuation_db
        sinr = np.clip(self._budget.sinr_db(loss), *SINR_RANGE_DB)
        return LinkState(
            sinr_db=sinr,
            cqi=cqi_from_sinr(sinr),
            rsrp_dbm=np.clip(self._budget.rsrp_dbm(loss), -156.0, -31.0),
            throughput_kbps=throughput_kbps(sinr, self._budget.bandwidth_mhz, len(sinr)),
            los=los,
        )


# -- one transmission
# ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class ReceivedSymbols:
    """What arrives: symbols, same shape as sent, and the SNR at the decoder in dB."""

    symbols: NDArray[np.float32]
    effective_snr_db: float


def fading_gain(seed: int, diversity: int) -> float:
    """|h|^2 of one transmission: Rayleigh branches combined by maximum ratio, scaled to mean one.

    The sum of ``diversity`` exponential powers is gamma distributed; with 1 it is plain Rayleigh fading.
    """
    parts = np.random.default_rng([seed, 501]).standard_normal((diversity, 2))
    return float(np.square(parts).sum() / (2.0 * diversity))


def effective_snr_db(snr_db: float, gain: float) -> float:
    """SNR at the decoder in dB after equalising a power gain |h|^2 (floored at 1e-6)."""
    return snr_db + 10.0 * float(np.log10(max(gain, 1e-6)))


def transmit(
    symbols: NDArray[np.float32], prefix: int, snr_db: float, gain: float, seed: int
) -> ReceivedSymbols:
    """Slow fading, equalised with perfect channel knowledge: AWGN at ``snr_db + 10 log10 gain``.

    Same maths as :func:`codec_runtime.channel.rayleigh.rayleigh_slow_equalised`. The noise depends on
    ``seed`` alone: the first channels get the same noise whatever the prefix, so that another rate can be
    replayed over the same draw.

    Args:
        symbols: (K, h, w) of unit complex power, K >= prefix; channels from ``prefix`` on stay as they are
            (zero).
        prefix: latent channels sent.
        snr_db: mean SNR per complex symbol.
        gain: power gain |h|^2, 1 without fading.
        seed: of the noise.
    """
    if not 1 <= prefix <= symbols.shape[0]:
        raise ValueError(f"prefix {prefix} does not fit symbols of {symbols.shape[0]} channels")
    effective = effective_snr_db(snr_db, gain)
    # Variance per complex symbol is 10^(-SNR/10); a real value carries half of it.
    deviation = np.float32(np.sqrt(10.0 ** (-effective / 10.0) / 2.0))
    random = np.random.default_rng([seed, 502])
    noise = random.standard_normal((prefix, *symbols.shape[1:]), dtype=np.float32)
    received = symbols.astype(np.float32, copy=True)
    received[:prefix] += deviation * noise
    return ReceivedSymbols(received, effective)
