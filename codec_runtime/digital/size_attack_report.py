"""What the attack on the size does to the image path, with and without the cap: numbers and a figure."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from codec_runtime.digital.image import DigitalImageCodec, fold
from codec_runtime.digital.size_attack import inflate


@dataclass(frozen=True)
class AttackRow:
    """One picture under attack.

    Attributes:
        radius: largest change of a pixel, 8-bit steps; 0: the picture as it is.
        entropy_bytes: of the stream without a cap; capped_bytes: of what is sent; cap_bytes.
        fixed_bits: 0 where it stayed entropy-coded. over_cap: counter after this picture.
        encode_ms: quantising and coding with the cap, networks left out.
    """

    picture: int
    radius: float
    entropy_bytes: int
    capped_bytes: int
    cap_bytes: int
    fixed_bits: int
    over_cap: int
    encode_ms: float

    def as_json(self) -> dict[str, float | int]:
        return {name: round(v, 3) if isinstance(v, float) else v for name, v in asdict(self).items()}


def attack_rows(
    codec: DigitalImageCodec, pictures: Sequence[Tensor], point: int, *, cap_ratio: float = 1.25,
    radii: Sequence[float] = (0.0, 2.0, 8.0, 32.0), steps: int = 10,
    on_picture: Callable[[], None] = lambda: None,
) -> list[AttackRow]:
    """Pictures (3, 256, 256) or so; the cap is ``cap_ratio`` times the largest of their own streams."""
    at = codec.condition(point)

    def analyse(image: Tensor) -> Tensor:
        latent = codec.encoder(image[None], torch.tensor([at.encoder_db]), torch.tensor([at.prefix]))
        return fold(latent)[0]

    cap = round(cap_ratio * max(len(codec.encode(picture, point).data) for picture in pictures))
    rows = []
    for index, picture in enumerate(pictures):
        for radius in radii:
            crafted = picture
            if radius:
                crafted = inflate(picture, analyse, codec.features.tables, point, radius=radius, steps=steps)
            features = codec.analyse(crafted, point)
            whole = len(codec.features.encode(features, point).data)
            size = (int(picture.shape[1]), int(picture.shape[2]))
            started = time.perf_counter()
            sent = codec.features.encode(features, point, cap_bytes=cap, picture=size)
            spent = 1e3 * (time.perf_counter() - started)
            codec.decode(sent.data)
            over_cap = codec.features.counts.over_cap
            rows.append(
                AttackRow(index, radius, whole, len(sent.data), cap, sent.fixed_bits, over_cap, spent)
            )
        on_picture()
    return rows


def write_figure(rows: Sequence[AttackRow], path: Path) -> None:
    """Bytes by radius, without and with the cap, and the time that coding took."""
    from matplotlib.figure import Figure  # noqa: PLC0415 (extra `lab`)

    radii = sorted({row.radius for row in rows})
    figure = Figure(figsize=(9, 3.4), layout="constrained")
    sizes, times = figure.subplots(1, 2)
    for name, label in (("entropy_bytes", "without a cap"), ("capped_bytes", "sent, under the cap")):
        mean = [np.mean([getattr(row, name) for row in rows if row.radius == r]) / 1e3 for r in radii]
        sizes.plot(radii, mean, marker="o", label=label)
    sizes.axhline(rows[0].cap_bytes / 1e3, color="grey", linestyle=":", label="cap")
    sizes.set(xlabel="largest change of a pixel (8-bit steps)", ylabel="stream, kB", ylim=(0, None))
    sizes.legend()
    times.boxplot([[row.encode_ms for row in rows if row.radius == r] for r in radii])
    times.set_xticks(range(1, len(radii) + 1), [f"{r:g}" for r in radii])
    times.set(xlabel="largest change of a pixel (8-bit steps)", ylabel="quantise and code, ms")
    times.set_ylim(0, None)
    figure.savefig(path, dpi=110)
