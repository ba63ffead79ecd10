"""The rate-quality surface: expected PSNR of a decoder over (SNR, prefix), from its bundle manifest."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from codec_runtime.contract.bundle import BundleManifest, QualityPoint
from xapp.telemetry.columns import FloatArray, IntArray


class SurfaceError(ValueError):
    """The quality points do not span a grid; the message says what is missing."""


class QualitySurface:
    """Bilinear interpolation on the measured grid; the border value outside of it.

    Args:
        points: measured points of one channel mode; every (prefix, SNR) pair of the grid once.

    Raises:
        SurfaceError: no point, or the points are not a full grid.

    Attributes:
        snr_db: float64 [S], ascending; prefixes: float64 [K], ascending.
        psnr_db: float64 [S, K]; spread_db: mean standard deviation over pictures.
    """

    def __init__(self, points: Sequence[QualityPoint]) -> None:
        if not points:
            raise SurfaceError("the manifest holds no quality points")
        self.snr_db: FloatArray = np.array(sorted({point.snr_db for point in points}))
        self.prefixes: FloatArray = np.array(sorted({float(point.prefix) for point in points}))
        self.psnr_db: FloatArray = np.full((len(self.snr_db), len(self.prefixes)), np.nan)
        for point in points:
            row = int(np.searchsorted(self.snr_db, point.snr_db))
            column = int(np.searchsorted(self.prefixes, point.prefix))
            self.psnr_db[row, column] = point.psnr_db
        missing = np.argwhere(np.isnan(self.psnr_db))
        if len(missing):
            row, column = missing[0]
            raise SurfaceError(
                f"quality points are not a grid: {len(missing)} missing, e.g. "
                f"prefix {self.prefixes[column]:.0f} at {self.snr_db[row]} dB"
            )
        self.spread_db = float(np.mean([point.psnr_spread_db for point in points]))

    @classmethod
    def from_manifest(cls, manifest: BundleManifest, channel: str = "awgn") -> QualitySurface:
        """Surface of a decoder's manifest; the first channel mode listed if ``channel`` is not."""
        chosen = [point for point in manifest.quality if point.channel == channel]
        if not chosen and manifest.quality:
            chosen = [point for point in manifest.quality if point.channel == manifest.quality[0].channel]
        return cls(chosen)

    def expected_psnr(self, snr_db: FloatArray, prefixes: FloatArray) -> FloatArray:
        """PSNR on the outer grid.

        Args:
            snr_db: float [...], dB; prefixes: float [M].

        Returns:
            float64 [..., M], dB.
        """
        by_prefix = self._along_prefix(np.asarray(prefixes, np.float64))  # [S, M]
        row, fraction = _cell(self.snr_db, np.asarray(snr_db, np.float64))
        lower: FloatArray = by_prefix[row]
        upper = by_prefix[np.minimum(row + 1, len(self.snr_db) - 1)]
        result: FloatArray = lower + fraction[..., None] * (upper - lower)
        return result

    def at(self, snr_db: float, prefix: float) -> float:
        """PSNR at one point, dB."""
        return float(self.expected_psnr(np.array([snr_db]), np.array([prefix]))[0, 0])

    def covers(self, snr_db: float, prefix: float, margin_db: float = 1.0) -> bool:
        """Whether the point is inside the measured grid, or at most ``margin_db`` below it in SNR.

        Above the highest SNR the surface is flat, so the border value holds there.
        """
        return bool(snr_db >= self.snr_db[0] - margin_db and self.prefixes[0] <= prefix <= self.prefixes[-1])

    def _along_prefix(self, prefixes: FloatArray) -> FloatArray:
        column, fraction = _cell(self.prefixes, prefixes)
        lower = self.psnr_db[:, column]
        upper = self.psnr_db[:, np.minimum(column + 1, len(self.prefixes) - 1)]
        result: FloatArray = lower + fraction * (upper - lower)
        return result


def prior_surface() -> QualitySurface:
    """A surface for decoders that come without a measured one.

    The shape of a compact image codec over AWGN: 26.9 dB at R = 1/16 and 5 dB SNR, 1.5 dB for each doubling
    of the prefix, saturating in SNR. Only its slopes matter much: offsets are learned from quality reports.
    """
    return QualitySurface(
        [
            QualityPoint(
                channel="awgn",
                prefix=prefix,
                snr_db=float(snr),
                psnr_db=26.9 + 1.5 * math.log2(prefix / 6) + 3.5 * math.tanh((snr - 5) / 9),
                psnr_spread_db=3.0,
                ms_ssim=0.9,
            )
            for prefix in (2, 4, 6, 8, 12, 16)
            for snr in range(-5, 21)
        ]
    )


def _cell(axis: FloatArray, values: FloatArray) -> tuple[IntArray, FloatArray]:
    """Index of the cell's lower edge and the position in it (0..1), clamped to the axis."""
    if len(axis) == 1:
        return np.zeros(values.shape, np.int64), np.zeros(values.shape)
    clamped = np.clip(values, axis[0], axis[-1])
    lower = np.clip(np.searchsorted(axis, clamped, side="right") - 1, 0, len(axis) - 2)
    fraction: FloatArray = (clamped - axis[lower]) / (axis[lower + 1] - axis[lower])
    return lower, fraction
