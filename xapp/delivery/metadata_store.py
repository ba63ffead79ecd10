"""Signed metadata files on disk: strict reading, atomic and durable writing.

``{N}.root.json`` and ``{N}.<role>.json`` are never changed once written; ``timestamp.json`` alone is
replaced, and is what makes a new state current.
"""

from __future__ import annotations

import contextlib
import os
import re
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Final, TypeVar

from securesystemslib.signer import CryptoSigner  # type: ignore[attr-defined]
from tuf.api.metadata import (  # type: ignore[attr-defined]
    Metadata,
    MetaFile,
    Role,
    Root,
    Snapshot,
    Targets,
    Timestamp,
)
from tuf.api.serialization import DeserializationError

from xapp.delivery.keys import SigningKeyError

SignedT = TypeVar("SignedT", Root, Targets, Snapshot, Timestamp)
Reached = Callable[[str], None]

TIMESTAMP: Final = "timestamp.json"
_VERSIONED: Final = re.compile(r"^(\d+)\.([a-z-]+)\.json$")


class RepositoryStateError(RuntimeError):
    """The repository on disk is incomplete or does not parse; the message names the file."""


class MetadataStore:
    """The metadata directory (module docstring)."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        directory.mkdir(parents=True, exist_ok=True)

    def newest(self, role: str) -> int:
        """Highest version on disk, orphans of a crash included; 0 for none."""
        found = (_VERSIONED.match(path.name) for path in self.directory.iterdir())
        return max((int(match[1]) for match in found if match and match[2] == role), default=0)

    def read(self, name: str) -> bytes:
        """Raises: RepositoryStateError."""
        try:
            return (self.directory / name).read_bytes()
        except OSError as error:
            raise RepositoryStateError(f"{self.directory / name}: {error}") from error

    def load(self, name: str, kind: type[SignedT]) -> Metadata[SignedT]:
        """Raises: RepositoryStateError."""
        data = self.read(name)
        try:
            metadata: Metadata[SignedT] = Metadata.from_bytes(data)
        except DeserializationError as error:
            raise RepositoryStateError(f"{self.directory / name}: {error}") from error
        if not isinstance(metadata.signed, kind):
            raise RepositoryStateError(f"{self.directory / name}: holds {metadata.signed.type} metadata")
        return metadata

    def root(self) -> Metadata[Root]:
        """The root in force."""
        return self.load(f"{self.newest('root')}.root.json", Root)

    def timestamp(self) -> Metadata[Timestamp]:
        return self.load(TIMESTAMP, Timestamp)

    def snapshot(self) -> Metadata[Snapshot]:
        return self.load(f"{self.timestamp().signed.snapshot_meta.version}.snapshot.json", Snapshot)

    def targets(self, snapshot: Snapshot, role: str = "targets") -> Metadata[Targets]:
        """Metadata of ``targets`` or of a delegated role, as ``snapshot`` names it."""
        meta = snapshot.meta.get(f"{role}.json")
        if meta is None:
            raise RepositoryStateError(f"{self.directory}: the snapshot does not name {role}.json")
        return self.load(f"{meta.version}.{role}.json", Targets)

    def write(self, name: str, data: bytes) -> MetaFile:
        """Store a file; returns what the role above it says about it.

        Raises:
            OSError: nothing was changed.
        """
        decisive = name == TIMESTAMP or name.endswith(".root.json")
        if decisive:
            sync_directory(self.directory)  # what it makes current must be there before it, power cut or not
        write_durable(self.directory / name, data, directory=decisive)
        version = int(name.partition(".")[0]) if name != TIMESTAMP else 1
        return MetaFile.from_data(version, data, ["sha256"])


def signed_bytes(signed: SignedT, role: str, who: Role, signers: dict[str, CryptoSigner]) -> bytes:
    """``signed`` with the signature of every key of ``who`` that is here.

    Raises:
        SigningKeyError: fewer keys than the role's threshold.
    """
    here = [signers[keyid] for keyid in who.keyids if keyid in signers]
    if len(here) < who.threshold:
        raise SigningKeyError(
            f"role {role} needs {who.threshold} of {len(who.keyids)} keys to sign; {len(here)} are here"
        )
    metadata: Metadata[SignedT] = Metadata(signed)
    for signer in here:
        metadata.sign(signer, append=True)
    return metadata.to_bytes()


def write_durable(path: Path, data: bytes, *, directory: bool = True) -> None:
    """Atomic: a reader sees the old or the new content, also after a power cut.

    Args:
        directory: also make the name itself durable; False where the caller does so for several files.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name[-40:]}.")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)
        raise
    if directory:
        sync_directory(path.parent)


def sync_directory(directory: Path) -> None:
    """Make the names in a directory durable."""
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
