"""Heads from a site, trusted by the same signed metadata as the site's own bundles.

The device mirrors the site's TUF metadata and a bundle's manifest into an inbox of its own and verifies them
from its pinned root, as the site did (:mod:`codec_runtime.bundle.trust`): signatures, expiry, no rollback,
and, given the site's name, that the director assigns the bundle to it. The manifest names the sha256 of each
head. Nothing is run, and no network built, before that.
"""

from __future__ import annotations

import asyncio
import hashlib
from pathlib import Path
from typing import Final

from codec_runtime.bundle.errors import NoTrustedRootError, RefusalError
from codec_runtime.bundle.files import write_atomic
from codec_runtime.bundle.inbox import Inbox
from codec_runtime.bundle.manifest_file import MANIFEST_LIMIT
from codec_runtime.bundle.store import WEIGHTS_LIMIT
from codec_runtime.bundle.trust import BundleInstaller
from codec_runtime.client.connection import SiteConnection
from codec_runtime.contract import paths
from codec_runtime.contract.bundle import MANIFEST_FILE, BundleManifest
from codec_runtime.contract.classification import PublishedCut
from codec_runtime.split.bundles import blank_graph
from codec_runtime.split.parts import CutParts, device_parts, head_digest

_METADATA_LIMIT: Final = 4 << 20
_MOST_FILES: Final = 256
_HEADS_KEPT: Final = 16


class HeadStore:
    """Verified heads, and what is kept of them on the device's disk; several users of a device may share it.

    Args:
        connection: to the site.
        directory: metadata, manifests and heads; what it holds of the metadata tells rollbacks.
        trusted_root: path of the pinned ``root.json``; None: no head is ever trusted.
        site: the site's name, which the director's assignment must be for.
    """

    def __init__(
        self, connection: SiteConnection, directory: Path, trusted_root: Path | None, site: str = ""
    ) -> None:
        self._connection = connection
        self._directory = directory
        self._trusted_root = trusted_root
        self._site = site
        self._manifests: dict[tuple[str, int], BundleManifest] = {}
        self._heads: dict[tuple[str, int, str], CutParts] = {}
        self._one_at_a_time = asyncio.Lock()

    async def head(self, cut: PublishedCut) -> CutParts:
        """A cut's head, ready to run. The first one of a network takes seconds, for its graph.

        Raises:
            RefusalError, BundleError: not to be trusted, or not sound. SiteError: the site does not give it.
            OSError: the device's disk failed.
        """
        async with self._one_at_a_time:
            named = (cut.network, cut.version, cut.cut)
            if named not in self._heads:
                manifest = await self._manifest(cut.network, cut.version)
                data = await self._weights(manifest, cut)
                if len(self._heads) >= _HEADS_KEPT:
                    self._heads.pop(next(iter(self._heads)))
                self._heads[named] = await asyncio.to_thread(_assembled, manifest, cut, data)
            return self._heads[named]

    async def _manifest(self, network: str, version: int) -> BundleManifest:
        known = self._manifests.get((network, version))
        if known is not None:
            return known
        if self._trusted_root is None:
            raise NoTrustedRootError("no trusted root is configured, so no head can be verified")
        inbox = Inbox(self._directory / "inbox", max_file_bytes=_METADATA_LIMIT, max_files=_MOST_FILES)
        await self._mirror(inbox, f"classifier/{network}/{version}")
        installer = BundleInstaller(
            inbox, self._directory / "bundles", self._directory / "tuf", self._trusted_root, site=self._site
        )
        bundle = f"classifier/{network}/{version}"
        manifest = await asyncio.to_thread(installer.signed_manifest, bundle)
        inbox.discard_targets(bundle)
        if len(self._manifests) >= _HEADS_KEPT:
            self._manifests.clear()
        self._manifests[network, version] = manifest
        return manifest

    async def _mirror(self, inbox: Inbox, bundle: str) -> None:
        """The site's metadata files that are new here, and the bundle's manifest."""
        here = inbox.metadata()
        offered = await self._connection.get(paths.TRUST, dict[str, str])
        if len(offered) > _MOST_FILES:
            raise RefusalError(f"the site offers {len(offered)} metadata files; {_MOST_FILES} are taken")
        for name, digest in sorted(offered.items()):
            if here.get(name) != digest:
                reply = await self._connection.call("GET", f"{paths.TRUST}/{name}", limit=_METADATA_LIMIT)
                inbox.put("metadata", name, reply.body)
        place = bundle.removeprefix("classifier/")
        manifest = await self._connection.call(
            "GET", f"{paths.CLASSIFIERS}/{place}/manifest", limit=MANIFEST_LIMIT
        )
        digest = hashlib.sha256(manifest.body).hexdigest()
        inbox.put("targets", f"{bundle}/{digest}.{MANIFEST_FILE}", manifest.body)

    async def _weights(self, manifest: BundleManifest, cut: PublishedCut) -> bytes:
        """The head's file of the signed digest, from the disk if it is there; "" for one without weights."""
        digest = head_digest(manifest, cut.cut)
        if not digest:
            return b""
        kept = self._directory / "heads" / f"{digest}.safetensors"
        if kept.is_file() and hashlib.sha256(data := kept.read_bytes()).hexdigest() == digest:
            return data
        place = f"{paths.CLASSIFIERS}/{cut.network}/{cut.version}/heads/{cut.cut}"
        data = (await self._connection.call("GET", place, limit=WEIGHTS_LIMIT)).body
        if hashlib.sha256(data).hexdigest() == digest:
            _keep(kept, data)
        return data


def _assembled(manifest: BundleManifest, cut: PublishedCut, data: bytes) -> CutParts:
    return device_parts(manifest, blank_graph(manifest), cut.cut, data)


def _keep(place: Path, data: bytes) -> None:
    """Write a head; the oldest beyond :data:`_HEADS_KEPT` go."""
    place.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(place, data)
    kept = sorted(place.parent.glob("*.safetensors"), key=lambda path: path.stat().st_mtime_ns)
    for old in kept[:-_HEADS_KEPT]:
        old.unlink(missing_ok=True)
