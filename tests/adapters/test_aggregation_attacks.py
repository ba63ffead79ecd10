"""Two of ten users are malicious: what that costs under each rule, on a task whose best solution is known."""

from functools import cache

import pytest
import torch
from toy_adapter import MaliciousTask, ToyPairs, initial_weights

from codec_runtime.adapters.aggregation import Rule
from codec_runtime.adapters.attacks import flipped_labels, scaled, sign_flipped
from codec_runtime.adapters.federation.client import LabelledTask, LocalTask
from codec_runtime.adapters.federation.local import InProcess, LocalEngine
from codec_runtime.adapters.federation.messages import Member
from codec_runtime.adapters.federation.settings import FederationSettings

USERS = [f"u{index}" for index in range(10)]
ROBUST = ["trimmed-mean", "median", "krum", "multi-krum"]
ATTACKS = {"sign": 10.0, "scaled": 100.0, "label": 1.0}
"""Strength by attack; what is scaled up is an update that was learned from flipped labels."""


def user(client: str, attack: str) -> LocalTask:
    malicious = attack and client in USERS[:2]
    flips = 1.0 if malicious and attack != "sign" else 0.0
    task = LabelledTask(ToyPairs(client, count=64, errors=flips, rate=0.6), judging=False, rescoring=False)
    if malicious and attack != "label":
        return MaliciousTask(task, attack, ATTACKS[attack])
    return task


@cache
def recall_after(rule: str, attack: str) -> float:
    """Mean held-out recall of the honest users after four rounds."""
    settings = FederationSettings(rule=Rule(name=rule, malicious=2), rescoring=False)
    tasks = {client: user(client, attack) for client in USERS}
    engine = LocalEngine(
        settings, initial_weights(), [Member(client=client) for client in USERS], InProcess(tasks)
    )
    assert all(record.aggregated for record in engine.run(4))
    return tasks["u9"].score(engine.weights)


@pytest.mark.slow
@pytest.mark.parametrize("rule", ROBUST)
@pytest.mark.parametrize("attack", ATTACKS)
def test_robust_rules_bound_the_damage_of_two_in_ten(rule, attack):
    assert recall_after("fedavg", "") >= 0.9
    assert recall_after(rule, attack) >= recall_after("fedavg", "") - 0.1


@pytest.mark.slow
@pytest.mark.parametrize("attack", ["sign", "scaled"])
def test_fedavg_does_not(attack):
    assert recall_after("fedavg", attack) <= 0.5


@pytest.mark.parametrize("share", [0.0, 0.2, 0.6, 1.0])
def test_flipped_labels_are_as_many_as_asked_for(share):
    flipped = flipped_labels(50, share, seed=3)
    assert int((flipped != torch.arange(50)).sum()) == round(50 * share)
    assert torch.equal(flipped.sort().values, torch.arange(50))
    assert torch.equal(flipped, flipped_labels(50, share, seed=3))


def test_a_share_that_is_none_is_refused():
    with pytest.raises(ValueError, match=r"share must be in \[0, 1\]"):
        flipped_labels(5, 1.2, seed=1)


def test_attacked_updates_are_the_honest_step_turned_or_stretched():
    start, honest = {"w": torch.tensor([1.0, 2.0])}, {"w": torch.tensor([1.5, 1.0])}
    assert sign_flipped(start, honest)["w"].tolist() == [0.5, 3.0]
    assert scaled(start, honest, 10.0)["w"].tolist() == [6.0, -8.0]
