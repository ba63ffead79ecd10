"""The local engine: users with wrong labels, restarts, processes; and a user's own memory."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from toy_adapter import ToyPairs, initial_weights, toy_task

from codec_runtime.adapters.aggregation import Weights
from codec_runtime.adapters.federation import local
from codec_runtime.adapters.federation.client import ClientNode, ClientUpdate, LabelledTask
from codec_runtime.adapters.federation.local import InProcess, LocalEngine, WorkerProcesses
from codec_runtime.adapters.federation.messages import (
    FederationError,
    Member,
    RoundOrder,
    encode,
    weights_file,
)
from codec_runtime.adapters.federation.settings import FederationSettings
from codec_runtime.adapters.federation.tasks import load_factory, parse_options
from codec_runtime.adapters.tracking import LabelStates
from codec_runtime.training.checkpoint import DifferentTrainingError

USERS = ("u0", "u1", "u2", "u3")
MEMBERS = [Member(client=user) for user in USERS]
SETTINGS = FederationSettings(seed=2)


def engine(errors: float = 0.4, checkpoint: Path | None = None, **scheme: bool) -> LocalEngine:
    tasks = {u: LabelledTask(ToyPairs(u, count=96, errors=errors), epochs=2, **scheme) for u in USERS}
    return LocalEngine(SETTINGS, initial_weights(), MEMBERS, InProcess(tasks), checkpoint)


class BrokenTask:
    """Fails in every round but the first."""

    def __init__(self) -> None:
        self.task = toy_task("u0", {})

    def train_round(
        self, weights: Weights, seed: int, *, others: Weights | None = None, state: bytes = b""
    ) -> ClientUpdate:
        if state:
            raise RuntimeError("out of memory")
        return self.task.train_round(weights, seed, others=others, state=state)

    def score(self, weights: Weights) -> float:
        return self.task.score(weights)


def test_the_scheme_finds_wrong_labels_and_beats_learning_from_all():
    ours = engine(errors=0.6)
    ours.run(7)
    plain = engine(errors=0.6, judging=False, rescoring=False)
    plain.run(7)
    score = ToyPairs("any").score
    assert score(ours.weights) >= 0.95
    assert score(plain.weights) <= score(ours.weights) - 0.2
    for user, state in ours.states.items():
        wrong = ToyPairs(user, count=96, errors=0.6).wrong
        learned = LabelStates.from_bytes(state.after).in_gradient
        assert (learned & wrong).sum() <= 2
        assert (learned & ~wrong).sum() >= 0.9 * (~wrong).sum()
    assert ours.records[-1].labels["pruned"] > 0


def test_a_federation_that_was_stopped_goes_on_bit_for_bit(tmp_path: Path):
    whole = engine()
    whole.run(3)
    path = tmp_path / "federation.safetensors"
    engine(checkpoint=path).run(2)
    resumed = engine(checkpoint=path)
    assert len(resumed.records) == 2
    resumed.run(3)
    assert weights_file(resumed.weights) == weights_file(whole.weights)
    assert list(resumed.records) == list(whole.records)
    assert resumed.states == whole.states


def test_a_checkpoint_of_other_settings_is_refused(tmp_path: Path):
    path = tmp_path / "federation.safetensors"
    engine(checkpoint=path).run(1)
    with pytest.raises(DifferentTrainingError, match=r"quorum"):
        LocalEngine(FederationSettings(seed=2, quorum=3), {}, MEMBERS, InProcess({}), path)


def test_a_user_that_fails_is_noted_and_left_behind(caplog: pytest.LogCaptureFixture):
    tasks = {**{user: toy_task(user, {}) for user in USERS[1:]}, "u0": BrokenTask()}
    running = LocalEngine(SETTINGS, initial_weights(), MEMBERS, InProcess(tasks))
    running.run_round()
    record = running.run_round()
    assert record.participants == ["u1", "u2", "u3"]
    assert record.refused == ["u0: RuntimeError: out of memory"]
    assert "out of memory" in caplog.text


def test_users_come_and_go_between_rounds():
    running = engine()
    running.leave("u3")
    assert running.run_round().invited == ["u0", "u1", "u2"]
    running.join(Member(client="u3"))
    assert running.run_round().invited == list(USERS)


@pytest.mark.slow
def test_worker_processes_give_the_same_bits(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        options = {"errors": "0.4"}
        alone = LocalEngine(
            SETTINGS, initial_weights(), MEMBERS, InProcess({user: toy_task(user, options) for user in USERS})
        )
        alone.run(2)
        with WorkerProcesses("toy_adapter:toy_task", options, processes=2) as workers:
            spread = LocalEngine(SETTINGS, initial_weights(), MEMBERS, workers)
            spread.run(2)
    finally:
        torch.set_num_threads(threads)
    assert weights_file(spread.weights) == weights_file(alone.weights)
    assert list(spread.records) == list(alone.records)


def order(number: int, others: Mapping[str, torch.Tensor] | None = None) -> bytes:
    return encode(
        RoundOrder(
            round=number,
            client="u0",
            seed=number,
            weights=weights_file(initial_weights()),
            others=weights_file(dict(others)) if others else b"",
        )
    )


def test_a_repeated_order_gets_the_same_answer_and_counts_once(tmp_path: Path):
    path = tmp_path / "u0.msgpack"
    bad = {**initial_weights(), "matrix": -initial_weights()["matrix"]}
    node = ClientNode("u0", toy_task("u0", {"errors": "0.4"}), path)
    node.answer(order(1))
    first = node.answer(order(2, bad))
    state = node.state
    assert max(LabelStates.from_bytes(state.after).streaks) == 1
    restarted = ClientNode("u0", toy_task("u0", {"errors": "0.4"}), path)
    assert restarted.answer(order(2, bad)) == first
    assert restarted.state == state


def test_an_order_for_somebody_else_is_refused():
    with pytest.raises(FederationError, match=r"this is u1, the order is for u0"):
        ClientNode("u1", toy_task("u1", {})).answer(order(1))


def test_a_memory_that_is_none_is_refused(tmp_path: Path):
    path = tmp_path / "u0.msgpack"
    path.write_bytes(b"junk")
    with pytest.raises(FederationError, match=r"not a ClientState"):
        ClientNode("u0", toy_task("u0", {}), path)


def test_factories_and_options_are_found_by_name_or_refused_by_it():
    assert load_factory("toy_adapter:toy_task")("u0", {}).score(initial_weights()) < 0.1
    for name in ("toy_adapter", "no_such_module:x", "toy_adapter:nothing"):
        with pytest.raises(ValueError, match=rf"no task factory '{name}'"):
            load_factory(name)
    assert parse_options("errors:0.4, folder:/a:b") == {"errors": "0.4", "folder": "/a:b"}
    with pytest.raises(ValueError, match=r"got 'errors'"):
        parse_options("errors")


@pytest.mark.parametrize("name", ["", "a/b", "x" * 65, "ü"])
def test_names_that_are_no_names_are_refused(name):
    with pytest.raises(ValueError, match=r"a user's name is 1 to 64"):
        Member(client=name)


def test_nothing_but_the_flower_apps_imports_flwr():
    package = Path(local.__file__).parents[2]
    users = {
        path.parent
        for path in package.rglob("*.py")
        if re.search(r"^(from|import) flwr", path.read_text(), re.M)
    }
    assert users == {package / "adapters" / "federation" / "flower"}
