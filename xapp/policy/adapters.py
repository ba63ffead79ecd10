"""Which adapters a site serves, and who gets which version. An adapter's family is its bundle's name.

A user gets the canary version, if one names it, else the version assigned to its group, each as far as the
site serves it, else what the site takes by itself: the newest base version.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from codec_runtime.contract.bundle import BundleManifest
from xapp.policy.assignments import Assignments


@dataclass(frozen=True, slots=True)
class ServedAdapter:
    """Attributes: parent: version it was trained from; skb_sha256: of the knowledge base it is aligned to."""

    family: str
    version: int
    parent: int | None
    skb_sha256: str


class AdapterCatalog(Assignments):
    """See the module docstring.

    Attributes:
        adapters: by (family, version).
    """

    def __init__(self) -> None:
        super().__init__()
        self.adapters: dict[tuple[str, int], ServedAdapter] = {}
        self._looked = False

    def update(self, models: Sequence[BundleManifest]) -> bool:
        """Take over what the site serves; returns whether anything changed."""
        served = {
            (m.name, m.version): ServedAdapter(
                m.name,
                m.version,
                m.parent,
                next((bundle.sha256 for bundle in m.compatible if bundle.kind == "skb"), ""),
            )
            for m in models
            if m.kind == "adapter"
        }
        changed = served != self.adapters
        self.adapters, self._looked = served, True
        self.revision += changed
        return changed

    def serves(self, family: str, version: int) -> bool:
        """Whether the site serves that version."""
        return (family, version) in self.adapters

    def lacks(self, family: str, version: int) -> bool:
        """Whether it is known that the site does not."""
        return self._looked and not self.serves(family, version)

    def version_for(self, group: str, family: str) -> ServedAdapter | None:
        """What the users of a group get, where they are not on trial; None where the site serves none."""
        assigned = self.assigned.get((group, family))
        if assigned is not None and (family, assigned) in self.adapters:
            return self.adapters[family, assigned]
        own = [adapter for adapter in self.adapters.values() if adapter.family == family]
        return max(own, key=lambda adapter: (adapter.parent is None, adapter.version), default=None)

    def told(self, user: str, group: str, family: str) -> int | None:
        """Version that the site must be told for a user; None where what it does by itself is right."""
        canary = self.canaries.get((group, family))
        if canary is not None and user in canary.users and self.serves(family, canary.version):
            return canary.version
        assigned = self.assigned.get((group, family))
        return assigned if assigned is not None and self.serves(family, assigned) else None

    def missing(self) -> dict[tuple[str, str], int]:
        """Assignments that the site does not serve (it lost its installed bundles)."""
        return {key: version for key, version in self.assigned.items() if self.lacks(key[1], version)}
