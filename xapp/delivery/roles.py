"""Which TUF roles a repository has, with how many keys each, and the steps at which a crash is tested.

Two layouts:

- *flat*: one key for each top-level role, bundles named by ``targets`` itself. What repositories of version
  0.1 are; :func:`xapp.delivery.rotation.migrate` turns it into the other.
- *delegated*: a threshold of root keys; ``targets`` names no file and delegates one role per bundle kind and
  the role ``director``, each for its own paths only, so that a stolen decoder key signs no encoder. An xApp
  without a repository makes one with a single root key, ``semcom keys init`` and the demo one with a
  threshold.

The director (Uptane's idea: https://uptane.org/docs/latest/standard/uptane-standard, 5.1) says which site may
run which bundles: ``director/<site>.json`` carries signed custom metadata ``{site, bundles, pairs}``; a site
without one follows ``director/_every.json``. A pair is (sha256 of the encoder's weights, of the decoder's).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final, get_args

from codec_runtime.contract.bundle import BundleKind

TOP_ROLES: Final = ("root", "targets", "snapshot", "timestamp")
KINDS: Final[tuple[str, ...]] = get_args(BundleKind)
DIRECTOR: Final = "director"
DELEGATED_ROLES: Final = (*KINDS, DIRECTOR)
EVERY_SITE: Final = "_every"

PUBLISH_STEPS: Final = (
    "target-files-written",
    "targets-written",
    "snapshot-written",
    "timestamp-written",
)
"""Reached in this order by every publication."""

ROTATION_STEPS: Final = (
    "keys-created",
    "root-pending",
    "root-written",
    "roles-signed-again",
    "old-keys-removed",
)
"""Reached in this order by every change of the root."""

_SITE: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", re.ASCII)


@dataclass(frozen=True)
class Layout:
    """Keys of a repository that is created.

    Attributes:
        root_keys: number of root keys, 1..9; root_threshold: signatures a root needs, 1..root_keys.
        delegated: one role per bundle kind and the director.

    Raises:
        ValueError: the threshold cannot be met, or a single stolen key of several would do.
    """

    root_keys: int = 1
    root_threshold: int = 1
    delegated: bool = False

    def __post_init__(self) -> None:
        if not 1 <= self.root_threshold <= self.root_keys <= 9:
            raise ValueError(
                f"root threshold {self.root_threshold} of {self.root_keys} keys: 1 <= threshold <= keys <= 9"
            )


FLAT: Final = Layout()
DIRECTED: Final = Layout(delegated=True)
THRESHOLD: Final = Layout(root_keys=3, root_threshold=2, delegated=True)


def role_paths(role: str) -> list[str]:
    """Path patterns that a delegated role may sign; ``*`` stops at ``/``."""
    return [f"{DIRECTOR}/*.json"] if role == DIRECTOR else [f"{role}/*/*/*"]


def assignment_path(site: str) -> str:
    """Target path of a site's assignment.

    Raises:
        ValueError: not a site name (letters, digits, ``.``, ``_``, ``-``; at most 64; no leading dot).
    """
    if site != EVERY_SITE and not _SITE.fullmatch(site):
        raise ValueError(f"site {site[:80]!r}: 1..64 of [A-Za-z0-9._-] are needed, a letter or digit first")
    return f"{DIRECTOR}/{site}.json"
