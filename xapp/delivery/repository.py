"""The xApp's TUF repository (The Update Framework): what sites verify before they serve weights.

States and rules
----------------
A repository is *current* (the root in force verifies timestamp, snapshot and targets) or *half-changed* (a
crash left a new root whose roles are not signed again yet); :meth:`TufRepository.refresh` makes it current.

- Versions only grow. A publication bumps the roles it changes, snapshot and timestamp; a refresh (expiry is
  near) the roles that need it. Everything is written under new names (consistent snapshot) before
  ``timestamp.json`` is replaced, so a crash in between leaves the old state and the next publication goes
  past the orphaned files.
- Snapshot names version, length and sha256 of every targets file, timestamp those of the snapshot.
- A rollback is a new version (of the director, or of targets) that names old weights. A site withdraws what
  the director assigns to it no longer; in a flat repository nothing is ever withdrawn.
- With a director, publishing forgets old versions of that kind that no site is assigned
  (:mod:`xapp.delivery.pruning`); their files go once no current metadata names them.
- The state on disk is the truth: a restarted xApp goes on with the next version.

Layout below the directory: ``metadata/{N}.root.json``, ``{N}.targets.json``, ``{N}.<kind>.json``,
``{N}.director.json``, ``{N}.snapshot.json``, ``timestamp.json``; ``targets/<bundle>/<sha256>.<file>``;
``trusted_root.json`` is the pin for runtimes; ``pending/`` a root that waits for signatures (see
:mod:`xapp.delivery.rotation`); ``keys/`` (see :mod:`xapp.delivery.keys`) unless another directory is given.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

from tuf.api.exceptions import UnsignedMetadataError
from tuf.api.metadata import (  # type: ignore[attr-defined]
    DelegatedRole,
    Delegations,
    Metadata,
    Role,
    Root,
    Snapshot,
    TargetFile,
    Targets,
    Timestamp,
)

from codec_runtime.contract.bundle import DELTA_FILE, BundleManifest
from xapp.delivery.assignment import assigned, assignment_target, bundle_path
from xapp.delivery.bundle_files import check_files
from xapp.delivery.keys import KeyStore, SigningKeyError, passphrase_from_environment
from xapp.delivery.metadata_store import (
    TIMESTAMP,
    MetadataStore,
    Reached,
    RepositoryStateError,
    SignedT,
    signed_bytes,
    write_durable,
)
from xapp.delivery.pruning import forget_stale
from xapp.delivery.repository_files import RepositoryFiles
from xapp.delivery.roles import (
    DELEGATED_ROLES,
    DIRECTOR,
    EVERY_SITE,
    FLAT,
    TOP_ROLES,
    Layout,
    assignment_path,
    role_paths,
)

ROOT_DAYS: Final = 365.0
TARGETS_DAYS: Final = 90.0
ONLINE_DAYS: Final = 7.0

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Expiry:
    """How long signed metadata is valid, days; ``targets`` also of the delegated roles."""

    root: float = ROOT_DAYS
    targets: float = TARGETS_DAYS
    online: float = ONLINE_DAYS


def init_repository(
    directory: Path,
    key_directory: Path | None = None,
    passphrase: bytes | None = None,
    layout: Layout = FLAT,
    root_keys: Sequence[Path] = (),
) -> Path:
    """Create keys and first metadata unless they exist; arguments as of :class:`TufRepository`.

    Returns:
        Path of ``trusted_root.json``, which runtimes pin.
    """
    return TufRepository(
        directory, key_directory, passphrase, layout=layout, root_keys=root_keys
    ).trusted_root


class TufRepository:
    """The repository on disk (module docstring). Blocking file I/O and signing: about 10 ms a publication.

    Args:
        directory: of the repository; key_directory: ``<directory>/keys`` if None.
        passphrase: of the key files; from the environment if None.
        layout: of a repository that does not exist yet.
        root_keys: directories of the root keys, if not the key directory.
        expiry: validity of what is signed from now on.
        now: clock, UTC; reached: told every step of :data:`~xapp.delivery.roles.PUBLISH_STEPS`; for tests.

    Raises:
        SigningKeyError: a key cannot be read. RepositoryStateError: damaged metadata.
    """

    def __init__(
        self,
        directory: Path,
        key_directory: Path | None = None,
        passphrase: bytes | None = None,
        *,
        layout: Layout = FLAT,
        root_keys: Sequence[Path] = (),
        expiry: Expiry | None = None,
        now: Callable[[], datetime] | None = None,
        reached: Reached | None = None,
    ) -> None:
        self.directory = directory
        self.trusted_root = directory / "trusted_root.json"
        self.store = MetadataStore(directory / "metadata")
        passphrase = passphrase if passphrase is not None else passphrase_from_environment()
        self.keys = KeyStore(key_directory or directory / "keys", passphrase, root_keys)
        self.expiry = expiry or Expiry()
        self.reached: Reached = reached or (lambda step: None)
        self._targets = directory / "targets"
        self._now = now or (lambda: datetime.now(UTC))
        self._targets.mkdir(parents=True, exist_ok=True)
        if not (self.store.directory / TIMESTAMP).exists():
            self._create(layout)
        if not self.trusted_root.exists():
            write_durable(self.trusted_root, self.store.read("1.root.json"))

    def versions(self) -> dict[str, int]:
        """Current version of each role."""
        timestamp = self.store.timestamp().signed
        snapshot = self.store.snapshot().signed
        roles = {name.removesuffix(".json"): meta.version for name, meta in sorted(snapshot.meta.items())}
        return {
            "root": self.store.newest("root"),
            **roles,
            "snapshot": timestamp.snapshot_meta.version,
            "timestamp": timestamp.version,
        }

    def bundles(self) -> list[str]:
        """Bundle paths published, e.g. ``decoder/attention/2``."""
        return sorted({bundle_path(path) for path in self._target_files() if not path.startswith(DIRECTOR)})

    def assignments(self) -> dict[str, list[str]]:
        """Bundles by site, ``_every`` for all others; empty in a flat repository."""
        roles = self.load_roles()
        if DIRECTOR not in roles:
            return {}
        return {
            target.custom["site"]: list(target.custom["bundles"])
            for target in roles[DIRECTOR].signed.targets.values()
        }

    def publish(
        self, manifest: BundleManifest, files: Mapping[str, bytes], sites: Iterable[str] | None = None
    ) -> str:
        """Sign a bundle and make it current.

        Args:
            manifest: of the bundle, for path and signed custom metadata.
            files: ``manifest.msgpack``, ``weights.safetensors`` and, if there is one, ``delta.safetensors``,
                whose target then names the weights it applies to (signed custom ``parent_sha256``).
            sites: to assign it to besides what they have, none for nobody yet; every site if None. A flat
                repository has no assignments.

        Returns:
            The bundle path.

        Raises:
            ValueError: a file is missing or superfluous, the delta is not that of the manifest, or a site's
                name is not one.
        """
        check_files(manifest, files)
        bundle = f"{manifest.kind}/{manifest.name}/{manifest.version}"
        custom: dict[str, Any] = {
            "kind": manifest.kind,
            "name": manifest.name,
            "version": manifest.version,
            "encoder_sha256": manifest.encoder_sha256,
            "weights_sha256": manifest.weights_sha256,
            "parent": manifest.parent,
            "minimum_runtime": manifest.minimum_runtime,
        }
        roles = self.load_roles()
        wanted = sorted({EVERY_SITE, *self.assignments()}) if sites is None else list(sites)
        for site in wanted:
            assignment_path(site)
        role: str = manifest.kind if DIRECTOR in roles else "targets"
        for name, data in files.items():
            target = TargetFile.from_data(f"{bundle}/{name}", data, ["sha256"])
            stated = manifest.delta if name == DELTA_FILE else None
            target.unrecognized_fields["custom"] = (
                custom if stated is None else {**custom, "parent_sha256": stated.parent_sha256}
            )
            write_durable(self._targets / bundle / f"{target.hashes['sha256']}.{name}", data)
            roles[role].signed.targets[target.path] = target
        changed = {role}
        if DIRECTOR in roles and wanted:
            for site in wanted:
                self.set_assignment(roles, site, [*assigned(roles[DIRECTOR].signed, site), bundle])
            changed.add(DIRECTOR)
        self.reached("target-files-written")
        forgotten = forget_stale(roles, role) if DIRECTOR in roles else []
        self.publish_roles(roles, changed)
        for hashed in forgotten:
            (self._targets / hashed).unlink(missing_ok=True)
        return bundle

    def assign(self, site: str, bundles: Sequence[str]) -> None:
        """:meth:`assign_many` for one site."""
        self.assign_many({site: bundles})

    def assign_many(self, assignments: Mapping[str, Sequence[str]]) -> None:
        """From now on each site may run exactly its bundles (one version of the director); a rollback names
        older ones.

        Raises:
            ValueError: the repository has no director, a site's name is not one, or a bundle is unknown.
        """
        roles = self.load_roles()
        if DIRECTOR not in roles:
            raise ValueError("a flat repository assigns nothing: `semcom keys migrate` it first")
        for site, bundles in assignments.items():
            self.set_assignment(roles, site, bundles)
        self.reached("target-files-written")
        self.publish_roles(roles, {DIRECTOR})

    def refresh(self, within_days: float = 1.0) -> bool:
        """Sign again what expires within ``within_days`` or is half-changed; returns whether anything was.

        A role whose key is off-line is logged and left: the on-line roles must not expire with it.
        """
        limit = self._now() + timedelta(days=within_days)
        roles = self.load_roles()
        due = {name for name, metadata in roles.items() if metadata.signed.expires <= limit}
        for name in sorted(due):
            try:
                self._signed(roles[name].signed, name, roles["targets"].signed)
            except SigningKeyError as error:
                _log.error("expiring metadata not signed", extra={"role": name, "reason": str(error)})
                due.discard(name)
        timestamp, snapshot = self.store.timestamp(), self.store.snapshot()
        stale = min(timestamp.signed.expires, snapshot.signed.expires) <= limit
        half_changed = self.unverified_roles()
        if due or stale or half_changed:
            self.publish_roles(roles, due | (half_changed & set(roles)))
            return True
        return False

    def files(self) -> RepositoryFiles:
        """Everything that a site needs to verify the current state."""
        versions = self.versions()
        names = [f"{version}.root.json" for version in range(1, versions["root"] + 1)]
        roles = [role for role in versions if role not in TOP_ROLES]
        names += [f"{versions[role]}.{role}.json" for role in ("targets", *roles, "snapshot")]
        metadata = [(name, self.store.read(name)) for name in [*names, TIMESTAMP]]
        targets: dict[str, tuple[str, str, Path]] = {}
        parents: dict[str, str] = {}
        for path, target in self._target_files().items():
            if path.startswith(f"{DIRECTOR}/"):
                continue  # all it says is in the signed metadata
            folder, _, name = path.rpartition("/")
            digest = target.hashes["sha256"]
            hashed = f"{folder}/{digest}.{name}"
            targets[path] = (hashed, digest, self._targets / hashed)
            if name == DELTA_FILE and "parent_sha256" in (target.custom or {}):
                parents[path] = target.custom["parent_sha256"]
        return RepositoryFiles(metadata, targets, parents)

    # What key changes need too (xapp.delivery.rotation)

    def load_roles(self) -> dict[str, Metadata[Targets]]:
        """``targets`` and the delegated roles."""
        snapshot = self.store.snapshot().signed
        names = sorted(snapshot.meta, key=lambda name: name != "targets.json")
        return {name[:-5]: self.store.targets(snapshot, name[:-5]) for name in names}

    def unverified_roles(self) -> set[str]:
        """Roles whose current metadata lacks a threshold of signatures by the keys now in force."""
        root, timestamp, snapshot = self.store.root().signed, self.store.timestamp(), self.store.snapshot()
        roles = self.load_roles()
        top: dict[str, Metadata[Any]] = {"timestamp": timestamp, "snapshot": snapshot}
        found = set()
        for name, metadata in {**top, **roles}.items():
            delegator = roles["targets"].signed if name in DELEGATED_ROLES else root
            try:
                delegator.verify_delegate(name, metadata.signed_bytes, metadata.signatures)
            except UnsignedMetadataError:
                found.add(name)
        return found

    def publish_roles(self, roles: Mapping[str, Metadata[Targets]], changed: Iterable[str]) -> None:
        """Sign the ``changed`` of ``roles`` anew, then snapshot and timestamp, and make that current."""
        current = (self.store.directory / TIMESTAMP).exists()
        snapshot = self.store.snapshot().signed if current else Snapshot()
        for name in changed:
            signed = roles[name].signed
            signed.version = self.store.newest(name) + 1
            signed.expires = self.expires(self.expiry.targets)
            data = self._signed(signed, name, roles["targets"].signed)
            snapshot.meta[f"{name}.json"] = self.store.write(f"{signed.version}.{name}.json", data)
        self.reached("targets-written")
        snapshot.version = self.store.newest("snapshot") + 1
        snapshot.expires = self.expires(self.expiry.online)
        data = self._signed(snapshot, "snapshot", None)
        meta = self.store.write(f"{snapshot.version}.snapshot.json", data)
        self.reached("snapshot-written")
        timestamp = Timestamp(
            version=self.store.timestamp().signed.version + 1 if current else 1,
            expires=self.expires(self.expiry.online),
            snapshot_meta=meta,
        )
        self.store.write(TIMESTAMP, self._signed(timestamp, "timestamp", None))
        self.reached("timestamp-written")

    def set_assignment(
        self, roles: Mapping[str, Metadata[Targets]], site: str, bundles: Sequence[str]
    ) -> None:
        """Put a site's assignment into the director's metadata (not signed yet)."""
        known = {path: target for name in roles for path, target in roles[name].signed.targets.items()}
        target, data = assignment_target(site, bundles, known)
        write_durable(self._targets / DIRECTOR / f"{target.hashes['sha256']}.{site}.json", data)
        roles[DIRECTOR].signed.targets[target.path] = target

    def add_delegations(self, targets: Targets) -> None:
        """Delegate to a role per bundle kind and the director, making the keys that are missing."""
        delegations = Delegations(keys={}, roles={})
        targets.delegations = delegations
        assert delegations.roles is not None
        for name in DELEGATED_ROLES:
            signers = self.keys.signers(name)
            signer = next(iter(signers.values())) if signers else self.keys.create(name)[0]
            delegations.roles[name] = DelegatedRole(name, [], 1, terminating=True, paths=role_paths(name))
            targets.add_key(signer.public_key, name)

    def expires(self, days: float) -> datetime:
        return (self._now() + timedelta(days=days)).replace(microsecond=0)

    def _create(self, layout: Layout) -> None:
        if self.store.newest("root") == 0:
            root = Root(expires=self.expires(self.expiry.root), consistent_snapshot=True)
            for role in TOP_ROLES:
                count = layout.root_keys if role == "root" else 1
                signers = self.keys.signers(role)
                missing = count - len(signers)
                made = self.keys.create(role, missing) if missing > 0 else []
                for signer in [*signers.values(), *made][:count]:
                    root.add_key(signer.public_key, role)
            root.roles["root"].threshold = layout.root_threshold
            who = root.roles["root"]
            self.store.write("1.root.json", signed_bytes(root, "root", who, self.keys.signers("root")))
        roles: dict[str, Metadata[Targets]] = {"targets": Metadata(Targets())}
        if layout.delegated:
            self.add_delegations(roles["targets"].signed)
            roles.update({name: Metadata(Targets()) for name in DELEGATED_ROLES})
        self.publish_roles(roles, list(roles))

    def _signed(self, signed: SignedT, role: str, targets: Targets | None) -> bytes:
        delegator = targets if role in DELEGATED_ROLES and targets is not None else self.store.root().signed
        who: Role = delegator.get_delegated_role(role)
        return signed_bytes(signed, role, who, self.keys.signers(role))

    def _target_files(self) -> dict[str, TargetFile]:
        return {
            path: target
            for role in self.load_roles().values()
            for path, target in role.signed.targets.items()
        }


__all__ = ["Expiry", "RepositoryFiles", "RepositoryStateError", "TufRepository", "init_repository"]
