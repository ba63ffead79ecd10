"""What a trained codec is held against at equal bandwidth: linear analogue coding, and separate coding.

- ``linear``: the PCA codec of :mod:`codec_runtime.codecs.linear`, the floor.
- ``jpeg``, ``jpeg2000``, ``heic`` with a modem of :mod:`codec_runtime.evaluation.modems`: rows are named
  ``jpeg+capacity``, ``jpeg+ldpc``, and ``jpeg+ldpc@7dB`` for the scheme of 7 dB kept at every SNR.

In separate coding each picture is compressed to the largest quality that fits into the bits that its symbols
carry; a lost picture is shown as its mean colour. Rows hold the expectation over losses: no draws are needed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import fmean, pstdev

from safetensors.torch import load_file
from safetensors.torch import save as save_safetensors
from torch import Tensor

from codec_runtime.bundle.store import write_atomic
from codec_runtime.channel.rayleigh import rayleigh_gain
from codec_runtime.channel.symbols import bandwidth_ratio
from codec_runtime.codecs.linear import PATCH, PATCH_DIMS, LinearCodec, PatchPca
from codec_runtime.codecs.padding import pad_to_multiple
from codec_runtime.evaluation.codec import QualityRow, QualityTally, draw_generator
from codec_runtime.evaluation.image_codecs import IMAGE_CODECS, CodedPicture, coding_times_ms
from codec_runtime.evaluation.metrics import to_uint8
from codec_runtime.evaluation.modems import DIGITAL_CHANNELS, Transmission, fixed_transmission, transmissions

TIER = "baseline"
BASELINES = ("linear", *IMAGE_CODECS)
PCA_FILE = Path("linear") / "pca.safetensors"
"""Where a bundle root keeps the principal components of the training pictures."""


def save_pca(pca: PatchPca, path: Path, provenance: Mapping[str, str] | None = None) -> None:
    """Write the components as safetensors, fp32, with ``provenance`` as the file's metadata."""
    path.parent.mkdir(parents=True, exist_ok=True)
    tensors = {"mean": pca.mean, "components": pca.components.contiguous(), "variances": pca.variances}
    write_atomic(path, save_safetensors(tensors, dict(provenance or {})))


def load_pca(path: Path) -> PatchPca:
    """Components written by :func:`save_pca`.

    Raises:
        FileNotFoundError: there is no such file.
    """
    if not path.is_file():
        raise FileNotFoundError(f"no principal components at {path}; `semcom train publish` writes them")
    return PatchPca(**load_file(path))


def linear_transmit(
    pca: PatchPca, image: Tensor, prefix: int, snr_db: float, *, channel: str, index: int, seed: int
) -> Tensor:
    """(3, H, W) uint8 -> (3, H, W) uint8 through the linear analogue codec.

    Over ``rayleigh_slow_eq`` its sender knows the gain of each picture too, in its favour.

    Raises:
        ValueError: a channel that is not of :data:`DIGITAL_CHANNELS`.
    """
    padded, (height, width) = pad_to_multiple(image[None].float() / 255.0)
    generator = draw_generator(index, seed)
    if channel == "rayleigh_slow_eq":
        snr_db += float(10.0 * rayleigh_gain(1, generator).clamp_min(1e-6).log10())
    elif channel != "awgn":
        raise ValueError(f"the linear codec is evaluated over {', '.join(DIGITAL_CHANNELS)}, not {channel!r}")
    restored = LinearCodec(pca, prefix).transmit(padded, snr_db, generator)
    return to_uint8(restored[0, :, :height, :width])


def linear_row(
    pca: PatchPca, images: Sequence[Tensor], channel: str, prefix: int, snr_db: float, *, seeds: int,
    ms_ssim_seeds: int,
) -> QualityRow:
    """One cell of ``linear``.

    Raises:
        ValueError: the rate needs more components than ``pca`` has.
    """
    if 4 * prefix > pca.components.shape[1]:
        held = pca.components.shape[1]
        raise ValueError(f"rate {prefix}/96 needs {4 * prefix} principal components, there are {held}")
    tally = QualityTally(ms_ssim_seeds)
    for index, image in enumerate(images):
        for seed in range(seeds):
            restored = linear_transmit(
                pca, image, prefix, snr_db, channel=channel, index=index, seed=seed
            )
            tally.add(index, restored, image)
    macs = 4.0 * prefix * PATCH_DIMS / PATCH**2
    return replace(
        tally.row("linear", channel, prefix, snr_db, tier=TIER),
        macs_per_pixel=macs, encoder_macs_per_pixel=macs,
    )


def separate_row(
    name: str, pictures: Sequence[CodedPicture], sizes: Sequence[int], choices: Sequence[Transmission],
    channel: str, prefix: int, snr_db: float,
) -> QualityRow:
    """One cell of separate coding, with the choice of the highest expected PSNR over the pictures.

    Args:
        sizes: source values (3 H W) of each picture.
        choices: what the sender may choose from; every picture is lost where there is none.
    """
    losses = [picture.lost() for picture in pictures]
    best = ([loss.psnr_db for loss in losses], [loss.ms_ssim for loss in losses])
    for choice in choices:
        psnrs, similarities = [], []
        for picture, size, lost in zip(pictures, sizes, losses, strict=True):
            symbols = bandwidth_ratio(prefix) * size
            shown = picture.within(choice.payload_bits(symbols))
            fails = choice.loss_probability(symbols)
            psnrs.append((1.0 - fails) * shown.psnr_db + fails * lost.psnr_db)
            similarities.append((1.0 - fails) * shown.ms_ssim + fails * lost.ms_ssim)
        if fmean(psnrs) > fmean(best[0]):
            best = (psnrs, similarities)
    return QualityRow(
        name, channel, prefix, snr_db, fmean(best[0]), pstdev(best[0]), fmean(best[1]), len(pictures),
        tier=TIER, seeds=0,
    )


def evaluate_baselines(
    images: Sequence[Tensor],
    *,
    names: Sequence[str] = ("linear", "jpeg"),
    modems: Sequence[str] = ("capacity",),
    pca: PatchPca | None = None,
    channels: Sequence[str] = ("awgn",),
    snrs_db: Sequence[float],
    prefixes: Sequence[int],
    noise_seeds: int = 1,
    ms_ssim_seeds: int = 1,
    design_snrs_db: Sequence[float] = (),
    on_cell: Callable[[], None] | None = None,
) -> list[QualityRow]:
    """Rows of the baselines for the same cells as the codec's table.

    Args:
        images: (3, H, W) uint8.
        names: of :data:`BASELINES`; modems: of :data:`~codec_runtime.evaluation.modems.MODEMS`.
        pca: needed by ``linear``.
        noise_seeds: noise draws of ``linear``; separate coding needs none.
        design_snrs_db: adds rows of ``ldpc`` with the scheme chosen for each of these SNRs.
        on_cell: called after each row.

    Raises:
        ValueError: unknown name, modem or channel, or no ``pca`` for ``linear``.
    """
    if unknown := sorted(set(names) - set(BASELINES)):
        raise ValueError(f"unknown baseline {unknown[0]!r}; known are {', '.join(BASELINES)}")
    rows: list[QualityRow] = []
    sizes = [image.numel() for image in images]
    cells = [(c, k, s) for c in channels for k in prefixes for s in snrs_db]

    def add(row: QualityRow) -> None:
        rows.append(row)
        if on_cell is not None:
            on_cell()

    for name in names:
        if name == "linear":
            if pca is None:
                raise ValueError("the linear baseline needs principal components")
            for cell in cells:
                add(linear_row(pca, images, *cell, seeds=noise_seeds, ms_ssim_seeds=ms_ssim_seeds))
            continue
        pictures = [CodedPicture(IMAGE_CODECS[name], image, ms_ssim_seeds > 0) for image in images]
        first = len(rows)
        for modem in modems:
            for channel, prefix, snr in cells:
                choices = transmissions(modem, channel, snr)
                add(separate_row(f"{name}+{modem}", pictures, sizes, choices, channel, prefix, snr))
        for design in design_snrs_db:
            for channel, prefix, snr in cells:
                choices = fixed_transmission(design, channel, snr)
                label = f"{name}+ldpc@{design:g}dB"
                add(separate_row(label, pictures, sizes, choices, channel, prefix, snr))
        encode_ms, decode_ms = coding_times_ms(pictures)
        rows[first:] = [
            replace(row, ms_per_image=decode_ms, encoder_ms_per_image=encode_ms) for row in rows[first:]
        ]
    return rows


def row_count(
    names: Sequence[str], modems: Sequence[str], design_snrs_db: Sequence[float], cells: int
) -> int:
    """How many rows :func:`evaluate_baselines` makes: for progress bars."""
    digital = len(modems) + len(design_snrs_db)
    return cells * sum(1 if name == "linear" else digital for name in names)
