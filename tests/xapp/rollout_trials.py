"""Simulated trials of a version, judged after every single report: for rates of false alarms and delays."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from xapp.rollout.gates import GateSettings, UserRecord, judge, read_gates

Noise = Callable[[np.random.Generator, int], np.ndarray]


def normal(rng: np.random.Generator, count: int) -> np.ndarray:
    return rng.normal(0.0, 1.0, count)


def heavy(rng: np.random.Generator, count: int) -> np.ndarray:
    """Student's t with 4 degrees of freedom, of variance 1."""
    return rng.standard_t(4, count) / np.sqrt(2.0)


@dataclass(frozen=True)
class Trial:
    """One kind of trial: half of the users are treated.

    Attributes:
        effect_db: of the version. sd_db: within a user. own_db: sd of a user's own change at the switch.
        common_db: change of everybody at the switch. baseline: reports from before of each user.
        failures, late: probability of a failure and of a late picture, of everybody.
    """

    users: int = 8
    baseline: int = 16
    reports: int = 120
    effect_db: float = 0.0
    sd_db: float = 2.0
    own_db: float = 0.0
    common_db: float = 1.0
    failures: float = 0.0
    treated_failures: float = 0.0
    late: float = 0.05
    noise: Noise = normal
    look_every: int = 1


def first_alarm(trial: Trial, settings: GateSettings, rng: np.random.Generator) -> int | None:
    """Reports (of both groups) until a gate calls the version harmful; None if none ever does."""
    offsets = rng.normal(0.0, 4.0, trial.users)
    own = rng.normal(0.0, trial.own_db, trial.users)
    records = [UserRecord(rank) for rank in range(trial.users)]
    rows = [(rank < trial.users // 2, record) for rank, record in enumerate(records)]
    for user, record in enumerate(records):
        for value in offsets[user] + trial.sd_db * trial.noise(rng, trial.baseline):
            record.before.add(float(value))
    who = rng.integers(0, trial.users, trial.reports)
    noise = trial.sd_db * trial.noise(rng, trial.reports)
    luck, lateness = rng.random(trial.reports), rng.random(trial.reports)
    for count, user in enumerate(who, 1):
        treated, record = rows[user]
        if luck[count - 1] < (trial.treated_failures if treated else trial.failures):
            record.failures += 1
        else:
            effect = trial.effect_db if treated else 0.0
            record.after.add(float(offsets[user] + own[user] + trial.common_db + effect + noise[count - 1]))
            record.timed += 1
            record.late += bool(lateness[count - 1] < trial.late)
        if count % trial.look_every == 0:
            verdict = judge(read_gates(rows, settings, 1), 0.0, 1.0, settings)
            if verdict.decision == "roll_back":
                return count
    return None


def alarm_rate(trial: Trial, settings: GateSettings, runs: int, seed: int) -> tuple[float, float | None]:
    """(share of runs with an alarm, median of the reports until it)."""
    rng = np.random.default_rng(seed)
    alarms = [first_alarm(trial, settings, rng) for _ in range(runs)]
    found = [alarm for alarm in alarms if alarm is not None]
    return len(found) / runs, float(np.median(found)) if found else None
