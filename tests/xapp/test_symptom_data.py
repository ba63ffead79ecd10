"""What the platform may ask of the xApp: its configuration as appmgr reads it, and an archive for support."""

from __future__ import annotations

import asyncio
import io
import json
import random
import zipfile
from pathlib import Path
from typing import Any

import msgspec
import pytest

from xapp import symptom_data
from xapp.settings import XAppSettings
from xapp.symptom_data import (
    MASK,
    SymptomData,
    build_config_answer,
    build_symptom_data,
    installed_versions,
    parse_time_range,
    platform_variables,
    redact,
    running_tasks,
)

DESCRIPTOR: dict[str, Any] = json.loads(
    (Path(__file__).parents[2] / "descriptors" / "config-file.json").read_text()
)


def build(**changes: Any) -> SymptomData:
    given: dict[str, Any] = {
        "settings": XAppSettings(runtime_url="https://user:hunter2@runtime:8480"),
        "state": {"users": [], "peers": {"redis": {"up": True}}},
        "events": [{"seq": i, "time_ns": i * 10**9, "text": f"event {i}"} for i in range(1, 6)],
        "metrics": b"# HELP a b\na 1\n",
        "tasks": ["task http"],
        "versions": {"python": "3.11"},
        "environ": {"RMR_SRC_ID": "semcom", "SEMCOM_KEY_PASSPHRASE": "hunter2", "PATH": "/bin"},
        "now_s": 1_800_000_000.0,
    }
    return build_symptom_data(**{**given, **changes})


def opened(data: SymptomData) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(data.body)) as archive:
        assert archive.testzip() is None
        return {name: archive.read(name) for name in archive.namelist()}


def test_configuration_answers_what_appmgr_decodes() -> None:
    settings = XAppSettings(quality_target_db=31.0)
    (entry,) = json.loads(json.dumps(build_config_answer(DESCRIPTOR, settings)))
    assert entry["metadata"] == {"xappName": "semcom-xapp", "configType": "json"}
    # appmgr takes the text as it is and parses it: an object here would reach it as Go's map syntax.
    assert isinstance(entry["config"], str)
    config = json.loads(entry["config"])
    assert config["messaging"] == DESCRIPTOR["messaging"]
    assert config["controls"] == msgspec.to_builtins(settings)


def test_archive_holds_what_support_asks_for() -> None:
    data = build(texts={"/tmp/routes.rt": "newrt|start\n"})
    assert data.filename == "semcom-xapp-20270115-080000.zip"
    assert data.media_type == "application/zip"
    members = opened(data)
    assert set(members) == {
        "information.json", "settings.json", "environment.json", "tasks.txt", "events.jsonl", "metrics.txt",
        "state.json", "_tmp_routes.rt",
    }  # fmt: skip
    assert json.loads(members["settings.json"])["quality_target_db"] == 25.0
    assert json.loads(members["information.json"])["versions"] == {"python": "3.11"}
    assert [json.loads(line)["seq"] for line in members["events.jsonl"].splitlines()] == [1, 2, 3, 4, 5]
    assert members["metrics.txt"] == b"# HELP a b\na 1\n"


def test_no_secret_reaches_the_archive() -> None:
    data = build(
        state={"runtime": {"url": "http://bob:hunter2@x", "token": "hunter2", "tokens_left": 3}},
        events=[{"time_ns": 1, "text": "login to redis://:hunter2@dbaas failed", "password": "hunter2"}],
        texts={"routes": "mse|1|-1|http://a:hunter2@hunter2@b"},
    )
    members = opened(data)
    assert b"hunter2" not in b"".join(members.values())
    assert json.loads(members["environment.json"]) == {"RMR_SRC_ID": "semcom"}
    assert json.loads(members["settings.json"])["runtime_url"] == f"https://{MASK}@runtime:8480"


@pytest.mark.parametrize(
    ("from_s", "to_s", "expected"),
    [(0, 0, [1, 2, 3, 4, 5]), (3, 0, [3, 4, 5]), (0, 2, [1, 2]), (2, 4, [2, 3, 4]), (9, 0, [])],
)
def test_events_are_those_of_the_time_asked_for(from_s: int, to_s: int, expected: list[int]) -> None:
    lines = opened(build(from_s=from_s, to_s=to_s))["events.jsonl"].splitlines()
    assert [json.loads(line)["seq"] for line in lines] == expected


def test_archive_is_bounded_and_says_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(symptom_data, "MAX_MEMBER_BYTES", 10_000)
    monkeypatch.setattr(symptom_data, "MAX_ARCHIVE_BYTES", 25_000)
    noise = random.Random(1)
    users = [{"user": str(noise.random())} for _ in range(5_000)]
    events = [{"seq": i, "time_ns": i, "text": str(noise.random())} for i in range(5_000)]
    data = build(state={"users": users}, events=events, metrics=noise.randbytes(50_000))
    members = opened(data)
    assert sum(len(content) for content in members.values()) < 26_000
    assert b"metrics.txt: 10000 of 50000 bytes" in members["truncated.txt"]
    kept = [json.loads(line)["seq"] for line in members["events.jsonl"].splitlines()]
    assert kept == list(range(kept[0], 5_000)), "the newest events are kept whole"


def test_values_json_does_not_know_do_not_stop_it() -> None:
    events = [{"time_ns": 1, "e": Path("/y")}]
    members = opened(build(state={"path": Path("/x"), "nan": float("nan")}, events=events))
    assert b"/x" in members["state.json"]
    assert b"/y" in members["events.jsonl"]


def test_redaction_keeps_everything_else() -> None:
    plain = {"a": [1, 2.5, None, True, ("x",)], "tls_key": "/key.pem", "key_dir": "keys", "passphrase": ""}
    assert redact(plain) == {**plain, "a": [1, 2.5, None, True, ["x"]]}
    assert redact({"Password": "x", "api_token": "y", "clientSecret": {"a": 1}}) == {
        "Password": MASK, "api_token": MASK, "clientSecret": MASK,
    }  # fmt: skip


def test_environment_is_that_of_the_platform_alone() -> None:
    environ = {
        "RMR_SEED_RT": "/x", "DBAAS_SERVICE_HOST": "h", "SERVICE_RICXAPP_A_HTTP_PORT": "tcp://1.1.1.1:8080",
        "SEMCOM_XAPP_RUNTIME_TOKEN": "t", "AWS_SECRET_ACCESS_KEY": "k", "HOME": "/root",
    }  # fmt: skip
    assert platform_variables(environ) == {
        "DBAAS_SERVICE_HOST": "h", "RMR_SEED_RT": "/x", "SEMCOM_XAPP_RUNTIME_TOKEN": MASK,
        "SERVICE_RICXAPP_A_HTTP_PORT": "tcp://1.1.1.1:8080",
    }  # fmt: skip


def test_versions_leave_out_what_is_not_installed() -> None:
    versions = installed_versions(["msgspec", "no-such-package"])
    assert set(versions) == {"python", "system", "msgspec"}


def test_tasks_and_threads_are_listed_by_name() -> None:
    async def scenario() -> list[str]:
        waiting = asyncio.create_task(asyncio.sleep(60), name="telemetry")
        await asyncio.sleep(0)
        lines = running_tasks()
        waiting.cancel()
        return lines

    lines = asyncio.run(scenario())
    assert any(line.startswith("task telemetry sleep") for line in lines)
    assert "thread MainThread waited for" in lines


@pytest.mark.parametrize(
    ("query", "expected"),
    [({}, (0, 0)), ({"fromtime": "5"}, (5, 0)), ({"fromtime": "", "totime": "1800000000"}, (0, 1800000000))],
)
def test_time_range_of_the_query(query: dict[str, str], expected: tuple[int, int]) -> None:
    assert parse_time_range(query) == expected


@pytest.mark.parametrize("text", ["-1", "x", "1.5", "9" * 400])
def test_a_time_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="totime="):
        parse_time_range({"totime": text})
