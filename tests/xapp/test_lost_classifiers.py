"""A classifier that a site is assigned and has lost is brought back, like decoders and adapters."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from xapp_simulated_site import ENCODER_WEIGHTS, bundle_files, make_manifest

from codec_runtime.contract.classification import PublishedCut
from codec_runtime.contract.updates import ActivationReport, InboxListing
from xapp.app import XApp
from xapp.settings import XAppSettings
from xapp.updates.restoration import LostBundles

CHAIN = {version: make_manifest("classifier", "chain", version, b"weights") for version in (1, 2)}


def cut_of(version: int) -> PublishedCut:
    return PublishedCut(
        network="chain", version=version, graph="g", cut="c", device=(0,), feature_bytes=9, head_bytes=9
    )


class Scene:
    """An xApp that does not run, and what its one site is asked."""

    def __init__(self, tmp_path: Path) -> None:
        self.xapp = XApp(XAppSettings(state_dir=str(tmp_path)))
        self.link = self.xapp.sites.links[0]
        self.link.catalog.update([
            make_manifest("encoder", "anchor", 1, ENCODER_WEIGHTS),
            make_manifest("decoder", "conv", 1, b"one"),
        ])
        self.xapp.status.peers.up("runtime")
        self.activated: list[list[str]] = []
        self.looked = LostBundles(self.xapp.sites, self.xapp.rollouts, self.xapp.status)
        client: Any = self.link.client
        client.instance = "first"

        async def inbox() -> InboxListing:
            return InboxListing(targets={})

        async def put(*what: Any) -> int:
            return int(what[1].last) + 1 if len(what) == 3 else 0

        async def activate(bundles: list[str]) -> ActivationReport:
            self.activated.append(bundles)
            self.link.splits.controller.publish([cut_of(int(bundles[-1].rpartition("/")[2]))])
            return ActivationReport(instance="first", outcome="activated")

        async def refresh() -> bool:
            return True

        client.inbox, client.put_metadata, client.put_chunk, client.activate = inbox, put, put, activate
        self.link.watch.refresh = refresh  # type: ignore[method-assign]

    def publish(self, version: int) -> None:
        self.xapp.repository.publish(CHAIN[version], bundle_files(CHAIN[version], b"weights"))

    async def look(self) -> bool:
        return await self.looked.look(self.link)


def test_the_newest_assigned_version_comes_back_once(tmp_path: Path) -> None:
    async def main() -> None:
        scene = Scene(tmp_path)
        scene.publish(1)
        scene.publish(2)
        assert await scene.look()
        assert scene.activated == [["classifier/chain/2"]]
        assert await scene.look()
        assert len(scene.activated) == 1
        await scene.xapp.sdl.close()

    asyncio.run(main())


def test_a_runtime_that_starts_again_without_it_gets_it_again(tmp_path: Path) -> None:
    async def main() -> None:
        scene = Scene(tmp_path)
        scene.publish(1)
        scene.link.splits.controller.publish([cut_of(1)])
        assert await scene.look()
        assert scene.activated == []
        scene.link.client.instance = "second"
        scene.link.splits.controller.publish([])
        assert await scene.look()
        assert scene.activated == [["classifier/chain/1"]]
        await scene.xapp.sdl.close()

    asyncio.run(main())
