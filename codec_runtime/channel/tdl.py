"""Tapped delay lines TDL-A to TDL-E of TR 38.901 (tables 7.7.2-1 to 7.7.2-5) under NR-like OFDM.

Symbols fill the data resource elements of slots of 14 OFDM symbols, subcarrier by subcarrier; the channel
runs on coherently over all slots of an image (Sionna: power delay profile, Doppler by a sum of sinusoids).
Each slot carries DM-RS of type 1 (TS 38.211 clause 7.4.1.1): every second subcarrier of OFDM symbols 2 and
11, so 12 of 168 resource elements are pilots and 156 are data.

The receiver estimates the channel slot by slot (``csi``), equalises by one LMMSE tap per resource element and
hands over symbols of unit gain with the effective SNR it believes, as in
:mod:`codec_runtime.channel.mmse`. In frequency the cyclic prefix makes the channel a product, y = H x + n: it
must cover the longest delay (2.3 us at 30 kHz; TDL-E at 100 ns ends at 2.06 us). Its time is not counted as
overhead, nor are resource elements of the last slot that an image leaves free for others.

Sionna takes seconds to import and is only imported at the first transmission. The draws of the channel are
made on the CPU, so that a seed means the same on every device.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn.functional import pad

from codec_runtime.channel.awgn import noise_variance
from codec_runtime.channel.gaussian import circular_normal
from codec_runtime.channel.mmse import one_tap, unit_gain
from codec_runtime.channel.received import Received
from codec_runtime.channel.symbols import from_symbols, symbol_mask, to_symbols
from codec_runtime.channel.wiener import WienerEstimator

PROFILES = ("A", "B", "C", "D", "E")
"""A, B, C without and D, E with line of sight."""

SLOT_SYMBOLS = 14
PILOT_SYMBOLS = (2, 11)
_PILOT_COMB = 2
_BLOCK_SUBCARRIERS = 12
_PILOT = (1.0 + 1.0j) / 2.0**0.5


@dataclass(frozen=True)
class TdlConfig:
    """Link parameters.

    Attributes:
        carrier_hz: carrier frequency; 3.5 GHz is band n78.
        subcarrier_spacing_hz: 30 kHz, numerology 1.
        resource_blocks: width of the allocation, 12 subcarriers each.
        delay_spread_s: RMS delay spread; 100 ns is "nominal" in TR 38.901 table 7.7.3-1.
        speed_mps: of the user; 3 km/h is TR 38.901's pedestrian.
        csi: what the receiver knows of the channel. ``lmmse``: two-dimensional Wiener filter over the
            slot's pilots; the receiver knows the delay profile, delay spread and speed, not the
            realisation. ``ls``: least squares at the pilots, linear interpolation, each estimate then
            shrunk by the prior CN(0, 1); no statistics known. ``perfect``: a genie.
    """

    carrier_hz: float = 3.5e9
    subcarrier_spacing_hz: float = 30e3
    resource_blocks: int = 12
    delay_spread_s: float = 100e-9
    speed_mps: float = 3.0 / 3.6
    csi: Literal["lmmse", "ls", "perfect"] = "lmmse"

    def __post_init__(self) -> None:
        if self.csi not in ("lmmse", "ls", "perfect"):
            raise ValueError(f"csi must be lmmse, ls or perfect, got {self.csi!r}")
        if self.resource_blocks < 1 or min(self.carrier_hz, self.subcarrier_spacing_hz) <= 0.0:
            raise ValueError("resource_blocks, carrier_hz and subcarrier_spacing_hz must be positive")
        if min(self.delay_spread_s, self.speed_mps) < 0.0:
            raise ValueError("delay_spread_s and speed_mps must not be negative")

    @property
    def subcarriers(self) -> int:
        """F."""
        return _BLOCK_SUBCARRIERS * self.resource_blocks

    @property
    def symbol_duration_s(self) -> float:
        """OFDM symbol with its cyclic prefix: 14 of them last 1 ms at 15 kHz."""
        return 1e-3 * 15e3 / self.subcarrier_spacing_hz / SLOT_SYMBOLS

    @property
    def pilots_per_slot(self) -> int:
        """Resource elements with pilots in a slot."""
        return len(PILOT_SYMBOLS) * self.subcarriers // _PILOT_COMB

    @property
    def data_per_slot(self) -> int:
        """Resource elements with data in a slot."""
        return SLOT_SYMBOLS * self.subcarriers - self.pilots_per_slot

    @property
    def overhead(self) -> float:
        """Pilots per data symbol of a full slot: 12 / 156."""
        return self.pilots_per_slot / self.data_per_slot


class Tdl:
    """Modes ``tdl-a`` to ``tdl-e``.

    Args:
        profile: one of :data:`PROFILES`.
        config: link parameters.

    Raises:
        ValueError: unknown profile.
        ModuleNotFoundError: Sionna is not installed.
    """

    def __init__(self, profile: str, config: TdlConfig = TdlConfig()) -> None:
        if profile not in PROFILES:
            raise ValueError(f"unknown TDL profile {profile!r}; known are {', '.join(PROFILES)}")
        if find_spec("sionna") is None:
            raise ModuleNotFoundError(
                "the tdl channels need Sionna, which is in the 'lab' extra: pip install 'semcom-xapp[lab]'"
            )
        self.profile = profile
        self.config = config
        self._taps: Any = None
        self._grids: dict[torch.device, _Grid] = {}

    def frequency_response(
        self, batch: int, slots: int, generator: torch.Generator | None = None
    ) -> Tensor:
        """H of ``batch`` links over consecutive slots: (batch, 14 * slots, F) complex, E|H|^2 = 1, on the
        CPU.

        Depends on the generator only; fewer slots are the beginning of more.
        """
        _load_sionna()
        from sionna.phy.channel import cir_to_ofdm_channel, subcarrier_frequencies  # noqa: PLC0415
        from sionna.phy.channel.tr38901 import TDL  # noqa: PLC0415

        config = self.config
        if self._taps is None:
            self._taps = TDL(
                self.profile, config.delay_spread_s, config.carrier_hz, min_speed=config.speed_mps,
                precision="single", device="cpu",
            )
        source = torch.device("cpu") if generator is None else generator.device
        seed = int(torch.randint(2**62, (1,), generator=generator, device=source))
        # Sionna draws from one generator of the process, which is lent the seed and then set back.
        own: torch.Generator = self._taps.torch_rng
        state = own.get_state()
        try:
            own.manual_seed(seed)
            gains, delays = self._taps(batch, SLOT_SYMBOLS * slots, 1.0 / config.symbol_duration_s)
        finally:
            own.set_state(state)
        frequencies = subcarrier_frequencies(
            config.subcarriers, config.subcarrier_spacing_hz, precision="single", device="cpu"
        )
        response: Tensor = cir_to_ofdm_channel(frequencies, gains, delays)[:, 0, 0, 0, 0]
        return response

    def __call__(
        self, sent: Tensor, snr_db: Tensor, prefix: Tensor, generator: torch.Generator | None = None
    ) -> Received:
        """As :class:`codec_runtime.channel.received.Channel`."""
        symbols = to_symbols(sent, prefix).to(torch.complex64)
        batch, count = symbols.shape
        used = int(prefix.max()) * sent.shape[2] * sent.shape[3] // 2
        slots = -(-used // self.config.data_per_slot)
        response = self.frequency_response(batch, slots, generator).to(sent.device)
        grid = self._grid(sent.device)

        filled = pad(symbols[:, :used], (0, slots * self.config.data_per_slot - used))
        transmitted = grid.map(filled.view(batch * slots, -1))
        response = response.view(transmitted.shape)
        variance = noise_variance(snr_db.float()).repeat_interleave(slots)
        noise = circular_normal(transmitted.shape, sent.device, generator)
        received = response * transmitted + variance.sqrt()[:, None, None] * noise

        with torch.no_grad():
            estimate, estimate_error = grid.estimate(received, response, variance)
        equalised, error = one_tap(received, estimate, estimate_error, variance[:, None, None])
        restored, effective = unit_gain(
            pad(grid.data(equalised).reshape(batch, -1)[:, :used], (0, count - used)),
            pad(grid.data(error).reshape(batch, -1)[:, :used], (0, count - used)),
            symbol_mask(prefix, sent.shape),
        )
        return Received(from_symbols(restored, prefix, sent.shape), effective, self.config.overhead)

    def _grid(self, device: torch.device) -> _Grid:
        if device not in self._grids:
            self._grids[device] = _Grid(self.profile, self.config, device)
        return self._grids[device]


class _Grid:
    """Resource grid of one slot and the estimators on it, made once for each device."""

    def __init__(self, profile: str, config: TdlConfig, device: torch.device) -> None:
        _load_sionna()
        from sionna.phy import ofdm  # noqa: PLC0415

        where: dict[str, Any] = {"precision": "single", "device": str(device)}
        mask = torch.zeros(1, 1, SLOT_SYMBOLS, config.subcarriers, dtype=torch.int32)
        mask[:, :, PILOT_SYMBOLS, ::_PILOT_COMB] = 1
        pilots = torch.full((1, 1, config.pilots_per_slot), _PILOT, dtype=torch.complex64)
        self.resource_grid = ofdm.ResourceGrid(
            SLOT_SYMBOLS, config.subcarriers, config.subcarrier_spacing_hz,
            pilot_pattern=ofdm.PilotPattern(mask, pilots.to(device), **where), **where,
        )
        self._mapper = ofdm.ResourceGridMapper(self.resource_grid, **where)
        self._ls = ofdm.LSChannelEstimator(self.resource_grid, interpolation_type="lin", **where)
        self._data = (mask[0, 0].flatten() == 0).nonzero()[:, 0].to(device)
        self._csi = config.csi
        self._wiener = WienerEstimator(
            ofdm.tdl_time_cov_mat(
                profile, config.speed_mps, config.carrier_hz, config.symbol_duration_s, SLOT_SYMBOLS, **where
            ),
            ofdm.tdl_freq_cov_mat(
                profile, config.subcarrier_spacing_hz, config.subcarriers, config.delay_spread_s, **where
            ),
            PILOT_SYMBOLS,
            range(0, config.subcarriers, _PILOT_COMB),
        )

    def map(self, data: Tensor) -> Tensor:
        """(slots, data_per_slot) complex -> (slots, 14, F) with pilots."""
        mapped: Tensor = self._mapper(data[:, None, None])[:, 0, 0]
        return mapped

    def data(self, grid: Tensor) -> Tensor:
        """(slots, 14, F) -> (slots, data_per_slot): the elements that carry data, in the order mapped."""
        return grid.flatten(1)[:, self._data]

    def estimate(self, received: Tensor, response: Tensor, variance: Tensor) -> tuple[Tensor, Tensor]:
        """(H_hat, error variance), both (slots, 14, F), from the pilots in ``received``."""
        if self._csi == "perfect":
            return response, torch.zeros_like(response.real)
        if self._csi == "lmmse":
            pilots = received[:, PILOT_SYMBOLS, ::_PILOT_COMB] / _PILOT
            return self._wiener(pilots, variance)
        estimate, error = self._ls(received[:, None, None], variance)
        raw: Tensor = estimate[:, 0, 0, 0, 0]
        deviation: Tensor = error.expand(estimate.shape)[:, 0, 0, 0, 0]
        return raw / (1.0 + deviation), deviation / (1.0 + deviation)


def _load_sionna() -> None:
    """Import Sionna; that reseeds torch's global generators at random, which is undone here."""
    if "sionna.phy" not in sys.modules:
        with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
            import sionna.phy  # noqa: F401, PLC0415
