"""The state of a repository as a site needs it."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class RepositoryFiles:
    """What a site needs for the current state.

    Attributes:
        metadata: names in the order in which they must be written; ``timestamp.json`` last.
        targets: TUF target path -> (path with the hash in the file name, sha256, local file).
        parents: TUF target path of a delta -> sha256 of the weights file that it applies to.
    """

    metadata: list[tuple[str, bytes]]
    targets: dict[str, tuple[str, str, Path]]
    parents: dict[str, str] = field(default_factory=dict)
