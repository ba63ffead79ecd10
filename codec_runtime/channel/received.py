"""What a channel gives to the decoder, and the interface of all channels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor


@dataclass(frozen=True)
class Received:
    """A batch as the decoder gets it.

    Attributes:
        values: (B, C, h, w) real, zero beyond the prefix.
        snr_db: (B,) what the receiver believes: effective SNR per complex symbol, dB.
        overhead: pilot symbols per data symbol; R = k/96 * (1 + overhead) is what was really spent.
    """

    values: Tensor
    snr_db: Tensor
    overhead: float = 0.0


class Channel(Protocol):
    """From the values sent to those received; differentiable with respect to ``sent``."""

    def __call__(
        self, sent: Tensor, snr_db: Tensor, prefix: Tensor, generator: torch.Generator | None = None
    ) -> Received:
        """Transmit once.

        Args:
            sent: (B, C, h, w) real, unit complex power per image over the first ``prefix`` channels, zero
                beyond (:func:`codec_runtime.channel.symbols.normalise_power`).
            snr_db: (B,) mean SNR per complex symbol, dB.
            prefix: (B,) channels sent, 1..C; may differ within the batch.
            generator: of every random draw; the same state gives the same result.
        """
        ...


def require_finite(received: Received | Tensor) -> None:
    """Refuse symbols that a decoder must not see: one NaN spreads over the whole picture.

    Args:
        received: (B, ...) values, or what a channel gave (its ``snr_db`` is checked too).

    Raises:
        ValueError: NaN or infinity; the message names the first such image and how many of its values are
            bad.
    """
    values = received.values if isinstance(received, Received) else received
    bad = (~torch.isfinite(values)).flatten(1).sum(dim=1)
    if bool(bad.any()):
        image = int(bad.nonzero()[0, 0])
        total = values[image].numel()
        raise ValueError(
            f"received symbols must be finite: image {image} of the batch has {int(bad[image])} of {total} "
            "values that are NaN or infinite"
        )
    if isinstance(received, Received):
        unknown = (~torch.isfinite(received.snr_db)).nonzero()
        if len(unknown):
            raise ValueError(f"the SNR that the receiver believes must be finite: image {int(unknown[0, 0])}")
