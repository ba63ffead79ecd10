"""What the signed metadata assigns to this site, and whether a bundle is among it (the director of Uptane).

A repository whose ``targets`` role delegates to ``director`` has assignments: a bundle is then served only if
two independent keys agree, that of its kind (it is genuine) and the director's (it is for this site and with
this encoder). A repository without that role assigns nothing, and every signed bundle may be served.

The director has the last word on what is installed, too: :func:`unassigned` is withdrawn. Shipped bundles are
not its matter; they are what is left to a site whose every update was withdrawn.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Annotated, Any, Final

import msgspec

from codec_runtime.bundle.errors import IncompatiblePairError, InvalidMetadataError, NotAssignedError
from codec_runtime.contract.bundle import BundleManifest

EVERY_SITE: Final = "_every"
SITE: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", re.ASCII)

Sha256 = Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{64}$")]


class Assignment(msgspec.Struct, frozen=True, kw_only=True):
    """Signed custom metadata of ``director/<site>.json``.

    Attributes:
        site: whom it is for, ``_every`` for every site without one of its own.
        bundles: paths that the site may serve.
        pairs: (sha256 of the encoder's weights, sha256 of the decoder's) that may work together.
    """

    site: str
    bundles: list[str]
    pairs: list[tuple[Sha256, Sha256]]


def assignment_paths(site: str) -> list[str]:
    """Target paths of a site's assignment, most specific first."""
    own = [f"director/{site}.json"] if SITE.fullmatch(site) else []
    return [*own, f"director/{EVERY_SITE}.json"]


def parse_assignment(custom: Any, path: str) -> Assignment:
    """Check the custom metadata of a director's target.

    Raises:
        InvalidMetadataError: a field is missing or of the wrong type, or the site is not that of the path.
    """
    try:
        assignment = msgspec.convert(custom, Assignment)
    except msgspec.ValidationError as error:
        raise InvalidMetadataError(f"{path}: not an assignment: {error}") from error
    if path != f"director/{assignment.site}.json":
        raise InvalidMetadataError(f"{path}: is an assignment for site {assignment.site!r}")
    return assignment


def check_assigned(assignment: Assignment, bundle: str) -> None:
    """Raises: NotAssignedError: the bundle is not for this site."""
    if bundle not in assignment.bundles:
        raise NotAssignedError(f"{bundle} is not assigned to site {assignment.site} by the signed director")


def unassigned(assignment: Assignment, installed: Iterable[str]) -> frozenset[str]:
    """Of the paths of installed bundles those that the site may serve no longer."""
    return frozenset(installed) - frozenset(assignment.bundles)


def check_pair(assignment: Assignment, manifest: BundleManifest) -> None:
    """Raises: IncompatiblePairError: the director does not name the pair that the manifest claims."""
    if not manifest.encoder_sha256:
        return
    if (manifest.encoder_sha256, manifest.weights_sha256) not in assignment.pairs:
        raise IncompatiblePairError(
            f"{manifest.kind} {manifest.name} version {manifest.version} with encoder "
            f"{manifest.encoder_sha256[:12]}... is no pair that the signed director names"
        )
