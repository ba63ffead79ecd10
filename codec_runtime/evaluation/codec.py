"""The rate-quality surface of a codec: PSNR and MS-SSIM over channel, SNR, rate and decoder."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, pstdev

import torch
from torch import Tensor, nn

from codec_runtime.channel.modes import channel as channel_named
from codec_runtime.channel.symbols import bandwidth_ratio
from codec_runtime.codecs.evaluation_mode import evaluation_mode
from codec_runtime.codecs.padding import pad_to_multiple
from codec_runtime.contract.directives import RATE_DENOMINATOR
from codec_runtime.evaluation.metrics import ms_ssim, psnr_db, to_uint8


@dataclass(frozen=True)
class QualityRow:
    """One cell of the table.

    Attributes:
        decoder: decoder family, or the name of a baseline.
        channel: channel mode; prefix: latent channels sent; snr_db: mean SNR per complex symbol.
        psnr_db: mean over pictures and noise seeds of the PSNR of a single picture after 8-bit rounding.
        psnr_spread: standard deviation *over pictures* of a picture's PSNR (its mean over the seeds): how
            much the pictures differ, not how sure the mean is.
        ms_ssim: mean over pictures (and the seeds it was measured on); NaN when not measured.
        images: number of pictures.
        tier: compute tier of the decoder; ``baseline`` for what is no network.
        seeds: noise draws of each picture; 0 where the mean over the channel is exact.
        noise_spread: standard deviation *over seeds* of the mean over pictures: how far ``psnr_db`` would
            move with other noise; 0 with a single seed.
        overhead: pilot symbols per data symbol.
        macs_per_pixel, ms_per_image: cost of decoding a picture, time on one thread (None: not measured).
        encoder_macs_per_pixel, encoder_ms_per_image: the same of the encoder.
    """

    decoder: str
    channel: str
    prefix: int
    snr_db: float
    psnr_db: float
    psnr_spread: float
    ms_ssim: float
    images: int
    tier: str = "medium"
    seeds: int = 1
    noise_spread: float = 0.0
    overhead: float = 0.0
    macs_per_pixel: float | None = None
    ms_per_image: float | None = None
    encoder_macs_per_pixel: float | None = None
    encoder_ms_per_image: float | None = None

    @property
    def rate(self) -> float:
        """Bandwidth ratio of the data symbols, k / 96."""
        return bandwidth_ratio(self.prefix)

    @property
    def bandwidth_ratio(self) -> float:
        """Bandwidth ratio with the pilots: what is really sent per source value."""
        return self.rate * (1.0 + self.overhead)

    def as_json(self) -> dict[str, str | int | float | None]:
        """The row with the keys of ``semcom eval codec --json``."""
        return {
            "decoder": self.decoder, "tier": self.tier, "channel": self.channel,
            "rate": rate_name(self.prefix), "snr_db": self.snr_db, "psnr_db": round(self.psnr_db, 3),
            "psnr_spread": round(self.psnr_spread, 3), "noise_spread": round(self.noise_spread, 4),
            "ms_ssim": None if math.isnan(self.ms_ssim) else round(self.ms_ssim, 4),
            "images": self.images, "seeds": self.seeds, "prefix": self.prefix,
            "bandwidth_ratio": round(self.bandwidth_ratio, 6),
            "macs_per_pixel": _rounded(self.macs_per_pixel), "ms_per_image": _rounded(self.ms_per_image),
            "encoder_macs_per_pixel": _rounded(self.encoder_macs_per_pixel),
            "encoder_ms_per_image": _rounded(self.encoder_ms_per_image),
        }


class QualityTally:
    """Collects what one cell restores, picture by picture and seed by seed.

    Args:
        ms_ssim_seeds: MS-SSIM is measured on this many of a picture's draws, the first ones.
    """

    def __init__(self, ms_ssim_seeds: int) -> None:
        self._psnr: dict[int, list[float]] = {}
        self._similarity: list[float] = []
        self._ms_ssim_seeds = ms_ssim_seeds

    def add(self, index: int, restored: Tensor, reference: Tensor) -> None:
        """The next draw of picture ``index``; both (3, H, W) uint8."""
        draws = self._psnr.setdefault(index, [])
        if len(draws) < self._ms_ssim_seeds:
            self._similarity.append(float(ms_ssim(restored[None], reference[None])))
        draws.append(float(psnr_db(restored[None], reference[None])))

    def row(self, decoder: str, channel: str, prefix: int, snr_db: float, **more: str | float) -> QualityRow:
        """The cell; ``more`` are further fields of :class:`QualityRow`."""
        by_picture = [fmean(draws) for draws in self._psnr.values()]
        by_seed = [fmean(draws) for draws in zip(*self._psnr.values(), strict=True)]
        return QualityRow(
            decoder, channel, prefix, snr_db, fmean(by_picture), pstdev(by_picture),
            fmean(self._similarity) if self._similarity else math.nan, len(by_picture),
            seeds=len(by_seed), noise_spread=pstdev(by_seed), **more,  # type: ignore[arg-type]
        )


def rate_name(prefix: int) -> str:
    """``6`` -> ``1/16``: the bandwidth ratio as the field writes it."""
    ratio = RATE_DENOMINATOR / prefix
    return f"1/{ratio:g}" if ratio == int(ratio) else f"{prefix}/{RATE_DENOMINATOR}"


def tier_of(decoder: nn.Module) -> str:
    """Compute tier of a decoder; ``medium`` where its configuration names none."""
    return str(getattr(getattr(decoder, "config", None), "tier", "medium"))


def draw_generator(index: int, seed: int) -> torch.Generator:
    """Source of the channel's noise for picture ``index`` under ``seed``: the same in every cell."""
    return torch.Generator().manual_seed(1_000_003 * seed + index)


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
    padded, (height, width) = pad_to_multiple(image[None].float() / 255.0)
    snr, sent_prefix = torch.tensor([snr_db]), torch.tensor([prefix])
    received = channel_named(channel)(
        encoder(padded, snr, sent_prefix), snr, sent_prefix, draw_generator(0, seed)
    )
    return {
        name: to_uint8(decoder(received.values, received.snr_db, sent_prefix)[:, :, :height, :width])
        for name, decoder in decoders.items()
    }


@torch.inference_mode()
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
    ms_ssim_seeds: int = 1,
    batch: int = 4,
) -> list[QualityRow]:
    """Table over channel x rate x SNR x decoder, rows in that order.

    A picture is encoded once for each rate and SNR, then sent ``noise_seeds`` times over each channel. The
    noise of picture i under seed s is the same for every decoder and rate, so differences are paired. The
    networks run where the encoder's parameters are, in evaluation mode; the channel on the CPU.

    Args:
        images: (3, H, W) uint8, sides of at least 161 unless ``ms_ssim_seeds`` is 0.
        on_cell: called after each (channel, rate, SNR) cell, for progress bars.
        ms_ssim_seeds: draws of a picture on which MS-SSIM, slow as a decoder, is measured; 0: none.
        batch: pictures of equal size that go through the networks together.

    Raises:
        ValueError: unknown channel, or a picture too small for MS-SSIM.
    """
    with evaluation_mode(encoder, *decoders.values()):
        return _evaluate(
            encoder, decoders, images, channels, snrs_db, prefixes, noise_seeds, on_cell, ms_ssim_seeds, batch
        )


def _evaluate(
    encoder: nn.Module,
    decoders: Mapping[str, nn.Module],
    images: Sequence[Tensor],
    channels: Sequence[str],
    snrs_db: Sequence[float],
    prefixes: Sequence[int],
    noise_seeds: int,
    on_cell: Callable[[], None] | None,
    ms_ssim_seeds: int,
    batch: int,
) -> list[QualityRow]:
    modes = {name: channel_named(name) for name in channels}
    device = next((p.device for p in encoder.parameters()), torch.device("cpu"))
    groups = list(_equal_sizes(images, batch))
    rows: dict[tuple[str, int, float], list[QualityRow]] = {}
    for prefix in prefixes:
        for snr in snrs_db:
            tallies = {
                (mode, name): QualityTally(ms_ssim_seeds) for mode in channels for name in decoders
            }
            overheads = dict.fromkeys(channels, 0.0)
            for indices, pictures in groups:
                padded, (height, width) = pad_to_multiple(pictures.float() / 255.0)
                snrs = torch.full((len(indices),), float(snr))
                sent_prefix = torch.full((len(indices),), prefix)
                sent = encoder(padded.to(device), snrs.to(device), sent_prefix.to(device)).cpu()
                for mode, seed in ((mode, seed) for mode in channels for seed in range(noise_seeds)):
                    draws = [
                        modes[mode](
                            sent[i : i + 1], snrs[i : i + 1], sent_prefix[i : i + 1],
                            draw_generator(index, seed),
                        )
                        for i, index in enumerate(indices)
                    ]
                    overheads[mode] = draws[0].overhead
                    values = torch.cat([draw.values for draw in draws]).to(device)
                    believed = torch.cat([draw.snr_db for draw in draws]).to(device)
                    for name, decoder in decoders.items():
                        restored = decoder(values, believed, sent_prefix.to(device))
                        shown = to_uint8(restored[:, :, :height, :width]).cpu()
                        for index, picture, reference in zip(indices, shown, pictures, strict=True):
                            tallies[mode, name].add(index, picture, reference)
            for mode in channels:
                rows[mode, prefix, snr] = [
                    tallies[mode, name].row(
                        name, mode, prefix, snr, tier=tier_of(decoder), overhead=overheads[mode]
                    )
                    for name, decoder in decoders.items()
                ]
                if on_cell is not None:
                    on_cell()
    return [
        row
        for mode in channels for prefix in prefixes for snr in snrs_db
        for row in rows[mode, prefix, snr]
    ]


def _equal_sizes(images: Sequence[Tensor], batch: int) -> Iterator[tuple[list[int], Tensor]]:
    """(indices, (B, 3, H, W) uint8) of at most ``batch`` pictures of one size."""
    by_size: dict[tuple[int, ...], list[int]] = {}
    for index, image in enumerate(images):
        by_size.setdefault(tuple(image.shape), []).append(index)
    for indices in by_size.values():
        for start in range(0, len(indices), batch):
            chosen = indices[start : start + batch]
            yield chosen, torch.stack([images[index] for index in chosen])


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 2)
