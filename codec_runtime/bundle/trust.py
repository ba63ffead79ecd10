"""From untrusted inbox to installed bundle: python-tuf's client reading only from the inbox.

Rules (an error at any step leaves the installed bundles and what is served untouched):

1. The pinned root starts every verification; newer roots count only if each is signed by the one before.
2. root -> timestamp -> snapshot -> targets, as the TUF client workflow says: signatures, expiry, versions
   that only grow, lengths and hashes.
3. A bundle's manifest and weights are targets; both are read once, and get a place in a staging directory
   only after their length and hash match the signed metadata (:mod:`codec_runtime.bundle.signed_targets`).
   Where only the delta of the weights is in the inbox, the weights are rebuilt from it
   (:mod:`codec_runtime.bundle.reconstruction`).
4. Where the signed metadata has a director, it must assign the bundle to this site and name the pair that the
   bundle forms with its encoder (:mod:`codec_runtime.bundle.director`).
5. The bytes that were hashed must be a bundle that can be built
   (:func:`codec_runtime.bundle.store.verify_bytes`) and agree with the signed custom metadata; then the files
   are made durable and one rename installs them. A sound bundle of a kind that this runtime cannot serve is
   refused before that. What is served is built from the tensors that were checked, not from the files again.
6. What is installed and no longer assigned is named, not removed: it may be serving. A director that says
   nothing about this site has not decided about it, and the update is refused.
7. The process may die between any two of these (:mod:`codec_runtime.bundle.steps`): what is in staging is
   thrown away by the next activation, what is installed is verified again by it.

Memory: the tensors of all bundles of an update as they are stored, until they are loaded, and one weights
file.
"""

from __future__ import annotations

import contextlib
import re
import shutil
from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import get_args

from tuf.api.exceptions import DownloadError, RepositoryError
from tuf.api.metadata import TargetFile  # type: ignore[attr-defined]

from codec_runtime.bundle.checks import SERVED_KINDS
from codec_runtime.bundle.director import Assignment, check_assigned, check_pair, unassigned
from codec_runtime.bundle.durable import (
    Flushing,
    NewFiles,
    files_and_folders,
    flushing_threads,
    make_durable,
    make_folder,
)
from codec_runtime.bundle.errors import (
    BundleError,
    CustomMismatchError,
    KindNotServedError,
    NoTrustedRootError,
    UnsafePathError,
    VersionConflictError,
)
from codec_runtime.bundle.fetcher import METADATA_URL, InboxFetcher
from codec_runtime.bundle.inbox import Inbox
from codec_runtime.bundle.manifest_file import parse_manifest
from codec_runtime.bundle.reconstruction import BundleHere, BundlesHere, check_size, rebuilt_weights
from codec_runtime.bundle.refusals import refusal_of, skipped_root
from codec_runtime.bundle.signed_targets import SignedTargets, Taken
from codec_runtime.bundle.steps import Reached, unobserved
from codec_runtime.bundle.store import VerifiedBundle, read_verified, verify_bytes
from codec_runtime.bundle.trusted_metadata import TrustedUpdater
from codec_runtime.contract.bundle import (
    DELTA_FILE,
    MANIFEST_FILE,
    WEIGHTS_FILE,
    BundleKind,
    BundleManifest,
)

_KINDS: tuple[str, ...] = get_args(BundleKind)
_BUNDLE = re.compile(
    rf"({'|'.join(_KINDS)})/([A-Za-z0-9][A-Za-z0-9_-]{{0,63}})/([1-9][0-9]{{0,8}})", re.ASCII
)


def split_bundle_path(bundle: str) -> tuple[str, str, int]:
    """``decoder/attention/2`` -> (kind, name, version).

    Raises:
        UnsafePathError: not of that form.
    """
    match = _BUNDLE.fullmatch(bundle)
    if match is None:
        raise UnsafePathError(f"bundle path {bundle[:80]!r}: <{'|'.join(_KINDS)}>/<name>/<version> is needed")
    return match[1], match[2], int(match[3])


@dataclass(frozen=True)
class Installation:
    """What a verified update changes.

    Attributes:
        bundles: those asked for, in that order, each in its place and to be loaded from this.
        withdrawn: paths of installed bundles that the signed director assigns to this site no longer; they
            are still on disk.
        awaited_s: spent waiting for targets on their way.
    """

    bundles: list[VerifiedBundle]
    withdrawn: frozenset[str]
    awaited_s: float = 0.0

    @property
    def places(self) -> list[Path]:
        """Directories of :attr:`bundles`."""
        return [bundle.directory for bundle in self.bundles]


class BundleInstaller:
    """Verifies bundles of the inbox and installs them below ``store``.

    Args:
        inbox: where the TUF files are.
        store: installed bundles, ``<kind>/<name>/<version>``.
        shipped: bundles that came with the runtime, for deltas to apply to.
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
        shipped: Path | None = None,
        site: str = "",
        reached: Reached = unobserved,
    ) -> None:
        self._inbox = inbox
        self._store = store
        self._here = BundlesHere([store] if shipped is None else [store, shipped])
        self._metadata = metadata
        self._trusted_root = trusted_root
        self._site = site
        self._reached = reached
        self._pinned: bytes | None = None
        self._threads = flushing_threads()
        store.mkdir(parents=True, exist_ok=True)
        metadata.mkdir(parents=True, exist_ok=True)

    def install(self, bundles: list[str], coming: Collection[str] = frozenset()) -> Installation:
        """Verify and install; without ``bundles`` only verify the metadata, for what they withdraw.

        Targets that are ``coming`` (hash in the name) are waited for, as long as bytes of them do come. A
        bundle that is installed already with the same content is verified and left as it is.

        Raises:
            RefusalError, BundleError, OSError: nothing was installed; OSError is a disk that failed.
        """
        for bundle in bundles:
            split_bundle_path(bundle)
        with self._verified(coming) as (signed, kept), Flushing(self._threads) as flushing:
            return self._install(signed, bundles, flushing, kept)

    def _install(
        self, signed: SignedTargets, bundles: list[str], flushing: Flushing, kept: NewFiles
    ) -> Installation:
        assignment = signed.assignment(self._site)
        staging = self._store / ".staging"
        _empty(staging)
        staged: list[VerifiedBundle] = []
        self._reached("install: staging empty")
        for bundle in bundles:
            _assigned_manifest(signed, assignment, bundle)  # refuses early, verifies roles while targets come
        try:
            for bundle in bundles:
                verified = self._stage(signed, bundle, staging / bundle.replace("/", "-"), flushing)
                manifest = verified.manifest
                if assignment is not None:
                    check_pair(assignment, manifest)
                _check_path(manifest, bundle)
                if manifest.kind not in SERVED_KINDS:
                    raise KindNotServedError(f"{bundle} is sound, but this runtime serves no {manifest.kind}")
                staged.append(_kept(manifest, self._store / bundle) or verified)
                self._reached("install: bundle checked")
            flushing.finish()
            self._reached("install: staging durable")
            named = kept.name()
            placed = self._put_in_place(bundles, staged, named)
        finally:
            _empty(staging)
        self._inbox.discard_old_metadata()
        for bundle in bundles:
            self._inbox.discard_targets(bundle)
        self._reached("install: inbox cleared")
        withdrawn = frozenset[str]() if assignment is None else unassigned(assignment, self.installed())
        return Installation(placed, withdrawn, signed.awaited_s)

    def _put_in_place(
        self, bundles: list[str], staged: list[VerifiedBundle], named: list[Path]
    ) -> list[VerifiedBundle]:
        """Rename what is staged and flush the directories with new names, these and ``named``."""
        placed: list[VerifiedBundle] = []
        renamed_in = list(named)
        for bundle, verified in zip(bundles, staged, strict=True):
            place = self._store / bundle
            if verified.directory != place:
                renamed_in += [place.parent, *make_folder(place.parent)]
                verified.directory.rename(place)
            placed.append(replace(verified, directory=place))
            self._reached("install: bundle in place")
        make_durable(renamed_in, self._threads)
        return placed

    def installed(self) -> list[str]:
        """Paths of the bundles in the store, whether they serve or not."""
        found = (place.relative_to(self._store).as_posix() for place in self._store.glob("*/*/*"))
        return sorted(path for path in found if _BUNDLE.fullmatch(path))

    def here(self) -> list[BundleHere]:
        """The bundles, installed and shipped, whose weights a delta can be applied to."""
        return self._here.all()

    def signed_manifest(self, bundle: str) -> BundleManifest:
        """The manifest of a bundle in the inbox, for a device that takes a part of it; installs nothing.

        Raises:
            RefusalError, BundleError, OSError: as of :meth:`install`.
        """
        split_bundle_path(bundle)
        with self._verified() as (signed, kept):
            target = _assigned_manifest(signed, signed.assignment(self._site), bundle)
            manifest = parse_manifest(bytes(signed.read(target)), bundle)
            _check_path(manifest, bundle)
            kept.keep()
        self._inbox.discard_old_metadata()
        return manifest

    def discard(self, place: Path) -> None:
        """Remove an installed bundle that is not served after all."""
        if place.resolve().is_relative_to(self._store.resolve()):
            shutil.rmtree(place, ignore_errors=True)

    @contextlib.contextmanager
    def _verified(self, coming: Collection[str] = frozenset()) -> Iterator[tuple[SignedTargets, NewFiles]]:
        """What the metadata in the inbox says, and the files of it that are to be kept. They are kept also if
        the update is refused: they are what tells a rollback."""
        kept = NewFiles(self._metadata, self._threads, lambda: self._reached("install: metadata kept"))
        try:
            yield SignedTargets(*self._refreshed(kept), self._inbox, coming), kept
        except Exception:
            with contextlib.suppress(OSError):
                kept.keep()
            raise

    def _refreshed(self, kept: NewFiles) -> tuple[TrustedUpdater, InboxFetcher]:
        fetcher = InboxFetcher(self._inbox, self._store, self._reached)
        pinned = self._root()
        self._reached("trust: pinned root read")
        try:
            updater = TrustedUpdater(self._metadata, METADATA_URL, fetcher, pinned, kept)
        except (RepositoryError, ValueError) as error:
            raise NoTrustedRootError(f"pinned root {self._trusted_root} is not usable: {error}") from error
        try:
            updater.refresh()
        except (RepositoryError, DownloadError) as error:
            raise skipped_root(self._inbox, updater.root_version) or refusal_of(
                error, self._inbox, fetcher.last
            ) from error
        self._reached("trust: metadata verified")
        return updater, fetcher

    def _root(self) -> bytes:
        if self._pinned is None:
            if self._trusted_root is None:
                raise NoTrustedRootError("no trusted_root is configured, so no update can be verified")
            try:
                self._pinned = self._trusted_root.read_bytes()
            except OSError as error:
                raise NoTrustedRootError(f"trusted_root {self._trusted_root}: {error}") from error
        return self._pinned

    def _stage(
        self, signed: SignedTargets, bundle: str, directory: Path, flushing: Flushing
    ) -> VerifiedBundle:
        """Stage and check a bundle; its files are on their way to the disk while its tensors are checked."""
        directory.mkdir(parents=True)
        told = signed.named(f"{bundle}/{MANIFEST_FILE}")
        manifest_file = bytes(signed.take(told, directory / MANIFEST_FILE).data)
        self._reached("install: manifest staged")
        weights = signed.named(f"{bundle}/{WEIGHTS_FILE}")
        content = self._stage_weights(signed, weights, bundle, directory)
        self._reached("install: weights staged")
        flushing.begin(files_and_folders(directory))
        if content.arrival is not None:
            flushing.join(content.arrival.durable)
        customs = [target.custom for target in (told, weights) if target.custom]
        if not customs:
            raise CustomMismatchError(f"{bundle}: its targets carry no signed custom metadata")
        verified = verify_bytes(manifest_file, content.data, weights.hashes["sha256"], directory)
        manifest = verified.manifest
        said = {
            "kind": manifest.kind,
            "name": manifest.name,
            "version": manifest.version,
            "encoder_sha256": manifest.encoder_sha256,
        }
        for custom in customs:
            for key, value in said.items():
                if custom.get(key) != value:
                    raise CustomMismatchError(
                        f"{bundle}: signed metadata says {key} = {custom.get(key)!r}, the manifest {value!r}"
                    )
        return verified

    def _stage_weights(
        self, signed: SignedTargets, weights: TargetFile, bundle: str, directory: Path
    ) -> Taken:
        """Take or rebuild the weights file; returns its content, of the signed length and hash."""
        delta = signed.find(f"{bundle}/{DELTA_FILE}")
        if delta is None or signed.is_here(weights) or not signed.is_here(delta):
            return signed.take(weights, directory / WEIGHTS_FILE)
        check_size(weights, delta)
        delta_file = signed.read(delta)
        self._reached("install: delta staged")
        content = rebuilt_weights(weights, delta, delta_file, self._here)
        (directory / WEIGHTS_FILE).write_bytes(content)
        return Taken(content)


def _assigned_manifest(signed: SignedTargets, assignment: Assignment | None, bundle: str) -> TargetFile:
    """The manifest's target of a bundle that the director, if there is one, assigns to this site."""
    if assignment is not None:
        check_assigned(assignment, bundle)
    return signed.named(f"{bundle}/{MANIFEST_FILE}")


def _check_path(manifest: BundleManifest, bundle: str) -> None:
    """Raises CustomMismatchError if the manifest is another bundle's."""
    said = f"{manifest.kind}/{manifest.name}/{manifest.version}"
    if said != bundle:
        raise CustomMismatchError(f"{bundle}: the manifest says {said}")


def _empty(directory: Path) -> None:
    """Make ``directory``, or remove all that is in it: not itself, which would have to be made again."""
    directory.mkdir(exist_ok=True)
    for place in directory.iterdir():
        shutil.rmtree(place, ignore_errors=True)


def _kept(manifest: BundleManifest, place: Path) -> VerifiedBundle | None:
    """The bundle that is installed at ``place`` already; None, and nothing there, if it is not or is damaged.

    Raises:
        VersionConflictError: it has other weights.
    """
    if not place.exists():
        return None
    try:
        installed = read_verified(place)
    except BundleError:
        shutil.rmtree(place)  # damaged on disk, weights included: the verified copy takes its place
        return None
    if installed.manifest.weights_sha256 != manifest.weights_sha256:
        raise VersionConflictError(
            f"another {manifest.kind} {manifest.name} version {manifest.version} is installed; "
            "publish the new weights under a new version"
        )
    return installed
