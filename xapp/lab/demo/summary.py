"""The numbers of a run. Pure: records in, dictionary out; :func:`write_summary` is the only I/O.

``adaptive`` and ``static_same_bandwidth`` are always over the *same* transmissions: same pictures, same
channel draws, same decoder versions; only the rate differs. The static side spends the same mean bandwidth.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from codec_runtime.contract.directives import RATE_DENOMINATOR
from xapp.lab.demo.aligning import AlignedRun, alignment_summary
from xapp.lab.demo.splitting import split_summary
from xapp.lab.demo.totals import CounterTotals, XAppHistory, mean

if TYPE_CHECKING:
    from xapp.lab.classification_records import Classification
    from xapp.lab.records import Transmission
    from xapp.lab.replay import ReplayResult

DEFAULT_TARGET_DB = 25.0
"""Quality target where the xApp never told its own."""


@dataclass(frozen=True)
class RunEvent:
    """Something worth a line in the report: seconds since start, kind, words, and tone (good, bad, info).

    Attributes:
        of_adapter: of an adapter's update, not of a decoder's.
    """

    time_s: float
    kind: str
    text: str
    tone: str = "info"
    of_adapter: bool = False


@dataclass(frozen=True)
class Delivered:
    """A transmission that brought a picture, on the demo's clock.

    Attributes:
        time_s: seconds since the live phase began.
        snr_db: mean SINR that the gNB reports; effective_snr_db: at the decoder, fading included.
        sample: why its pictures are kept, empty where they are not.
    """

    id: int
    time_s: float
    user: str
    device_class: str
    snr_db: float
    effective_snr_db: float
    prefix: int
    decoder: str
    decoder_version: int
    psnr_db: float
    ms_ssim: float
    drifted: bool = False
    sample: str = ""


@dataclass
class RunData:
    """All that was measured in a run.

    Attributes:
        epoch_ns: wall clock at which the live phase began; times in the summary count from it.
        transmissions: of the live phase, with unique ids.
        static: the same transmissions at the static rate, or a random share of them where time was short.
        parent: transmissions that used an updated decoder, decoded by its parent version.
        left_out: transmissions that could not be repeated, by comparison (``static_same_bandwidth``,
            ``update_gain``) and reason.
        xapp: what the xApp said; lab: counters ``requests``, ``failed_requests``, ...
        restarts: restarts by process name.
        drift_s, live_s: when the drift came (None: never) and how long traffic ran, seconds.
        classifications: of users that classify; classifier_problem: why they do not, empty for none.
        aligned: of users that align.
        samples: path prefix of kept pictures by id (``<prefix>_original.png``, ``<prefix>_restored.png``).
    """

    duration_s: float
    users: int
    seed: int
    epoch_ns: int = 0
    transmissions: Sequence[Transmission] = ()
    static: Sequence[ReplayResult] = ()
    parent: Sequence[ReplayResult] = ()
    left_out: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    xapp: XAppHistory = field(default_factory=XAppHistory)
    lab: CounterTotals = field(default_factory=CounterTotals)
    events: Sequence[RunEvent] = ()
    restarts: Mapping[str, int] = field(default_factory=dict)
    drift_s: float | None = None
    drift_group: str = "drone"
    live_s: float = 0.0
    samples: Mapping[int, Path] = field(default_factory=dict)
    interrupted: bool = False
    classifications: Sequence[Classification] = ()
    classifier_problem: str = ""
    aligned: AlignedRun = field(default_factory=AlignedRun)

    def seconds(self, time_ns: int) -> float:
        """Wall clock as seconds since the live phase began."""
        return (time_ns - self.epoch_ns) / 1e9

    @cached_property
    def delivered(self) -> list[Delivered]:
        """Transmissions that brought a picture, oldest first."""
        return sorted(
            (
                Delivered(
                    id=t.id,
                    time_s=self.seconds(t.time_ns),
                    user=t.user,
                    device_class=t.device_class,
                    snr_db=t.snr_db,
                    effective_snr_db=t.effective_snr_db,
                    prefix=t.prefix,
                    decoder=t.decoder,
                    decoder_version=t.decoder_version,
                    psnr_db=t.psnr_db,
                    ms_ssim=t.ms_ssim,
                    drifted=t.drifted,
                    sample=t.sample,
                )
                for t in self.transmissions
                if not t.failed and t.psnr_db is not None and t.ms_ssim is not None
            ),
            key=lambda t: t.time_s,
        )

    @property
    def quality_target_db(self) -> float:
        """PSNR below which a transmission is a miss, dB."""
        return float(self.xapp.policy.get("quality_target_db") or DEFAULT_TARGET_DB)

    def swap_times(self) -> list[float]:
        """When decoders were swapped, seconds."""
        return [e.time_s for e in self.events if e.kind == "bundle_swapped" and not e.of_adapter]


def compared(data: RunData) -> list[tuple[Delivered, ReplayResult]]:
    """Transmissions with their static twin."""
    twins = {result.id: result for result in data.static}
    return [(t, twins[t.id]) for t in data.delivered if t.id in twins]


def update_gains_db(data: RunData) -> list[float]:
    """PSNR by the updated decoder minus PSNR by its parent, for each transmission measured with both, dB."""
    by_parent = {result.id: result for result in data.parent}
    return [t.psnr_db - by_parent[t.id].psnr_db for t in data.delivered if t.id in by_parent]


def summarise(data: RunData) -> dict[str, Any]:
    """The summary of a run; the keys are stable, more may be added. Unknown numbers are None."""
    delivered = data.delivered
    pairs = compared(data)
    counters = data.xapp.counters
    target = data.quality_target_db
    gains = update_gains_db(data)
    loop, decode = data.xapp.latency("loop"), data.xapp.latency("decode")
    failed = sum(t.failed for t in data.transmissions)
    quality = _quality(pairs, delivered, target)
    return {
        "indications": counters["indications"],
        "ue_reports": counters["ue_reports"],
        "decode_errors": counters["decode_errors"],
        "directives": counters["directives"],
        "loop_ms": {"p50": _rounded(loop.p50, 3), "p99": _rounded(loop.p99, 3)},
        "decode_ms": {"p50": _rounded(decode.p50, 4), "p99": _rounded(decode.p99, 4)},
        "updates_pushed": counters["updates_pushed"],
        "bytes_pushed": counters["bytes_pushed"],
        "swaps": counters["swaps"],
        "requests": data.lab["requests"] or 2 * len(data.transmissions),
        "failed_requests": max(data.lab["failed_requests"], failed),
        "bandwidth_ratio_mean": _rounded(mean([t.prefix / RATE_DENOMINATOR for t in delivered]), 5),
        "psnr_db": quality["psnr_db"],
        "quality_misses": quality["quality_misses"],
        "ms_ssim": quality["ms_ssim"],
        "update_gain_db": _rounded(mean(gains), 3),
        "update_gain_pairs": len(gains),
        "quality_target_db": target,
        "static_prefix_mean": _rounded(mean([result.prefix for result in data.static]), 3),
        "compared_transmissions": len(pairs),
        "left_out": {name: dict(reasons) for name, reasons in data.left_out.items()},
        "transmissions": len(data.transmissions),
        "fallback_transmissions": sum(t.codec != "semantic" for t in data.transmissions),
        "lost_transmissions": sum(t.lost for t in data.transmissions),
        "retried_requests": data.lab["retried"],
        "users": data.users,
        "duration_s": data.duration_s,
        "live_s": round(data.live_s, 1),
        "seed": data.seed,
        "drift": {"time_s": _rounded(data.drift_s, 1), "group": data.drift_group},
        "versions": _versions(delivered),
        "classes": _classes(data, pairs),
        "split": split_summary(data.classifications, data.classifier_problem),
        "alignment": alignment_summary(data.aligned, data.xapp.events, data.epoch_ns, data.drift_s),
        "restarts": {name: count for name, count in data.restarts.items() if count},
        "events": [{"time_s": round(e.time_s, 2), "kind": e.kind, "text": e.text} for e in data.events],
        "interrupted": data.interrupted,
    }


def write_summary(summary: Mapping[str, Any], path: Path) -> None:
    """Write the summary as JSON; a reader sees the old file or the whole new one."""
    write_atomically(path, json.dumps(summary, indent=2) + "\n")


def write_atomically(path: Path, text: str) -> None:
    """Write ``text`` beside ``path``, then put it in its place."""
    temporary = path.with_name(path.name + ".tmp")
    temporary.write_text(text, encoding="utf-8")
    os.replace(temporary, path)


def _quality(
    pairs: Sequence[tuple[Delivered, ReplayResult]], delivered: Sequence[Delivered], target: float
) -> dict[str, dict[str, float | None]]:
    """Mean PSNR, MS-SSIM and share of misses of both sides; without a replay the static side is None."""
    ours = [t for t, _ in pairs] if pairs else list(delivered)
    static = [s for _, s in pairs]
    return {
        "psnr_db": {
            "adaptive": _rounded(mean([t.psnr_db for t in ours]), 3),
            "static_same_bandwidth": _rounded(mean([s.psnr_db for s in static]), 3),
        },
        "quality_misses": {
            "adaptive": _rounded(mean([float(t.psnr_db < target) for t in ours]), 4),
            "static_same_bandwidth": _rounded(mean([float(s.psnr_db < target) for s in static]), 4),
        },
        "ms_ssim": {
            "adaptive": _rounded(mean([t.ms_ssim for t in ours]), 4),
            "static_same_bandwidth": _rounded(mean([s.ms_ssim for s in static]), 4),
        },
    }


def _classes(data: RunData, pairs: Sequence[tuple[Delivered, ReplayResult]]) -> dict[str, dict[str, Any]]:
    rows: dict[str, dict[str, Any]] = {}
    for name in sorted({t.device_class for t in data.transmissions}):
        mine = [t for t in data.delivered if t.device_class == name]
        twins = [(t, s) for t, s in pairs if t.device_class == name]
        rows[name] = {
            "users": len({t.user for t in data.transmissions if t.device_class == name}),
            "transmissions": len(mine),
            "snr_db_mean": _rounded(mean([t.snr_db for t in mine]), 2),
            "bandwidth_ratio_mean": _rounded(mean([t.prefix / RATE_DENOMINATOR for t in mine]), 5),
            **_quality(twins, mine, data.quality_target_db),
        }
    return rows


def _versions(delivered: Sequence[Delivered]) -> dict[str, dict[str, int]]:
    """Transmissions by decoder family and version."""
    table: dict[str, dict[str, int]] = {}
    for t in (t for t in delivered if t.decoder):
        row = table.setdefault(t.decoder, {})
        row[str(t.decoder_version)] = row.get(str(t.decoder_version), 0) + 1
    return table


def _rounded(value: float | None, digits: int) -> float | None:
    return None if value is None else round(value, digits)
