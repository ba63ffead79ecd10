"""Who gets which version of what a site serves: by group, and by user while a version is on trial."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Canary:
    """A version on trial with some users of a group."""

    version: int
    users: frozenset[str]


Trial = tuple[str, str]
"""(group, family) that has a canary."""

NO_TRIALS: Final[frozenset[Trial]] = frozenset()


class Assignments:
    """Assignments and canaries of one site; a family is the name of bundles of one kind.

    Attributes:
        assigned: (group, family) -> version delivered to that group.
        canaries: (group, family) -> version on trial.
        revision: grows with every change.
    """

    def __init__(self) -> None:
        self.assigned: dict[tuple[str, str], int] = {}
        self.canaries: dict[Trial, Canary] = {}
        self.revision = 0

    def assign(self, group: str, family: str, version: int) -> None:
        """From now on the group's users of that family get this version (while the site serves it)."""
        self.assigned[group, family] = version
        self.revision += 1

    def entries(self) -> list[tuple[str, str, int]]:
        """(group, family, version) of every assignment."""
        return [(group, family, version) for (group, family), version in self.assigned.items()]

    def set_canary(self, group: str, family: str, version: int, users: frozenset[str]) -> None:
        """Those users of the group get this version where it is served and they hold it; replaces an
        earlier canary of the group and family."""
        self.canaries[group, family] = Canary(version, users)
        self.revision += 1

    def clear_canary(self, group: str, family: str) -> None:
        """End the trial, if there is one; its users are treated as their group again."""
        if self.canaries.pop((group, family), None) is not None:
            self.revision += 1

    def trials(self) -> Mapping[str, frozenset[Trial]]:
        """Canaries by the users that they name."""
        found: dict[str, frozenset[Trial]] = {}
        for trial, canary in self.canaries.items():
            for user in canary.users:
                found[user] = found.get(user, NO_TRIALS) | {trial}
        return found
