"""What an experiment leaves behind: one JSON file with the command, the settings, the data and the rows."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from codec_runtime.bundle.store import write_atomic


def fingerprint(settings: Mapping[str, Any]) -> str:
    """12 hex digits that change when any setting does; ``settings`` must be JSON-able."""
    text = json.dumps(settings, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def shown(config: Mapping[str, Any]) -> dict[str, Any]:
    """Settings as results show them: of a folder the name alone, for where it lies says nothing elsewhere."""

    def entry(key: str, value: Any) -> Any:
        if isinstance(value, Mapping):
            return shown(value)
        if key == "images":
            return [Path(folder).name for folder in value]
        if key == "weights" and value is not None:
            return Path(value).name
        return value

    return {key: entry(key, value) for key, value in config.items()}


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write in one step: a reader sees the old file or the whole new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(path, (json.dumps(content, indent=1) + "\n").encode())


def experiment_result(
    *,
    experiment: str,
    command: str,
    config: Mapping[str, Any],
    data_sha256: Mapping[str, str],
    seeds: Sequence[int],
    rows: Sequence[Mapping[str, Any]],
    **more: Any,
) -> dict[str, Any]:
    """The object that ``docs/results/NAME.json`` holds; ``more`` is verdicts and derived tables.

    Args:
        data_sha256: hash of the training pictures and of the test pictures (:func:`training.data.data_hash`).
    """
    return {
        "experiment": experiment,
        "command": command,
        "config": shown(config),
        "data_sha256": dict(data_sha256),
        "seeds": list(seeds),
        "rows": [dict(row) for row in rows],
        **more,
    }


def spread(values: Sequence[float]) -> float | None:
    """Sample standard deviation; None for fewer than two values, which have none."""
    return stdev(values) if len(values) > 1 else None


def summary(values: Sequence[float], digits: int) -> dict[str, Any]:
    """``{mean, spread, per_seed}``, rounded."""
    deviation = spread(values)
    return {
        "mean": round(fmean(values), digits),
        "spread": None if deviation is None else round(deviation, digits),
        "per_seed": [round(value, digits) for value in values],
    }
