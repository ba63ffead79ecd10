"""The linear analogue codec: PCA of 8x8 patches, optimal power allocation, LMMSE decoding.

It is the *floor* that any trained codec must clear, and the starting point of the bypass inside the
trained codec. Components of variance lambda_i are sent uncoded over AWGN with power p_i each under a total
power constraint. Minimising sum lambda_i s / (p_i + s) for noise variance s gives the water-filling
p_i = max(0, sqrt(lambda_i s / mu) - s) (Lee and Petersen, "Optimal linear coding for vector channels", IEEE
Trans. Commun. 1976); without noise the amplitude gain tends to lambda_i^(-1/4). The decoder is the Wiener
filter.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

PATCH = 8
PATCH_DIMS = 3 * PATCH * PATCH


@dataclass(frozen=True)
class PatchPca:
    """Principal components of 8x8 RGB patches.

    Attributes:
        mean: (192,) mean patch, pixel values in [0, 1].
        components: (192, n) orthonormal columns, most important first.
        variances: (n,) eigenvalues, descending.
    """

    mean: Tensor
    components: Tensor
    variances: Tensor


def to_patches(images: Tensor) -> Tensor:
    """(B, 3, H, W) -> (B, 192, H/8, W/8); H and W must be multiples of 8."""
    return F.pixel_unshuffle(images, PATCH)


def fit_patch_pca(images: list[Tensor], components: int) -> PatchPca:
    """Fit on a list of (3, H, W) images in [0, 1]; sides are cropped to multiples of 8."""
    total = torch.zeros(PATCH_DIMS, dtype=torch.float64)
    outer = torch.zeros(PATCH_DIMS, PATCH_DIMS, dtype=torch.float64)
    count = 0
    for image in images:
        height, width = (side // PATCH * PATCH for side in image.shape[1:])
        flat = to_patches(image[None, :, :height, :width]).flatten(2)[0].to(torch.float64)
        total += flat.sum(dim=1)
        outer += flat @ flat.T
        count += flat.shape[1]
    mean = total / count
    covariance = outer / count - torch.outer(mean, mean)
    values, vectors = torch.linalg.eigh(covariance)
    order = values.argsort(descending=True)[:components]
    return PatchPca(
        mean.float(), vectors[:, order].float(), values[order].clamp_min(1e-8).float()
    )


def power_gains(variances: Tensor) -> Tensor:
    """Amplitude of each component at high SNR, lambda^(-1/4), at unit mean power of the sent values."""
    gains = variances.pow(-0.25)
    power = (gains.square() * variances).mean()
    return gains / power.sqrt()


def water_filling_gains(variances: Tensor, noise_variance: float) -> Tensor:
    """MSE-optimal amplitude of each component at unit mean power and real noise variance s.

    Args:
        variances: (n,) component variances.
        noise_variance: s per real value, relative to unit mean power of the sent values.

    Returns:
        (n,) gains g_i with mean(g_i^2 lambda_i) = 1; weak components may get 0.
    """
    roots = (variances.double() * noise_variance).sqrt()
    low, high = 0.0, float(len(variances) * (1.0 + noise_variance) / roots.max())
    for _ in range(100):  # bisection on 1 / sqrt(mu): power grows with it
        middle = 0.5 * (low + high)
        power = float((roots * middle - noise_variance).clamp_min(0.0).mean())
        low, high = (middle, high) if power < 1.0 else (low, middle)
    powers = (roots * high - noise_variance).clamp_min(0.0)
    return (powers / variances.double()).sqrt().float()


class LinearCodec:
    """The floor: k latent channels carry 4k principal components of each 8x8 patch.

    Bandwidth ratio R = k / 96 (complex symbols per source value), as for the trained codec. The power
    allocation is the optimal one of each SNR.
    """

    def __init__(self, pca: PatchPca, prefix: int) -> None:
        self._sent = 4 * prefix
        self._pca = pca
        self._variances = pca.variances[: self._sent]

    def transmit(self, images: Tensor, snr_db: float, generator: torch.Generator) -> Tensor:
        """Encode, send over AWGN at ``snr_db`` and decode (B, 3, H, W) images in [0, 1]."""
        noise_variance = 10.0 ** (-snr_db / 10.0)  # per real value relative to unit mean power
        gains = water_filling_gains(self._variances, noise_variance)
        mean, basis = self._pca.mean, self._pca.components[:, : self._sent]
        centred = to_patches(images) - mean[None, :, None, None]
        coefficients = torch.einsum("bphw,pk->bkhw", centred, basis)
        sent = coefficients * gains[None, :, None, None]
        # Per-image power, as for the trained codec; the scale is known to the receiver as side information.
        scale = sent.square().mean(dim=(1, 2, 3), keepdim=True).clamp_min(1e-12).sqrt()
        noise = torch.randn(sent.shape, generator=generator) * math.sqrt(noise_variance)
        received = sent / scale + noise
        gain = gains[None, :, None, None] / scale
        lam = self._variances[None, :, None, None]
        estimate = received * (lam * gain) / (lam * gain.square() + noise_variance)
        patches = torch.einsum("bkhw,pk->bphw", estimate, basis) + mean[None, :, None, None]
        return F.pixel_shuffle(patches, PATCH).clamp(0.0, 1.0)
