"""Ed25519 signing keys of the TUF roles, in directories only the owner can read.

One PKCS#8 PEM file a key, mode 0600, ``<role>.pem`` or ``<role>-<n>.pem``, encrypted when a passphrase is
given. Which of several keys of a role counts is decided by the metadata, never by file names: a key made for
a rotation that did not happen signs nothing. Root keys may lie in directories of their own (a USB stick each)
that need not be there when bundles are published.
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Sequence
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

PASSPHRASE_VARIABLE: Final = "SEMCOM_KEY_PASSPHRASE"
PASSPHRASE_FILE_VARIABLE: Final = "SEMCOM_KEY_PASSPHRASE_FILE"
_PASSPHRASE_LIMIT: Final = 1024

_log = logging.getLogger(__name__)


class SigningKeyError(ValueError):
    """A key is missing, unreadable, not Ed25519, or its passphrase is wrong; the message names it."""


def passphrase_from_environment() -> bytes | None:
    """The passphrase, or the first line of the file that the second variable names; None when both are unset.

    Raises:
        SigningKeyError: the file cannot be read.
    """
    text = os.environ.get(PASSPHRASE_VARIABLE, "")
    if text:
        return text.encode()
    file = os.environ.get(PASSPHRASE_FILE_VARIABLE, "")
    return passphrase_from_file(Path(file)) if file else None


def passphrase_from_file(file: Path) -> bytes:
    """First line of ``file``, 1..1024 bytes.

    Raises:
        SigningKeyError: unreadable, empty or longer.
    """
    try:
        with file.open("rb") as stream:
            line = stream.readline(_PASSPHRASE_LIMIT + 2).rstrip(b"\r\n")
    except OSError as error:
        raise SigningKeyError(f"passphrase file {file}: {error.strerror}") from error
    if not 1 <= len(line) <= _PASSPHRASE_LIMIT:
        raise SigningKeyError(f"passphrase file {file}: line 1 must hold 1..{_PASSPHRASE_LIMIT} bytes")
    return line


class KeyStore:
    """Private keys by role.

    Args:
        directory: of the keys of all roles; created when a key is made in it.
        passphrase: of the files, None for unencrypted ones.
        root_directories: of the root keys, one key in each in turn; ``directory`` if empty.
    """

    def __init__(
        self, directory: Path, passphrase: bytes | None, root_directories: Sequence[Path] = ()
    ) -> None:
        self.directory = directory
        self.passphrase = passphrase
        self._root_directories = tuple(root_directories) or (directory,)

    def create(self, role: str, count: int = 1) -> list[CryptoSigner]:
        """Make ``count`` more keys of a role.

        Raises:
            OSError: a directory cannot be written.
        """
        return [self._create(role, number) for number in range(count)]

    def signers(self, role: str) -> dict[str, CryptoSigner]:
        """Every key of a role that is here, by key id.

        Raises:
            SigningKeyError: a file that should be a key is not usable.
        """
        loaded = (load_signer(path, self.passphrase) for path in self._files(role))
        return {signer.public_key.keyid: signer for signer in loaded}

    def remove(self, role: str, keep: Sequence[str]) -> int:
        """Delete the keys of a role but those with the ids ``keep``; returns how many went."""
        removed = 0
        for path in self._files(role):
            if load_signer(path, self.passphrase).public_key.keyid not in keep:
                path.unlink()
                removed += 1
        return removed

    def encrypted(self, role: str) -> bool | None:
        """Whether all files of a role are encrypted; None without any."""
        files = self._files(role)
        return all(b"ENCRYPTED" in path.read_bytes()[:64] for path in files) if files else None

    def _create(self, role: str, number: int) -> CryptoSigner:
        places = self._root_directories if role == "root" else (self.directory,)
        directory = places[number % len(places)]
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        if directory == self.directory:
            directory.chmod(0o700)
        encryption: KeySerializationEncryption = (
            BestAvailableEncryption(self.passphrase) if self.passphrase else NoEncryption()
        )
        key = Ed25519PrivateKey.generate()
        pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption)
        serial = 1
        while True:
            path = directory / (f"{role}.pem" if serial == 1 else f"{role}-{serial}.pem")
            try:
                # O_EXCL: neither an earlier key nor that of a process that starts together is overwritten.
                descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            except FileExistsError:
                serial += 1
                continue
            with os.fdopen(descriptor, "wb") as file:
                file.write(pem)
                file.flush()
                os.fsync(file.fileno())
            return CryptoSigner(key)

    def _files(self, role: str) -> list[Path]:
        pattern = re.compile(rf"{re.escape(role)}(-\d+)?\.pem")
        places = (*self._root_directories, self.directory) if role == "root" else (self.directory,)
        found: list[Path] = []
        for directory in dict.fromkeys(places):
            if directory.is_dir():
                found += sorted(path for path in directory.iterdir() if pattern.fullmatch(path.name))
        return found


def load_signer(path: Path, passphrase: bytes | None) -> CryptoSigner:
    """Signer of a key file.

    Raises:
        SigningKeyError: see there.
    """
    try:
        if path.stat().st_mode & 0o077:
            _log.warning("signing key is readable by others; chmod 600 it", extra={"path": str(path)})
        pem = path.read_bytes()
    except OSError as error:
        raise SigningKeyError(f"signing key {path}: {error.strerror}") from error
    try:
        key = load_pem_private_key(pem, passphrase)
    except TypeError as error:
        if passphrase is None:
            raise SigningKeyError(
                f"signing key {path} is encrypted: set {PASSPHRASE_VARIABLE} or {PASSPHRASE_FILE_VARIABLE}"
            ) from error
        key = load_pem_private_key(pem, None)  # created before a passphrase was set
    except ValueError as error:
        raise SigningKeyError(f"signing key {path}: wrong passphrase or not a PEM private key") from error
    if not isinstance(key, Ed25519PrivateKey):
        raise SigningKeyError(f"signing key {path}: an Ed25519 key is needed, it is {type(key).__name__}")
    return CryptoSigner(key)
