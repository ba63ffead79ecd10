"""What a run's aligning users came to: confidence around the drift, the federated update, its bytes.

Pure but for :func:`run_alignments` and :func:`adapter_versions`, which read what the run left.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any, Final

import numpy as np

from codec_runtime.contract.bundle import MANIFEST_FILE, WEIGHTS_FILE
from xapp.lab.alignment_records import ALIGNMENTS_FILE, Alignment, read_alignments
from xapp.lab.captioned import ADAPTER, IMAGE_ENCODER

_PREFIX: Final = f"adapter/{ADAPTER}/"
_STEPS: Final = {
    "alignment_drift": "noticed",
    "round_started": "round",
    "round_done": "trained",
    "candidate_gated": "accepted",
    "rollout_observing": "canary",
    "update_done": "rolled_out",
    "alignment_recovered": "recovered",
}
"""Events of an update of the adapter, and what they are called in the summary."""
_STEP_NAMES: Final = {
    "noticed": "the drift was noticed", "round": "federated rounds began", "trained": "the rounds ended",
    "accepted": "the candidate was accepted", "canary": "the roll-out began",
}
MARKS: Final = {"noticed": "noticed", "round": "rounds", "canary": "canary", "rolled_out": "rolled out"}
"""Steps that the chart marks, in the words that it marks them with."""


@dataclass(frozen=True)
class AdapterVersion:
    """A signed adapter.

    Attributes:
        rsum_before, rsum_after: of its parent and of itself on pairs held out, 0..600; None of a first one.
    """

    weights_bytes: int
    rsum_before: float | None = None
    rsum_after: float | None = None


@dataclass(frozen=True)
class AlignedRun:
    """Of a run's aligning users.

    Attributes:
        records: oldest first. versions: adapters that were signed.
        encoder_bytes: of a real frozen encoder, for comparison. problem: why nobody aligns, empty for none.
    """

    records: Sequence[Alignment] = ()
    versions: Mapping[int, AdapterVersion] | None = None
    encoder_bytes: int = 0
    problem: str = ""


def run_alignments(lab_dirs: Iterable[Path], since_ns: int = 0) -> list[Alignment]:
    """Of all lab instances of a run, of requests answered at ``since_ns`` (wall clock) or later.

    Raises:
        ValueError: a record is none; names file and line.
    """
    records = [one for folder in lab_dirs for one in read_alignments(folder / ALIGNMENTS_FILE)]
    return sorted((one for one in records if one.time_ns >= since_ns), key=lambda one: one.time_ns)


def adapter_versions(repository: Path) -> dict[int, AdapterVersion]:
    """Adapters in the xApp's repository; none where it cannot be read."""
    from codec_runtime.bundle.errors import BundleError  # noqa: PLC0415 - needs the xApp's packages
    from codec_runtime.bundle.manifest_file import parse_manifest  # noqa: PLC0415
    from xapp.delivery.repository import TufRepository  # noqa: PLC0415

    found = {}
    try:
        for path, (_, _, file) in TufRepository(repository).files().targets.items():
            if path.startswith(_PREFIX) and path.endswith(MANIFEST_FILE):
                manifest = parse_manifest(file.read_bytes(), str(file))
                metrics = manifest.metrics
                found[manifest.version] = AdapterVersion(
                    manifest.files[0].size, metrics.get("heldout_rsum_parent"), metrics.get("heldout_rsum")
                )
    except (OSError, ValueError, BundleError):
        return {}
    return found


def is_alignment(event: Mapping[str, Any], jobs: set[str]) -> bool:
    """Whether an event of the xApp is of the adapter's, not of a decoder's update.

    Args:
        jobs: of adapters, seen so far; added to.
    """
    kind, text = str(event.get("kind", "")), str(event.get("text", ""))
    if kind.startswith(("alignment_", "round_")):
        if "job" in event:
            jobs.add(str(event["job"]))
        return True
    return event.get("job", "") in jobs or event.get("decoder") == ADAPTER or text.startswith(_PREFIX)


def alignment_events(events: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Those of :func:`is_alignment`."""
    jobs: set[str] = set()
    return [event for event in events if is_alignment(event, jobs)]


def alignment_summary(
    run: AlignedRun, events: Iterable[Mapping[str, Any]], epoch_ns: int, drift_s: float | None
) -> dict[str, Any]:
    """The key ``alignment`` of the summary; unknown numbers are None.

    Args:
        events: of the xApp. epoch_ns: wall clock from which times count.
    """
    told = alignment_events(events)
    done = next((e for e in reversed(told) if e.get("kind") == "update_done"), None)
    version = int(done["version"]) if done is not None else None
    pictures = [one for one in run.records if one.encoder == IMAGE_ENCODER]
    during = [one for one in pictures if one.drifted and one.adapter_version != version]
    adapter = (run.versions or {}).get(version or 0)
    steps = _steps(told, epoch_ns)
    pushed = [
        int(e.get("bytes", 0)) for e in told
        if e.get("kind") == "bundle_pushed" and f"{_PREFIX}{version}" in e.get("bundles", [])
    ]
    return {
        "users": len({one.user for one in run.records}),
        "requests": len(run.records),
        "confidence": {
            "before": _mean([one for one in pictures if not one.drifted]),
            "during": _mean(during),
            "after": _mean([one for one in pictures if one.drifted and one.adapter_version == version]),
        },
        "rsum": {
            "before": _rounded(adapter.rsum_before if adapter else None),
            "after": _rounded(adapter.rsum_after if adapter else None),
        },
        "version": version,
        "times_s": {"drift": _rounded(drift_s), **steps},
        "completed": version is not None,
        "bytes": {
            "pushed": sum(pushed) if pushed else None,
            "adapter": adapter.weights_bytes if adapter else None,
            "encoder": run.encoder_bytes or None,
        },
        "problem": run.problem or _problem(run, steps, told, drift_s),
    }


def encoder_bytes() -> int:
    """Of the smallest frozen encoder that ships, a text encoder; 0 where its file is not installed."""
    import codec_runtime.adapters  # noqa: PLC0415

    folder = Path(codec_runtime.adapters.__file__).parent / "weights" / "encoder" / "small-text" / "1"
    file = folder / WEIGHTS_FILE
    return file.stat().st_size if file.is_file() else 0


def alignment_section(summary: Mapping[str, Any], chart: str) -> str:
    """HTML of the report, around an SVG; empty where nothing was aligned."""
    told = summary.get("alignment")
    if not told or not told["requests"]:
        return ""
    confidence, rsum, size = told["confidence"], told["rsum"], told["bytes"]
    rows = [
        ("confidence of pictures", *(_text(confidence[k], 2) for k in ("before", "during", "after"))),
        ("RSUM of pairs held out", "", _text(rsum["before"], 0), _text(rsum["after"], 0)),
    ]
    body = "".join(
        f'<tr><td class="word">{escape(name)}</td>{"".join(f"<td>{escape(c)}</td>" for c in cells)}</tr>'
        for name, *cells in rows
    )
    if told["completed"]:
        outcome = (
            f"{_kilobytes(size['pushed'])} travelled to the site ({_kilobytes(size['adapter'])} of weights). "
            f"The smallest real encoder that ships, a text encoder, has {_kilobytes(size['encoder'])}."
        )
    else:
        outcome = f"The update was not completed: {told['problem']}."
    return (
        "<section><h2>Frozen encoders, aligned by a shared adapter</h2>"
        f'<p class="soft">{told["users"]} users send tokens of frozen encoders (of a generated world of '
        "captioned pictures); the site aligns them on a knowledge base that both hold. At the drift the axes "
        "of the pictures' encoder turn. The xApp sees alignment confidence fall, and has the adapter trained "
        "in federated rounds among these users, signed and rolled out; encoders and knowledge base stay as "
        f"they are. {escape(outcome)}</p>"
        + (f'<div class="chart">{chart}</div>' if chart else "")
        + '<table><thead><tr><th class="word"></th><th>before the drift</th><th>in it</th>'
        f"<th>with the update</th></tr></thead><tbody>{body}</tbody></table></section>"
    )


def _steps(told: Sequence[Mapping[str, Any]], epoch_ns: int) -> dict[str, float | None]:
    """Seconds of the steps of the attempt that was rolled out last, else of the last one; of detection, the
    first."""
    kinds = [str(event.get("kind", "")) for event in told]
    if "update_done" in kinds:
        done = len(kinds) - kinds[::-1].index("update_done")
        told = told[: done + [*kinds[done:], "round_started"].index("round_started")]
    times: dict[str, float | None] = dict.fromkeys(_STEPS.values())
    for event in told:
        name = _STEPS.get(str(event.get("kind", "")))
        if name == "round":
            times.update(dict.fromkeys(("trained", "accepted", "canary", "rolled_out", "recovered")))
        if name is None or (name in ("noticed", "canary") and times[name] is not None):
            continue
        times[name] = _rounded((int(event.get("time_ns", epoch_ns)) - epoch_ns) / 1e9)
    return times


def _problem(
    run: AlignedRun,
    steps: Mapping[str, float | None],
    told: Sequence[Mapping[str, Any]],
    drift_s: float | None,
) -> str:
    if steps["rolled_out"] is not None:
        return ""
    if not run.records:
        return "no user of the class aligned anything"
    if drift_s is None:
        return "there was no drift"
    failure = next(
        (str(e.get("text", "")) for e in reversed(told)
         if e.get("kind") in ("update_failed", "candidate_refused", "rollout_rolling_back")),
        "",
    )
    if failure:
        return failure
    reached = [text for step, text in _STEP_NAMES.items() if steps[step] is not None]
    return f"time was over after {reached[-1]}" if reached else "the drift was not noticed in the time"


def _mean(records: Sequence[Alignment]) -> float | None:
    """Of their samples."""
    if not records:
        return None
    weights = [one.samples for one in records]
    return round(float(np.average([one.confidence for one in records], weights=weights)), 4)


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 1)


def _text(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


def _kilobytes(count: int | None) -> str:
    return "-" if count is None else f"{count / 1e3:,.0f} kB"
