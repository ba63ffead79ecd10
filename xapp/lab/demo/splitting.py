"""What a run's classifying users came to: moves, latency against fixed cuts, agreement. Pure."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

import numpy as np

from xapp.lab.classification_records import (
    CLASSIFICATIONS_FILE,
    Classification,
    read_classifications,
)


def run_classifications(lab_dirs: Iterable[Path], since_ns: int = 0) -> list[Classification]:
    """Of all lab instances of a run, of pictures answered at ``since_ns`` (wall clock) or later.

    Raises:
        ValueError: a record is none; names file and line.
    """
    records = [one for folder in lab_dirs for one in read_classifications(folder / CLASSIFICATIONS_FILE)]
    return sorted((one for one in records if one.time_ns >= since_ns), key=lambda one: one.time_ns)


def split_summary(records: Sequence[Classification], problem: str = "") -> dict[str, Any]:
    """The key ``split`` of the summary; means are None without a picture.

    Args:
        problem: why users do not classify, empty for none.
    """
    users = []
    for user in sorted({one.user for one in records}):
        own = [one for one in records if one.user == user]
        users.append(
            {"user": user, "compute_class": own[0].compute_class, **_figures(own), "cuts": _cuts(own)}
        )
    return {**_figures(records), "users": users, "problem": problem}


def _figures(records: Sequence[Classification]) -> dict[str, Any]:
    by_user: dict[str, list[Classification]] = {}
    for one in records:
        by_user.setdefault(one.user, []).append(one)
    moves = sum(
        before.cut != after.cut
        for own in by_user.values()
        for before, after in itertools.pairwise(own)
    )
    return {
        "pictures": len(records),
        "moves": moves,
        "agreement": _mean([float(one.agrees) for one in records], 4),
        "latency_ms": _mean([one.total_ms for one in records]),
        "all_on_device_ms": _mean([one.on_device_ms for one in records]),
        "all_on_edge_ms": _mean([one.on_edge_ms for one in records]),
    }


def _cuts(records: Sequence[Classification]) -> dict[str, int]:
    """Pictures by operations on the device."""
    counts: dict[str, int] = {}
    for one in records:
        counts[str(one.device_nodes)] = counts.get(str(one.device_nodes), 0) + 1
    return counts


def _mean(values: Sequence[float], digits: int = 1) -> float | None:
    return round(float(np.mean(values)), digits) if values else None


def split_section(summary: Mapping[str, Any]) -> str:
    """HTML of the report; empty where nothing was classified."""
    split = summary.get("split")
    if not split or not split["pictures"]:
        return ""
    head = ("user", "device", "pictures", "moves of the cut", "latency", "all on device", "all on edge",
            "agreement")
    rows = [("all", "", split), *((user["user"], user["compute_class"], user) for user in split["users"])]
    body = "".join(
        "<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in _row(name, device, row)) + "</tr>"
        for name, device, row in rows
    )
    titles = "".join(f"<th>{escape(title)}</th>" for title in head)
    return (
        "<section><h2>Users that classify, with moving cuts</h2>"
        "<p>Device and site compute a network together; where it is cut follows channel, load and device. "
        "Device times are those of emulated weak processors, link times those of the cell. The two fixed "
        "cuts are computed for the same moments; agreement is with the whole network on the same "
        f"pictures.</p><table><thead><tr>{titles}</tr></thead><tbody>{body}</tbody></table></section>"
    )


def _row(name: str, device: str, row: Mapping[str, Any]) -> tuple[str, ...]:
    times = (row["latency_ms"], row["all_on_device_ms"], row["all_on_edge_ms"])
    return (
        name, device, str(row["pictures"]), str(row["moves"]), *(f"{time:.0f} ms" for time in times),
        f"{100.0 * row['agreement']:.1f} %",
    )
