"""The whole path with a director: xApp process, signed assignments, HTTP, a real runtime, and all of it back.

The site is known by the name that its runtime calls itself. A process that is killed in mid-push is followed
by one that knows only what the shared data layer and the repository had at that moment.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest
from directed_site import files_of, fine_tuned
from runtime_site import serve

sys.path.insert(0, str(Path(__file__).parents[1] / "xapp"))

from xapp_laboratory import MemorySdl, memory_sdl, running
from xapp_simulated_site import eventually

from xapp.app import XApp
from xapp.delivery.repository import TufRepository
from xapp.delivery.roles import DIRECTED
from xapp.settings import XAppSettings

__all__ = ["memory_sdl"]  # a fixture that every test uses

SITE = "base-7"
NOWHERE = "http://127.0.0.1:1"
BUNDLE = "decoder/attention/2"


def settings_for(tmp_path: Path, url: str) -> XAppSettings:
    return XAppSettings(
        rmr_port=0, http_port=0, http_host="127.0.0.1", rmr_transport="wire", discover=False, meids=[],
        submgr_url=NOWHERE, appmgr_url=NOWHERE, runtime_url=url, state_dir=str(tmp_path / "xapp"),
        snapshot_period_s=0.1,
    )  # fmt: skip


def decoders(xapp: XApp) -> list[tuple[str, int]]:
    return sorted(xapp.sites[SITE].catalog.decoders)


async def command(xapp: XApp, path: str, body: dict[str, Any]) -> dict[str, Any]:
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{xapp.http_port}") as http:
        answer = await http.post(f"/semcom/v1/rollouts{path}", json=body)
    assert answer.status_code < 300, answer.text
    content: dict[str, Any] = answer.json()
    return content


async def begin(xapp: XApp, weights: Path) -> str:
    await eventually(lambda: SITE in xapp.sites and bool(decoders(xapp)))
    contents = fine_tuned(weights / "decoder" / "attention" / "1", 2)
    await xapp.rollouts.signed.call(xapp.repository.publish, contents.manifest, files_of(contents), ())
    assert xapp.repository.assignments() == {}, "published for nobody yet"
    order = {"group": "drone", "decoder": "attention", "version": 2}
    return str((await command(xapp, "", order))["id"])


async def reaches(xapp: XApp, rollout: str, phase: str) -> None:
    def there() -> bool:
        found = xapp.rollouts.get(rollout)
        return found is not None and found.phase == phase

    await eventually(there)


def test_published_assigned_pushed_served_and_withdrawn(weights: Path, tmp_path: Path) -> None:
    repository = TufRepository(tmp_path / "xapp" / "tuf", layout=DIRECTED)

    async def main(url: str) -> None:
        async with running(settings_for(tmp_path, url)) as xapp:
            rollout = await begin(xapp, weights)
            await reaches(xapp, rollout, "done")
            assert xapp.repository.assignments() == {SITE: [BUNDLE]}
            assert ("attention", 2) in decoders(xapp)
            assert xapp.sites[SITE].catalog.assigned == {("drone", "attention"): 2}
            await command(xapp, f"/{rollout}/rollback", {"by": "test"})
            await reaches(xapp, rollout, "rolled-back")
            assert xapp.repository.assignments() == {SITE: []}
            assert ("attention", 2) not in decoders(xapp), "the runtime has withdrawn it"
            assert xapp.sites[SITE].catalog.assigned == {("drone", "attention"): 1}

    root = str(repository.trusted_root)
    with serve(weights, tmp_path / "state", trusted_root=root, site=SITE) as site:
        asyncio.run(main(site.url))


@pytest.mark.parametrize(
    ("request_name", "small"),
    [("put_metadata", 0), ("put_chunk", 0), ("activate", 0), ("activate", 64 << 10)],
)
def test_an_xapp_killed_in_mid_push_is_followed_by_one_that_goes_on(
    weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request_name: str, small: int
) -> None:
    monkeypatch.setattr("xapp.delivery.push._SMALL", small)  # bytes of a file that comes with the activation
    repository = TufRepository(tmp_path / "xapp" / "tuf", layout=DIRECTED)

    async def main(url: str) -> None:
        left: dict[str, bytes] = {}
        async with running(settings_for(tmp_path, url)) as xapp:
            client: Any = xapp.sites.links[0].client

            async def killed(*arguments: object, **others: object) -> None:
                left.update(MemorySdl.values)  # all that a process that ends now leaves
                await asyncio.Event().wait()

            setattr(client, request_name, killed)
            rollout = await begin(xapp, weights)
            await eventually(lambda: bool(left))
        MemorySdl.values = dict(left)
        async with running(settings_for(tmp_path, url)) as xapp:
            await reaches(xapp, rollout, "done")
            assert ("attention", 2) in decoders(xapp)

    root = str(repository.trusted_root)
    with serve(weights, tmp_path / "state", trusted_root=root, site=SITE) as site:
        asyncio.run(main(site.url))


def test_a_site_that_is_installed_anew_gets_its_versions_back_under_another_name_too(
    weights: Path, tmp_path: Path
) -> None:
    repository = TufRepository(tmp_path / "xapp" / "tuf", layout=DIRECTED)
    root = str(repository.trusted_root)

    async def before(url: str) -> None:
        async with running(settings_for(tmp_path, url)) as xapp:
            await reaches(xapp, await begin(xapp, weights), "done")

    async def after(url: str) -> None:
        async with running(settings_for(tmp_path, url)) as xapp:
            await eventually(lambda: ("attention", 2) in xapp.sites.links[0].catalog.decoders)
            assert xapp.repository.assignments()["base-8"] == [BUNDLE]

    with serve(weights, tmp_path / "state", trusted_root=root, site=SITE) as site:
        asyncio.run(before(site.url))
    with serve(weights, tmp_path / "empty", trusted_root=root, site="base-8") as site:
        asyncio.run(after(site.url))
