"""The TUF repository of the xApp: one per near-RT RIC, published to sites by push.

Rules
-----
- Versions only grow. A publish bumps targets, snapshot and timestamp; a refresh (expiry is near) the roles
  that need it. Everything is written under new names (consistent snapshot) before ``timestamp.json`` is
  replaced, so a crash in between leaves the old state and the next publish goes past the orphaned files.
- A rollback is a new targets version that names old weights again; nothing is ever un-published.
- The state on disk is the truth: a restarted xApp goes on with the next version.

Layout below the directory: ``metadata/{N}.root.json``, ``{N}.targets.json``, ``{N}.snapshot.json``,
``timestamp.json``; ``targets/<bundle>/<sha256>.<file>``; ``trusted_root.json`` is the pin for runtimes;
``keys/`` (see :mod:`xapp.delivery.keys`) unless another key directory is given.
"""

from __future__ import annotations

import contextlib
import os
import re
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final, TypeVar

from securesystemslib.signer import CryptoSigner  # type: ignore[attr-defined]
from tuf.api.metadata import (  # type: ignore[attr-defined]
    Metadata,
    MetaFile,
    Root,
    Snapshot,
    TargetFile,
    Targets,
    Timestamp,
)
from tuf.api.serialization import DeserializationError

from codec_runtime.contract.bundle import MANIFEST_FILE, WEIGHTS_FILE, BundleManifest
from xapp.delivery.keys import ROLES, create_keys, load_signer, passphrase_from_environment

SignedT = TypeVar("SignedT", Root, Targets, Snapshot, Timestamp)

ROOT_DAYS: Final = 365.0
TARGETS_DAYS: Final = 90.0
ONLINE_DAYS: Final = 7.0
_VERSIONED: Final = re.compile(r"^(\d+)\.(root|targets|snapshot)\.json$")


class RepositoryStateError(RuntimeError):
    """The repository on disk is incomplete or does not parse; the message names the file."""


@dataclass(frozen=True)
class Expiry:
    """How long signed metadata is valid, days."""

    root: float = ROOT_DAYS
    targets: float = TARGETS_DAYS
    online: float = ONLINE_DAYS


@dataclass(frozen=True)
class RepositoryFiles:
    """What a site needs for the current state.

    Attributes:
        metadata: names in the order in which they must be written; ``timestamp.json`` last.
        targets: TUF target path -> (path with the hash in the file name, sha256, local file).
    """

    metadata: list[tuple[str, bytes]]
    targets: dict[str, tuple[str, str, Path]]


def init_repository(
    directory: Path, key_directory: Path | None = None, passphrase: bytes | None = None
) -> Path:
    """Create keys and first metadata unless they exist.

    Args:
        directory: of the repository; key_directory: ``<directory>/keys`` if None.
        passphrase: of the key files; from the environment if None.

    Returns:
        Path of ``trusted_root.json``, which runtimes pin.
    """
    repository = TufRepository(directory, key_directory, passphrase)
    return repository.trusted_root


class TufRepository:
    """The repository on disk (module docstring). Blocking file I/O and signing: about 10 ms a publish.

    Args:
        directory, key_directory, passphrase: as of :func:`init_repository`.
        expiry: validity of what is signed from now on.
        now: clock, UTC; for tests.

    Raises:
        SigningKeyError: a key cannot be read. RepositoryStateError: damaged metadata.
    """

    def __init__(
        self,
        directory: Path,
        key_directory: Path | None = None,
        passphrase: bytes | None = None,
        *,
        expiry: Expiry | None = None,
        now: Callable[[], datetime] | None = None,
    ) -> None:
        self.directory = directory
        self.trusted_root = directory / "trusted_root.json"
        self._metadata = directory / "metadata"
        self._targets = directory / "targets"
        self._keys = key_directory or directory / "keys"
        self._passphrase = passphrase if passphrase is not None else passphrase_from_environment()
        self._expiry = expiry or Expiry()
        self._now = now or (lambda: datetime.now(UTC))
        self._metadata.mkdir(parents=True, exist_ok=True)
        self._targets.mkdir(parents=True, exist_ok=True)
        if not (self._metadata / "timestamp.json").exists():
            self._create()
        if not self.trusted_root.exists():
            _write(self.trusted_root, (self._metadata / "1.root.json").read_bytes())

    def versions(self) -> dict[str, int]:
        """Current version of each role."""
        timestamp = self._load_timestamp()
        snapshot = self._load_snapshot(timestamp)
        return {
            "root": self._newest("root"),
            "targets": snapshot.signed.meta["targets.json"].version,
            "snapshot": timestamp.signed.snapshot_meta.version,
            "timestamp": timestamp.signed.version,
        }

    def bundles(self) -> list[str]:
        """Bundle paths published, e.g. ``decoder/attention/2``."""
        targets = self._load_targets()
        return sorted({path.rpartition("/")[0] for path in targets.signed.targets})

    def publish(self, manifest: BundleManifest, files: Mapping[str, bytes]) -> str:
        """Sign a bundle and make it current.

        Args:
            manifest: of the bundle, for path and signed custom metadata.
            files: ``manifest.msgpack`` and ``weights.safetensors``, bytes exactly as they are to be served.

        Returns:
            The bundle path.

        Raises:
            ValueError: a file is missing or superfluous.
        """
        if set(files) != {MANIFEST_FILE, WEIGHTS_FILE}:
            raise ValueError(f"a bundle is {MANIFEST_FILE} + {WEIGHTS_FILE}, not {sorted(files)}")
        bundle = f"{manifest.kind}/{manifest.name}/{manifest.version}"
        custom: dict[str, Any] = {
            "kind": manifest.kind,
            "name": manifest.name,
            "version": manifest.version,
            "encoder_sha256": manifest.encoder_sha256,
            "parent": manifest.parent,
            "minimum_runtime": manifest.minimum_runtime,
        }
        targets = self._load_targets()
        for name, data in files.items():
            target = TargetFile.from_data(f"{bundle}/{name}", data)
            target.unrecognized_fields["custom"] = custom
            place = self._targets / bundle / f"{target.hashes['sha256']}.{name}"
            place.parent.mkdir(parents=True, exist_ok=True)
            _write(place, data)
            targets.signed.targets[target.path] = target
        self._publish(targets)
        return bundle

    def refresh(self, within_days: float = 1.0) -> bool:
        """Sign again what expires within ``within_days``; returns whether anything was."""
        limit = self._now() + timedelta(days=within_days)
        timestamp = self._load_timestamp()
        snapshot = self._load_snapshot(timestamp)
        targets = self._load_targets()
        if targets.signed.expires <= limit:
            self._publish(targets)
            return True
        if min(timestamp.signed.expires, snapshot.signed.expires) <= limit:
            self._publish(None)
            return True
        return False

    def files(self) -> RepositoryFiles:
        """Everything that a site needs to verify the current state."""
        versions = self.versions()
        names = [f"{version}.root.json" for version in range(1, versions["root"] + 1)]
        names += [f"{versions['targets']}.targets.json", f"{versions['snapshot']}.snapshot.json"]
        metadata = [(name, (self._metadata / name).read_bytes()) for name in [*names, "timestamp.json"]]
        targets: dict[str, tuple[str, str, Path]] = {}
        for path, target in self._load_targets().signed.targets.items():
            folder, _, name = path.rpartition("/")
            digest = target.hashes["sha256"]
            hashed = f"{folder}/{digest}.{name}"
            targets[path] = (hashed, digest, self._targets / hashed)
        return RepositoryFiles(metadata, targets)

    def _create(self) -> None:
        create_keys(self._keys, self._passphrase)
        signers = {role: self._signer(role) for role in ROLES}
        if self._newest("root") == 0:
            root = Root(expires=self._expires(self._expiry.root), consistent_snapshot=True)
            for role, signer in signers.items():
                root.add_key(signer.public_key, role)
            self._sign(root, "root", "1.root.json")
        self._publish(Metadata(Targets()))

    def _publish(self, targets: Metadata[Targets] | None) -> None:
        if targets is not None:
            targets.signed.version = self._newest("targets") + 1
            targets.signed.expires = self._expires(self._expiry.targets)
            self._sign(targets.signed, "targets", f"{targets.signed.version}.targets.json")
            targets_version = targets.signed.version
        else:
            targets_version = self.versions()["targets"]
        snapshot = Snapshot(
            version=self._newest("snapshot") + 1,
            expires=self._expires(self._expiry.online),
            meta={"targets.json": MetaFile(version=targets_version)},
        )
        self._sign(snapshot, "snapshot", f"{snapshot.version}.snapshot.json")
        previous = 0
        if (self._metadata / "timestamp.json").exists():
            previous = self._load_timestamp().signed.version
        timestamp = Timestamp(
            version=previous + 1,
            expires=self._expires(self._expiry.online),
            snapshot_meta=MetaFile(version=snapshot.version),
        )
        self._sign(timestamp, "timestamp", "timestamp.json")

    def _sign(self, signed: SignedT, role: str, name: str) -> None:
        metadata: Metadata[SignedT] = Metadata(signed)
        metadata.sign(self._signer(role))
        _write(self._metadata / name, metadata.to_bytes())

    def _signer(self, role: str) -> CryptoSigner:
        return load_signer(self._keys, role, self._passphrase)

    def _expires(self, days: float) -> datetime:
        return (self._now() + timedelta(days=days)).replace(microsecond=0)

    def _newest(self, role: str) -> int:
        """Highest version on disk, orphans of a crash included; 0 for none."""
        found = (_VERSIONED.match(path.name) for path in self._metadata.iterdir())
        return max((int(match[1]) for match in found if match and match[2] == role), default=0)

    def _load_timestamp(self) -> Metadata[Timestamp]:
        return self._load("timestamp.json", Timestamp)

    def _load_snapshot(self, timestamp: Metadata[Timestamp]) -> Metadata[Snapshot]:
        return self._load(f"{timestamp.signed.snapshot_meta.version}.snapshot.json", Snapshot)

    def _load_targets(self) -> Metadata[Targets]:
        snapshot = self._load_snapshot(self._load_timestamp())
        return self._load(f"{snapshot.signed.meta['targets.json'].version}.targets.json", Targets)

    def _load(self, name: str, kind: type[SignedT]) -> Metadata[SignedT]:
        path = self._metadata / name
        try:
            metadata: Metadata[SignedT] = Metadata.from_bytes(path.read_bytes())
        except (OSError, DeserializationError) as error:
            raise RepositoryStateError(f"{path}: {error}") from error
        if not isinstance(metadata.signed, kind):
            raise RepositoryStateError(f"{path}: holds {metadata.signed.type} metadata")
        return metadata


def _write(path: Path, data: bytes) -> None:
    """Atomic and durable: a reader sees the old or the new content."""
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
