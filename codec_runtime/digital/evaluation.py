"""Tables of the digital image path: what each operating point costs and gives, beside image codecs at equal
bytes, over 5G's modulation and coding, under rate control, and with its tail lost.
"""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from statistics import fmean

import numpy as np
from PIL import Image
from torch import Tensor

from codec_runtime.digital.bitstream import CHUNK_BYTES, HEADER_BYTES, parse
from codec_runtime.digital.image import DigitalImageCodec
from codec_runtime.evaluation.image_codecs import IMAGE_CODECS, CodedPicture, ImageCodec
from codec_runtime.evaluation.mcs import link_adapted, measured_schemes
from codec_runtime.evaluation.metrics import ms_ssim, psnr_db


def _save_webp(picture: Image.Image, file: io.BytesIO, level: int) -> None:
    picture.save(file, "WEBP", quality=level, method=6)


BASELINES = {
    "jpeg": IMAGE_CODECS["jpeg"], "webp": ImageCodec(0, 100, _save_webp), "heic": IMAGE_CODECS["heic"],
}
RATE_CONTROL_MS = 20.0
"""Deadline of the rate-control rows."""


@dataclass(frozen=True)
class DigitalRow:
    """One line: means over the pictures.

    Attributes:
        mode: ``entropy`` (the stream), a baseline at the same bytes as that row's stream, ``entropy+ldpc``,
            ``rate-control``, ``tail-lost``.
        point: operating point; -1 where it differs from picture to picture.
        bytes, bits_per_pixel: of the stream or file, container and all.
        rate: complex channel symbols per source value; NaN where no modem is involved.
        snr_db: at which the modem's scheme is error-free; NaN likewise.
        psnr_error_db, bytes_error: of rate control, root mean square of predicted - measured PSNR (dB), and
            of predicted / measured bytes - 1.
        lost: share of the channels that did not arrive.
    """

    mode: str
    point: int
    prefix: int
    bytes: float
    bits_per_pixel: float
    psnr_db: float
    ms_ssim: float
    images: int
    rate: float = math.nan
    snr_db: float = math.nan
    allowed_bytes: float = math.nan
    psnr_error_db: float = math.nan
    bytes_error: float = math.nan
    over_cap: int = 0
    lost: float = 0.0

    def as_json(self) -> dict[str, str | int | float | None]:
        values = asdict(self)
        return {
            name: v if not isinstance(v, float) else None if math.isnan(v) else round(v, 4)
            for name, v in values.items()
        }


@dataclass(frozen=True)
class _Shown:
    size: int
    pixels: int
    psnr: float
    similar: float


def evaluate_digital(
    codec: DigitalImageCodec,
    pictures: Sequence[Tensor],
    *,
    baselines: Sequence[str] = tuple(BASELINES),
    snrs_db: Sequence[float] = (1.0, 7.0, 13.0, 19.0),
    throughputs_mbps: Sequence[float] = (4.0, 8.0, 16.0, 32.0),
    on_picture: Callable[[], None] = lambda: None,
) -> list[DigitalRow]:
    """All rows. pictures: (3, H, W) uint8, sides of at least 161.

    Raises:
        ValueError: an unknown baseline.
    """
    if unknown := [name for name in baselines if name not in BASELINES]:
        raise ValueError(f"unknown baseline {unknown[0]!r}; known are {', '.join(BASELINES)}")
    points = range(codec.features.tables.points)
    streams: dict[int, list[_Shown]] = {point: [] for point in points}
    files: dict[tuple[str, int], list[_Shown]] = {(name, point): [] for name in baselines for point in points}
    tails: dict[int, list[_Shown]] = {}
    middle = points[len(points) // 2]
    coded = None
    for picture in pictures:
        images = {name: CodedPicture(BASELINES[name], picture) for name in baselines}
        for point in points:
            data = codec.encode(picture, point).data
            streams[point].append(_measured(codec.decode(data), picture, len(data)))
            for name, coded in images.items():
                restored = coded.within(8 * len(data))
                pixels = picture.shape[1] * picture.shape[2]
                files[name, point].append(_Shown(len(data), pixels, restored.psnr_db, restored.ms_ssim))
            if point == middle:
                for arrived, cut in _shortened(data):
                    shown = codec.decode(data[:cut], partial=True)
                    tails.setdefault(arrived, []).append(_measured(shown, picture, cut))
        on_picture()
    rows = [_row("entropy", point, codec, streams[point]) for point in points]
    rows += [_row(name, point, codec, files[name, point]) for name in baselines for point in points]
    values = fmean(picture.numel() for picture in pictures)
    rows += _over_ldpc(rows[: len(points)], snrs_db, values)
    whole = len(tails) and max(tails)
    rows += [
        _row("tail-lost", middle, codec, shown, lost=1 - arrived / whole) for arrived, shown in tails.items()
    ]
    if codec.rates is not None:
        rows += [_rate_controlled(codec, pictures, rate, streams) for rate in throughputs_mbps]
    return rows


def _measured(shown: Tensor, picture: Tensor, size: int) -> _Shown:
    return _Shown(
        size, picture.shape[1] * picture.shape[2], float(psnr_db(shown[None], picture[None])),
        float(ms_ssim(shown[None], picture[None])),
    )


def _row(
    mode: str, point: int, codec: DigitalImageCodec, shown: Sequence[_Shown], **more: float
) -> DigitalRow:
    return DigitalRow(
        mode, point, codec.condition(point).prefix if point >= 0 else 0, fmean(s.size for s in shown),
        fmean(8 * s.size / s.pixels for s in shown), fmean(s.psnr for s in shown),
        fmean(s.similar for s in shown), len(shown), **more,  # type: ignore[arg-type]
    )


def _shortened(data: bytes) -> Iterator[tuple[int, int]]:
    """(channels that arrive, bytes) with the last chunks lost, none lost first."""
    stream = parse(data)
    for arrived in range(stream.header.chunks, 0, -1):
        size = HEADER_BYTES + sum(CHUNK_BYTES + len(payload) for payload in stream.payloads[:arrived])
        yield stream.header.channels_of(arrived - 1).stop, size


def _over_ldpc(
    streams: Sequence[DigitalRow], snrs_db: Sequence[float], values: float
) -> list[DigitalRow]:
    """The streams as transport blocks of the link-adapted scheme: how many symbols that takes."""
    rows = []
    for snr in snrs_db:
        scheme = link_adapted(measured_schemes(), snr)
        if scheme is None:
            continue
        for row in streams:
            symbols = 8 * row.bytes / (scheme.efficiency * (1 - 24 / scheme.information_bits))
            rows.append(replace(row, mode="entropy+ldpc", rate=symbols / values, snr_db=snr))
    return rows


def _rate_controlled(
    codec: DigitalImageCodec, pictures: Sequence[Tensor], throughput_mbps: float,
    streams: dict[int, list[_Shown]],
) -> DigitalRow:
    """Each picture within throughput x deadline."""
    assert codec.rates is not None
    allowed = round(throughput_mbps * 1e6 * RATE_CONTROL_MS / 1e3 / 8)
    shown, quality_errors, size_errors, over = [], [], [], 0
    for index, picture in enumerate(pictures):
        before = codec.features.counts.over_cap
        encoded = codec.encode_within(picture, allowed)
        predicted = codec.rates.predictions(picture)[encoded.point]
        capped = codec.features.counts.over_cap > before
        over += capped
        if capped:
            shown.append(_measured(codec.decode(encoded.data), picture, len(encoded.data)))
            continue
        shown.append(streams[encoded.point][index])
        quality_errors.append(predicted.psnr_db - shown[-1].psnr)
        size_errors.append(predicted.bytes / shown[-1].size - 1)
    row = _row("rate-control", -1, codec, shown)
    return DigitalRow(**{
        **asdict(row), "allowed_bytes": float(allowed), "over_cap": over,
        "psnr_error_db": float(np.sqrt(np.mean(np.square(quality_errors)))) if quality_errors else math.nan,
        "bytes_error": float(np.sqrt(np.mean(np.square(size_errors)))) if size_errors else math.nan,
    })
