"""Ed25519 signing keys of the TUF roles, in a directory only the owner can read.

One PKCS#8 PEM file a role, mode 0600, encrypted when a passphrase is given (environment variable
``SEMCOM_KEY_PASSPHRASE``). The root and targets keys may be moved off-line after the first use; publishing a
bundle then needs the targets key back, as it should.
"""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    KeySerializationEncryption,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from securesystemslib.signer import CryptoSigner  # type: ignore[attr-defined]

ROLES: Final = ("root", "targets", "snapshot", "timestamp")
PASSPHRASE_VARIABLE: Final = "SEMCOM_KEY_PASSPHRASE"

_log = logging.getLogger(__name__)


class SigningKeyError(ValueError):
    """A key file is missing, unreadable, not Ed25519, or its passphrase is wrong; the message names it."""


def passphrase_from_environment() -> bytes | None:
    """The passphrase, None when the variable is unset or empty."""
    text = os.environ.get(PASSPHRASE_VARIABLE, "")
    return text.encode() or None


def create_keys(directory: Path, passphrase: bytes | None) -> None:
    """Create the missing keys of all roles.

    Raises:
        OSError: the directory cannot be written.
    """
    directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    directory.chmod(0o700)
    encryption: KeySerializationEncryption = (
        BestAvailableEncryption(passphrase) if passphrase else NoEncryption()
    )
    for role in ROLES:
        path = _path(directory, role)
        if path.exists():
            continue
        pem = Ed25519PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption)
        # O_EXCL: two processes that start together must not overwrite each other's key.
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(pem)
            file.flush()
            os.fsync(file.fileno())


def load_signer(directory: Path, role: str, passphrase: bytes | None) -> CryptoSigner:
    """Signer of a role.

    Raises:
        SigningKeyError: see there.
    """
    path = _path(directory, role)
    try:
        if path.stat().st_mode & 0o077:
            _log.warning("signing key is readable by others; chmod 600 it", extra={"path": str(path)})
        pem = path.read_bytes()
    except OSError as error:
        raise SigningKeyError(f"signing key {path} of role {role}: {error.strerror}") from error
    try:
        key = load_pem_private_key(pem, passphrase)
    except TypeError as error:
        if passphrase is None:
            raise SigningKeyError(f"signing key {path} is encrypted: set {PASSPHRASE_VARIABLE}") from error
        key = load_pem_private_key(pem, None)  # created before a passphrase was set
    except ValueError as error:
        raise SigningKeyError(f"signing key {path}: wrong passphrase or not a PEM private key") from error
    if not isinstance(key, Ed25519PrivateKey):
        raise SigningKeyError(f"signing key {path}: an Ed25519 key is needed, it is {type(key).__name__}")
    return CryptoSigner(key)


def _path(directory: Path, role: str) -> Path:
    return directory / f"{role}.pem"
