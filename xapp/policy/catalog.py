"""Which decoders the site serves, their surfaces, and who gets which version.

The encoder and the decoder of a user change together: what is chosen is a *pair*, a served decoder whose
encoder is loaded, and only one that the user's device holds. Per family, best first:

1. the canary version, for the users that a canary names;
2. the version assigned to the group, else the newest of its ancestors;
3. the newest base version, else the newest one.

A device that holds none of any of its families gets a conventional codec that it and the site have in common.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from codec_runtime.contract.bundle import BundleManifest
from codec_runtime.contract.directives import ConventionalCodec
from xapp.policy.assignments import NO_TRIALS, Assignments, Trial
from xapp.policy.conventional import conventional_surface
from xapp.policy.surface import QualitySurface, SurfaceError, prior_surface
from xapp.telemetry.holdings import UNKNOWN, Holdings

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ServedDecoder:
    """A decoder version at the site with its encoder, or a conventional codec in place of both.

    Attributes:
        surface: index in :attr:`DecoderCatalog.surfaces`.
        encoder_version: version of the encoder it belongs to.
        parent: version it was fine-tuned from, None for a base.
        codec: not ``semantic``: family is empty, the versions are 0.
    """

    family: str
    version: int
    encoder_version: int
    encoder_sha256: str
    surface: int
    parent: int | None = None
    codec: Literal["semantic", "jpeg", "heic"] = "semantic"

    @property
    def base(self) -> bool:
        """Not fine-tuned from another version."""
        return self.parent is None


class DecoderCatalog(Assignments):
    """Decoders by (family, version), and the assignment group -> version of each family.

    Attributes:
        surfaces: rate-quality surfaces, referred to by index; only appended to.
        fallbacks: conventional codecs that the site encodes.
    """

    def __init__(self) -> None:
        super().__init__()
        self.decoders: dict[tuple[str, int], ServedDecoder] = {}
        self.surfaces: list[QualitySurface] = []
        self.fallbacks: dict[ConventionalCodec, ServedDecoder] = {}
        self._surface_of: dict[tuple[str, int, str], int] = {}

    def update(
        self, models: Sequence[BundleManifest], conventional: Collection[ConventionalCodec] = ()
    ) -> bool:
        """Take over what the site serves; returns whether anything changed.

        A decoder whose encoder is not loaded is left out: nobody could use it. One without a usable surface
        borrows its parent's, else another one of its family, else gets
        :func:`xapp.policy.surface.prior_surface` (and that is logged).
        """
        encoders = {m.weights_sha256: m.version for m in models if m.kind == "encoder"}
        served: dict[tuple[str, int], ServedDecoder] = {}
        for manifest in sorted((m for m in models if m.kind == "decoder"), key=lambda m: (m.name, m.version)):
            if manifest.encoder_sha256 not in encoders:
                continue
            served[manifest.name, manifest.version] = ServedDecoder(
                family=manifest.name,
                version=manifest.version,
                encoder_version=encoders[manifest.encoder_sha256],
                encoder_sha256=manifest.encoder_sha256,
                surface=self._surface(manifest),
                parent=manifest.parent,
            )
        fallbacks = {codec: self._fallback(codec) for codec in sorted(conventional)}
        changed = served != self.decoders or fallbacks != self.fallbacks
        self.decoders, self.fallbacks = served, fallbacks
        self.revision += changed
        return changed

    def serves(self, family: str, version: int) -> bool:
        """Whether the site serves that version."""
        return (family, version) in self.decoders

    def lacks(self, family: str, version: int) -> bool:
        """Whether it is known that the site does not: one that serves nothing may not have been asked."""
        return bool(self.decoders) and not self.serves(family, version)

    def version_for(
        self,
        group: str,
        family: str,
        holdings: Holdings = UNKNOWN,
        trials: frozenset[Trial] = NO_TRIALS,
    ) -> ServedDecoder | None:
        """Best version of the family for a user of the group (module docstring); None when the device holds
        none that is served."""
        canary = self.canaries.get((group, family)) if (group, family) in trials else None
        wanted = [] if canary is None else list(self._lineage(family, canary.version))[:1]
        assigned = self.assigned.get((group, family))
        if assigned is not None:
            wanted += self._lineage(family, assigned)
        for decoder in wanted:
            if holdings.holds(family, decoder.version):
                return decoder
        held = [d for d in self.decoders.values() if d.family == family and holdings.holds(family, d.version)]
        return max(held, key=lambda d: (d.base, d.version), default=None)

    def choose(
        self,
        group: str,
        capabilities: Sequence[str],
        holdings: Holdings = UNKNOWN,
        trials: frozenset[Trial] = NO_TRIALS,
    ) -> ServedDecoder | None:
        """Best pair that the device can take, else a conventional codec, else None.

        Args:
            group: of the user. capabilities: families, best first; empty: any family, by name.
            holdings: of the device. trials: canaries that name the user.
        """
        for family in capabilities or sorted({family for family, _ in self.decoders}):
            found = self.version_for(group, family, holdings, trials)
            if found is not None:
                return found
        return next((self.fallbacks[codec] for codec in holdings.fallbacks if codec in self.fallbacks), None)

    def surface(self, family: str, version: int) -> QualitySurface | None:
        """Surface of a served decoder."""
        found = self.decoders.get((family, version))
        return None if found is None else self.surfaces[found.surface]

    def missing(self) -> dict[tuple[str, str], int]:
        """Assignments that the site does not serve (it lost its installed bundles)."""
        return {
            key: version for key, version in self.assigned.items() if (key[1], version) not in self.decoders
        }

    def _lineage(self, family: str, version: int) -> Iterator[ServedDecoder]:
        """A version, what it was fine-tuned from, and so on, as far as it is served; newest first."""
        decoder = self.decoders.get((family, version))
        while decoder is not None:
            yield decoder
            parent = decoder.parent
            older = parent is not None and parent < decoder.version
            decoder = self.decoders.get((family, parent)) if parent is not None and older else None

    def _fallback(self, codec: ConventionalCodec) -> ServedDecoder:
        known = self.fallbacks.get(codec)
        if known is not None:
            return known
        self.surfaces.append(conventional_surface(codec))
        return ServedDecoder("", 0, 0, "", len(self.surfaces) - 1, codec=codec)

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
