"""Update methods over the generated set: each does what its name says, by equal means."""

from __future__ import annotations

import pytest
import torch
from adapter_toy_users import toy_problem

from codec_runtime.adapters.aggregation import Contribution, Rule, aggregate
from codec_runtime.adapters.methods import METHODS, load_method
from codec_runtime.adapters.methods.running import run_method


@pytest.mark.parametrize("name", METHODS)
def test_every_method_runs_its_rounds_and_learns_on_right_labels(name):
    run = run_method(load_method(name), toy_problem(source_epochs=1), rounds=2)
    assert [scores.round for scores in run.curve] == [0, 1, 2]
    assert sorted(run.curve[0].users) == ["u0", "u1", "u2"]
    means = [scores.as_dict()["rsum"] for scores in run.curve]
    if name == "transfer":  # the graph alone moves, which on a start this raw need not help
        assert means[2] != means[0]
    else:
        assert means[2] > means[0]


def test_a_run_is_a_function_of_its_arguments():
    first, again = (run_method(load_method("ours"), toy_problem("40", 1), rounds=2) for _ in range(2))
    assert first == again


def test_only_what_is_averaged_is_sent():
    problem = toy_problem()
    sent = {name: run_method(load_method(name), problem, rounds=1) for name in ("ours", "local", "central")}
    assert sent["ours"].bytes_up > 0
    assert sent["local"].bytes_up == sent["central"].bytes_up == 0


def test_methods_without_label_handling_learn_from_every_pair():
    problem = toy_problem("60")
    for name in ("fedavg", "fedgnn", "transfer"):
        labels = run_method(load_method(name), problem, rounds=1).labels
        assert labels == {"wrong_kept": 1.0, "right_dropped": 0.0}
    ours = run_method(load_method("ours"), problem, rounds=2).labels
    assert ours["wrong_kept"] < 0.8


def test_the_homogeneous_baseline_knows_the_light_encoders_alone():
    problem = toy_problem()
    (federation,) = load_method("fedavg").federations(problem)
    assert not any("toy-turned" in name or "message" in name for name in federation.start)
    (ours,) = load_method("ours").federations(problem)
    assert any("toy-turned" in name for name in ours.start)


def test_transfer_moves_the_graph_alone():
    problem = toy_problem()
    federation = load_method("transfer").federations(problem)[0]
    (task,) = federation.tasks.values()
    moved = task.train_round(federation.start, seed=1).weights
    changed = {name for name, value in moved.items() if not torch.equal(value, federation.start[name])}
    assert changed
    assert not any(name.startswith(("projections", "norms")) for name in changed)


def test_the_last_user_of_a_chain_has_the_last_word():
    problem = toy_problem()
    (federation,) = load_method("split_learning").federations(problem)
    (task,) = federation.tasks.values()
    before = federation.start
    reply = task.train_round(before, seed=1)
    assert reply.samples == sum(len(user.own.train) for user in problem.users)
    assert any(not torch.equal(reply.weights[name], before[name]) for name in before)


def test_a_tensor_is_averaged_over_those_who_changed_it():
    reference = {"own": torch.zeros(2), "shared": torch.zeros(2), "nobody's": torch.ones(1)}
    changed = {**reference, "own": torch.tensor([4.0, 0.0]), "shared": torch.tensor([2.0, 2.0])}
    unchanged = {**reference, "shared": torch.tensor([0.0, 4.0])}
    updates = [Contribution("a", changed, 1.0), Contribution("b", unchanged, 1.0)]
    found = aggregate(Rule(holders=True), reference, updates)
    assert found["own"].tolist() == [4.0, 0.0]
    assert found["shared"].tolist() == [1.0, 3.0]
    assert found["nobody's"].tolist() == [1.0]
    assert aggregate(Rule(), reference, updates)["own"].tolist() == [2.0, 0.0]
    with pytest.raises(ValueError, match=r"only fedavg averages over holders"):
        Rule(name="median", holders=True)


def test_an_unknown_method_is_refused_by_name():
    with pytest.raises(KeyError, match=r"no update method 'fedprox'; there are ours, fedavg"):
        load_method("fedprox")
