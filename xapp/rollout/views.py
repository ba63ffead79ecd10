"""A roll-out as plain values, for HTTP and the command line; infinite and unknown numbers are null."""

from __future__ import annotations

import math
from typing import Any

import msgspec

from xapp.rollout.gates import Reading
from xapp.rollout.state import Rollout


def rollout_view(rollout: Rollout, readings: list[Reading], now_s: float) -> dict[str, Any]:
    """Where it stands.

    Args:
        readings: of its gates, newest; none while it is not observed.
    """
    return {
        "id": rollout.id,
        "group": rollout.group,
        "decoder": rollout.family,
        "version": rollout.version,
        "parent": rollout.parent,
        "phase": str(rollout.phase),
        "stage": rollout.stage_name,
        "stages": [*({"name": s.name, "users": s.count} for s in rollout.stages)],
        "users": len(rollout.members),
        "on_trial": rollout.treated,
        "in_phase_s": round(now_s - rollout.since_s, 1),
        "started_s": rollout.started_s,
        "offline_gain_db": rollout.gain_db,
        "sites": {name: msgspec.to_builtins(site) for name, site in sorted(rollout.sites.items())},
        "owed": sorted(name for name, site in rollout.sites.items() if site.owed),
        "gates": [reading_view(reading) for reading in readings],
        "false_alarm_rate": rollout.gates.false_alarm_rate,
        "reason": rollout.history[-1].reason if rollout.history else "",
    }


def history_view(rollout: Rollout) -> list[dict[str, Any]]:
    """Its transitions, oldest first."""
    return [
        {
            "time_s": line.time_s,
            "phase": str(line.phase),
            "stage": rollout.stages[line.stage].name if line.stage < len(rollout.stages) else "all",
            "reason": line.reason,
            "gates": [reading_view(reading) for reading in line.evidence],
        }
        for line in rollout.history
    ]


def reading_view(reading: Reading) -> dict[str, Any]:
    """One gate."""
    view: dict[str, Any] = msgspec.to_builtins(reading)
    for name in ("estimate", "low", "high"):
        view[name] = round(view[name], 4) if math.isfinite(view[name]) else None
    return view
