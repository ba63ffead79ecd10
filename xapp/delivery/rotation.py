"""Changing keys: rotation, an off-line root, and the way from a flat repository to a delegated one.

States and rules
----------------
::

    settled --propose--> pending --enough signatures--> written --roles signed again--> settled
                            |  ^
                            |  +-- fewer signatures: more are merged in
                            +-- discarded --> settled

- A new root counts only with a threshold of signatures by the old root's keys *and* by its own (The Update
  Framework, 5.3). Until then it lies in ``pending/{N}.root.json``, is no metadata, and nothing else changes.
- One change at a time: while a root is pending another is refused.
- Old private keys are deleted last, so a crash before leaves keys that the metadata no longer names, never
  metadata that nobody can sign. A crash between *written* and *settled* is mended by
  :meth:`TufRepository.refresh`; until then sites refuse the update and go on serving.
- Roles delegated by ``targets`` change without the root.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tuf.api.metadata import Metadata, Root, Targets  # type: ignore[attr-defined]
from tuf.api.serialization import DeserializationError

from xapp.delivery.keys import KeyStore, SigningKeyError
from xapp.delivery.metadata_store import write_durable
from xapp.delivery.repository import TufRepository
from xapp.delivery.roles import DELEGATED_ROLES, EVERY_SITE, KINDS, TOP_ROLES, Layout

PENDING: Final = "pending"
_ROOT_LIMIT: Final = 512_000
"""Bytes; what the sites' client accepts."""


class RotationError(ValueError):
    """A change of keys cannot be made or merged; the message says why and what would be right."""


@dataclass(frozen=True)
class RootChange:
    """Outcome of a change.

    Attributes:
        version: of the new root, or of the one in force where the root did not change.
        pending: the file that waits for signatures; None when the change is in force.
        missing_old, missing_new: signatures still needed by keys of the root in force and of the new one.
    """

    version: int
    pending: Path | None = None
    missing_old: int = 0
    missing_new: int = 0


def rotate(repository: TufRepository, role: str, *, replace: str | None = None) -> RootChange:
    """Give a role new keys, as many as it has, and withdraw the old ones.

    Args:
        role: a top-level or a delegated role.
        replace: id (or the first 8 or more characters of it) of the one key to replace; all of them if None.

    Raises:
        RotationError: no such role or key, or a root is pending.
        SigningKeyError: a key that must sign is not here (of a delegated role, or of ``targets``).
    """
    if role in DELEGATED_ROLES:
        return _rotate_delegated(repository, role, replace)
    if role not in TOP_ROLES:
        known = ", ".join((*TOP_ROLES, *DELEGATED_ROLES))
        raise RotationError(f"role {role!r} is not known; known are {known}")
    root = _next_root(repository)
    old = _chosen(root.roles[role].keyids, replace, role)
    threshold = root.roles[role].threshold
    for keyid, signer in zip(old, repository.keys.create(role, len(old)), strict=True):
        root.revoke_key(keyid, role)
        root.add_key(signer.public_key, role)
    root.roles[role].threshold = threshold
    repository.reached("keys-created")
    return _propose(repository, root)


def renew_root(repository: TufRepository) -> RootChange:
    """The same keys, a later expiry date.

    Raises:
        RotationError: a root is pending.
    """
    return _propose(repository, _next_root(repository))


def sign_file(file: Path, keys: KeyStore) -> int:
    """Add the signatures of every root key in ``keys`` to a pending root; for the machine that is off-line.

    Returns:
        How many signatures were added.

    Raises:
        RotationError: not root metadata. SigningKeyError: no root key is there, or one is not usable.
    """
    metadata = _read_root(file)
    signers = keys.signers("root")
    if not signers:
        raise SigningKeyError(f"no root key (root.pem, root-2.pem, ...) below {keys.directory}")
    before = len(metadata.signatures)
    for signer in signers.values():
        metadata.sign(signer, append=True)
    write_durable(file, metadata.to_bytes())
    return len(metadata.signatures) - before


def merge(repository: TufRepository, files: Sequence[Path]) -> RootChange:
    """Take signatures of a pending root from ``files`` and put it in force once there are enough.

    Signatures that no key of the old or new root made are dropped.

    Raises:
        RotationError: nothing is pending, or a file is not the pending root.
    """
    pending = pending_root(repository)
    if pending is None:
        raise RotationError(f"{repository.directory / PENDING} holds no root that waits for signatures")
    metadata = _read_root(pending)
    for file in files:
        other = _read_root(file)
        if other.signed != metadata.signed:
            raise RotationError(
                f"{file}: root version {other.signed.version} is not the pending {pending.name}; "
                "sign a copy of that file"
            )
        for keyid, signature in other.signatures.items():
            metadata.signatures.setdefault(keyid, signature)
    return _settle(repository, metadata)


def discard_pending(repository: TufRepository) -> bool:
    """Give up a pending root; returns whether there was one. Keys made for it stay until the next change."""
    pending = pending_root(repository)
    if pending is not None:
        pending.unlink()
    return pending is not None


def pending_root(repository: TufRepository) -> Path | None:
    """The root that waits for signatures."""
    path = repository.directory / PENDING / f"{repository.store.newest('root') + 1}.root.json"
    return path if path.is_file() else None


def migrate(repository: TufRepository, layout: Layout) -> RootChange:
    """Turn a flat single-key repository into a delegated one with a threshold of root keys.

    Sites keep their pinned root: the new root is signed by the old one's key. Every published bundle is
    assigned to every site, as it was before. Safe to repeat; what is done already is left as it is.

    Raises:
        RotationError: a root is pending. SigningKeyError: the key of ``targets`` is not here.
    """
    if pending_root(repository) is not None:
        raise RotationError("a root waits for signatures: `semcom keys merge` or `discard` it first")
    if layout.delegated and repository.load_roles()["targets"].signed.delegations is None:
        _delegate(repository)
    root = _next_root(repository)
    who = root.roles["root"]
    if (len(who.keyids), who.threshold) == (layout.root_keys, layout.root_threshold):
        return RootChange(repository.store.newest("root"))
    fresh = repository.keys.create("root", layout.root_keys)
    for keyid in list(who.keyids):
        root.revoke_key(keyid, "root")
    for signer in fresh:
        root.add_key(signer.public_key, "root")
    root.roles["root"].threshold = layout.root_threshold
    return _propose(repository, root)


def _delegate(repository: TufRepository) -> None:
    """Move the target files named by ``targets`` to the roles of their kinds and assign them to all sites."""
    roles = {**repository.load_roles(), **{name: Metadata(Targets()) for name in DELEGATED_ROLES}}
    top = roles["targets"].signed
    named = list(top.targets)
    repository.add_delegations(top)
    repository.reached("keys-created")
    for path in named:
        kind = path.partition("/")[0]
        if kind in KINDS:
            roles[kind].signed.targets[path] = top.targets.pop(path)
    bundles = sorted({path.rpartition("/")[0] for path in named})
    if bundles:
        repository.set_assignment(roles, EVERY_SITE, bundles)
    repository.publish_roles(roles, list(roles))


def _rotate_delegated(repository: TufRepository, role: str, replace: str | None) -> RootChange:
    roles = repository.load_roles()
    targets = roles["targets"].signed
    if targets.delegations is None or role not in roles:
        raise RotationError(f"this repository does not delegate to {role}: `semcom keys migrate` it first")
    # Both must sign before anything is made: half a rotation helps nobody.
    needed = repository.store.root().signed.roles["targets"].keyids
    if not set(repository.keys.signers("targets")) & set(needed):
        raise SigningKeyError(f"the key of targets is needed to give {role} a new one; it is not here")
    who = targets.get_delegated_role(role)
    old, threshold = _chosen(who.keyids, replace, role), who.threshold
    for keyid, signer in zip(old, repository.keys.create(role, len(old)), strict=True):
        targets.revoke_key(keyid, role)
        targets.add_key(signer.public_key, role)
    who.threshold = threshold
    repository.reached("keys-created")
    repository.publish_roles(roles, {"targets", role})
    repository.reached("roles-signed-again")
    repository.keys.remove(role, who.keyids)
    repository.reached("old-keys-removed")
    return RootChange(repository.store.newest("root"))


def _chosen(keyids: Sequence[str], replace: str | None, role: str) -> list[str]:
    if replace is None:
        return list(keyids)
    found = [keyid for keyid in keyids if len(replace) >= 8 and keyid.startswith(replace)]
    if len(found) != 1:
        names = ", ".join(keyid[:16] for keyid in keyids)
        raise RotationError(f"key {replace!r} of {role}: 8 or more characters of one of {names} are needed")
    return found


def _next_root(repository: TufRepository) -> Root:
    pending = pending_root(repository)
    if pending is not None:
        raise RotationError(f"{pending} waits for signatures: merge or discard it first")
    root: Root = copy.deepcopy(repository.store.root().signed)
    root.version += 1
    root.expires = repository.expires(repository.expiry.root)
    return root


def _propose(repository: TufRepository, root: Root) -> RootChange:
    """Sign with the root keys that are here; put in force, or leave pending."""
    metadata: Metadata[Root] = Metadata(root)
    relevant = {*root.roles["root"].keyids, *repository.store.root().signed.roles["root"].keyids}
    for keyid, signer in repository.keys.signers("root").items():
        if keyid in relevant:
            metadata.sign(signer, append=True)
    return _settle(repository, metadata)


def _settle(repository: TufRepository, metadata: Metadata[Root]) -> RootChange:
    old, new = repository.store.root().signed, metadata.signed
    body = metadata.signed_bytes
    results = [who.get_verification_result("root", body, metadata.signatures) for who in (old, new)]
    valid = {keyid for result in results for keyid in result.signed}
    metadata.signatures = {k: v for k, v in metadata.signatures.items() if k in valid}
    path = repository.directory / PENDING / f"{new.version}.root.json"
    write_durable(path, metadata.to_bytes())
    repository.reached("root-pending")
    if not all(result.verified for result in results):
        return RootChange(new.version, path, *(max(0, result.missing) for result in results))
    repository.store.write(path.name, metadata.to_bytes())
    repository.reached("root-written")
    path.unlink()
    _sign_again(repository)
    repository.reached("roles-signed-again")
    for role in TOP_ROLES:
        repository.keys.remove(role, new.roles[role].keyids)
    repository.reached("old-keys-removed")
    return RootChange(new.version)


def _sign_again(repository: TufRepository) -> None:
    roles = repository.load_roles()
    changed = repository.unverified_roles()
    if changed:
        repository.publish_roles(roles, changed & set(roles))


def _read_root(file: Path) -> Metadata[Root]:
    try:
        with file.open("rb") as stream:
            metadata: Metadata[Root] = Metadata.from_bytes(stream.read(_ROOT_LIMIT))
    except (OSError, DeserializationError) as error:
        raise RotationError(f"{file}: not readable TUF metadata: {error}") from error
    if not isinstance(metadata.signed, Root):
        raise RotationError(f"{file}: {metadata.signed.type} metadata; a root is needed")
    return metadata
