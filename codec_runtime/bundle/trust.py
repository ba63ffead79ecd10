"""From untrusted inbox to installed bundle: python-tuf's client reading only from the inbox.

Rules (an error at any step leaves the installed bundles and what is served untouched):

1. The pinned root starts every verification; newer roots count only if each is signed by the one before.
2. root -> timestamp -> snapshot -> targets, as the TUF client workflow says: signatures, expiry, versions
   that only grow, lengths and hashes.
3. A bundle's manifest and weights are targets; both are copied out of the inbox only after their length and
   hash match the signed metadata, into a staging directory.
4. The staged bundle must load (:func:`codec_runtime.bundle.store.load_module`) and agree with the signed
   custom metadata; then one rename installs it.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tuf.api.exceptions import (
    BadVersionNumberError,
    DownloadError,
    DownloadHTTPError,
    DownloadLengthMismatchError,
    RepositoryError,
)
from tuf.api.exceptions import ExpiredMetadataError as TufExpired
from tuf.api.exceptions import LengthOrHashMismatchError as TufHash
from tuf.api.exceptions import UnsignedMetadataError as TufUnsigned
from tuf.ngclient.config import UpdaterConfig
from tuf.ngclient.fetcher import FetcherInterface
from tuf.ngclient.updater import Updater

from codec_runtime.bundle.errors import (
    BundleError,
    CustomMismatchError,
    ExpiredMetadataError,
    InvalidMetadataError,
    LengthOrHashMismatchError,
    MissingFileError,
    MissingTargetError,
    NoTrustedRootError,
    RefusalError,
    RollbackError,
    UnsafePathError,
    UnsignedMetadataError,
    VersionConflictError,
)
from codec_runtime.bundle.inbox import Inbox, check_name
from codec_runtime.bundle.store import load_module, read_manifest
from codec_runtime.contract.bundle import MANIFEST_FILE, WEIGHTS_FILE, BundleManifest

_SCHEME = "inbox://"
_BUNDLE = re.compile(r"(encoder|decoder)/([A-Za-z0-9][A-Za-z0-9_-]{0,63})/([1-9][0-9]{0,8})", re.ASCII)
_CHUNK = 1 << 20


class InboxFetcher(FetcherInterface):
    """Serves ``inbox://metadata/...`` and ``inbox://targets/...`` from the inbox; never the network.

    A target that was installed earlier is found in the bundle store, so it need not travel again; TUF
    checks its hash all the same.
    """

    def __init__(self, inbox: Inbox, installed: Path) -> None:
        self._inbox = inbox
        self._installed = installed

    def _fetch(self, url: str) -> Iterator[bytes]:
        area, _, name = url.removeprefix(_SCHEME).partition("/")
        try:
            if area == "metadata":
                path = self._inbox.read("metadata", name)
            else:
                path = self._inbox.read("targets", name) or self._from_store(name)
        except UnsafePathError as error:
            raise DownloadHTTPError(str(error), 404) from error
        if path is None:
            raise DownloadHTTPError(f"{area}/{name} is not in the inbox", 404)
        return _chunks(path)

    def _from_store(self, name: str) -> Path | None:
        folder, _, file = check_name(name).rpartition("/")
        path = self._installed / folder / file.partition(".")[2]
        return path if path.is_file() else None


def _chunks(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            yield chunk


def split_bundle_path(bundle: str) -> tuple[str, str, int]:
    """``decoder/attention/2`` -> (kind, name, version).

    Raises:
        UnsafePathError: not of that form.
    """
    match = _BUNDLE.fullmatch(bundle)
    if match is None:
        raise UnsafePathError(f"bundle path {bundle[:80]!r}: <encoder|decoder>/<name>/<version> is needed")
    return match[1], match[2], int(match[3])


class BundleInstaller:
    """Verifies bundles of the inbox and installs them below ``store``.

    Args:
        inbox: where the TUF files are.
        store: installed bundles, ``<kind>/<name>/<version>``.
        metadata: the client's trusted metadata, kept across restarts (it is what detects rollbacks).
        trusted_root: path of the pinned ``root.json``; read when first needed.
    """

    def __init__(self, inbox: Inbox, store: Path, metadata: Path, trusted_root: Path | None) -> None:
        self._inbox = inbox
        self._store = store
        self._metadata = metadata
        self._trusted_root = trusted_root
        self._pinned: bytes | None = None
        store.mkdir(parents=True, exist_ok=True)
        metadata.mkdir(parents=True, exist_ok=True)

    def install(self, bundles: list[str]) -> list[Path]:
        """Verify and install; returns the bundle directories in the order asked for.

        A bundle that is installed already with the same content is verified and left as it is.

        Raises:
            RefusalError, BundleError: nothing was installed.
        """
        places = [split_bundle_path(bundle) for bundle in bundles]
        if not places:
            raise UnsafePathError("an activation must name at least one bundle")
        updater = self._refreshed()
        staging = self._store / ".staging"
        shutil.rmtree(staging, ignore_errors=True)
        staged: list[tuple[Path, Path]] = []
        try:
            for bundle, (kind, name, version) in zip(bundles, places, strict=True):
                manifest = self._stage(updater, bundle, staging / bundle)
                if (manifest.kind, manifest.name, manifest.version) != (kind, name, version):
                    raise CustomMismatchError(
                        f"{bundle}: the manifest says {manifest.kind}/{manifest.name}/{manifest.version}"
                    )
                staged.append((staging / bundle, self._store / bundle))
                self._refuse_conflict(manifest, self._store / bundle)
            for source, place in staged:
                if not place.exists():
                    place.parent.mkdir(parents=True, exist_ok=True)
                    source.rename(place)
        finally:
            shutil.rmtree(staging, ignore_errors=True)
        self._inbox.discard_old_metadata()
        for bundle in bundles:
            self._inbox.discard_targets(bundle)
        return [place for _, place in staged]

    def _refreshed(self) -> Updater:
        try:
            updater = Updater(
                metadata_dir=str(self._metadata),
                metadata_base_url=f"{_SCHEME}metadata/",
                target_base_url=f"{_SCHEME}targets/",
                fetcher=InboxFetcher(self._inbox, self._store),
                config=UpdaterConfig(max_root_rotations=32, max_delegations=4),
                bootstrap=self._root(),
            )
        except (RepositoryError, OSError, ValueError) as error:
            raise NoTrustedRootError(f"pinned root {self._trusted_root} is not usable: {error}") from error
        try:
            updater.refresh()
        except (RepositoryError, DownloadError) as error:
            raise _refusal(error) from error
        return updater

    def _root(self) -> bytes:
        if self._pinned is None:
            if self._trusted_root is None:
                raise NoTrustedRootError("no trusted_root is configured, so no update can be verified")
            try:
                self._pinned = self._trusted_root.read_bytes()
            except OSError as error:
                raise NoTrustedRootError(f"trusted_root {self._trusted_root}: {error}") from error
        return self._pinned

    def _stage(self, updater: Updater, bundle: str, directory: Path) -> BundleManifest:
        directory.mkdir(parents=True)
        customs: list[dict[str, Any]] = []
        for file in (MANIFEST_FILE, WEIGHTS_FILE):
            path = f"{bundle}/{file}"
            try:
                target = updater.get_targetinfo(path)
                if target is None:
                    raise MissingTargetError(f"{path} is not named by the signed targets metadata")
                updater.download_target(target, filepath=str(directory / file))
            except (RepositoryError, DownloadError) as error:
                raise _refusal(error) from error
            if target.custom:
                customs.append(target.custom)
        if not customs:
            raise CustomMismatchError(f"{bundle}: its targets carry no signed custom metadata")
        manifest, _ = load_module(directory)
        signed = {
            "kind": manifest.kind,
            "name": manifest.name,
            "version": manifest.version,
            "encoder_sha256": manifest.encoder_sha256,
        }
        for custom in customs:
            for key, value in signed.items():
                if custom.get(key) != value:
                    raise CustomMismatchError(
                        f"{bundle}: signed metadata says {key} = {custom.get(key)!r}, the manifest {value!r}"
                    )
        return manifest

    @staticmethod
    def _refuse_conflict(manifest: BundleManifest, place: Path) -> None:
        if not place.exists():
            return
        try:
            installed = read_manifest(place)
        except BundleError:
            shutil.rmtree(place)  # damaged on disk: the verified copy takes its place
            return
        if installed.weights_sha256 != manifest.weights_sha256:
            raise VersionConflictError(
                f"another {manifest.kind} {manifest.name} version {manifest.version} is installed; "
                "publish the new weights under a new version"
            )


def _refusal(error: Exception) -> RefusalError | MissingFileError:
    """python-tuf's exceptions as this project's named refusals."""
    text = str(error)
    if isinstance(error, BadVersionNumberError):
        return RollbackError(text)
    if isinstance(error, TufExpired):
        return ExpiredMetadataError(text)
    if isinstance(error, TufUnsigned):
        return UnsignedMetadataError(text)
    if isinstance(error, TufHash | DownloadLengthMismatchError):
        return LengthOrHashMismatchError(text)
    if isinstance(error, DownloadHTTPError):
        return MissingFileError(text)
    return InvalidMetadataError(f"{type(error).__name__}: {text}")
