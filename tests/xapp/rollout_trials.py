"""Simulated trials of a version, judged after every single report: for rates of false alarms and delays."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from xapp.rollout.gates import GateSettings, Reading, UserRecord, judge, read_gates

Noise = Callable[[np.random.Generator, int], np.ndarray]


def normal(rng: np.random.Generator, count: int) -> np.ndarray:
    return rng.normal(0.0, 1.0, count)


def heavy(rng: np.random.Generator, count: int) -> np.ndarray:
    """Student's t with 4 degrees of freedom, of variance 1."""
    return rng.standard_t(4, count) / np.sqrt(2.0)


@dataclass(frozen=True)
class Trial:
    """One kind of trial.

    Attributes:
        effect_db: of the version. sd_db: within a user. own_db: sd of a user's own change at the switch.
        common_db: change of everybody at the switch. baseline: reports from before of each user.
        rho: correlation of successive reports of a user. paired_db: standard deviation of the difference of
            two versions on one picture, of the same correlation; None: no picture is restored twice.
        pictures: restored twice by each treated user, at most. treated_share: of the users.
        failures, late: probability of a failure and of a late picture, of everybody.
    """

    users: int = 8
    baseline: int = 16
    reports: int = 120
    effect_db: float = 0.0
    sd_db: float = 2.0
    own_db: float = 0.0
    common_db: float = 1.0
    rho: float = 0.0
    paired_db: float | None = None
    pictures: int = 64
    treated_share: float = 0.5
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
    rows = [(rank < trial.treated_share * trial.users, record) for rank, record in enumerate(records)]
    content = [_content(trial, rng) for _ in records]
    differences = [_content(trial, rng) for _ in records]
    for user, record in enumerate(records):
        for _ in range(trial.baseline):
            record.before.add(offsets[user] + trial.sd_db * next(content[user]))
    who = rng.integers(0, trial.users, trial.reports)
    readings: list[Reading] = []
    luck, lateness = rng.random(trial.reports), rng.random(trial.reports)
    for count, user in enumerate(who, 1):
        treated, record = rows[user]
        if luck[count - 1] < (trial.treated_failures if treated else trial.failures):
            record.failures += 1
        else:
            effect = trial.effect_db if treated else 0.0
            noise = trial.sd_db * next(content[user])
            record.after.add(float(offsets[user] + own[user] + trial.common_db + effect + noise))
            if treated and trial.paired_db is not None and record.pairs.count < trial.pictures:
                record.pairs.add(effect + trial.paired_db * next(differences[user]))
            record.timed += 1
            record.late += bool(lateness[count - 1] < trial.late)
        if count % trial.look_every == 0:
            readings = read_gates(rows, settings, 1, readings)
            if judge(readings, 0.0, 1.0, settings).decision == "roll_back":
                return count
    return None


def _content(trial: Trial, rng: np.random.Generator) -> Iterator[float]:
    """Numbers of variance 1, each correlated with the one before."""
    value = float(trial.noise(rng, 1)[0])
    while True:
        yield value
        fresh = trial.noise(rng, 1)[0]
        value = float(trial.rho * value + np.sqrt(1.0 - trial.rho**2) * fresh)


def alarm_rate(trial: Trial, settings: GateSettings, runs: int, seed: int) -> tuple[float, float | None]:
    """(share of runs with an alarm, median of the reports until it)."""
    rng = np.random.default_rng(seed)
    alarms = [first_alarm(trial, settings, rng) for _ in range(runs)]
    found = [alarm for alarm in alarms if alarm is not None]
    return len(found) / runs, float(np.median(found)) if found else None
