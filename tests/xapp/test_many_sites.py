"""Several base stations: each site gets its own directives, and what happens at one stays there."""

from __future__ import annotations

import asyncio
from pathlib import Path

import httpx
import pytest
from two_site_laboratory import BERLIN, TOKYO, Laboratory, two_sites
from xapp_laboratory import announce, memory_sdl
from xapp_simulated_site import SimulatedSite, eventually, make_manifest

from xapp import sites as sites_module
from xapp.state_view import build_state

__all__ = ["memory_sdl"]  # a fixture that every test uses

EAST, WEST = {f"ue-{i}" for i in (5, 6, 7, 8)}, {f"ue-{i}" for i in (1, 2, 3, 4)}


def in_the_laboratory(tmp_path: Path, body, **changes) -> None:  # type: ignore[no-untyped-def]
    async def main() -> None:
        async with two_sites(tmp_path, **changes) as lab:
            await body(lab)

    asyncio.run(main())


async def both_decided(lab: Laboratory) -> None:
    await eventually(lambda: set(lab.berlin.in_force) == WEST and set(lab.tokyo.in_force) == EAST)


def sent_to(site: SimulatedSite) -> set[str]:
    return {directive.user for batch in site.batches for directive in batch.directives}


def test_directives_reach_the_site_of_the_users_node_and_telemetry_of_all_sites_is_folded(
    tmp_path: Path,
) -> None:
    async def body(lab: Laboratory) -> None:
        lab.tokyo.models.append(make_manifest("decoder", "attention", 5, b"newer base"))
        announce(lab.berlin, (1, 2, 3, 4), "drone")
        announce(lab.tokyo, (5, 6, 7, 8), "car")
        await both_decided(lab)
        await eventually(lambda: {d.decoder_version for d in lab.tokyo.in_force.values()} == {5})
        await eventually(lambda: set(lab.xapp.sites.capabilities) == EAST | WEST)
        assert sent_to(lab.berlin) == WEST
        assert sent_to(lab.tokyo) == EAST
        # Each site has its catalog and keeps to the budget by itself.
        assert {d.decoder_version for d in lab.berlin.in_force.values()} == {1}
        for site in (lab.berlin, lab.tokyo):
            assert sum(d.prefix for d in site.in_force.values()) / 4 <= 6.0 + 1e-9
        table = lab.xapp.table
        assert table.group_name(table.row("ue-2")) == "drone"
        assert table.group_name(table.row("ue-7")) == "car"
        state = build_state(lab.xapp)
        here = {user["user"]: user["site"] for user in state["users"]}
        assert here == dict.fromkeys(WEST, BERLIN) | dict.fromkeys(EAST, TOKYO)
        shown = [(site["site"], site["up"], site["users"]) for site in state["sites"]]
        assert shown == [(BERLIN, True, 4), (TOKYO, True, 4)]
        assert state["peers"]["telemetry:tokyo"]["site"] == TOKYO
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{lab.xapp.http_port}") as http:
            metrics = (await http.get("/metrics")).text
        assert 'semcom_xapp_peer_up{peer="runtime",site="berlin"} 1.0' in metrics
        assert 'semcom_xapp_directives_total{outcome="applied",site="tokyo"}' in metrics

    in_the_laboratory(tmp_path, body)


def test_a_site_that_accepts_and_never_answers_delays_no_other(tmp_path: Path) -> None:
    async def main() -> None:
        silent = await asyncio.start_server(lambda r, w: asyncio.sleep(60), "127.0.0.1", 0)
        port = silent.sockets[0].getsockname()[1]
        urls = {TOKYO: f"http://127.0.0.1:{port}"}
        async with two_sites(tmp_path, urls=urls, runtime_timeout_s=0.3) as lab:
            announce(lab.berlin, (1, 2, 3, 4))
            await eventually(lambda: set(lab.berlin.in_force) == WEST)
            await eventually(lambda: set(lab.xapp.sites.capabilities) >= WEST)
            before = lab.xapp.status.counters["indications"]
            await eventually(lambda: lab.xapp.status.counters["indications"] > before + 5)
            assert lab.peer_up("runtime", BERLIN)
            assert not lab.peer_up("runtime", TOKYO)
            assert not set(lab.berlin.in_force) & EAST
        silent.close()

    asyncio.run(main())


@pytest.mark.slow
def test_a_lost_or_restarted_site_is_named_and_caught_up_without_the_other_noticing(tmp_path: Path) -> None:
    async def body(lab: Laboratory) -> None:
        await both_decided(lab)
        lab.stations[TOKYO].away = True
        await eventually(lambda: not lab.peer_up("runtime", TOKYO))
        lab.users[BERLIN].add(9)
        lab.users[TOKYO].add(10)
        await eventually(lambda: "ue-9" in lab.berlin.in_force)
        assert lab.peer_up("runtime", BERLIN)
        lab.stations[TOKYO].away = False
        await eventually(lambda: "ue-10" in lab.tokyo.in_force)
        lab.tokyo.restart("tokyo-2")
        await eventually(lambda: any(batch.full for batch in lab.tokyo.batches))
        (full,) = [batch for batch in lab.tokyo.batches if batch.full]
        assert {directive.user for directive in full.directives} == EAST | {"ue-10"}
        assert not any(batch.full for batch in lab.berlin.batches)
        told = {
            (event["kind"], event["site"])
            for event in lab.xapp.status.events.after(0)
            if event["kind"] in ("peer_lost", "runtime_restarted")
        }
        assert told == {("peer_lost", TOKYO), ("runtime_restarted", TOKYO)}

    in_the_laboratory(tmp_path, body)


@pytest.mark.slow
def test_a_handover_moves_the_user_and_the_old_site_forgets_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sites_module, "FORGET_AFTER_S", 0.5)

    async def body(lab: Laboratory) -> None:
        await both_decided(lab)
        lab.users[BERLIN].remove(2)
        lab.users[TOKYO].add(2)
        await eventually(lambda: "ue-2" in lab.tokyo.in_force)
        await eventually(lambda: set(lab.berlin.in_force) == WEST - {"ue-2"})
        assert any(batch.full for batch in lab.berlin.batches)
        assert not any(batch.full for batch in lab.tokyo.batches)
        assert lab.xapp.sites.counters({}).departures == {BERLIN: 1, TOKYO: 0}
        # And when the last one has left:
        lab.users[TOKYO] |= lab.users[BERLIN]
        lab.users[BERLIN].clear()
        await eventually(lambda: set(lab.tokyo.in_force) == EAST | WEST)
        await eventually(lambda: not lab.berlin.in_force)

    in_the_laboratory(tmp_path, body)
