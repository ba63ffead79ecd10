"""What an operator needs to know about keys and metadata: one row a role."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from xapp.delivery.repository import TufRepository
from xapp.delivery.roles import DELEGATED_ROLES, TOP_ROLES


@dataclass(frozen=True)
class RoleStatus:
    """One role.

    Attributes:
        threshold: signatures needed; keys: ids of the keys that count, the first 16 characters.
        here: how many of their private keys are in the key directories.
        encrypted: None if no private key is here.
        version, expires: of the metadata in force, UTC.
        verified: a threshold of signatures by these keys is on it.
    """

    role: str
    threshold: int
    keys: tuple[str, ...]
    here: int
    encrypted: bool | None
    version: int
    expires: datetime
    verified: bool


def role_status(repository: TufRepository) -> list[RoleStatus]:
    """Rows of the top-level roles, then of the delegated ones.

    Raises:
        RepositoryStateError: damaged metadata. SigningKeyError: a key file cannot be read.
    """
    root = repository.store.root().signed
    roles = repository.load_roles()
    versions, unverified = repository.versions(), repository.unverified_roles()
    expires = {name: metadata.signed.expires for name, metadata in roles.items()}
    expires["root"] = root.expires
    expires["snapshot"] = repository.store.snapshot().signed.expires
    expires["timestamp"] = repository.store.timestamp().signed.expires
    rows = []
    for role in [*TOP_ROLES, *(name for name in DELEGATED_ROLES if name in roles)]:
        delegator = roles["targets"].signed if role in DELEGATED_ROLES else root
        who = delegator.get_delegated_role(role)
        here = repository.keys.signers(role)
        rows.append(
            RoleStatus(
                role=role,
                threshold=who.threshold,
                keys=tuple(keyid[:16] for keyid in who.keyids),
                here=sum(keyid in here for keyid in who.keyids),
                encrypted=repository.keys.encrypted(role),
                version=versions[role],
                expires=expires[role],
                verified=role not in unverified,
            )
        )
    return rows
