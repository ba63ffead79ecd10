"""Published lines that plots and tables show beside measured ones, each with where it was printed.

What is not comparable is said with the line: training sets, networks and channel conventions differ
between papers, so a reference line is a landmark, not a paired comparison.

The seed paper is "Anchor-Aided Multi-User Semantic Communication with Adaptive Decoders". Its Table III
(AWGN) prints MS-SSIM only, its Table IV (Rayleigh) PSNR and MS-SSIM; the text that these numbers were
read from lost the compression rate and does not say which of its two test sets (DIV2K validation, Kodak)
a table is of, so ``rate`` is None. "Rayleigh" there is fading with additive noise; how the receiver
equalises is not stated.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

Metric = Literal["psnr_db", "ms_ssim"]

SEED = "Anchor-Aided Multi-User Semantic Communication with Adaptive Decoders"
SNRS_DB = (1.0, 4.0, 7.0, 10.0, 13.0)

RECIPE_OF_SCHEME = {"proposed": "anchor", "iterative": "iterative", "simultaneous": "simultaneous"}
"""The seed's names of its training schemes -> recipe ids here."""


@dataclass(frozen=True)
class ReferenceLine:
    """One published curve over SNR.

    Attributes:
        name: as a legend shows it.
        source: paper, table or figure.
        metric: ``psnr_db`` or ``ms_ssim``.
        channel: ``awgn`` or ``rayleigh`` (as the paper names it).
        rate: bandwidth ratio such as ``1/16``; None where the source does not tell.
        values: one for each of :data:`SNRS_DB`.
        decoder, recipe: set on the seed's lines.
    """

    name: str
    source: str
    metric: Metric
    channel: str
    rate: str | None
    values: tuple[float, ...]
    decoder: str | None = None
    recipe: str | None = None

    @property
    def snrs_db(self) -> tuple[float, ...]:
        return SNRS_DB


_SWIN = (
    "Yang et al., SwinJSCC: Taming Swin Transformer for Deep Joint Source-Channel Coding, IEEE TCCN "
    "(arXiv:2308.09361); Kodak, AWGN, R = 1/16, trained on DIV2K"
)

KODAK_AWGN_1_16: tuple[ReferenceLine, ...] = (
    ReferenceLine(
        "CNN DeepJSCC (published)",
        f"the CNN comparison scheme of {_SWIN}; after Bourtsoulatze et al., IEEE TCCN 5(3), 2019",
        "psnr_db", "awgn", "1/16", (28.15, 29.5, 30.45, 31.5, 32.1),
    ),
    ReferenceLine(
        "SwinJSCC (published)", _SWIN, "psnr_db", "awgn", "1/16", (29.54, 31.09, 32.27, 33.17, 33.80)
    ),
)
"""Read from the papers' curves, so good to about the width of a line."""

_TABLE_III = {  # MS-SSIM, AWGN
    ("attention", "proposed"): (0.9084, 0.9384, 0.9560, 0.9659, 0.9714),
    ("attention", "iterative"): (0.9014, 0.9335, 0.9524, 0.9631, 0.9690),
    ("attention", "simultaneous"): (0.8976, 0.9278, 0.9450, 0.9542, 0.9593),
    ("conv", "proposed"): (0.9072, 0.9369, 0.9546, 0.9648, 0.9705),
    ("conv", "iterative"): (0.8977, 0.9322, 0.9506, 0.9608, 0.9661),
    ("conv", "simultaneous"): (0.9006, 0.9288, 0.9454, 0.9548, 0.9600),
    ("resnet", "proposed"): (0.9067, 0.9413, 0.9563, 0.9632, 0.9660),
    ("resnet", "iterative"): (0.9038, 0.9373, 0.9542, 0.9635, 0.9665),
    ("resnet", "simultaneous"): (0.9007, 0.9339, 0.9488, 0.9570, 0.9618),
    ("vgg", "proposed"): (0.8901, 0.9171, 0.9329, 0.9418, 0.9465),
    ("vgg", "iterative"): (0.8886, 0.9151, 0.9313, 0.9405, 0.9453),
    ("vgg", "simultaneous"): (0.8822, 0.9095, 0.9252, 0.9340, 0.9386),
}

_TABLE_IV_PSNR = {  # dB, Rayleigh
    ("attention", "proposed"): (26.0780, 27.0236, 27.6447, 28.0296, 28.2495),
    ("attention", "iterative"): (25.5375, 26.4341, 27.0173, 27.3628, 27.5389),
    ("attention", "simultaneous"): (25.4916, 26.2931, 26.7889, 27.0826, 27.2380),
    ("conv", "proposed"): (25.6425, 26.3626, 26.8536, 27.1292, 27.3229),
    ("conv", "iterative"): (25.3446, 26.0900, 26.6391, 26.9780, 27.1822),
    ("conv", "simultaneous"): (25.4560, 26.2569, 26.7746, 27.0837, 27.2347),
    ("resnet", "proposed"): (25.6765, 26.7301, 27.3056, 27.4807, 27.5160),
    ("resnet", "iterative"): (25.5007, 26.6080, 27.2572, 27.5752, 27.6988),
    ("resnet", "simultaneous"): (25.4878, 25.7244, 26.1512, 26.4723, 26.7111),
    ("vgg", "proposed"): (25.1692, 25.8704, 26.2824, 26.5091, 26.6497),
    ("vgg", "iterative"): (25.1374, 25.8096, 26.2821, 26.4972, 26.6365),
    ("vgg", "simultaneous"): (24.6598, 25.2163, 25.7058, 26.0380, 26.2442),
}

_TABLE_IV_MS_SSIM = {  # Rayleigh
    ("attention", "proposed"): (0.8852, 0.9139, 0.9302, 0.9393, 0.9444),
    ("attention", "iterative"): (0.8731, 0.9041, 0.9216, 0.9310, 0.9358),
    ("attention", "simultaneous"): (0.8715, 0.9017, 0.9184, 0.9271, 0.9318),
    ("conv", "proposed"): (0.8794, 0.9055, 0.9210, 0.9296, 0.9347),
    ("conv", "iterative"): (0.8700, 0.8996, 0.9169, 0.9267, 0.9318),
    ("conv", "simultaneous"): (0.8732, 0.9020, 0.9181, 0.9268, 0.9313),
    ("resnet", "proposed"): (0.8782, 0.9145, 0.9277, 0.9309, 0.9309),
    ("resnet", "iterative"): (0.8767, 0.9085, 0.9263, 0.9342, 0.9372),
    ("resnet", "simultaneous"): (0.8765, 0.9058, 0.9221, 0.9306, 0.9350),
    ("vgg", "proposed"): (0.8646, 0.8899, 0.9040, 0.9116, 0.9157),
    ("vgg", "iterative"): (0.8616, 0.8871, 0.9022, 0.9094, 0.9141),
    ("vgg", "simultaneous"): (0.8552, 0.8809, 0.8964, 0.9051, 0.9096),
}


def _seed_lines(
    table: Mapping[tuple[str, str], tuple[float, ...]], number: str, metric: Metric, channel: str
) -> tuple[ReferenceLine, ...]:
    return tuple(
        ReferenceLine(
            f"seed {scheme}, {decoder}", f"{SEED}, Table {number}", metric, channel, None, values,
            decoder=decoder, recipe=RECIPE_OF_SCHEME[scheme],
        )
        for (decoder, scheme), values in table.items()
    )


SEED_TABLE_III = _seed_lines(_TABLE_III, "III", "ms_ssim", "awgn")
SEED_TABLE_IV = _seed_lines(_TABLE_IV_PSNR, "IV", "psnr_db", "rayleigh") + _seed_lines(
    _TABLE_IV_MS_SSIM, "IV", "ms_ssim", "rayleigh"
)

SEED_FIGURE_5_ATTENTION_13_DB = {"after 2 other users": 29.43, "after 3 other users": 26.86}
"""PSNR in dB of the attention decoder at 13 dB: the only numbers of the seed's Fig. 5 that its text gives."""


def seed_mean_difference(metric: Metric, channel: str, decoder: str, other: str) -> float:
    """Seed's anchor minus ``other`` (``iterative`` or ``simultaneous``), averaged over SNR.

    Raises:
        KeyError: the seed prints no such line (PSNR over AWGN is only in its Fig. 6).
    """
    lines = {
        (line.decoder, line.recipe): line.values
        for line in SEED_TABLE_III + SEED_TABLE_IV
        if line.metric == metric and line.channel == channel
    }
    anchor, reference = lines[(decoder, "anchor")], lines[(decoder, other)]
    return sum(a - b for a, b in zip(anchor, reference, strict=True)) / len(SNRS_DB)
