"""From untrusted inbox to installed bundle: python-tuf's client reading only from the inbox.

Rules (an error at any step leaves the installed bundles and what is served untouched):

1. The pinned root starts every verification; newer roots count only if each is signed by the one before.
2. root -> timestamp -> snapshot -> targets, as the TUF client workflow says: signatures, expiry, versions
   that only grow, lengths and hashes.
3. A bundle's manifest and weights are targets; both are copied out of the inbox only after their length and
   hash match the signed metadata, into a staging directory.
4. Where the signed metadata has a director, it must assign the bundle to this site and name the pair that the
   bundle forms with its encoder (:mod:`codec_runtime.bundle.director`).
5. The staged bundle must load (:func:`codec_runtime.bundle.store.load_module`) and agree with the signed
   custom metadata; then it is made durable and one rename installs it.
6. The process may die between any two of these (:mod:`codec_runtime.bundle.steps`): what is in staging is
   thrown away by the next activation, what is installed is verified again by it.
"""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path
from typing import Any

from tuf.api.exceptions import DownloadError, RepositoryError
from tuf.api.metadata import Metadata, Root, TargetFile, Targets  # type: ignore[attr-defined]
from tuf.ngclient.config import UpdaterConfig
from tuf.ngclient.updater import Updater

from codec_runtime.bundle.director import (
    Assignment,
    assignment_paths,
    check_assigned,
    check_pair,
    parse_assignment,
)
from codec_runtime.bundle.errors import (
    BundleError,
    CustomMismatchError,
    MissingTargetError,
    NotAssignedError,
    NoTrustedRootError,
    UnsafePathError,
    VersionConflictError,
)
from codec_runtime.bundle.fetcher import SCHEME, InboxFetcher
from codec_runtime.bundle.inbox import Inbox
from codec_runtime.bundle.refusals import refusal_of, skipped_root
from codec_runtime.bundle.steps import Reached, unobserved
from codec_runtime.bundle.store import load_module, verify_state
from codec_runtime.contract.bundle import MANIFEST_FILE, WEIGHTS_FILE, BundleManifest

_BUNDLE = re.compile(r"(encoder|decoder)/([A-Za-z0-9][A-Za-z0-9_-]{0,63})/([1-9][0-9]{0,8})", re.ASCII)


def split_bundle_path(bundle: str) -> tuple[str, str, int]:
    """``decoder/attention/2`` -> (kind, name, version).

    Raises:
        UnsafePathError: not of that form.
    """
    match = _BUNDLE.fullmatch(bundle)
    if match is None:
        raise UnsafePathError(f"bundle path {bundle[:80]!r}: <encoder|decoder>/<name>/<version> is needed")
    return match[1], match[2], int(match[3])


class SignedTargets:
    """The target files that verified metadata names, and copies of them.

    Args:
        updater: refreshed. fetcher, inbox: what it reads from.
    """

    def __init__(self, updater: Updater, fetcher: InboxFetcher, inbox: Inbox) -> None:
        self._updater = updater
        self._fetcher = fetcher
        self._inbox = inbox

    def find(self, path: str) -> TargetFile | None:
        """What the metadata says about a path; None if it is not named by the role that may name it.

        Raises:
            RefusalError, MissingFileError: metadata of a delegated role is not to be trusted or not there.
        """
        try:
            return self._updater.get_targetinfo(path)
        except (RepositoryError, DownloadError) as error:
            raise refusal_of(error, self._inbox, self._fetcher.last) from error

    def copy(self, path: str, place: Path) -> Any:
        """Copy a target out of the inbox, its length and hash checked; returns its signed custom metadata.

        Raises:
            MissingTargetError, RefusalError, MissingFileError.
        """
        target = self.find(path)
        if target is None:
            raise MissingTargetError(f"{path} is not named by the signed targets metadata")
        try:
            self._updater.download_target(target, filepath=str(place))
        except (RepositoryError, DownloadError) as error:
            raise refusal_of(error, self._inbox) from error
        return target.custom

    def assignment(self, site: str) -> Assignment | None:
        """What the director assigns to ``site``; None if the metadata has no director.

        Raises:
            NotAssignedError: there is a director, and it assigns nothing to this site.
        """
        if not self._has_director():
            return None
        for path in assignment_paths(site):
            target = self.find(path)
            if target is not None:
                return parse_assignment(target.custom, path)
        raise NotAssignedError(f"the signed director assigns nothing to site {site!r}")

    def _has_director(self) -> bool:
        targets = self._updater._trusted_set.targets  # python-tuf offers no other way to the delegations
        assert isinstance(targets, Targets)
        return targets.delegations is not None and "director" in (targets.delegations.roles or {})


class BundleInstaller:
    """Verifies bundles of the inbox and installs them below ``store``.

    Args:
        inbox: where the TUF files are.
        store: installed bundles, ``<kind>/<name>/<version>``.
        metadata: the client's trusted metadata, kept across restarts (it is what detects rollbacks).
        trusted_root: path of the pinned ``root.json``; read when first needed.
        site: name by which the signed director knows this site.
        reached: told every step; for tests.
    """

    def __init__(
        self,
        inbox: Inbox,
        store: Path,
        metadata: Path,
        trusted_root: Path | None,
        *,
        site: str = "",
        reached: Reached = unobserved,
    ) -> None:
        self._inbox = inbox
        self._store = store
        self._metadata = metadata
        self._trusted_root = trusted_root
        self._site = site
        self._reached = reached
        self._pinned: bytes | None = None
        store.mkdir(parents=True, exist_ok=True)
        metadata.mkdir(parents=True, exist_ok=True)

    def install(self, bundles: list[str]) -> list[Path]:
        """Verify and install; returns the bundle directories in the order asked for.

        A bundle that is installed already with the same content is verified and left as it is.

        Raises:
            RefusalError, BundleError, OSError: nothing was installed; OSError is a disk that failed.
        """
        places = [split_bundle_path(bundle) for bundle in bundles]
        if not places:
            raise UnsafePathError("an activation must name at least one bundle")
        updater, fetcher = self._refreshed()
        signed = SignedTargets(updater, fetcher, self._inbox)
        assignment = signed.assignment(self._site)
        staging = self._store / ".staging"
        shutil.rmtree(staging, ignore_errors=True)
        staged: list[tuple[Path, Path]] = []
        self._reached("install: staging empty")
        try:
            for bundle, (kind, name, version) in zip(bundles, places, strict=True):
                if assignment is not None:
                    check_assigned(assignment, bundle)
                manifest = self._stage(signed, bundle, staging / bundle)
                if assignment is not None:
                    check_pair(assignment, manifest)
                if (manifest.kind, manifest.name, manifest.version) != (kind, name, version):
                    raise CustomMismatchError(
                        f"{bundle}: the manifest says {manifest.kind}/{manifest.name}/{manifest.version}"
                    )
                staged.append((staging / bundle, self._store / bundle))
                self._refuse_conflict(manifest, self._store / bundle)
                self._reached("install: bundle checked")
            for source, _ in staged:
                _sync(source)
            self._reached("install: staging durable")
            for source, place in staged:
                if not place.exists():
                    place.parent.mkdir(parents=True, exist_ok=True)
                    source.rename(place)
                    _sync_names(place.parent)
                self._reached("install: bundle in place")
        finally:
            shutil.rmtree(staging, ignore_errors=True)
        self._inbox.discard_old_metadata()
        for bundle in bundles:
            self._inbox.discard_targets(bundle)
        self._reached("install: inbox cleared")
        return [place for _, place in staged]

    def discard(self, place: Path) -> None:
        """Remove an installed bundle that is not served after all."""
        if place.resolve().is_relative_to(self._store.resolve()):
            shutil.rmtree(place, ignore_errors=True)

    def _refreshed(self) -> tuple[Updater, InboxFetcher]:
        fetcher = InboxFetcher(self._inbox, self._store, self._reached)
        pinned = self._root()
        self._reached("trust: pinned root read")
        try:
            updater = Updater(
                metadata_dir=str(self._metadata),
                metadata_base_url=f"{SCHEME}metadata/",
                target_base_url=f"{SCHEME}targets/",
                fetcher=fetcher,
                config=UpdaterConfig(max_root_rotations=32, max_delegations=4),
                bootstrap=pinned,
            )
        except (RepositoryError, ValueError) as error:
            raise NoTrustedRootError(f"pinned root {self._trusted_root} is not usable: {error}") from error
        try:
            updater.refresh()
        except (RepositoryError, DownloadError) as error:
            raise skipped_root(self._inbox, self._trusted_version()) or refusal_of(
                error, self._inbox, fetcher.last
            ) from error
        # python-tuf does not flush what it keeps, and that is what tells a rollback after a power cut.
        _sync(self._metadata)
        self._reached("trust: metadata verified")
        return updater, fetcher

    def _trusted_version(self) -> int:
        root: Metadata[Root] = Metadata.from_bytes((self._metadata / "root.json").read_bytes())
        return root.signed.version

    def _root(self) -> bytes:
        if self._pinned is None:
            if self._trusted_root is None:
                raise NoTrustedRootError("no trusted_root is configured, so no update can be verified")
            try:
                self._pinned = self._trusted_root.read_bytes()
            except OSError as error:
                raise NoTrustedRootError(f"trusted_root {self._trusted_root}: {error}") from error
        return self._pinned

    def _stage(self, signed_targets: SignedTargets, bundle: str, directory: Path) -> BundleManifest:
        directory.mkdir(parents=True)
        customs: list[dict[str, Any]] = []
        for file in (MANIFEST_FILE, WEIGHTS_FILE):
            custom = signed_targets.copy(f"{bundle}/{file}", directory / file)
            self._reached(f"install: {file.partition('.')[0]} staged")
            if custom:
                customs.append(custom)
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
            installed, _ = verify_state(place)
        except BundleError:
            shutil.rmtree(place)  # damaged on disk, weights included: the verified copy takes its place
            return
        if installed.weights_sha256 != manifest.weights_sha256:
            raise VersionConflictError(
                f"another {manifest.kind} {manifest.name} version {manifest.version} is installed; "
                "publish the new weights under a new version"
            )


def _sync(directory: Path) -> None:
    """Make all files below ``directory`` and their names durable."""
    for path in directory.rglob("*"):
        if path.is_file():
            with path.open("rb") as file:
                os.fsync(file.fileno())
        elif path.is_dir():
            _sync_names(path)
    _sync_names(directory)


def _sync_names(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
