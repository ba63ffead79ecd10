"""Which decoders the site serves, their surfaces, and which version each group has been assigned."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass

from codec_runtime.contract.bundle import BundleManifest
from xapp.policy.surface import QualitySurface, SurfaceError, prior_surface

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ServedDecoder:
    """A decoder version at the site.

    Attributes:
        surface: index in :attr:`DecoderCatalog.surfaces`.
        encoder_version: version of the encoder it belongs to.
    """

    family: str
    version: int
    encoder_version: int
    encoder_sha256: str
    surface: int
    base: bool


class DecoderCatalog:
    """Decoders by (family, version), and the assignment group -> version of each family.

    Attributes:
        surfaces: rate-quality surfaces, referred to by index; only appended to.
        assigned: (group, family) -> version delivered to that group.
    """

    def __init__(self) -> None:
        self.decoders: dict[tuple[str, int], ServedDecoder] = {}
        self.surfaces: list[QualitySurface] = []
        self.assigned: dict[tuple[str, str], int] = {}
        self._surface_of: dict[tuple[str, int, str], int] = {}

    def update(self, models: Sequence[BundleManifest]) -> bool:
        """Take over what the site serves; returns whether anything changed.

        A decoder without a usable surface borrows its parent's, else another one of its family, else gets
        :func:`xapp.policy.surface.prior_surface` (and that is logged).
        """
        encoders = {m.weights_sha256: m.version for m in models if m.kind == "encoder"}
        served: dict[tuple[str, int], ServedDecoder] = {}
        for manifest in sorted((m for m in models if m.kind == "decoder"), key=lambda m: (m.name, m.version)):
            served[manifest.name, manifest.version] = ServedDecoder(
                family=manifest.name,
                version=manifest.version,
                encoder_version=encoders.get(manifest.encoder_sha256, 1),
                encoder_sha256=manifest.encoder_sha256,
                surface=self._surface(manifest),
                base=manifest.parent is None,
            )
        changed = served != self.decoders
        self.decoders = served
        return changed

    def assign(self, group: str, family: str, version: int) -> None:
        """From now on the group's users of that family get this version (while the site serves it)."""
        self.assigned[group, family] = version

    def version_for(self, group: str, family: str) -> ServedDecoder | None:
        """The group's assigned version, else the newest base version, else the newest; None if not served."""
        assigned = self.assigned.get((group, family))
        if assigned is not None and (family, assigned) in self.decoders:
            return self.decoders[family, assigned]
        of_family = [d for d in self.decoders.values() if d.family == family]
        return max(of_family, key=lambda d: (d.base, d.version), default=None)

    def choose(self, group: str, capabilities: Sequence[str]) -> ServedDecoder | None:
        """Best decoder the device can run and the site serves.

        Args:
            group: of the user. capabilities: families, best first; empty: any family, by name.
        """
        for family in capabilities or sorted({family for family, _ in self.decoders}):
            found = self.version_for(group, family)
            if found is not None:
                return found
        return None

    def surface(self, family: str, version: int) -> QualitySurface | None:
        """Surface of a served decoder."""
        found = self.decoders.get((family, version))
        return None if found is None else self.surfaces[found.surface]

    def missing(self) -> dict[tuple[str, str], int]:
        """Assignments that the site does not serve (it lost its installed bundles)."""
        return {
            key: version for key, version in self.assigned.items() if (key[1], version) not in self.decoders
        }

    def _surface(self, manifest: BundleManifest) -> int:
        key = (manifest.name, manifest.version, manifest.weights_sha256)
        if key in self._surface_of:
            return self._surface_of[key]
        try:
            surface = QualitySurface.from_manifest(manifest)
        except SurfaceError as error:
            borrowed = [k for k in self._surface_of if k[0] == manifest.name]
            if borrowed:
                lender = max(borrowed, key=lambda k: (k[1] == manifest.parent, k[1]))
                self._surface_of[key] = self._surface_of[lender]
                return self._surface_of[key]
            _log.warning(
                "decoder without a rate-quality surface: a prior is used",
                extra={"decoder": manifest.name, "version": manifest.version, "reason": str(error)},
            )
            surface = prior_surface()
        self.surfaces.append(surface)
        self._surface_of[key] = len(self.surfaces) - 1
        return self._surface_of[key]
