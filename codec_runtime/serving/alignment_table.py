"""Which adapter version aligns which user's tokens, as the xApp says. Written and read by the event loop."""

from __future__ import annotations

from typing import Final

from codec_runtime.contract.alignment import AdapterTable
from codec_runtime.serving.directives import MAX_USER_LENGTH, MAX_USERS
from codec_runtime.serving.registry import Models

_REJECTIONS_TOLD: Final = 32


class AssignmentTable:
    """The table in force: always a whole one, so that a lost table is made good by the next."""

    def __init__(self) -> None:
        self._versions: dict[tuple[str, str], int] = {}
        self._last = ("", 0)

    def __len__(self) -> int:
        return len(self._versions)

    def version_for(self, user: str, adapter: str) -> int | None:
        """What the xApp has said for a user; None if nothing."""
        return self._versions.get((user, adapter))

    def in_force(self) -> frozenset[tuple[str, int]]:
        """(adapter, version) of every assignment."""
        return frozenset((adapter, version) for (_, adapter), version in self._versions.items())

    def apply(self, table: AdapterTable, models: Models) -> list[str]:
        """Replace the table, unless ``table`` is not newer; ``user: reason`` of what cannot be followed."""
        issuer, sequence = self._last
        if issuer == table.issuer and table.sequence <= sequence:
            return []
        versions: dict[tuple[str, str], int] = {}
        rejected: list[str] = []
        for item in table.assignments:
            if not 0 < len(item.user) <= MAX_USER_LENGTH:
                reason = f"user: 1..{MAX_USER_LENGTH} characters are needed"
            elif (item.adapter, item.version) not in models.adapters:
                reason = f"adapter {item.adapter} version {item.version} is not loaded"
            elif len(versions) >= MAX_USERS:
                reason = f"table full: {MAX_USERS} users already have an adapter"
            else:
                versions[item.user, item.adapter] = item.version
                continue
            if len(rejected) < _REJECTIONS_TOLD:
                rejected.append(f"{item.user[:MAX_USER_LENGTH]}: {reason}")
        self._versions, self._last = versions, (table.issuer, table.sequence)
        return rejected
