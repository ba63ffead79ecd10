"""The rows of ``semcom eval codec`` with what they were measured on, as JSON or text."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from codec_runtime.evaluation.codec import QualityRow, rate_name

_NOTE = (
    "spread: standard deviation over pictures; noise: over noise seeds, of the mean over pictures; "
    "ms: to decode a picture, one thread"
)


@dataclass(frozen=True)
class QualityTable:
    """Rows and where they come from.

    Attributes:
        command: what makes the table again; folders by name only.
        config: settings of the measurement, JSON-able.
        data_sha256: hash of the test pictures (:func:`codec_runtime.training.data.data_hash`).
        pictures: number of pictures; seeds: noise seeds of each.
    """

    rows: Sequence[QualityRow]
    command: str
    config: Mapping[str, Any]
    data_sha256: str
    pictures: int
    seeds: int

    def as_json(self) -> str:
        """One object: ``{command, config, data_sha256, pictures, seeds, rows}``."""
        content = {
            "command": self.command, "config": dict(self.config), "data_sha256": self.data_sha256,
            "pictures": self.pictures, "seeds": self.seeds, "rows": [row.as_json() for row in self.rows],
        }
        return json.dumps(content, indent=1)

    def as_text(self) -> str:
        """Columns for a terminal; a dash where a value was not measured."""
        titles = (
            "decoder", "tier", "channel", "R", "SNR dB", "PSNR dB", "spread", "noise", "MS-SSIM", "MAC/px",
            "ms",
        )
        cells = [titles, *(_cells(row) for row in self.rows)]
        widths = [max(len(line[column]) for line in cells) for column in range(len(titles))]
        lines = [
            "  ".join(
                cell.ljust(width) if column < 3 else cell.rjust(width)
                for column, (cell, width) in enumerate(zip(line, widths, strict=True))
            ).rstrip()
            for line in cells
        ]
        return "\n".join([*lines, f"{self.pictures} pictures, {self.seeds} noise seeds; {_NOTE}"])


def _cells(row: QualityRow) -> tuple[str, ...]:
    pilots = f"(1+{row.overhead:.3g})" if row.overhead else ""
    return (
        row.decoder, row.tier, row.channel, rate_name(row.prefix) + pilots, f"{row.snr_db:g}",
        f"{row.psnr_db:.2f}", f"{row.psnr_spread:.2f}",
        f"{row.noise_spread:.3f}" if row.seeds > 1 else "-",
        _number(row.ms_ssim, ".4f"), _number(row.macs_per_pixel, ",.0f"), _number(row.ms_per_image, ".1f"),
    )


def _number(value: float | None, form: str) -> str:
    return "-" if value is None or math.isnan(value) else format(value, form)
