"""What a roll-out is asked for with."""

from __future__ import annotations

import msgspec


class RolloutConflictError(ValueError):
    """Another roll-out of that group and family is active, or what was asked for makes no sense."""


class RolloutOrder(msgspec.Struct, frozen=True, kw_only=True):
    """What to roll out: a version of a family whose bundle is in the repository, to a group.

    Attributes:
        parent: version that the group has now. gain_db: off-line gain, if known.
        baseline_after_s: reports from before that time (wall clock) are of other content.
    """

    group: str
    family: str
    version: int
    parent: int
    gain_db: float | None = None
    baseline_after_s: float = 0.0

    @property
    def bundle(self) -> str:
        """Path in the repository."""
        return f"decoder/{self.family}/{self.version}"
