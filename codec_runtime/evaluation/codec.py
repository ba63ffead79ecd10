"""The rate-quality surface of a codec: PSNR and MS-SSIM over channel, SNR, rate and decoder."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, pstdev

import torch
from torch import Tensor, nn

from codec_runtime.channel.awgn import awgn
from codec_runtime.channel.rayleigh import rayleigh_gain, rayleigh_slow_equalised
from codec_runtime.channel.symbols import bandwidth_ratio
from codec_runtime.codecs.jscc import pad_to_multiple
from codec_runtime.contract.directives import RATE_DENOMINATOR
from codec_runtime.evaluation.metrics import ms_ssim, psnr_db, to_uint8

CHANNELS = ("awgn", "rayleigh_slow_eq")


@dataclass(frozen=True)
class QualityRow:
    """One cell of the table: mean and spread over pictures (and noise seeds)."""

    decoder: str
    channel: str
    prefix: int
    snr_db: float
    psnr_db: float
    psnr_spread: float
    ms_ssim: float
    images: int

    @property
    def rate(self) -> float:
        return bandwidth_ratio(self.prefix)


def rate_name(prefix: int) -> str:
    """``6`` -> ``1/16``: the bandwidth ratio as the field writes it."""
    ratio = RATE_DENOMINATOR / prefix
    return f"1/{ratio:g}" if ratio == int(ratio) else f"{prefix}/{RATE_DENOMINATOR}"


@torch.inference_mode()
def transmit(
    encoder: nn.Module,
    decoders: Mapping[str, nn.Module],
    image: Tensor,
    *,
    channel: str,
    snr_db: float,
    prefix: int,
    seed: int,
) -> dict[str, Tensor]:
    """Send one (3, H, W) uint8 picture once and restore it with every decoder.

    Returns:
        decoder name -> (1, 3, H, W) uint8. All decoders see the same received symbols.

    Raises:
        ValueError: unknown channel.
    """
    generator = torch.Generator().manual_seed(seed)
    padded, (height, width) = pad_to_multiple(image[None].float() / 255.0)
    snr, sent_prefix = torch.tensor([snr_db]), torch.tensor([prefix])
    sent = encoder(padded, snr, sent_prefix)
    if channel == "awgn":
        received, effective = awgn(sent, snr, sent_prefix, generator), snr
    elif channel == "rayleigh_slow_eq":
        gain = rayleigh_gain(1, generator)
        received, effective = rayleigh_slow_equalised(sent, snr, sent_prefix, gain, generator)
    else:
        raise ValueError(f"unknown channel {channel!r}; known are {', '.join(CHANNELS)}")
    return {
        name: to_uint8(decoder(received, effective, sent_prefix)[:, :, :height, :width])
        for name, decoder in decoders.items()
    }


def evaluate(
    encoder: nn.Module,
    decoders: Mapping[str, nn.Module],
    images: Sequence[Tensor],
    *,
    channels: Sequence[str] = ("awgn",),
    snrs_db: Sequence[float],
    prefixes: Sequence[int],
    noise_seeds: int = 1,
    on_cell: Callable[[], None] | None = None,
) -> list[QualityRow]:
    """Table over channel x rate x SNR x decoder.

    The noise of picture i under seed s is the same for every decoder and rate, so differences are paired.

    Args:
        images: (3, H, W) uint8, sides of at least 161 (MS-SSIM).
        on_cell: called after each (channel, rate, SNR) cell, for progress bars.
    """
    rows: list[QualityRow] = []
    for channel in channels:
        for prefix in prefixes:
            for snr in snrs_db:
                psnrs: dict[str, list[float]] = {name: [] for name in decoders}
                similarities: dict[str, list[float]] = {name: [] for name in decoders}
                for index, image in enumerate(images):
                    for seed in range(noise_seeds):
                        restored = transmit(
                            encoder, decoders, image, channel=channel, snr_db=snr, prefix=prefix,
                            seed=1_000_003 * seed + index,
                        )
                        for name, picture in restored.items():
                            psnrs[name].append(float(psnr_db(picture, image[None])))
                            similarities[name].append(float(ms_ssim(picture, image[None])))
                rows.extend(
                    QualityRow(
                        name, channel, prefix, snr, fmean(psnrs[name]), pstdev(psnrs[name]),
                        fmean(similarities[name]), len(images),
                    )
                    for name in decoders
                )
                if on_cell is not None:
                    on_cell()
    return rows
