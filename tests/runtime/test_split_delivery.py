"""A classifier on its whole way: the xApp's repository, a push, the site, a device; and a withdrawal."""

from __future__ import annotations

import asyncio
from pathlib import Path

import httpx
import msgspec
import pytest
from classifier_releases import photograph, published, uncut, write_chain
from runtime_site import Site, serve

from codec_runtime.client.classifier import Device
from codec_runtime.client.errors import NoClassifierError
from codec_runtime.client.session import ClientSettings, classifying
from codec_runtime.contract import paths
from codec_runtime.contract.classification import SplitDirective
from codec_runtime.contract.directives import DirectiveBatch, UserDirectives
from xapp.delivery.push import push
from xapp.delivery.repository import TufRepository
from xapp.delivery.roles import Layout
from xapp.runtime_client import RuntimeClient

BUNDLE = "classifier/chain/1"
DIRECTED = Layout(delegated=True)


async def _deliver(site: Site, repository: TufRepository, bundles: list[str]) -> list[str]:
    async with RuntimeClient(site.url) as client:
        activation = (await push(client, repository.files(), bundles)).activation
    assert activation.outcome != "refused", activation.detail
    return activation.withdrawn


async def _tell(site: Site, cut: str) -> None:
    split = SplitDirective(user="d", network="chain", version=1, cut=cut)
    batch = DirectiveBatch(issuer="x", sequence=1, issued_ns=1, directives=[], splits=[split])
    async with RuntimeClient(site.url) as client:
        assert (await client.push_directives(batch)).applied == 1


def test_delivered_classifier_reaches_devices_until_the_director_withdraws_it(
    weights: Path, tmp_path: Path
) -> None:
    repository = TufRepository(tmp_path / "repository", layout=DIRECTED)
    manifest = write_chain(tmp_path / "new", 1)
    files = {path.name: path.read_bytes() for path in (tmp_path / "new" / BUNDLE).iterdir()}
    assert repository.publish(manifest, files) == BUNDLE
    root = repository.trusted_root

    async def run(site: Site) -> None:
        assert await _deliver(site, repository, [BUNDLE]) == []
        cut = published(site)[2]
        await _tell(site, cut.cut)
        settings = ClientSettings(
            url=site.url, state=tmp_path / "device", trusted_root=root, site="site-1", refresh_s=0.05
        )
        async with classifying(settings, Device("d")) as client:
            answer = await client.classify(photograph(1))
            assert (answer.report.cut, client.refusals) == (cut.cut, {})
            assert answer.classes[0] == uncut(tmp_path / "new", 1, photograph(1)).argmax()
            repository.assign("site-1", [])
            assert await _deliver(site, repository, []) == [BUNDLE]
            with pytest.raises(NoClassifierError):
                await client.classify(photograph(1))

    with serve(weights, tmp_path / "state", trusted_root=str(root)) as site:
        asyncio.run(run(site))
        assert published(site) == []
        told = httpx.get(site.url + paths.DIRECTIVES, params={"user": "d"}).content
        assert msgspec.msgpack.decode(told, type=UserDirectives).split is None
        metrics = httpx.get(site.url + "/metrics").text
        assert "semcom_runtime_classify_directive_fallbacks_total 1.0" in metrics
