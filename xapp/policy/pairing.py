"""The pair of every user: asks the catalog once for all users that are the same to it.

Users are the same when they share group, capability set, what they hold, and the canaries that name them. The
catalog's answers are kept until it changes, so that a decision costs a few array operations.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np

from xapp.policy.assignments import NO_TRIALS, Trial
from xapp.policy.catalog import DecoderCatalog, ServedDecoder
from xapp.telemetry.columns import IntArray
from xapp.telemetry.holdings import Holdings
from xapp.telemetry.user_table import UNKNOWN_GROUP, UserTable

_MOST_KEPT: Final = 4096
"""Answers of the catalog kept; more are asked for again."""

_Kind = tuple[str, tuple[str, ...], Holdings, frozenset[Trial]]


class PairChoice:
    """See the module docstring.

    Args:
        table: of users. catalog: what their site serves.
    """

    def __init__(self, table: UserTable, catalog: DecoderCatalog) -> None:
        self._table = table
        self._catalog = catalog
        self._revision = -1
        self._answers: dict[_Kind, ServedDecoder | None] = {}
        self._trial_sets: list[frozenset[Trial]] = []
        self._users: Sequence[str] = ()
        self._trial_column: IntArray = np.zeros(0, np.int64)

    def choose(self, rows: IntArray) -> tuple[list[ServedDecoder | None], IntArray]:
        """(distinct choices, index int64 [N] of each row's); None: the device can take nothing served."""
        table = self._table
        self._follow()
        kind = table.group[rows] + 1
        for column, count in (
            (table.capability_set, len(table.capability_sets)),
            (table.held_set, len(table.held.sets)),
            (self._trial_column, len(self._trial_sets)),
        ):
            kind = kind * (count + 1) + column[rows] + 1
        _, first, choice = np.unique(kind, return_index=True, return_inverse=True)
        return [self._answer(int(row)) for row in rows[first]], choice

    def _answer(self, row: int) -> ServedDecoder | None:
        table = self._table
        capability, trial = int(table.capability_set[row]), int(self._trial_column[row])
        kind = (
            table.groups.name(int(table.group[row]), UNKNOWN_GROUP),
            table.capability_sets[capability] if capability >= 0 else (),
            table.held.at(int(table.held_set[row])),
            self._trial_sets[trial] if trial >= 0 else NO_TRIALS,
        )
        if kind not in self._answers:
            if len(self._answers) >= _MOST_KEPT:
                self._answers.clear()
            self._answers[kind] = self._catalog.choose(*kind)
        return self._answers[kind]

    def _follow(self) -> None:
        """Forget answers of another catalog state; find the rows of canary users anew when either changed."""
        table = self._table
        # The table only appends to its list of users, and replaces it when it removes some.
        same_users = table.users is self._users and len(self._trial_column) == len(table)
        if self._revision == self._catalog.revision and same_users:
            return
        if self._revision != self._catalog.revision:
            self._revision = self._catalog.revision
            self._answers.clear()
        self._users = table.users
        self._trial_column = np.full(len(table), -1, np.int64)
        trials = self._catalog.trials()
        self._trial_sets = sorted(set(trials.values()), key=sorted)
        for user, named in trials.items():
            row = table.row(user)
            if row is not None:
                self._trial_column[row] = self._trial_sets.index(named)
