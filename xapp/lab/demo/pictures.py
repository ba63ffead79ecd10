"""Which of the kept pictures the report shows, and their bytes as data URIs."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from pathlib import Path

from xapp.lab.demo.bandwidth import rate_text
from xapp.lab.demo.summary import Delivered, RunData

_BY_SNR = 6
_BY_PHASE = 2

PHASES = {
    "before": "before the drift",
    "drifted": "after the drift, old decoder",
    "updated": "after the update",
}
"""Sample reasons that tell the story of the update, in its order."""


@dataclass(frozen=True)
class PicturePair:
    """An original and its restored picture.

    Attributes:
        original, restored: ``data:image/png;base64,...``.
        caption: one line for people.
        alt: what the pair is, for people who do not see it.
    """

    original: str
    restored: str
    caption: str
    alt: str
    psnr_db: float


def pairs_by_snr(data: RunData, count: int = _BY_SNR) -> list[PicturePair]:
    """Up to ``count`` undisturbed transmissions, evenly spread over the SNR at the decoder, lowest first."""
    kept = [t for t in data.delivered if t.sample and not t.drifted and _exists(data, t)]
    kept.sort(key=lambda t: t.effective_snr_db)
    if len(kept) > count:
        step = (len(kept) - 1) / (count - 1)
        kept = [kept[round(i * step)] for i in range(count)]
    return [_pair(data, t) for t in kept]


def pairs_by_phase(data: RunData, count: int = _BY_PHASE) -> dict[str, list[PicturePair]]:
    """Pairs for each phase of the update (keys of :data:`PHASES`), of similar SNR at the decoder."""
    kept = {phase: [t for t in data.delivered if t.sample == phase and _exists(data, t)] for phase in PHASES}
    after = [t.effective_snr_db for phase in ("drifted", "updated") for t in kept[phase]]
    if not after:
        return {}
    middle = sorted(after)[len(after) // 2]
    story: dict[str, list[PicturePair]] = {}
    for phase, members in kept.items():
        chosen = sorted(members, key=lambda t: abs(t.effective_snr_db - middle))[:count]
        if chosen:
            story[phase] = [_pair(data, t) for t in chosen]
    return story


def data_uri(path: Path) -> str:
    """A PNG file as data URI. Raises: OSError if it cannot be read."""
    return "data:image/png;base64," + base64.b64encode(path.read_bytes()).decode("ascii")


def _files(data: RunData, t: Delivered) -> list[Path]:
    prefix = data.samples.get(t.id)
    if prefix is None:
        return []
    return [prefix.with_name(f"{prefix.name}_{side}.png") for side in ("original", "restored")]


def _exists(data: RunData, t: Delivered) -> bool:
    files = _files(data, t)
    return bool(files) and all(path.is_file() for path in files)


def _pair(data: RunData, t: Delivered) -> PicturePair:
    original, restored = _files(data, t)
    caption = (
        f"{t.effective_snr_db:.1f} dB SNR · R = {rate_text(t.prefix)} · {t.decoder} v{t.decoder_version}"
        f" → {t.psnr_db:.1f} dB PSNR"
    )
    return PicturePair(
        original=data_uri(original),
        restored=data_uri(restored),
        caption=caption,
        alt=f"photograph sent by a {t.device_class} user at {t.time_s:.0f} s ({caption})",
        psnr_db=t.psnr_db,
    )
