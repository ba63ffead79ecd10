"""`semcom rollout` against the routes of a driver: what it prints, commands, and who may give them."""

from __future__ import annotations

import asyncio
import json
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import httpx
import msgspec
import pytest
import uvicorn
from starlette.applications import Starlette
from typer.testing import CliRunner

sys.path.insert(0, str(Path(__file__).parents[1] / "xapp"))

from rollout_scene import ORDER, Scene

from xapp.cli import app
from xapp.http_server import QuietServer, bound_socket
from xapp.rollout.api import ROLLOUTS, loopback_guard, rollout_routes
from xapp.settings import XAppSettings

RUNNER = CliRunner()


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    """A roll-out on trial with half of four users."""
    scene = Scene(tmp_path, {"a": 4})

    async def begin() -> None:
        scene.report(5)
        await scene.until(scene.driver.start(ORDER), "observing")
        await scene.step()

    asyncio.run(begin())
    return scene


@pytest.fixture
def url(scene: Scene) -> Iterator[str]:
    """The routes, served on loopback."""
    web = Starlette(routes=rollout_routes(scene.driver, loopback_guard("127.0.0.1"), lambda: scene.now))
    server = QuietServer(uvicorn.Config(web, log_config=None, lifespan="off"))
    with bound_socket("127.0.0.1", 0) as listening:
        listening.listen()  # who connects before the server runs waits instead of being refused
        port = listening.getsockname()[1]
        thread = threading.Thread(target=server.run, args=([listening],), daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{port}"
        server.should_exit = True
        thread.join(10)


def run(*words: str, code: int = 0) -> str:
    result = RUNNER.invoke(app, ["rollout", *words])
    assert result.exit_code == code, result.output
    return result.output


def test_status_and_history_say_stage_users_gates_and_reasons(scene: Scene, url: str) -> None:
    text = run("status", "--url", url)
    for part in ("observing", "canary", "2 of 4", "conv 1 -> 2", "quality", "a: delivered"):
        assert part in text
    text = run("history", scene.driver.rollouts[0].id[:5], "--url", url)
    for part in ("publishing", "delivering", "observing", "2 of 4 users get it"):
        assert part in text


def test_json_has_every_gate_with_plain_numbers(scene: Scene, url: str) -> None:
    row = json.loads(run("status", "--json", "--url", url))["rollouts"][0]
    assert [gate["gate"] for gate in row["gates"]] == ["quality", "pairs", "errors", "latency"]
    assert row["gates"][1]["estimate"] is None
    assert row["gates"][2]["low"] < row["gates"][2]["estimate"] < row["gates"][2]["high"]
    assert row["false_alarm_rate"] == 0.05
    full = json.loads(run("history", row["id"], "--json", "--url", url))
    assert [line["phase"] for line in full["history"]] == ["publishing", "delivering", "observing"]


def test_commands_change_the_roll_out_and_are_kept_with_who_gave_them(scene: Scene, url: str) -> None:
    rollout_id = scene.driver.rollouts[0].id
    assert "paused" in run("pause", rollout_id, "--url", url)
    assert "observing" in run("resume", rollout_id, "--url", url)
    assert "aborted" in run("abort", rollout_id, "--url", url)
    assert "does not fit" in run("resume", rollout_id, "--url", url, code=2)
    assert set(scene.versions().values()) == {1}
    assert "abort by" in scene.driver.rollouts[0].history[-1].reason
    assert "publishing" in run("start", "drone", "conv", "2", "--url", url)
    assert "rolling-back" in run("rollback", scene.driver.rollouts[1].id, "--url", url)


def test_what_is_wrong_is_said(scene: Scene, url: str) -> None:
    assert "not in the repository" in run("start", "car", "conv", "9", "--url", url, code=2)
    assert "0 roll-outs begin so" in run("pause", "zzz", "--url", url, code=2)
    assert "is the xApp running" in run("status", "--url", "http://127.0.0.1:9", code=2)


@pytest.mark.parametrize(
    ("host", "headers", "status"),
    [
        ("0.0.0.0", {}, 403),
        ("127.0.0.1", {"host": "evil.example"}, 403),
        ("127.0.0.1", {"host": "evil.example#@127.0.0.1"}, 403),
        ("127.0.0.1", {"host": "evil.example:99999"}, 403),
        ("127.0.0.1", {"host": ""}, 403),
        ("127.0.0.1", {"host": "[::1]:8080"}, 200),
        ("127.0.0.1", {"host": "localhost:8080"}, 200),
        ("127.0.0.1", {"content-type": "text/plain"}, 415),
        ("127.0.0.1", {}, 200),
    ],
)
def test_commands_are_taken_from_this_machine_alone(
    scene: Scene, host: str, headers: dict[str, str], status: int
) -> None:
    path = f"{ROLLOUTS}/{scene.driver.rollouts[0].id}/pause"
    sent = {"content-type": "application/json"} | headers
    assert ask(scene, host, "127.0.0.1", "POST", path, sent) == status
    assert ask(scene, host, "10.0.0.7", "GET", ROLLOUTS, {}) == 200


def test_another_machine_is_refused(scene: Scene) -> None:
    path = f"{ROLLOUTS}/{scene.driver.rollouts[0].id}/pause"
    json_body = {"content-type": "application/json"}
    assert ask(scene, "127.0.0.1", "10.0.0.7", "POST", path, json_body) == 403


def ask(scene: Scene, host: str, peer: str, method: str, path: str, headers: dict[str, str]) -> int:
    """Status of a request from ``peer`` to a listener that is bound to ``host``."""
    web = Starlette(routes=rollout_routes(scene.driver, loopback_guard(host), lambda: scene.now))

    async def main() -> int:
        transport = httpx.ASGITransport(web, client=(peer, 1))
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
            content = b"{}" if method == "POST" else None
            return (await client.request(method, path, content=content, headers=headers)).status_code

    return asyncio.run(main())


@pytest.mark.parametrize(
    "changes",
    [{"admin_port": 1, "admin_host": "0.0.0.0"}, {"admin_tls_cert": "c.pem"}, {"admin_port": 70_000}],
)
def test_an_admin_listener_off_loopback_needs_mutual_tls(changes: dict[str, object]) -> None:
    with pytest.raises(msgspec.ValidationError, match="admin_"):
        msgspec.convert(changes, XAppSettings)
    tls = {"admin_tls_cert": "c", "admin_tls_key": "k", "admin_client_ca": "ca"}
    assert msgspec.convert({"admin_port": 1, "admin_host": "0.0.0.0", **tls}, XAppSettings).admin_port == 1
