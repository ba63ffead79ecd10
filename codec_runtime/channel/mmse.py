"""Block Rayleigh fading, estimated from pilots and equalised by the estimate; no genie anywhere.

Within a coherence block h ~ CN(0, 1), which is also the prior, is constant. P pilot symbols of unit power are
sent with each block of T data symbols, so the bandwidth spent is R * (1 + P / T). From y_p = h + n_p the MMSE
estimate and its error are

    h_hat = sum(y_p) / (P + sigma^2),        v = E|h - h_hat|^2 = sigma^2 / (P + sigma^2)

(Kay, "Fundamentals of Statistical Signal Processing: Estimation Theory", 1993, chapters 10 and 12).
The receiver then sees y = h_hat x + (h - h_hat) x + n, where the last two terms act as noise of variance
v + sigma^2, and equalises by the one-tap LMMSE filter

    z = conj(h_hat) y / (|h_hat|^2 + v + sigma^2),      E|z - x|^2 = (v + sigma^2) / (same denominator) = e.

*Bias*: E[z | x] = (1 - e) x, known to the receiver. An image crosses many blocks; with m the mean of e over
its symbols, z / (1 - m) is what the decoder gets. Its error is uncorrelated with x over the image and has
power m / (1 - m), so the effective SNR is 1/m - 1, and the decoder always sees "x plus noise of the SNR it is
told", as on AWGN. For one block that is y / h_hat; over several, faded symbols are weighted down instead of
having their noise blown up, which division by each block's own bias would do.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from codec_runtime.channel.awgn import noise_variance
from codec_runtime.channel.gaussian import circular_normal
from codec_runtime.channel.rayleigh import rayleigh_coefficient
from codec_runtime.channel.received import Received
from codec_runtime.channel.symbols import from_symbols, symbol_mask, to_symbols

_SMALLEST_ERROR = 1e-6
"""Effective SNR is kept within -60..60 dB."""


@dataclass(frozen=True)
class PilotConfig:
    """Coherence block; defaults are one NR resource block over one slot (14 x 12 resource elements) with two
    DM-RS symbols of type 1 (TS 38.211 clause 7.4.1.1): 12 pilots, 156 data.

    Attributes:
        pilots: P, pilot symbols per block.
        block: T, data symbols per block; more than an image sends means one h per image.
    """

    pilots: int = 12
    block: int = 156

    def __post_init__(self) -> None:
        if self.pilots < 1 or self.block < 1:
            raise ValueError(
                f"pilots and block must be at least 1, got {self.pilots} pilots in a block of {self.block}"
            )

    @property
    def overhead(self) -> float:
        """P / T."""
        return self.pilots / self.block


def pilot_estimate(
    fading: Tensor, variance: Tensor, pilots: int, generator: torch.Generator | None = None
) -> tuple[Tensor, Tensor]:
    """MMSE estimate of ``fading`` from its pilots.

    Args:
        fading: (B, blocks) complex, the true h.
        variance: (B,) noise variance per complex symbol.
        pilots: P.

    Returns:
        (h_hat (B, blocks) complex, error variance (B, 1) real).
    """
    sigma2 = variance[:, None]
    # The sum of the pilots is a sufficient statistic, so one draw of variance P sigma^2 stands for P draws.
    noise = circular_normal(tuple(fading.shape), fading.device, generator)
    total = pilots * fading + (pilots * sigma2).sqrt() * noise
    return total / (pilots + sigma2), sigma2 / (pilots + sigma2)


def one_tap(
    received: Tensor, estimate: Tensor, estimate_error: Tensor, variance: Tensor
) -> tuple[Tensor, Tensor]:
    """One-tap LMMSE equaliser for y = h x + n with E|x|^2 = 1.

    Args:
        received: y, complex, any shape.
        estimate: h_hat, broadcastable to y.
        estimate_error: v = E|h - h_hat|^2, broadcastable to y.
        variance: sigma^2 of n, broadcastable to y.

    Returns:
        (z, e): the biased estimate of x and its mean squared error, both of y's shape.
    """
    noise = estimate_error + variance
    power = estimate.abs().square() + noise
    return received * estimate.conj() / power, (noise / power).expand(received.shape)


def unit_gain(equalised: Tensor, error: Tensor, sent: Tensor) -> tuple[Tensor, Tensor]:
    """Take the mean bias out of LMMSE symbols.

    Args:
        equalised: (B, S) complex from :func:`one_tap`.
        error: (B, S) mean squared errors e.
        sent: (B, S) bool, the symbols that exist.

    Returns:
        (symbols (B, S), effective SNR (B,) in dB).
    """
    mean = (error * sent).sum(dim=1) / sent.sum(dim=1)
    mean = mean.clamp(_SMALLEST_ERROR, 1.0 - _SMALLEST_ERROR)
    return equalised / (1.0 - mean)[:, None], 10.0 * torch.log10((1.0 - mean) / mean)


@dataclass(frozen=True)
class RayleighMmse:
    """Mode ``rayleigh_mmse``; formulas in the module docstring."""

    config: PilotConfig = PilotConfig()

    def __call__(
        self, sent: Tensor, snr_db: Tensor, prefix: Tensor, generator: torch.Generator | None = None
    ) -> Received:
        """As :class:`codec_runtime.channel.received.Channel`; blocks follow each other in symbol order."""
        symbols = to_symbols(sent, prefix)
        batch, count = symbols.shape
        blocks = -(-count // self.config.block)
        fading = rayleigh_coefficient((batch, blocks), generator, sent.device)
        variance = noise_variance(snr_db)
        estimate, estimate_error = pilot_estimate(fading, variance, self.config.pilots, generator)

        block = torch.arange(count, device=sent.device) // self.config.block
        noise = circular_normal((batch, count), sent.device, generator) * variance.sqrt()[:, None]
        received = fading[:, block] * symbols + noise
        equalised, error = one_tap(received, estimate[:, block], estimate_error, variance[:, None])
        restored, effective = unit_gain(equalised, error, symbol_mask(prefix, sent.shape))
        return Received(from_symbols(restored, prefix, sent.shape), effective, self.config.overhead)
