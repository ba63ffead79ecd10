"""What a roll-out is asked for with."""

from __future__ import annotations

from typing import Literal

import msgspec

UpdatedKind = Literal["decoder", "adapter"]
"""Kinds of bundles that are rolled out in stages."""


class RolloutConflictError(ValueError):
    """Another roll-out of that group and family is active, or what was asked for makes no sense."""


class RolloutOrder(msgspec.Struct, frozen=True, kw_only=True):
    """What to roll out: a version of a family whose bundle is in the repository, to a group.

    Attributes:
        kind: of the bundle; family is its name.
        parent: version that the group has now. gain_db: off-line gain, if known.
        baseline_after_s: reports from before that time (wall clock) are of other content.
    """

    group: str
    family: str
    version: int
    parent: int
    gain_db: float | None = None
    baseline_after_s: float = 0.0
    kind: UpdatedKind = "decoder"

    @property
    def bundle(self) -> str:
        """Path in the repository."""
        return f"{self.kind}/{self.family}/{self.version}"
