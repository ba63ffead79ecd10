"""The engine ``flower`` as real processes: SuperLink with TLS, two SuperNodes with registered keys."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
import torch
from flower_network import FlowerNetwork, flower_environment, flower_network, wait_for
from toy_adapter import initial_weights, toy_task

from codec_runtime.adapters.federation.local import InProcess, LocalEngine
from codec_runtime.adapters.federation.messages import Member, RoundRecord, weights_file
from codec_runtime.adapters.federation.settings import FederationSettings

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

USERS = ("anna", "bert")


@pytest.fixture
def network(tmp_path: Path) -> Iterator[FlowerNetwork]:
    venv = flower_environment()
    if venv is None:
        pytest.skip("no environment with flwr: run `make flower-venv`, or name one by SEMCOM_FLOWER_VENV")
    with flower_network(venv, tmp_path) as running:
        yield running


def run_config(folder: Path, settings: FederationSettings, rounds: int) -> dict[str, str | int | float]:
    (folder / "settings.json").write_bytes(msgspec.json.encode(settings))
    (folder / "initial.safetensors").write_bytes(weights_file(initial_weights()))
    return {
        "rounds": rounds,
        "users": len(USERS),
        "settings": str(folder / "settings.json"),
        "weights": str(folder / "initial.safetensors"),
        "state-dir": str(folder / "state"),
    }


def records(folder: Path) -> list[RoundRecord]:
    path = folder / "state" / "records.json"
    return msgspec.json.decode(path.read_bytes(), type=list[RoundRecord]) if path.exists() else []


def test_processes_give_the_bits_of_the_local_engine(network: FlowerNetwork) -> None:
    settings = FederationSettings(seed=5, quorum=2, deadline_s=120.0)
    for user in USERS:
        network.start_user(user, "toy_adapter:toy_task", "errors:0.4")
    network.run(run_config(network.folder, settings, rounds=3))
    result = network.folder / "state" / "weights.safetensors"
    wait_for(result.exists, 240, "result")

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        tasks = {user: toy_task(user, {"errors": "0.4"}) for user in USERS}
        local = LocalEngine(
            settings, initial_weights(), [Member(client=user) for user in USERS], InProcess(tasks)
        )
        local.run(3)
    finally:
        torch.set_num_threads(threads)
    assert records(network.folder) == list(local.records)
    assert result.read_bytes() == weights_file(local.weights)


def test_a_node_killed_in_a_round_does_not_end_the_run(network: FlowerNetwork) -> None:
    settings = FederationSettings(seed=5, quorum=1, deadline_s=60.0)
    network.start_user("anna", "toy_adapter:toy_task")
    # Bert never answers a second order: it is killed while it works on it.
    network.start_user("bert", "slow_user:slow_from_the_second_order", f"folder:{network.folder}")
    network.run(run_config(network.folder, settings, rounds=3))
    wait_for((network.folder / "bert.working").exists, 120, "second order at bert")
    network.kill("bert")
    wait_for((network.folder / "state" / "weights.safetensors").exists, 240, "result")
    first, second, third = records(network.folder)
    assert first.participants == ["anna", "bert"]
    assert second.invited == ["anna", "bert"]
    assert second.participants == third.participants == ["anna"]
    assert second.aggregated
    assert third.aggregated


def test_a_node_with_an_unknown_key_is_not_let_in(network: FlowerNetwork) -> None:
    settings = FederationSettings(seed=5, quorum=1, deadline_s=60.0)
    network.start_user("mallory", "toy_adapter:toy_task", register=False)
    network.start_user("anna", "toy_adapter:toy_task")
    network.run({**run_config(network.folder, settings, rounds=1), "users": 1})
    wait_for((network.folder / "state" / "weights.safetensors").exists, 120, "result")
    (only,) = records(network.folder)
    assert only.invited == ["anna"]
    assert network.processes["mallory"].wait(timeout=60) != 0
